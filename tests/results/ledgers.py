"""Ledgers to read in tests and benchmarks: small sweeps with all that can happen to a trial, the same in every run."""

import datetime
import json
import math
import random
from pathlib import Path

from results.ledger import Writer
from results.schema import Measure, Parameter, SweepSchema
from results.storage import Storage

START = datetime.datetime(2026, 5, 1, 12, tzinfo=datetime.UTC)
CONFIG = "config."


FIFTHS = Measure("share", "parallel fifths", "min")


def schema(sweep: str = "laptop", objectives=(("val_nll", "min"),), measures=None) -> SweepSchema:
    return SweepSchema(
        sweep=sweep,
        parameters={
            "model.family": Parameter("str", "the kind of model"),
            "train.learning_rate": Parameter("float"),
            "train.ema": Parameter("bool"),
            "conv_lstm.filters": Parameter("int"),
            "transformer.heads": Parameter("int"),
            "transformer.dropout": Parameter("float"),
        },
        metrics={
            "val_nll": Measure("nats per note", "on whole pieces", "min"),
            "notes_per_s": Measure("notes per second", "speed of training", "max"),
            "train_loss": Measure("nats per note", "of the last epoch"),
        },
        scores={"test_nll": Measure("nats per note", "on the test split", "min")},
        measures=measures or {"fifths": FIFTHS},
        objectives=objectives,
    )


class Sweep:
    """Writes a sweep event by event, by a clock of its own."""

    def __init__(
        self, folder: Path | str, name: str = "laptop", *, data=("music21", "f" * 64), seed: int = 1, **kwargs
    ):
        self.storage = Storage(folder).child(name)
        self.schema = schema(name, **kwargs)
        self.writer = Writer(self.storage, self.schema, session=1, next_seq=0)
        self.random = random.Random(seed)
        self.now = START
        self.add(
            "sessions", command=f"search run sweeps/{name}.toml", host="here", pid=1, commit="abc", python="3.11.9",
            packages="ray 2.60.0", backend="tensorflow", data=data[0], data_fingerprint=data[1], spec_sha256="0" * 64,
        )  # fmt: skip
        spec = {"sweep": {"name": name, "trials": 12, "seed": seed}, "searcher": {"kind": "tpe"}}
        self.storage.write("sweep.json", json.dumps(spec).encode())

    def add(self, table: str, **row) -> int:
        self.now += datetime.timedelta(seconds=1)
        return self.writer.append(table, {"time": self.now} | row)

    def values(self) -> dict:
        draw = self.random
        family = draw.choice(["conv_lstm", "transformer"])
        values = {
            "model.family": family,
            "train.learning_rate": 10 ** draw.uniform(-4, -2),
            "train.ema": draw.random() < 0.5,
        }
        if family == "conv_lstm":
            return values | {"conv_lstm.filters": draw.choice([32, 64, 128])}
        return values | {"transformer.heads": draw.choice([2, 4, 8]), "transformer.dropout": draw.uniform(0, 0.5)}

    def propose(self, trial: int, values: dict | None = None) -> dict:
        values = values or self.values()
        config = {CONFIG + name: value for name, value in values.items()}
        self.add("proposals", trial=trial, origin="searcher", seed=trial, bracket=0, **config)
        return config

    def begin(self, trial: int, attempt: int = 1, cause: str = "first") -> None:
        self.add("attempts", trial=trial, attempt=attempt, cause=cause, cpus=1.0, gpus=0.0)

    def epoch(self, trial: int, epoch: int, value: float, attempt: int = 1) -> None:
        self.add(
            "epochs", trial=trial, attempt=attempt, epoch=epoch, duration_s=2.0, ended=self.now, val_nll=value,
            notes_per_s=1000.0 + trial, train_loss=value * 0.9,
        )  # fmt: skip

    def end(self, trial: int, outcome: str, to_epoch: int, attempt: int = 1, kind: str = "", reason: str = "") -> None:
        fault = {"own_fault": kind == "non_finite"} if outcome in {"failed", "lost"} else {}
        detail = "Traceback (most recent call last):\n  boom" if outcome == "failed" else ""
        self.add(
            "attempt_ends", trial=trial, attempt=attempt, outcome=outcome, reason_kind=kind, reason=reason,
            detail=detail,
            node="here", pid=7, from_epoch=0, to_epoch=to_epoch, wait_s=0.1, start_s=0.5, train_s=2.0 * to_epoch,
            wall_s=2.5 * to_epoch, peak_memory_mb=800.0, **fault,
        )  # fmt: skip

    def finish(self, trial: int, state: str, config: dict, curve: dict, attempts=1, kind="", reason="") -> None:
        best = min((e for e in curve if math.isfinite(curve[e])), key=lambda e: curve[e], default=None)
        metrics = {}
        if best is not None:
            metrics = {"val_nll": curve[best], "notes_per_s": 1000.0 + trial, "train_loss": curve[best] * 0.9}
        self.add(
            "trials", trial=trial, state=state, reason_kind=kind, reason=reason, detail="", origin="searcher",
            seed=trial,
            bracket=0, attempts=attempts, epochs=max(curve, default=0), best_epoch=best, train_s=2.0 * len(curve),
            wall_s=2.5 * len(curve), gpu_s=0.0, checkpoint="", started=START, ended=self.now, **metrics, **config,
        )  # fmt: skip

    def curve(self, config: dict, epochs: int) -> dict[int, float]:
        away = abs(math.log10(config[CONFIG + "train.learning_rate"]) + 3)
        floor = 0.8 + 0.1 * away + (0.05 if config[CONFIG + "model.family"] == "conv_lstm" else 0.0)
        # The last epoch is worse than the best one, as it is when a model overfits.
        return {
            e: floor + 1.5 / e + (0.05 if e == epochs else 0.0) + self.random.uniform(0, 0.01)
            for e in range(1, epochs + 1)
        }

    def trial(self, number: int, state: str = "completed", epochs: int = 6, values: dict | None = None) -> None:
        """Writes a whole trial; `failed` ends in NaN, `stopped` by the scheduler."""
        config = self.propose(number, values)
        self.begin(number)
        curve = self.curve(config, epochs)
        if state == "failed":
            curve[epochs] = math.nan
        for epoch, value in curve.items():
            self.epoch(number, epoch, value)
        kind = {"stopped": "scheduler", "failed": "non_finite"}.get(state, "")
        reason = {
            "stopped": "worse than the cutoff 1.2 of rung 0",
            "failed": f"val_nll was nan after epoch {epochs}",
        }.get(state, "")
        if state in {"stopped", "completed"}:
            self.add(
                "decisions", trial=number, attempt=1, epoch=2, bracket=0, rung=0, value=curve[2], cutoff=1.2,
                num_values=3,
                verdict="stop" if state == "stopped" else "continue", audited=False,
            )  # fmt: skip
        self.end(number, state, epochs, kind=kind, reason=reason)
        self.finish(number, state, config, curve, kind=kind, reason=reason)

    def flush(self) -> None:
        self.writer.flush()


def laptop(folder: Path | str, name: str = "laptop", **kwargs) -> Storage:
    """A sweep of 16 trials: 0-7 completed, 8-10 stopped, 11 failed, 12 retried, 13 running, 14 proposed, 15 paused."""
    sweep = Sweep(folder, name, **kwargs)
    for number in range(8):
        sweep.trial(number)
    for number in range(8, 11):
        sweep.trial(number, "stopped", epochs=2)
    sweep.trial(11, "failed", epochs=3)
    config = sweep.propose(12)
    curve = sweep.curve(config, 4)
    sweep.begin(12)
    for epoch in (1, 2):
        sweep.epoch(12, epoch, curve[epoch] + 9)
    sweep.end(12, "lost", 2, kind="worker_died", reason="the worker process ended with signal 9")
    sweep.begin(12, 2, "lost")
    for epoch in curve:
        sweep.epoch(12, epoch, curve[epoch], attempt=2)
    sweep.end(12, "completed", 4, attempt=2)
    sweep.finish(12, "completed", config, curve, attempts=2)
    config = sweep.propose(13)
    sweep.begin(13)
    for epoch, value in ((1, 2.0), (2, 0.5), (3, 0.9)):
        sweep.epoch(13, epoch, value)
    sweep.propose(14)
    sweep.propose(15)
    sweep.begin(15)
    sweep.epoch(15, 1, 3.0)
    sweep.end(15, "paused", 1)
    for final in range(2):
        sweep.add(
            "finals", final=final, trial=final, seed=100 + final, state="completed", reason="", epochs=6, best_epoch=5,
            chosen=final == 1, model=f"finals/{final}/model.keras", data="music21", data_fingerprint="f" * 64,
            source="", kind="single", members="", round=0,
            train_s=12.0, val_nll=1.0 - final / 10, notes_per_s=1000.0, train_loss=0.9, test_nll=1.1 - final / 10,
            **{CONFIG + "model.family": "conv_lstm", CONFIG + "train.learning_rate": 1e-3},
        )  # fmt: skip
        sweep.add("openings", opening=final, who="me", command="search final", split="test", model=f"finals/{final}",
                  data="music21", data_fingerprint="f" * 64)  # fmt: skip
        for split in ("valid", "test")[: 1 + final]:
            for piece in range(3):
                sweep.add("piece_scores", final=final, split=split, piece=f"bwv{piece}", value=1.0, weight=100.0)
    for number in range(3):
        sweep.add(
            "samples",
            sample=number,
            final=1,
            name=f"chorale {number}",
            kind="free",
            origin="",
            path=f"samples/{number}.mid",
            fifths=0.01,
        )
    sweep.flush()
    return sweep.storage


def plain(folder: Path | str, name: str, trials: int, epochs: int, **kwargs) -> Storage:
    """A sweep of many completed and stopped trials, for speed and for importance."""
    sweep = Sweep(folder, name, **kwargs)
    for number in range(trials):
        stopped = number % 3 == 2
        sweep.trial(number, "stopped" if stopped else "completed", epochs=max(2, epochs // 3) if stopped else epochs)
        if number % 200 == 199:
            sweep.flush()
    sweep.flush()
    return sweep.storage
