"""A task whose data remember who looked at them, and whose models are numbers that depend on values, epoch and seed."""

import hashlib
import json
import os
import random
from pathlib import Path


class Splits(dict):
    """Data of three splits; each look at one leaves a file that names the split and the process."""

    def __init__(self, log):
        super().__init__(train=1.0, valid=2.0, test=4.0)
        self.log = Path(log)

    def __getitem__(self, split):
        (self.log / f"{split}-{os.getpid()}-{random.Random().getrandbits(60)}").touch()
        return super().__getitem__(split)


class Watched:
    """What `drift` names makes a training depend on how often that was done before, as chance would."""

    metrics = {"loss": ("nats", "falls", "min"), "speed": ("1/s", "of this machine"), "odd": ("", "or even")}  # noqa: RUF012
    scores = {  # noqa: RUF012
        **{f"{split}_loss": ("nats", "of the model", "min") for split in ("valid", "test")},
        **{
            f"{split}_loss_{end}": ("nats", "of its interval") for split in ("valid", "test") for end in ("low", "high")
        },
    }
    measures = {"size": ("", "of the sample")}  # noqa: RUF012
    how_to_load = "json.load(open('model.json'))"
    limits = "It knows numbers alone."
    forms = ("text", "wrong")

    def __init__(self, *, log, fingerprint="f" * 64, drift="", breaks=0):
        self.splits, self.fingerprint, self.drift, self.breaks = Splits(log), fingerprint, drift, breaks

    def space(self, hp):
        hp.Float("rate", 0.1, 1.0)
        hp.Choice("kind", ["plain", "wide"])
        with hp.conditional_scope("kind", ["wide"]):
            hp.Int("width", 1, 3)

    def data(self):
        return "watched", self.fingerprint

    def start(self, values, *, epochs, seed):
        return Run(self, dict(values), epochs, seed)

    def export(self, run, folder):
        (folder / "model.json").write_text(json.dumps({"weight": run.weight()}))

    def score(self, folder, split):
        weight = json.loads((folder / "model.json").read_text())["weight"]
        (folder / f"scores-{split}.json").write_text("{}")
        loss = weight * self.splits[split]
        return {f"{split}_loss": loss, f"{split}_loss_low": loss - 0.1, f"{split}_loss_high": loss + 0.1}

    def floors(self, split):
        return {"guess": {f"{split}_loss": 9.0 * self.splits[split]}}

    def references(self, split):
        return {"known": {f"{split}_loss": 5.0}}

    sample_limits = {"size": (3.5, None, "too short")}  # noqa: RUF012

    def samples(self, folder, out, *, count, split):
        for name in ("cold", "hot")[: 2 * count]:
            (out / f"{name}.txt").write_text(name)
            yield name, out / f"{name}.txt", {"size": float(len(name))}, {"kind": "continued", "origin": f"{split}/1"}

    def sample_references(self):
        return {"people": {"size": 5.0}}

    def convert(self, folder, form, out):
        (out / "model.txt").write_text((folder / "model.json").read_text())
        return 0.5 if form == "wrong" else 1e-7


class Run:
    def __init__(self, task, values, epochs, seed):
        self.task, self.values, self.epochs, self.seed, self.done = task, values, epochs, seed, 0

    def weight(self):
        text = f"{sorted(self.values.items())} {self.seed} {self.done}/{self.epochs}"
        return 1 + self.values["rate"] / self.done + int(hashlib.sha256(text.encode()).hexdigest()[:4], 16) / 1e6

    def epoch(self):
        self.done += 1
        if self.done == self.task.breaks:
            raise ValueError("breaks")
        drift = 0.0
        if self.task.drift:
            mark = Path(self.task.drift) / f"{self.seed}-{self.done}"
            drift = 0.01 if mark.exists() else 0.0
            mark.touch()
        loss = self.weight() * (self.task.splits["valid"] - self.task.splits["train"]) + drift
        return {"loss": loss, "speed": random.Random().random(), "odd": float(self.done % 2)}

    def save(self, folder):
        (folder / "run.json").write_text(str(self.done))

    def restore(self, folder):
        self.done = int((folder / "run.json").read_text())
