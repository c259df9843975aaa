(() => {
  "use strict";
  const tip = document.getElementById("tip");
  const marks = new Map();
  // A title would be shown late and twice; here it is shown at once, and to the keyboard too.
  for (const mark of document.querySelectorAll(".mark")) {
    const title = mark.querySelector(":scope > title");
    if (title) {
      mark.dataset.tip = title.textContent;
      title.remove();
    }
  }
  for (const one of document.querySelectorAll("[data-id]")) {
    const id = one.dataset.id;
    if (!marks.has(id)) marks.set(id, []);
    marks.get(id).push(one);
  }

  // A trial lights up wherever it is: while it is pointed at, or until it is let go of.
  let lit, kept;
  const all = (id, name, on) => { for (const one of marks.get(id) || []) one.classList.toggle(name, on); };
  const light = (id) => {
    if (id === lit) return;
    all(lit, "lit", false);
    all(id, "lit", true);
    lit = id;
  };
  const pin = document.getElementById("pin");
  const keep = (id) => {
    all(kept, "kept", false);
    kept = id === kept ? undefined : id;
    all(kept, "kept", true);
    pin.hidden = kept === undefined;
    pin.firstElementChild.textContent = kept || "";
  };
  pin.addEventListener("click", () => keep(kept));
  const show = (text, x, y) => {
    tip.textContent = text;
    tip.classList.add("on");
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(8, Math.min(x + 14, innerWidth - box.width - 8)) + "px";
    tip.style.top = (y + 18 + box.height > innerHeight ? y - box.height - 12 : y + 18) + "px";
  };
  const hide = () => {
    tip.classList.remove("on");
    light(undefined);
  };
  document.addEventListener("pointerover", (event) => {
    const one = event.target.closest("[data-tip], [data-id]");
    if (!one) return hide();
    light(one.dataset.id);
    if (one.dataset.tip) show(one.dataset.tip, event.clientX, event.clientY);
    else tip.classList.remove("on");
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest("a, button, summary, audio, img")) return;
    const one = event.target.closest("[data-id]");
    if (one && !String(getSelection())) keep(one.dataset.id);
  });
  document.addEventListener("scroll", hide, { passive: true });

  // In a chart or a table of trials, the arrow keys go from one to the next, and Enter keeps it lit.
  const places = new WeakMap();
  document.addEventListener("keydown", (event) => {
    const chart = document.activeElement;
    if (event.key === "Escape") {
      if (kept !== undefined) keep(kept);
      return hide();
    }
    if (!chart || !chart.matches("svg.chart, .scroll")) return;
    const table = chart.matches(".scroll");
    const found = chart.querySelectorAll(table ? "tr[data-id]" : "[data-tip]");
    const step = { ArrowRight: !table && 1, ArrowDown: 1, ArrowLeft: !table && -1, ArrowUp: -1 }[event.key];
    if (!found.length || !(step || (event.key === "Enter" && places.has(chart)))) return;
    event.preventDefault();
    const before = places.has(chart) ? places.get(chart) : step > 0 ? -1 : 0;
    const place = step ? (before + step + found.length) % found.length : before;
    const one = found[place];
    places.set(chart, place);
    if (!step && one.dataset.id) return keep(one.dataset.id);
    const box = one.getBoundingClientRect();
    if (box.top < 0 || box.bottom > innerHeight) one.scrollIntoView({ block: "center", behavior: "instant" });
    const seen = one.getBoundingClientRect();
    // What scrolling set off would put the light out at once.
    requestAnimationFrame(() => requestAnimationFrame(() => {
      light(one.dataset.id);
      const text = one.dataset.tip || [...one.cells].slice(0, 4).map((cell) => cell.textContent).join(" ");
      show(text, seen.x + (table ? 40 : seen.width / 2), seen.y + seen.height / 2);
    }));
  });
  document.addEventListener("focusout", hide);

  // One sound at a time.
  document.addEventListener("play", (event) => {
    for (const sound of document.querySelectorAll("audio")) if (sound !== event.target) sound.pause();
  }, true);

  // Pictures and files that stand here compressed.
  const unpacked = async (one) => {
    const bytes = Uint8Array.from(atob(one.dataset.packed), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const content = await new Response(stream).arrayBuffer();
    return URL.createObjectURL(new Blob([content], { type: one.dataset.type }));
  };
  const packed = [...document.querySelectorAll("img[data-packed]")];
  const draw = async (one) => {
    if (one.dataset.packed === undefined) return;
    const address = unpacked(one);
    delete one.dataset.packed;
    one.src = await address;
  };
  const idle = window.requestIdleCallback || ((then) => setTimeout(then, 50));
  const next = () => { if (packed.length) draw(packed.shift()).finally(() => idle(next)); };
  idle(next);
  document.addEventListener("toggle", (event) => {
    for (const one of event.target.querySelectorAll("img[data-packed]")) draw(one);
  }, true);
  document.addEventListener("click", async (event) => {
    const link = event.target.closest("a[data-packed]");
    if (!link) return;
    event.preventDefault();
    const one = document.createElement("a");
    one.href = await unpacked(link);
    one.download = link.download;
    one.click();
    setTimeout(() => URL.revokeObjectURL(one.href), 60000);
  });

  // Paper cannot be unfolded.
  let folded = [];
  addEventListener("beforeprint", () => {
    const closed = document.querySelectorAll("details:not([open], .screen)");
    folded = [...closed].filter((one) => !one.querySelector("pre"));
    for (const one of folded) {
      one.open = true;
      for (const picture of one.querySelectorAll("img")) picture.loading = "eager";
    }
  });
  addEventListener("afterprint", () => { for (const one of folded) one.open = false; });
})();
