"""How fast chorales are made: the notebook's loop over `model.predict` against `bach.generation.Generator`, in one run.

For each preset the same untrained model makes the same chorale in both ways: 8 steps are given, 56 are chosen (224
notes).

*Notebook*: for each note, `model.predict` on the whole sequence so far (32 to 255 notes), then a draw with numpy. Not
every note is timed but all four of every `--every`-th step, which is the same mean in less time. Every length has been
seen once before it is timed, so that no compiling counts. TensorFlow compiles for all lengths at once, JAX anew for
each: there, a first chorale takes the time of the first pass, which has a column of its own.

*Generator*: the whole chorale, random numbers and decoding included; alone and in a batch. Only chosen notes are
counted.

The ways take turns within a repeat, and each ratio is the median of the repeats' own ratios, so that another program on
the machine falls on both.

Run: python benchmarks/bench_generation.py [--presets NAME ...] [--json]; KERAS_BACKEND=jax for the other backend.
"""

import argparse
import dataclasses
import json
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from machine import machine_of_models

from bach.encoding import encode
from bach.generation import Generator
from bach.hypermodel import from_values
from bach.models.presets import PRESETS
from bach.notes import NUM_TOKENS, NUM_VOICES, VOICE_RANGES

GIVEN_STEPS = 8
CHOSEN_STEPS = 56


def seconds(work: Callable[[], object]) -> float:
    """Returns the wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def notebook_note(model: keras.Model, tokens: np.ndarray, rng: np.random.Generator) -> int:
    """Returns the next token as the notebook chooses it: the whole sequence through `predict`, then a draw."""
    logits = model.predict(tokens[None], verbose=0)[0, -1].astype(np.float64)
    weights = np.exp(logits - logits.max())
    return int(rng.choice(NUM_TOKENS, p=weights / weights.sum()))


def notebook_pass(model: keras.Model, chorale: np.ndarray, given: int, every: int) -> None:
    """Chooses the four notes of every `every`-th step after the given ones."""
    tokens, rng = encode(chorale), np.random.default_rng(1)
    for step in range(given, len(chorale), every):
        for note in range(step * NUM_VOICES, (step + 1) * NUM_VOICES):
            notebook_note(model, tokens[:note], rng)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures:
    """What was measured for one preset.

    Attributes:
        preset: its name.
        parameters: number of weights.
        timed_notes: how many notes of a chorale are timed in the notebook's way.
        notes_per_s: by way (`notebook`, `one`, `batch`), one value a repeat.
        first_s: by way, seconds of the first pass, which compiles.
    """

    preset: str
    parameters: int
    timed_notes: int
    notes_per_s: dict[str, list[float]]
    first_s: dict[str, float]

    def median(self, way: str) -> float:
        """Returns the median over the repeats of the notes per second."""
        return statistics.median(self.notes_per_s[way])

    def ratio(self, way: str) -> float:
        """Returns how many times as fast as the notebook: the median over the repeats of each one's ratio."""
        pairs = zip(self.notes_per_s[way], self.notes_per_s["notebook"], strict=True)
        return statistics.median(fast / slow for fast, slow in pairs)

    def to_json(self) -> dict[str, object]:
        """Returns all of it, medians and ratios included."""
        medians = {f"{way}_notes_per_s": self.median(way) for way in self.notes_per_s}
        return {
            **medians,
            "one_ratio": self.ratio("one"),
            "batch_ratio": self.ratio("batch"),
            **dataclasses.asdict(self),
        }


def measure(name: str, *, given: int, chosen: int, batch: int, repeats: int, every: int) -> Figures:
    """Returns the figures of one preset.

    Args:
        name: of the preset.
        given: steps at the start that are given.
        chosen: steps that are chosen after them.
        batch: chorales in a batch.
        repeats: how often everything is timed, after a first pass that is not.
        every: of so many chosen steps, one is timed in the notebook's way.
    """
    keras.utils.set_random_seed(1)
    model = from_values(PRESETS[name].point())
    generator = Generator(model)
    rng = np.random.default_rng(1)
    chorale = np.stack([rng.integers(low, high + 1, given + chosen) for low, high in VOICE_RANGES], axis=1)

    def generate(size: int) -> None:
        generator.generate(seeds=range(size), steps=given + chosen, given=chorale[:given])

    ways = {
        "notebook": (len(range(given, given + chosen, every)), lambda: notebook_pass(model, chorale, given, every)),
        "one": (chosen, lambda: generate(1)),
        "batch": (batch * chosen, lambda: generate(batch)),
    }
    first = {way: seconds(work) for way, (_, work) in ways.items()}
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way, (steps, work) in ways.items():
            rates[way].append(steps * NUM_VOICES / seconds(work))
    return Figures(
        preset=name,
        parameters=model.count_params(),
        timed_notes=ways["notebook"][0] * NUM_VOICES,
        notes_per_s=rates,
        first_s=first,
    )


def table(rows: list[Figures], batch: int) -> str:
    """Returns the figures as a Markdown table."""
    lines = [
        "| preset | notebook, ms a note: first pass | later "
        f"| one chorale, notes/s | ratio | batch of {batch}, notes/s | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        first, later = row.first_s["notebook"] / row.timed_notes, 1 / row.median("notebook")
        lines.append(
            f"| `{row.preset}` | {1000 * first:,.0f} | {1000 * later:,.1f} | {row.median('one'):,.0f} "
            f"| {row.ratio('one'):,.0f} | {row.median('batch'):,.0f} | {row.ratio('batch'):,.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--presets", nargs="+", choices=list(PRESETS), default=list(PRESETS), metavar="NAME")
    parser.add_argument("--batch", type=int, default=64, help="chorales in a batch")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--every", type=int, default=7, help="time the notebook's way on every so many steps; 1 for all"
    )
    parser.add_argument("--tiny", action="store_true", help="seconds instead of minutes; the figures mean nothing")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    size = {"given": GIVEN_STEPS, "chosen": CHOSEN_STEPS, "batch": options.batch}
    size |= {"repeats": options.repeats, "every": options.every}
    if options.tiny:
        size = {"given": 1, "chosen": 3, "batch": 2, "repeats": 2, "every": 2}
    facts = machine_of_models()
    rows = [measure(name, **size) for name in options.presets]
    if options.json:
        print(
            json.dumps(
                {"benchmark": "generation", **facts, **size, "presets": [row.to_json() for row in rows]}, indent=1
            )
        )
    else:
        print(", ".join(f"{name} {value}" for name, value in facts.items()), end="\n\n")
        print(table(rows, size["batch"]))


if __name__ == "__main__":
    main()
