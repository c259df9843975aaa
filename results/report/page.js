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
  let lit = [];
  const light = (id) => {
    for (const one of lit) one.classList.remove("lit");
    lit = id === undefined ? [] : marks.get(id) || [];
    for (const one of lit) one.classList.add("lit");
  };
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
    const one = event.target.closest("[data-tip], tr[data-id]");
    if (!one) return hide();
    light(one.dataset.id);
    if (one.dataset.tip) show(one.dataset.tip, event.clientX, event.clientY);
    else tip.classList.remove("on");
  });
  document.addEventListener("scroll", hide, { passive: true });
  const places = new WeakMap();
  document.addEventListener("keydown", (event) => {
    const chart = document.activeElement;
    if (event.key === "Escape") return hide();
    if (!chart || !chart.matches("svg.chart")) return;
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const all = chart.querySelectorAll("[data-tip]");
    if (!step || !all.length) return;
    event.preventDefault();
    const before = places.has(chart) ? places.get(chart) : step > 0 ? -1 : 0;
    const place = (before + step + all.length) % all.length;
    places.set(chart, place);
    const box = all[place].getBoundingClientRect();
    light(all[place].dataset.id);
    show(all[place].dataset.tip, box.x + box.width / 2, box.y + box.height / 2);
  });
  document.addEventListener("focusout", hide);
  // One sound at a time.
  document.addEventListener("play", (event) => {
    for (const sound of document.querySelectorAll("audio")) if (sound !== event.target) sound.pause();
  }, true);
  // Paper cannot be unfolded.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")].filter((one) => !one.querySelector("pre"));
    for (const one of folded) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of folded) one.open = false; });
})();
