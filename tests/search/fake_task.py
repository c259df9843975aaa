"""Tasks that train nothing: a curve that depends on values, epoch and seed alone, and variants with every fault.

They import nothing but the standard library, so a worker that runs them starts at once.
"""

import json
import math
import os
import random
import signal
import sys
import time
from pathlib import Path

LOSS = {"loss": ("nats", "falls", "min")}
METRICS = LOSS | {"speed": ("1/s", "falls with width", "max")}
NOTHING = {}


class Curve:
    """A run whose loss falls towards a floor that its configuration sets."""

    def __init__(self, values, *, epochs, seed, epoch_s=0.0, brake=""):
        self.values, self.epochs, self.seed, self.done = values, epochs, seed, 0
        self.epoch_s, self.brake = epoch_s, brake

    def epoch(self):
        self.done += 1
        if self.epoch_s and (not self.brake or Path(self.brake).exists()):
            time.sleep(self.epoch_s)
        return {"loss": loss(self.values, self.done, self.seed), "speed": 100.0 / self.values.get("width", 8)}

    def save(self, folder):
        (folder / "run.json").write_text(json.dumps({"done": self.done}))

    def restore(self, folder):
        self.done = json.loads((folder / "run.json").read_text())["done"]


def loss(values, epoch, seed):
    """Lowest at rate 1e-2 and width 32; noise that depends on all arguments alone."""
    floor = 0.1 + 0.05 * math.log10(values["rate"] / 1e-2) ** 2 + 0.02 * math.log2(values.get("width", 8) / 32) ** 2
    noise = random.Random(f"{sorted(values.items())} {epoch} {seed}").gauss(0, 0.002)
    return floor + math.exp(-0.7 * epoch) + noise


class FakeTask:
    """The good one.

    `epoch_s` makes epochs take time, and if `brake` names a file, only while it lies there: a test keeps a sweep from
    coming to its end, however long what is done to it takes, and then lets it go. `log` names a folder in which each
    epoch leaves a file, so that work done twice shows.
    """

    metrics = METRICS

    def __init__(self, *, epoch_s=0.0, log="", brake=""):
        self.epoch_s, self.log, self.brake = epoch_s, log, brake

    def space(self, hp):
        hp.Float("rate", 1e-4, 1.0, sampling="log", default=1e-3)
        kind = hp.Choice("kind", ["plain", "wide"])
        with hp.conditional_scope("kind", ["wide"]):
            if kind == "wide":
                hp.Int("width", 8, 128, step=8, default=16)

    def points(self):
        return {"good": {"rate": 1e-2, "kind": "wide", "width": 32}}

    def data(self):
        return "nothing", "0" * 64

    def start(self, values, *, epochs, seed):
        run = Curve(values, epochs=epochs, seed=seed, epoch_s=self.epoch_s, brake=self.brake)
        return _Logged(run, Path(self.log), seed) if self.log else run


class _Logged:
    def __init__(self, run, folder, seed):
        self.run, self.folder, self.seed = run, folder, seed
        self.save, self.restore = run.save, run.restore

    def epoch(self):
        metrics = self.run.epoch()
        name = f"{self.seed}-{self.run.done}-{os.getpid()}-{time.monotonic_ns()}"
        (self.folder / name).touch()
        return metrics


class ThreeLines:
    """The smallest task that there is: no save, no points, nothing optional."""

    metrics = LOSS

    def space(self, hp):
        hp.Float("rate", 1e-4, 1.0, sampling="log")

    def start(self, values, *, epochs, seed):
        return _Epochs(loss(values, epoch, seed) for epoch in range(1, epochs + 1))


class _Epochs:
    def __init__(self, losses):
        self.losses = losses

    def epoch(self):
        return {"loss": next(self.losses)}


class RaisesInSpace(FakeTask):
    def space(self, hp):
        raise ValueError("no space left")


class RaisesInInit(FakeTask):
    def __init__(self):
        raise RuntimeError("cannot be made")


class NoMetrics(FakeTask):
    metrics = NOTHING


class Broken(FakeTask):
    """Fails as `how` says, in trials whose kind is `kind` (all if empty), after `after` good epochs.

    `how`: start, epoch, no_metric, no_mapping, nan, inf, hang, exit, kill, print, memory, oom, text, build.
    """

    def __init__(self, *, how, kind="", after=0, once="", epoch_s=0.0):
        super().__init__(epoch_s=epoch_s)
        self.how, self.kind, self.after, self.once = how, kind, after, once

    def start(self, values, *, epochs, seed):
        broken = self.kind in ("", values["kind"])
        if broken and self.once:
            # The first attempt in this folder fails, all later ones do not.
            mark = Path(self.once) / f"{seed}"
            broken = not mark.exists()
            mark.touch()
        if broken and self.how == "start":
            raise ValueError("cannot start")
        run = Curve(values, epochs=epochs, seed=seed, epoch_s=self.epoch_s)
        return _Broken(run, self.how, self.after) if broken else run


class EveryFault(FakeTask):
    """Each trial has the fault that its parameter `how` names, after its first epoch."""

    def space(self, hp):
        super().space(hp)
        hp.Choice("how", ["none", "epoch", "no_metric", "nan", "hang", "exit", "kill", "print", "grow", "oom"])

    def start(self, values, *, epochs, seed):
        return _Broken(Curve(values, epochs=epochs, seed=seed, epoch_s=self.epoch_s), values["how"], after=1)


_KEPT = []
"""What a process has grown by."""


class _Broken:
    def __init__(self, run, how, after):
        self.run, self.how, self.after = run, how, after
        self.save, self.restore = run.save, run.restore

    def epoch(self):
        metrics = self.run.epoch()
        if self.run.done <= self.after:
            return metrics
        match self.how:
            case "epoch":
                raise ValueError("cannot train")
            case "no_metric":
                return {"speed": 1.0}
            case "no_mapping":
                return None
            case "nan" | "inf":
                return metrics | {"loss": float(self.how)}
            case "text":
                return metrics | {"loss": "low"}
            case "hang":
                while True:
                    time.sleep(3600)
            case "exit":
                sys.exit(7)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "print":
                line = "x" * 999_999 + "\n"
                for _ in range(1000):
                    sys.stdout.write(line)
            case "grow":
                _KEPT.append(b"x" * 250_000_000)
            case "memory":
                raise MemoryError
            case "oom":
                raise RuntimeError("RESOURCE_EXHAUSTED: out of memory allocating 9 GiB")
        return metrics
