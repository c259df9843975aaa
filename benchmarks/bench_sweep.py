"""Measures how many trials and epochs a second a sweep gets through, next to Ray Tune alone.

A task that trains nothing, at two workers, on one local Ray cluster. Three ways take turns:

- `search`: the whole stack as `search run` has it: searcher, ASHA off, ledger, checkpoints, lock, retention.
- `tune alone`: a class trainable with reused actors and the same number of results; no loggers.
- `tune with loggers`: the same with the loggers that Tune turns on by itself (CSV, JSON, TensorBoard).

Rates are those between the first tenth of the trials' ends and the last, so the start of the workers is left out. CPU
seconds are those of the driver. `--real` measures in a sweep of chorales how long it takes from the end of a trial to
the first step of the next in the same warm worker: the wait for it and its start, as its attempt has them.

Run: python benchmarks/bench_sweep.py [--trials 150] [--repeats 2] [--real] [--profile] [--tiny] [--json]
"""

import argparse
import cProfile
import dataclasses
import json
import logging
import os
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from results.ledger import Ledger
from search import sweep, sweep_file
from search.environment import commit
from search.spec import (
    CheckpointSettings,
    FinalSettings,
    Objective,
    ResourceSettings,
    SchedulerSettings,
    SearcherSettings,
    SweepSpec,
)

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.search import faults  # noqa: E402 - found from the repository's root

WAYS = ("search", "tune alone", "tune with loggers")
TASK = f"{ROOT / 'tests' / 'search' / 'fake_task.py'}:FakeTask"
EPOCHS = 15
"""As many results a trial as make 150 a second of 10 trials."""


def spec(folder: str, trials: int) -> SweepSpec:
    """Returns the sweep that is measured."""
    return SweepSpec(
        name="trivial",
        task=TASK,
        objectives=(Objective(metric="loss", goal="min"),),
        trials=trials,
        epochs=EPOCHS,
        seed=1,
        storage=folder,
        concurrency=2,
        searcher=SearcherSettings(kind="random"),
        scheduler=SchedulerSettings(kind="none"),
        resources=ResourceSettings(cpus=1),
        checkpoints=CheckpointSettings(),
        final=FinalSettings(models=0),
    )


def rates(ends: list[float], results: int) -> dict[str, float]:
    """Returns trials and epochs a second from when trials ended; the first tenth is left out."""
    ends = sorted(ends)
    skipped = max(1, len(ends) // 10)
    seconds = ends[-1] - ends[skipped - 1]
    trials = len(ends) - skipped
    return {"trials_per_s": trials / seconds, "epochs_per_s": trials * results / seconds}


def ours(folder: str, trials: int, address: str, profile: bool) -> dict[str, float]:
    """Runs the sweep; returns its rates."""
    given = spec(folder, trials)
    began, profiler = time.process_time(), cProfile.Profile()
    if profile:
        profiler.enable()
    ending = sweep.run(given, address=address, dashboard=False, command="bench_sweep")
    profiler.disable()
    if profile:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(30)
    ends = [row["time"].timestamp() for row in Ledger(ending.storage).table("trials").to_pylist()]
    return rates(ends, EPOCHS) | {"cpu_ms_a_trial": 1e3 * (time.process_time() - began) / trials}


def theirs(folder: str, trials: int, *, loggers: bool, address: str) -> dict[str, float]:
    """Runs as many trials with Ray Tune alone; returns the rates."""
    import ray
    from ray import tune

    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "0" if loggers else "1"
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = "2"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"

    class Trivial(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self._epoch = 0

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._epoch = 0
            return True

        def step(self) -> dict[str, Any]:
            self._epoch += 1
            return {"loss": self.config["rate"] / self._epoch, "done": self._epoch >= EPOCHS}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            return None

        def load_checkpoint(self, checkpoint: Any) -> None:
            return None

    class Ends(tune.Callback):
        def __init__(self) -> None:
            self.times: list[float] = []

        def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
            self.times.append(time.time())

    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        began, ends = time.process_time(), Ends()
        tune.Tuner(
            tune.with_resources(Trivial, {"CPU": 1}),
            param_space={"rate": tune.uniform(0.0, 1.0)},
            tune_config=tune.TuneConfig(num_samples=trials, reuse_actors=True, max_concurrent_trials=2),
            run_config=tune.RunConfig(name="alone", storage_path=folder, verbose=0, callbacks=[ends]),
        ).fit()
        used = time.process_time() - began
    finally:
        ray.shutdown()
    return rates(ends.times, EPOCHS) | {"cpu_ms_a_trial": 1e3 * used / trials}


def warm(folder: str, address: str) -> dict[str, Any]:
    """Runs a short sweep of chorales; returns how long warm workers took from one trial to the first step of the next.

    A worker is warm from its second trial on.
    """
    file = sweep_file.load(ROOT / "sweeps" / "smoke.toml")
    given = dataclasses.replace(
        file, storage=folder, trials=10, wall_time_s=None, epochs=1, concurrency=2, final=FinalSettings(models=0)
    )
    ending = sweep.run(given, address=address, dashboard=False, command="bench_sweep")
    ledger = Ledger(ending.storage)
    rows = sorted(ledger.table("attempt_ends").to_pylist(), key=lambda row: row["seq"])
    first: dict[int, float] = {}
    for row in ledger.table("epochs").to_pylist():
        first[row["trial"]] = min(first.get(row["trial"], float("inf")), row["ended"].timestamp() - row["duration_s"])
    last_end: dict[int, float] = {}
    gaps, starts = [], []
    for row in rows:
        if row["pid"] in last_end and row["trial"] in first:
            gaps.append(first[row["trial"]] - last_end[row["pid"]])
            starts.append(row["wait_s"] + row["start_s"])
        ended = [
            each["ended"].timestamp() for each in ledger.table("epochs").to_pylist() if each["trial"] == row["trial"]
        ]
        if ended:
            last_end[row["pid"]] = max(ended)
    return {"gaps_s": gaps, "wait_and_start_s": starts, "cold_s": [r["wait_s"] + r["start_s"] for r in rows[:2]]}


def one(way: str, cluster: faults.Cluster, folder: str, trials: int, *options: str) -> dict[str, Any]:
    """Measures one way in a process of its own."""
    command = [sys.executable, __file__, "--way", way, "--folder", folder, "--address", cluster.address]
    done = subprocess.run(
        [*command, "--trials", str(trials), *options],
        cwd=ROOT,
        env=cluster.environment,
        stdout=subprocess.PIPE,
        text=True,
        timeout=600,
        check=True,
    )
    *before, last = done.stdout.splitlines()
    print("\n".join(before), file=sys.stderr)
    return json.loads(last)


def measure(trials: int, repeats: int, *, real: bool, profile: bool) -> dict[str, Any]:
    """Returns the rates of each way in each repeat."""
    rows: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    told: dict[str, Any] = {"rows": rows}
    with tempfile.TemporaryDirectory(prefix="sweep-") as folder, faults.Cluster() as cluster:
        for repeat in range(repeats):
            for number, way in enumerate(WAYS):
                options = ["--profile"] if profile and way == "search" and not repeat else []
                rows[way].append(one(way, cluster, f"{folder}/{repeat}-{number}", trials, *options))
        if real:
            told["warm"] = one("warm", cluster, f"{folder}/real", trials)
    return told


def table(told: dict[str, Any]) -> str:
    """Returns the figures in Markdown."""
    lines = ["| way | trials/s | epochs/s | driver, CPU ms a trial |", "|---|---|---|---|"]
    for way, rows in told["rows"].items():
        middle = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
        lines.append(
            f"| {way} | {middle['trials_per_s']:.1f} | {middle['epochs_per_s']:.0f} | {middle['cpu_ms_a_trial']:.0f} |"
        )
    if "warm" in told:
        gaps, starts = told["warm"]["gaps_s"], told["warm"]["wait_and_start_s"]
        lines += [
            "",
            f"Warm workers of a sweep of chorales, {len(gaps)} times: {statistics.median(gaps):.2f} s (at most "
            f"{max(gaps):.2f} s) from the end of a trial's last epoch to the beginning of the next one's first; of "
            f"these, {statistics.median(starts):.2f} s (at most {max(starts):.2f} s) are wait and start.",
        ]
    return "\n".join(lines)


def run_one(options: argparse.Namespace) -> dict[str, Any]:
    """Measures one way in this process."""
    folder, trials, address = options.folder, options.trials, options.address
    if options.way == "search":
        return ours(folder, trials, address, options.profile)
    if options.way == "warm":
        return warm(folder, address)
    return theirs(folder, trials, loggers=options.way == "tune with loggers", address=address)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--trials", type=int, default=150)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--real", action="store_true", help="measure warm workers in a sweep of chorales, too")
    parser.add_argument("--profile", action="store_true", help="profile the driver in the first repeat")
    parser.add_argument("--tiny", action="store_true", help="20 trials, once: shows that it runs")
    parser.add_argument("--json", action="store_true", help="print JSON")
    for hidden in ("--way", "--folder", "--address"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(run_one(options)))
        return
    before = os.getloadavg()[0]
    size = (20, 1) if options.tiny else (options.trials, options.repeats)
    told = measure(*size, real=options.real, profile=options.profile) | {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "cpus": os.cpu_count(),
        "load": [round(before, 1), round(os.getloadavg()[0], 1)],
        "trials": size[0],
        "epochs": EPOCHS,
    }
    if options.json:
        print(json.dumps(told, indent=1))
    else:
        names = ("date", "commit", "cpus", "load", "trials", "epochs")
        print(", ".join(f"{name} {told[name]}" for name in names), "\n")
        print(table(told))


if __name__ == "__main__":
    main()
