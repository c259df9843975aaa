"""Measures how fast a large ledger is read: the replay of a sweep's driver, and `results top`.

The ledger is that of a sweep with 10,000 trials of 50 epochs, written by the conductor and the ledger's own writer,
with a curve for each trial instead of a task. ASHA judges every trial at its rungs and audits those it would stop, so
that all have all epochs. What is measured runs in processes of its own; seconds are wall time from start to end,
imports included, except for `replay alone`.

Run: python benchmarks/bench_ledger.py [--trials 10000] [--epochs 50] [--tiny] [--json]
"""

import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from results.ledger import Ledger, Writer
from results.storage import Storage
from search import folders, preparation
from search.attempts import Progress
from search.environment import commit
from search.spec import CheckpointSettings, FinalSettings, Objective, SchedulerSettings, SearcherSettings, SweepSpec

ROOT = Path(__file__).resolve().parents[1]


def spec(folder: str, trials: int, epochs: int, searcher: Any = "random") -> SweepSpec:
    """Returns the sweep whose ledger it is."""
    return SweepSpec(
        name="large",
        task=f"{ROOT / 'tests' / 'search' / 'fake_task.py'}:FakeTask",
        objectives=(Objective(metric="loss", goal="min"),),
        trials=trials,
        epochs=epochs,
        seed=4,
        storage=folder,
        searcher=SearcherSettings(kind=searcher),
        scheduler=SchedulerSettings(kind="asha", audit_share=1.0),
        checkpoints=CheckpointSettings(),
        final=FinalSettings(models=0),
    )


def write(given: SweepSpec) -> float:
    """Writes the ledger; returns the seconds that it took."""
    began = time.monotonic()
    prepared = preparation.prepare(given)
    storage = folders.folder_of(given)
    writer = Writer(storage, prepared.schema, session=1, next_seq=0)
    conductor = preparation.make_conductor(prepared, writer, session=1, concurrency=2)
    conductor.note("sessions", {"session": 1, "command": "a benchmark"})
    draw = random.Random(1)
    while (attempt := conductor.next_attempt()) is not None:
        floor, rate = draw.uniform(0.1, 0.5), draw.uniform(0.05, 0.5)
        rows = [
            {
                "epoch": epoch,
                "duration_s": 0.5,
                "ended": time.time(),
                "metrics": {"loss": floor + math.exp(-rate * epoch) + draw.gauss(0, 0.01), "speed": 9.5},
            }
            for epoch in range(1, given.epochs + 1)
        ]
        facts = {"node": "here", "pid": 1, "from_epoch": 0, "start_s": 0.1, "train_s": 25.0, "wall_s": 26.0}
        conductor.report(attempt.trial, attempt.attempt, Progress(epochs=tuple(rows), outcome="completed", facts=facts))
        if attempt.trial % 200 == 199:
            conductor.flush()
    conductor.close()
    Ledger(storage).compact()
    return time.monotonic() - began


class Nowhere:
    """Takes rows as a writer does, and writes none."""

    def append(self, table: str, row: Any) -> int:
        """Counts nothing."""
        return 0

    def flush(self) -> None:
        """Does nothing."""


def replay(given: SweepSpec) -> float:
    """Replays the ledger into a conductor; returns the seconds that this alone took."""
    prepared = preparation.prepare(given)
    conductor = preparation.make_conductor(prepared, Nowhere(), session=2, concurrency=2)
    began = time.monotonic()
    conductor.replay(Ledger(folders.folder_of(given)).events())
    return time.monotonic() - began


def one(command: list[str]) -> dict[str, Any]:
    """Runs a process; returns its seconds, its CPU seconds and its peak memory."""
    began = time.monotonic()
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE) as run:
        said = run.stdout.read().decode() if run.stdout else ""
        _, status, used = os.wait4(run.pid, 0)
        run.returncode = os.waitstatus_to_exitcode(status)
    if run.returncode:
        raise SystemExit(f"{command} ended with {run.returncode}: {said}")
    return {
        "seconds": time.monotonic() - began,
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak_mb": used.ru_maxrss / 1e3,
        "said": said,
    }


def measure(trials: int, epochs: int, folder: str) -> dict[str, Any]:
    """Returns a row for each thing that is done with the ledger."""
    uri = folders.folder_of(spec(folder, trials, epochs)).uri
    again = [sys.executable, __file__, "--trials", str(trials), "--epochs", str(epochs), "--folder", folder]
    # A process begins with the peak of the one that started it, so this one stays small.
    written = one([*again, "--write"])
    rows: dict[str, Any] = {}
    for searcher in ("random", "tpe"):
        row = one([*again, "--replay", searcher])
        rows[f"replay, {searcher} and ASHA"] = row | {"alone_s": float(row["said"])}
    rows["`results top`"] = one([sys.executable, "-m", "results.cli", "top", uri])
    for row in rows.values():
        del row["said"]
    return {
        "trials": trials,
        "epochs": epochs,
        "events": Ledger(Storage(uri)).last_seq + 1,
        "ledger_mb": Storage(uri).size("ledger") / 1e6,
        "written_s": float(written["said"]),
        "rows": rows,
    }


def table(told: dict[str, Any]) -> str:
    """Returns the figures in Markdown."""
    lines = [
        f"{told['trials']:,} trials of {told['epochs']} epochs: {told['events']:,} events, "
        f"{told['ledger_mb']:.1f} MB, written in {told['written_s']:.0f} s.",
        "",
        "| what | seconds | replay alone, s | CPU seconds | peak memory, MB |",
        "|---|---|---|---|---|",
    ]
    for name, row in told["rows"].items():
        alone = f"{row['alone_s']:.1f}" if "alone_s" in row else ""
        lines.append(f"| {name} | {row['seconds']:.1f} | {alone} | {row['cpu_s']:.1f} | {row['peak_mb']:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--tiny", action="store_true", help="100 trials of 9 epochs: shows that it runs")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--replay", help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        print(write(spec(options.folder, options.trials, options.epochs)))
        return
    if options.replay:
        print(replay(spec(options.folder, options.trials, options.epochs, options.replay)))
        return
    trials, epochs = (100, 9) if options.tiny else (options.trials, options.epochs)
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="ledger-") as folder:
        told = measure(trials, epochs, folder)
    told |= {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "cpus": os.cpu_count(),
        "load": [round(before, 1), round(os.getloadavg()[0], 1)],
    }
    if options.json:
        print(json.dumps(told, indent=1))
    else:
        print(", ".join(f"{name} {told[name]}" for name in ("date", "commit", "cpus", "load")), "\n")
        print(table(told))


if __name__ == "__main__":
    main()
