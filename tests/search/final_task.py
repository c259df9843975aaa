"""A task whose models are numbers: it can do all that the final job asks for, and leaves a file for all that it did."""

import json
import random
import time
from pathlib import Path


class Numbers:
    metrics = {"loss": ("nats", "falls", "min")}  # noqa: RUF012
    scores = {"test_loss": ("nats", "on test", "min")}  # noqa: RUF012
    measures = {"size": ("", "of the sample")}  # noqa: RUF012
    how_to_load = "json.load(open('model.json'))"

    def __init__(self, *, log, fails="", data="numbers", fingerprint="f" * 64, gain=0.1, noise=0.02):
        self.log, self.fails, self.named, self.fingerprint = Path(log), fails, data, fingerprint
        self.gain, self.noise = gain, noise

    def space(self, hp):
        hp.Float("rate", 0.0, 1.0)

    def data(self):
        return self.named, self.fingerprint

    def start(self, values, *, epochs, seed):
        return Run(self, values["rate"], epochs, seed)

    def mark(self, what):
        (self.log / f"{what}-{time.monotonic_ns()}").touch()

    def export(self, run, folder):
        (folder / "model.json").write_text(json.dumps({"rate": run.rate, "seed": run.seed, "done": run.done}))

    def score(self, folder, split):
        self.mark(f"score {split}")
        if self.fails in ("score", f"score {split}"):
            raise ValueError("cannot score")
        (folder / f"scores-{split}.json").write_text("{}")
        told = {"test_loss": json.loads((folder / "model.json").read_text())["rate"] + 0.5}
        return told | ({"extra": 1.0} if self.fails == "scores" else {})

    def floors(self, split):
        return {"guess": {"test_loss": 9.0}}

    sample_limits = {"size": (None, 3.5, "too long")}  # noqa: RUF012

    def samples(self, folder, out, *, count, split):
        model = json.loads((folder / "model.json").read_text())
        for number in range(count):
            for name, origin in (("cold", ""), ("hot", f"{split}/{number}")):
                called = name if not number else f"{name}-{number + 1}"
                called = "cold" if self.fails == "names" else called
                self.mark(f"sample {split}")
                (out / f"{called}.txt").write_text(f"{called} {model}")
                kind = "weird" if self.fails == "kind" else "continued" if origin else "free"
                measures = {"length" if self.fails == "measure" else "size": float(len(called))}
                yield called, out / f"{called}.txt", measures, {"kind": kind, "origin": origin}

    def sample_references(self):
        return {"people": {"size": 3.0}}

    def start_whole(self, values, *, epochs, seed):
        self.mark("whole")
        if self.fails == "whole":
            raise ValueError("not that much")
        return self.start(values, epochs=epochs, seed=seed)

    def next_steps(self, folder):
        return [f"look at {folder}"]


class Pieces(Numbers):
    """Its trainings differ from seed to seed, its models are scored piece by piece, and they take time to run."""

    metrics = {**Numbers.metrics, "size": ("", "", None), "speed": ("", "", None)}  # noqa: RUF012
    costs = ("speed max", "memory min", "size min")

    def start(self, values, *, epochs, seed):
        return NoisyRun(self, values["rate"], epochs, seed)

    def export(self, run, folder):
        super().export(run, folder)
        (folder / "loss.json").write_text(json.dumps(run.last))

    def score_pieces(self, folder, split):
        self.mark(f"pieces {split}")
        if self.fails == "pieces":
            return ["a"]
        loss = json.loads((folder / "loss.json").read_text())
        return {f"{split} {i}": (loss + (i - 4.5) / 100, 4) for i in range(10)}

    def combine(self, folders, out):
        """The mean of their rates; their losses' mean, and better by `gain`."""
        self.mark("combine")
        models = [json.loads((folder / "model.json").read_text()) for folder in folders]
        losses = [json.loads((folder / "loss.json").read_text()) for folder in folders]
        rate, loss = (sum(values) / len(models) for values in ([m["rate"] for m in models], losses))
        (out / "model.json").write_text(json.dumps({"rate": rate, "seed": None, "done": len(models)}))
        (out / "loss.json").write_text(json.dumps(loss - self.gain))

    def costs_of(self, folder):
        return {"speed": 50.0 / json.loads((folder / "model.json").read_text())["done"]}


class Accurate(Pieces):
    """Its trainings tell a share, too, and its pieces are nats all the same."""

    metrics = {**Pieces.metrics, "accuracy": ("share", "rises", "max")}  # noqa: RUF012

    def start(self, values, *, epochs, seed):
        return AccurateRun(self, values["rate"], epochs, seed)


class Run:
    def __init__(self, task, rate, epochs, seed):
        self.task, self.rate, self.epochs, self.seed, self.done = task, rate, epochs, seed, 0

    def epoch(self):
        self.done += 1
        self.task.mark(f"epoch {self.rate} {self.done}")
        if self.task.fails == f"{self.rate} {self.done}":
            raise ValueError("cannot train")
        return {"loss": self.rate + 1 / self.done}

    def save(self, folder):
        (folder / "run.json").write_text(str(self.done))

    def restore(self, folder):
        self.done = int((folder / "run.json").read_text())


class NoisyRun(Run):
    @property
    def last(self):
        return self.rate + 1 / self.done + random.Random(self.seed).gauss(0, self.task.noise)

    def epoch(self):
        super().epoch()
        return {"loss": self.last, "size": 1 / self.rate, "speed": 50.0}


class AccurateRun(NoisyRun):
    def epoch(self):
        told = super().epoch()
        return told | {"accuracy": 1 - told["loss"] / 3}


class Bare:
    """A task that can only train."""

    metrics = {"loss": ("nats", "falls", "min")}  # noqa: RUF012

    def __init__(self, *, log):
        self.numbers = Numbers(log=log)

    def space(self, hp):
        hp.Float("rate", 0.0, 1.0)

    def start(self, values, *, epochs, seed):
        return self.numbers.start(values, epochs=epochs, seed=seed)
