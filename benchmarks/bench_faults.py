"""Kills drivers and workers of sweeps with SIGKILL at random moments, resumes, and looks whether the books hold.

The sweeps are run by `search run` and `search resume` on one Ray cluster that stays, so that only drivers start anew: a
sweep of a fake task with its driver killed, one with its workers killed, one with both at once, one at concurrency 1
that has to come to what the same sweep comes to undisturbed, one on a small disk that is filled to its last byte (as
root), one whose last flush is cut short after each kill, and (`--real`) a short one of real chorales.

Columns: `kills` are those that met a living process. `harmed` is how often the disk was full or a part was cut.
`accounted for` are trials that have ended and have one row that says how. `twice` are rows whose key another row has.
`check` is what `results check` finds. `replay` is at how many driver kills searcher and scheduler, told anew of the
ledger, were equal to what the driver knew at its last flush. `again` are epochs that were trained more than once, and
`at most` the most that one attempt did again; `policy` is how many epochs there are between two checkpoints, plus one
that was not yet told.

Run: python benchmarks/bench_faults.py [--kills 30] [--real] [--only both] [--tiny] [--json]
"""

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from search.environment import commit

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.search import faults  # noqa: E402 - found from the repository's root

EPOCH_S, EVERY_S = 0.05, 0.2
REAL = ROOT / "sweeps" / "smoke.toml"


def broken(
    cluster: faults.Cluster, folder: Path, *, trials: int, kills: dict[str, int], seed: int, **options: Any
) -> dict[str, Any]:
    """Breaks a sweep of the fake task, ends it, and returns its row."""
    subject = faults.Subject(cluster, folder, trials=trials, epoch_s=EPOCH_S, every_s=EVERY_S, probe=True, **options)
    row = _broken(subject, kills, seed=seed, within_s=1.0)
    total, again, most = faults.trained_again(subject)
    return row | {
        "epochs": total,
        "again": again,
        "at_most": most,
        "policy": math.ceil(EVERY_S / EPOCH_S) + 1,
        "outcome": faults.outcome(faults.state_of(subject.place)),
    }


def real(cluster: faults.Cluster, folder: Path, *, kills: int) -> dict[str, Any]:
    """Breaks a short sweep of real chorales, ends it, and returns its row."""
    text = REAL.read_text().replace("[sweep]", f'[sweep]\nname = "broken"\nstorage = "{folder / "runs"}"', 1)
    text = text.replace('wall_time = "2 min"', 'wall_time = "1 h"').replace("epochs = 2", "epochs = 4")
    subject = faults.Subject(cluster, folder, text=f"{text}\n[checkpoints]\nevery = '1 s'\n", probe=True)
    told: list[bool | None] = []
    driver = None
    for number in range(2 * kills):
        if driver is None or driver.poll() is not None:
            driver = subject.start()
            _wait_for_work(subject, driver)
        time.sleep(3.0 + number % 4)
        if number % 2:
            cluster.kill_a_worker(faults.random.Random(number))
        elif driver.poll() is None:
            driver.kill()
            driver.wait()
            told.append(faults.probe_holds(subject))
    if driver is not None:
        driver.wait(600)
    return _row(subject, (kills, kills), told, subject.finish(timeout=900))


def full(cluster: faults.Cluster, folder: Path, *, trials: int, times: int) -> dict[str, Any]:
    """Fills the disk below a sweep, again and again, and returns its row."""
    disk = folder / "disk"
    with faults.small_disk(disk, size=2_000_000):
        subject = faults.Subject(
            cluster, folder, storage=disk / "runs", trials=trials, epoch_s=EPOCH_S, every_s=EVERY_S, patience_s=4.0
        )
        done = faults.filling(subject, disk, times=times, seed=times)
        return _row(subject, (0, 0), [], subject.finish()) | {"harmed": done}


def cut(cluster: faults.Cluster, folder: Path, *, trials: int, times: int) -> dict[str, Any]:
    """Cuts parts of a ledger short, again and again, and returns the sweep's row."""
    subject = faults.Subject(cluster, folder, trials=trials, epoch_s=EPOCH_S, every_s=EVERY_S)
    done = faults.cutting(subject, times=times, seed=times)
    return _row(subject, (done, 0), [], subject.finish()) | {"harmed": done}


def _wait_for_work(subject: faults.Subject, driver: Any) -> None:
    until = time.monotonic() + 120
    while not subject.cluster.workers() and driver.poll() is None and time.monotonic() < until:
        time.sleep(0.2)


def _broken(subject: faults.Subject, kills: dict[str, int], *, seed: int, within_s: float) -> dict[str, Any]:
    told: list[bool | None] = []
    done = faults.breaking(
        subject, **kills, seed=seed, within_s=within_s, on_kill=lambda: told.append(faults.probe_holds(subject))
    )
    return _row(subject, done, told, subject.finish())


def _row(subject: faults.Subject, done: tuple[int, int], told: list[bool | None], status: int) -> dict[str, Any]:
    trials = subject.spec.trials or 0
    looked = [each for each in told if each is not None]
    return {
        "drivers_killed": done[0],
        "workers_killed": done[1],
        "exit": status,
        "trials": trials,
        "accounted_for": faults.accounted_for(subject.place, trials),
        "twice": faults.duplicate_keys(subject.place),
        "check": faults.problems(subject.place),
        "replays": len(looked),
        "replays_equal": sum(looked),
    }


def undisturbed(cluster: faults.Cluster, folder: Path, **options: Any) -> dict[int, Any]:
    """Returns what a sweep comes to that nobody breaks."""
    subject = faults.Subject(cluster, folder, epoch_s=EPOCH_S, every_s=EVERY_S, **options)
    subject.finish()
    return faults.outcome(faults.state_of(subject.place))


SINGLE = "drivers, concurrency 1"
FULL, SHORT = "disk full", "part cut short"
REAL_ONE = "real chorales, both"
SECTIONS = ("drivers", "workers", "both", SINGLE, *([FULL] if os.geteuid() == 0 else []), SHORT)
"""A disk of its own, to be filled, is mounted by root alone."""


def measure(kills: int, *, sections: Sequence[str] = SECTIONS, trials: int | None = None) -> dict[str, dict[str, Any]]:
    """Returns a row for each sweep that is asked for."""
    size = trials or max(10, 3 * kills)
    rows: dict[str, dict[str, Any]] = {}
    with faults.Cluster() as cluster, tempfile.TemporaryDirectory(prefix="faults-") as folder:
        place = Path(folder)

        def take(name: str, work: Callable[[], dict[str, Any]]) -> None:
            began = time.monotonic()
            rows[name] = work() | {"seconds": round(time.monotonic() - began, 1)}
            print(f"{name}: {rows[name]['seconds']} s", file=sys.stderr, flush=True)

        for name in ("drivers", "workers", "both"):
            if name in sections:
                take(name, partial(broken, cluster, place / name, trials=size, kills={name: kills}, seed=kills))
        if SINGLE in sections:
            single = {"trials": max(8, size // 3), "concurrency": 1}
            few = {"drivers": max(2, kills // 3)}
            take(SINGLE, lambda: broken(cluster, place / "one", kills=few, seed=1, **single))
            whole = undisturbed(cluster, place / "whole", **single)
            rows[SINGLE]["same_outcome"] = rows[SINGLE]["outcome"] == whole
        few_times = {"trials": size, "times": max(2, kills // 3)}
        if FULL in sections:
            take(FULL, lambda: full(cluster, place / "full", **few_times))
        if SHORT in sections:
            take(SHORT, lambda: cut(cluster, place / "cut", **few_times))
        if REAL_ONE in sections:
            take(REAL_ONE, lambda: real(cluster, place / "real", kills=min(kills, 2)))
    for row in rows.values():
        row.pop("outcome", None)
    return rows


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Returns the rows in Markdown."""
    names = (
        "broken | drivers | workers | harmed | accounted for | twice | check | replay | epochs | again | at most "
        "| policy | s"
    )
    lines = [f"| {names} |", "|" + "---|" * 13]
    for name, row in rows.items():
        cells = [
            name,
            row["drivers_killed"],
            row["workers_killed"],
            row.get("harmed", ""),
            f"{row['accounted_for']} of {row['trials']}",
            row["twice"],
            len(row["check"]),
            f"{row['replays_equal']} of {row['replays']}",
            *(row.get(key, "") for key in ("epochs", "again", "at_most", "policy", "seconds")),
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    if SINGLE in rows:
        same = "the same as" if rows[SINGLE]["same_outcome"] else "SOMETHING ELSE THAN"
        lines += ["", f"At concurrency 1 the broken sweep comes to {same} a whole one."]
    lines += [f"{name}: {problem}" for name, row in rows.items() for problem in row["check"]]
    return "\n".join(lines)


def holds(rows: dict[str, dict[str, Any]]) -> bool:
    """Returns whether nothing was lost, counted twice, or trained again beyond what was not saved."""
    return all(
        row["exit"] == 0
        and row["accounted_for"] == row["trials"]
        and not row["twice"]
        and not row["check"]
        and row["replays_equal"] == row["replays"]
        and row.get("at_most", 0) <= row.get("policy", 0)
        and row.get("same_outcome", True)
        for row in rows.values()
    )


def main() -> None:
    """Breaks sweeps and prints the figures; exit status 1 if a promise does not hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=10, help="of drivers, of workers, and of both at once")
    parser.add_argument("--real", action="store_true", help="break a short sweep of real chorales, too")
    parser.add_argument(
        "--only", action="append", choices=[*SECTIONS, FULL, REAL_ONE], help="this part; may be repeated"
    )
    parser.add_argument("--tiny", action="store_true", help="two kills each: shows that it runs")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    began = os.getloadavg()[0]
    sections = options.only or [*SECTIONS, *([REAL_ONE] if options.real else [])]
    # Two kills take long on a busy machine; a tiny sweep has enough to do meanwhile.
    rows = measure(2, sections=sections, trials=24) if options.tiny else measure(options.kills, sections=sections)
    facts = {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "cpus": os.cpu_count(),
        "load": [round(began, 1), round(os.getloadavg()[0], 1)],
    }
    if options.json:
        print(json.dumps(facts | {"rows": rows}, indent=1))
    else:
        print(", ".join(f"{name} {value}" for name, value in facts.items()), "\n")
        print(table(rows))
    if not holds(rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
