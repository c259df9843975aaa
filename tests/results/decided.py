"""A sweep whose final job is over: configurations trained anew, tied ones, samples of each with their files, a card."""

import dataclasses
import io
import json
import math
import wave
import zlib
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from results import choosing
from results.choices import Choice, Key, key_of, rows
from results.choosing import Promise
from results.schema import Measure
from results.storage import Storage
from tests.results import ledgers

PIECE = "bwv1"
SVG = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 20" width="400" height="200">'
    b'<rect width="40" height="20" fill="white"/><path d="M2 10h36" stroke="black"/></svg>'
)
MEASURES = {"fifths": ledgers.FIFTHS, "copied": Measure("steps", "longest stretch of what it was trained on")}
LIMITS = {"copied": {"low": None, "high": 24, "text": "copies the training set"}}


def sound(seconds: float = 1.0, rate: int = 44100, channels: int = 2, pitch: float = 440) -> bytes:
    tone = 0.5 * np.sin(2 * math.pi * pitch * np.arange(int(seconds * rate)) / rate)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(np.repeat((tone * 32767).astype("<i2"), channels).tobytes())
    return file.getvalue()


def picture(width: int = 60, height: int = 20, colours: int = 3) -> bytes:
    """A PNG of stripes."""
    row = b"".join(bytes([0, 40 * (x % colours), 90]) for x in range(width))
    data = zlib.compress(b"".join(b"\0" + row for _ in range(height)), 0)
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def write_files(storage: Storage, path: str, *, seconds: float = 1.0, pitch: float = 440) -> None:
    """Writes the files of a sample beside its path."""
    stem = path.rsplit(".", 1)[0]
    for ending, data in (("wav", sound(seconds, pitch=pitch)), ("svg", SVG), ("png", picture()), ("mid", b"MThd")):
        storage.write(f"{stem}.{ending}", data)


class Decided(ledgers.Sweep):
    """Writes what a final job leaves."""

    num_finals = 0
    num_samples = 0

    def __init__(self, folder: Path | str, name: str = "laptop", **kwargs):
        self.said: dict[str, list[dict]] = defaultdict(list)
        super().__init__(folder, name, measures=MEASURES, **kwargs)

    def add(self, table: str, **row) -> int:
        self.said[table].append(row)
        return super().add(table, **row)

    def final(self, trial: int, value: float, **about) -> int:
        number = self.num_finals
        self.num_finals += 1
        row = {"state": "completed", "reason": "", "epochs": 6, "best_epoch": 5, "chosen": False, "source": "",
               "kind": "single", "members": "", "round": 0, "seed": 100 + number, "model": f"finals/{number}",
               "data": "music21", "data_fingerprint": "f" * 64, "train_s": 12.0, "val_nll": value,
               "notes_per_s": 1000.0 + 50 * trial, "train_loss": value}  # fmt: skip
        self.add("finals", final=number, trial=trial, **(row | about))
        return number

    def choose(self, *, costs=(("notes_per_s", "max"),), rule: Any = "tied_cheapest", number: int = 0) -> Choice:
        """Writes how the final trainings compare, as a final job does, and which is taken."""
        finals = [row for row in self.said["finals"] if row["kind"] == "single"]
        promises = {
            Key("", row["trial"]): Promise(row["val_nll"], fair=row["state"] == "completed")
            for row in sorted(self.said["trials"], key=lambda row: (row["state"] == "stopped", row["val_nll"]))
        }
        finals.sort(key=lambda row: list(promises).index(key_of(row)))
        pieces = defaultdict(dict)
        for row in self.said["piece_scores"]:
            pieces[row["final"]][row["piece"]] = (row["value"], row["weight"])
        found = choosing.choose(finals, promises, objective="val_nll", goal="min", pieces=pieces, rule=rule,
                                costs=costs, seed=1)  # fmt: skip
        assert found is not None
        final = min((n for n in found.winner.finals), key=lambda n: self.said["finals"][n]["val_nll"])
        found = dataclasses.replace(found, final=final)
        for row in rows(found, number):
            self.add("choices", **row)
        return found

    def sample(self, final: int, name: str, *, files: dict | None = None, path: str = "", **about) -> None:
        path = path or f"finals/samples/{final}/{name}.mid"
        self.add("samples", sample=self.num_samples, final=final, name=name, path=path, **about)
        self.num_samples += 1
        if files is not None:
            write_files(self.storage, path, pitch=220 * (1 + final / 12), **files)


def decided(folder: Path | str, name: str = "laptop", *, files: dict | None = None, **kwargs) -> Storage:
    """Returns what `begun` writes."""
    sweep = begun(folder, name, files=files, **kwargs)
    sweep.flush()
    return sweep.storage


def begun(
    folder: Path | str, name: str = "laptop", *, files: dict | None = None, choices: bool = True, **kwargs
) -> Decided:
    """A sweep to which more may be added, not yet flushed.

    Trials 0 to 9 completed, 10 to 14 stopped; 0, 1 and 2 trained anew three times, the first two tied, 0 chosen.

    Trial 1 was given a fourth seed by racing. Of the chosen configuration there is a training on all data (final 10),
    and an ensemble of it (final 11). The chosen model and the tied one have samples of each kind.

    Args:
        folder: of the sweeps.
        name: of the sweep.
        files: arguments of `write_files`; None writes no files.
        choices: whether the choice is an event, as it is since version 3 of the schema.
        kwargs: of the sweep.
    """
    sweep = Decided(folder, name, **kwargs)
    for number in range(10):
        sweep.trial(number)
    for number in range(10, 15):
        sweep.trial(number, "stopped", epochs=2)
    for trial, values in enumerate([(0.80, 0.82, 0.84), (0.81, 0.83, 0.85), (1.20, 1.22, 1.24)]):
        for seed, value in enumerate(values):
            sweep.final(trial, value, chosen=(trial, seed) == (0, 0), test_nll=0.9 if (trial, seed) == (0, 0) else None)
    sweep.final(1, 0.82, round=1)
    sweep.final(0, 0.5, kind="whole")
    sweep.final(0, 0.78, kind="ensemble", members="0, 1, 2")
    if choices:
        sweep.choose()
    sweep.add("openings", opening=0, who="me", command="search final", split="test", model="finals/0", data="music21",
              data_fingerprint="f" * 64)  # fmt: skip
    for final, piece in ((0, PIECE), (3, "bwv2")):
        below = "bundle/samples" if final == 0 else f"finals/samples/{final}"
        samples = [("cold", "free", "", 3), ("hot", "free", "", 31 if final else 5), (f"cold-after-{piece}",
                   "continued", piece, 2), (f"harmony-{piece}", "harmony", piece, 4), (f"original-{piece}", "original",
                   piece, 200)]  # fmt: skip
        for sample, kind, origin, copied in samples:
            sweep.sample(final, sample, kind=kind, origin=origin, path=f"{below}/{sample}.mid", fifths=0.01 * copied,
                         copied=copied, files=files)  # fmt: skip
    card = {
        "final": 0, "how_to_load": "load()", "limits": "- It is a toy.\n  Really.",
        "floors": {"counting": {"test_nll": 1.5}}, "sample_references": {"Bach, test": {"fifths": 0.02, "copied": 11}},
        "sample_limits": LIMITS,
    }  # fmt: skip
    sweep.storage.write("bundle/card.json", json.dumps(card).encode())
    return sweep
