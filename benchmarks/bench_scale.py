"""Measures how a sweep's driver, ledger and screen grow with workers and trials, and which part is its limit.

- `driver`: a simulated cluster (`crowd.py`) in virtual time, epochs of 10 s, random search and ASHA: CPU time of the
  real driver for each result, its longest calls, how busy it is, what a snapshot, a drawn screen and the ledger take.
- `schedulers`: the same for each scheduler, at the most workers.
- `searchers`: a proposal, with so many trials ended and the most workers running.
- `replay`: a new driver's way to where the sweep was: seconds and peak memory.
- `tune`: real sweeps through Ray Tune with that many worker processes on this machine, and a task that sleeps: CPU
  time of the driver for each result, and how much of it is ours. Between two results Tune's loop goes round several
  times, which says how much time it has left.

What is measured runs in processes of its own. CPU time is that of the process; on a busy machine it is still too high.

Run: python benchmarks/bench_scale.py [--workers 10,100,1000] [--trials 10,100,1000,10000,100000] [--real 8,24,72]
     [--parts driver,replay,schedulers,searchers,tune] [--tiny] [--json]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from bench_ledger import Nowhere, one
from crowd import Crowd, Reached, spec
from machine import machine

from results.ledger import Ledger
from search import folders, preparation, sweep
from search.searcher import State
from search.spec import (
    CheckpointSettings,
    FinalSettings,
    Objective,
    ResourceSettings,
    SchedulerSettings,
    SearcherSettings,
    SweepSpec,
)
from search.state import SweepState

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("driver", "replay", "schedulers", "searchers", "tune")
EPOCHS, EPOCH_S = 27, 10.0
TRIALS_A_WORKER = 100
"""A few workers do not run all the trials that many do: it would take them months."""
SCHEDULERS = ("asha", "asha_promotion", "hyperband", "median")
SEARCHERS = ("random", "qmc", "tpe")
"""CMA-ES and NSGA-II are asked again for each trial that they are told of, which takes hours for so many."""
ASKED = 5


# --- each in a process of its own -------------------------------------------------------------------------------------


def crowd(folder: str, workers: int, trials: Sequence[int], scheduler: str, copies: str) -> list[dict[str, Any]]:
    """Runs a simulated cluster; returns a row for each number of trials."""
    given = spec(folder, trials=10**9, epochs=EPOCHS, searcher="random", scheduler=scheduler)
    cluster = Crowd(given, workers=workers, epoch_s=EPOCH_S, copies=copies)
    return [figures(reached) for reached in cluster.run(list(trials))]


def figures(reached: Reached) -> dict[str, Any]:
    """Returns a row of what was reached; milliseconds are CPU time."""
    calls = {kind: took * 1e3 for kind, took in reached.calls.items() if len(took)}
    # What the screen takes is bounded by its own share of the time, however large the sweep is.
    own = {kind: took for kind, took in calls.items() if kind != "view"}
    longest = max(own, key=lambda kind: own[kind].max(), default="")
    of_results = calls.get("report", np.zeros(1))
    return {
        "workers": reached.workers,
        "trials": reached.trials,
        "results": reached.results,
        "ms_a_result": sum(took.sum() for took in own.values()) / max(1, reached.results),
        "report_ms": float(of_results.mean()),
        "report_p99_ms": float(np.quantile(of_results, 0.99)),
        "longest_ms": float(own[longest].max()) if longest else 0.0,
        "longest": longest,
        "parts_ms": {kind: float(took.sum() / max(1, reached.results)) for kind, took in calls.items()},
        "busy": reached.busy,
        "idle": reached.idle,
        "ledger_mb": reached.ledger_mb,
        "files": reached.files,
        "snapshot_ms": 1e3 * reached.snapshot_s,
        "screen_ms": 1e3 * reached.drawing_s,
    }


def replayed(folder: str) -> dict[str, Any]:
    """Replays the sweep in a folder, as `search resume` does."""
    given = spec(folder, trials=10**9, epochs=EPOCHS, searcher="random", scheduler="asha")
    prepared = preparation.prepare(given)
    conductor = preparation.make_conductor(prepared, Nowhere(), session=2, concurrency=1)
    began = time.process_time()
    conductor.replay(Ledger(folders.folder_of(given)).events())
    return {"alone_s": time.process_time() - began, "results": conductor.state.num_results}


def asked(folder: str, kind: str, running: int) -> dict[str, Any]:
    """Tells a new searcher of the sweep in a folder, and asks it for a few proposals more."""
    given = spec(folder, trials=10**9, epochs=EPOCHS, searcher=kind, scheduler="asha")
    prepared = preparation.prepare(given)
    ledger = Ledger(folders.folder_of(given))
    state = SweepState(ledger.schema).replay(ledger.events())
    searcher, others = (
        preparation.make_searcher(prepared),
        preparation.make_searcher(replace(prepared, spec=_at_random(given))),
    )
    for trial in state.ended:
        searcher.add(trial.trial, trial.values)
        best = None if trial.best_epoch is None else state.results(trial.trial, trial.best_epoch)
        searcher.tell(trial.trial, cast(State, trial.state), best, state.losses(trial.trial))
    for number in range(10**6, 10**6 + running):
        searcher.add(number, others.ask(number))
    took = []
    for number in range(2 * 10**6, 2 * 10**6 + ASKED):
        began = time.process_time()
        searcher.ask(number)
        took.append(time.process_time() - began)
    return {"searcher": kind, "trials": len(state.ended), "ask_ms": 1e3 * float(np.median(took))}


def _at_random(given: SweepSpec) -> SweepSpec:
    return replace(given, searcher=SearcherSettings(kind="random"))


def through_tune(folder: str, workers: int, address: str) -> dict[str, Any]:
    """Runs a real sweep on real workers that sleep; returns what it took of the driver once all workers had begun."""
    from search import tune

    ours, loops = [0.0], [0]
    told: list[tuple[float, float, float, int]] = []

    def timed(name: str) -> None:
        inner = getattr(tune._Link, name)

        def call(self: Any, *given: Any) -> Any:
            began = time.process_time()
            try:
                return inner(self, *given)
            finally:
                ours[0] += time.process_time() - began
                if name == "beat":
                    loops[0] += 1
                if name == "told":
                    told.append((time.process_time(), time.monotonic(), ours[0], loops[0]))

        setattr(tune._Link, name, call)

    for name in ("suggest", "told", "beat", "began", "lost"):
        timed(name)
    sweep.run(
        SweepSpec(
            name="many",
            task=f"{ROOT / 'tests' / 'search' / 'fake_task.py'}:FakeTask",
            options={"epoch_s": max(1.0, workers / 24)},
            objectives=(Objective(metric="loss", goal="min"),),
            trials=2 * workers,
            epochs=8,
            storage=folder,
            concurrency=workers,
            searcher=SearcherSettings(kind="random"),
            scheduler=SchedulerSettings(kind="none"),
            resources=ResourceSettings(cpus=0.01),
            checkpoints=CheckpointSettings(),
            final=FinalSettings(models=0),
        ),
        address=address,
        dashboard=False,
        command="bench_scale",
    )
    # Not the first ones, while worker processes start.
    first, last = told[2 * workers], told[-1]
    results = len(told) - 2 * workers - 1
    return {
        "workers": workers,
        "results": results,
        "results_per_s": results / (last[1] - first[1]),
        "driver_ms": 1e3 * (last[0] - first[0]) / results,
        "ours_ms": 1e3 * (last[2] - first[2]) / results,
        "loops": (last[3] - first[3]) / results,
        "busy": (last[0] - first[0]) / (last[1] - first[1]),
    }


# --- all of it --------------------------------------------------------------------------------------------------------


def measure(
    parts: Sequence[str], workers: Sequence[int], trials: Sequence[int], real: Sequence[int], folder: str
) -> Any:
    """Returns the rows of each part."""
    told: dict[str, list[dict[str, Any]]] = {part: [] for part in parts}
    most = max(workers)
    marks = {count: [n for n in trials if n <= max(trials[0], TRIALS_A_WORKER * count)] for count in workers}
    if {"driver", "replay", "searchers"} & set(parts):
        for count in workers:
            rows = _call("crowd", f"{folder}/{count}", count, marks[count], "asha", f"{folder}/copies-{count}")
            told.setdefault("driver", []).extend(rows)
    if "replay" in parts:
        for count in marks[most]:
            row, used = _measured("replayed", f"{folder}/copies-{most}/{count}")
            told["replay"].append({"trials": count, **row, **used})
    if "searchers" in parts:
        for kind in SEARCHERS:
            told["searchers"] += [_call("asked", f"{folder}/copies-{most}/{n}", kind, most) for n in marks[most]]
    if "schedulers" in parts:
        count = min(10_000, trials[-1])
        for kind in SCHEDULERS:
            told["schedulers"] += [
                {"scheduler": kind, **row} for row in _call("crowd", f"{folder}/{kind}", most, [count], kind, "")
            ]
    if "tune" in parts and real:
        sys.path.insert(0, str(ROOT))
        from tests.search import faults

        with faults.Cluster() as cluster:
            for count in real:
                told["tune"].append(
                    _call("through_tune", f"{folder}/real-{count}", count, cluster.address, env=cluster.environment)
                )
    return told


def _call(function: str, *arguments: Any, env: Any = None) -> Any:
    """Returns what a function of this file gives in a process of its own."""
    command = [sys.executable, __file__, "--call", json.dumps([function, *arguments])]
    done = subprocess.run(command, cwd=ROOT, env=_environment(env), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{function}{arguments} ended with {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def _measured(function: str, *arguments: Any) -> tuple[Any, dict[str, float]]:
    """The same, and the CPU seconds and the peak memory of the process, its start included."""
    used = one([sys.executable, __file__, "--call", json.dumps([function, *arguments])])
    return json.loads(used.pop("said").splitlines()[-1]), used


def _environment(env: Any) -> dict[str, str]:
    known = dict(env or os.environ)
    return known | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [known.get("PYTHONPATH")])])}


TABLES = {
    "driver": (
        ("workers", "workers", ",d"), ("trials", "trials", ",d"), ("results", "results", ",d"),
        ("driver, ms a result", "ms_a_result", ".2f"), ("a report, ms", "report_ms", ".2f"),
        ("99 % of them below", "report_p99_ms", ".2f"), ("longest call, ms", "longest_ms", ".0f"),
        ("which", "longest", ""), ("busy, screen included", "busy", ".1%"), ("workers wait", "idle", ".2%"),
        ("ledger, MB", "ledger_mb", ".1f"), ("files", "files", ",d"), ("snapshot, ms", "snapshot_ms", ".1f"),
        ("snapshot and screen, ms", "screen_ms", ".1f"),
    ),
    "replay": (
        ("trials", "trials", ",d"), ("results", "results", ",d"), ("replay, CPU s", "alone_s", ".1f"),
        ("whole process, CPU s", "cpu_s", ".1f"), ("peak memory, MB", "peak_mb", ",.0f"),
    ),
    "schedulers": (
        ("scheduler", "scheduler", ""), ("workers", "workers", ",d"), ("trials", "trials", ",d"),
        ("results", "results", ",d"), ("driver, ms a result", "ms_a_result", ".2f"),
        ("a report, ms", "report_ms", ".2f"), ("99 % of them below", "report_p99_ms", ".2f"),
        ("longest call, ms", "longest_ms", ".0f"), ("which", "longest", ""),
    ),
    "searchers": (("searcher", "searcher", ""), ("trials", "trials", ",d"), ("a proposal, ms", "ask_ms", ".1f")),
    "tune": (
        ("worker processes", "workers", ",d"), ("results", "results", ",d"), ("results/s", "results_per_s", ".1f"),
        ("driver, CPU ms a result", "driver_ms", ".2f"), ("of which ours", "ours_ms", ".2f"),
        ("rounds of Tune's loop a result", "loops", ".1f"), ("driver busy", "busy", ".0%"),
    ),
}  # fmt: skip


def table(told: dict[str, Any]) -> str:
    """Returns the figures in Markdown."""
    lines = []
    for part, columns in TABLES.items():
        if told.get(part):
            lines += [
                f"### {part}",
                "",
                f"| {' | '.join(title for title, _, _ in columns)} |",
                "|---" * len(columns) + "|",
            ]
            lines += [f"| {' | '.join(format(row[key], how) for _, key, how in columns)} |" for row in told[part]]
            lines.append("")
    return "\n".join(lines)


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",") if word]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--workers", type=_numbers, default=[10, 100, 1000])
    parser.add_argument("--trials", type=_numbers, default=[10, 100, 1_000, 10_000, 100_000])
    parser.add_argument("--real", type=_numbers, default=[8, 24, 72], help="worker processes of Ray Tune")
    parser.add_argument("--parts", type=lambda text: text.split(","), default=list(PARTS))
    parser.add_argument("--folder", help="where the ledgers are written; a temporary folder if not given")
    parser.add_argument("--tiny", action="store_true", help="10 workers, 30 trials: shows that it runs")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--call", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.call:
        print(json.dumps(globals()[options.call[0]](*options.call[1:])))
        return
    size = ([10], [10, 30], [2]) if options.tiny else (options.workers, options.trials, options.real)
    before = machine()
    with tempfile.TemporaryDirectory(prefix="scale-", dir=options.folder) as folder:
        told = measure(options.parts, *size, folder=folder)
    facts = before | {"load": [before["load"], machine()["load"]]}
    if options.json:
        print(json.dumps(facts | told, indent=1))
    else:
        print(", ".join(f"{name} {value}" for name, value in facts.items()), "\n")
        print(table(told))


if __name__ == "__main__":
    main()
