"""Measures the page of a large sweep: its size, the seconds to make it, and the seconds until a browser answers.

The sweep has completed and stopped trials of up to 12 epochs and no samples. The browser is Chromium, without a window;
it is left out where there is none. Its seconds run from being asked for the page until a key was pressed and drawn, and
from pointing at a trial until it is lit.

Run: python benchmarks/bench_page.py [--trials 200 5000] [--tiny] [--json]
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import machine

import results
from results import report

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")  # fmt: skip


def measure(trials: int, folder: Path) -> dict[str, Any]:
    """Returns the figures of one size."""
    sys.path.insert(0, str(ROOT))
    from tests.results import ledgers

    storage = ledgers.plain(folder, f"sweep-{trials}", trials, 12)
    began = time.monotonic()
    place = report.write(results.Storage(storage.uri))
    made = time.monotonic() - began
    found = {"trials": trials, "megabytes": round(Path(place).stat().st_size / 1e6, 2), "made_s": round(made, 2)}
    return found | (in_browser(Path(place)) if CHROMIUM else {})


def in_browser(page: Path) -> dict[str, float]:
    """Returns the seconds until a browser answers to a key, and to the pointer."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        tab = browser.new_page(viewport={"width": 1440, "height": 900})
        frame = "() => new Promise((then) => requestAnimationFrame(() => requestAnimationFrame(then)))"
        began = time.monotonic()
        tab.goto(page.absolute().as_uri())
        tab.keyboard.press("Tab")
        tab.evaluate(frame)
        ready = time.monotonic() - began
        row = tab.locator("#leaderboard tr[data-id]").first
        row.scroll_into_view_if_needed()
        began = time.monotonic()
        row.hover()
        while not tab.evaluate("document.querySelectorAll('.lit').length > 2"):
            row.hover()
        lit = time.monotonic() - began
        browser.close()
    return {"ready_s": round(ready, 2), "lit_s": round(lit, 2)}


def main() -> None:
    """Prints a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[200, 5000])
    parser.add_argument("--tiny", action="store_true", help="30 trials: does it run?")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(12, Path(folder))  # what is imported late is imported now
        rows = [measure(trials, Path(folder)) for trials in ([30] if given.tiny else given.trials)]
    told = machine() | {"browser": CHROMIUM or "none", "rows": rows}
    if given.json:
        print(json.dumps(told))
        return
    print(told["date"], told["commit"], f"{told['cpus']} CPUs, load {told['load']}")
    print("| trials | MB | s to make | s until a key is answered | s until a trial is lit |")
    print("|---|---|---|---|---|")
    for row in rows:
        print(f"| {row['trials']} | {row['megabytes']} | {row['made_s']} | {row.get('ready_s')} | {row.get('lit_s')} |")


if __name__ == "__main__":
    main()
