"""`bach generate` and `bach harmonise`: new chorales, written as files."""

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from bach.cli.commands import Command
from bach.cli.evaluation import reference_data
from bach.cli.keras_start import start_keras
from bach.cli.options import (
    LARGEST_SEED,
    Files,
    Sampling,
    check_place,
    data_option,
    file_options,
    json_option,
    load_data,
    model_option,
    out_option,
    pass_terminal,
    sampling_options,
    seed_option,
)
from bach.cli.terminal import Terminal, bar
from bach.notes import NUM_VOICES, Pitches

if TYPE_CHECKING:
    import keras

    from bach.measures import Reference

BATCH = 64
"""Chorales made at once."""
MAX_STEPS = 16_000
"""The longest chorale that is made, in steps; as long as files are read."""
STEPS = 256


@click.command(
    cls=Command,
    examples=["bach generate --out first", "bach generate --out more --count 8 --cold --prompt test/003"],
    short_help="Write new chorales.",
)
@model_option
@out_option
@click.option("--count", type=click.IntRange(1, 10_000), metavar="N", default=1, show_default=True, help="How many.")
@click.option(
    "--steps",
    type=click.IntRange(1, MAX_STEPS),
    metavar="N",
    help=f"Length in sixteenths; with --fix, that of the prompt.  [default: {STEPS}]",
)
@seed_option("Of the first chorale; the next has the next number. The same seed gives the same chorale.")
@sampling_options
@click.option(
    "--prompt", metavar="ID|FILE", help="A chorale to go on from: one of the data, such as test/003, or a music file."
)
@click.option(
    "--prompt-steps",
    type=click.IntRange(0, MAX_STEPS),
    metavar="N",
    help="How much of its opening is given.  [default: 32; with --fix, 0]",
)
@click.option("--fix", metavar="VOICES", help="Voices of the prompt that stay as they are, such as soprano,bass.")
@data_option
@file_options
@json_option
@click.pass_context
@pass_terminal
def generate(
    terminal: Terminal,
    ctx: click.Context,
    model: str,
    out: Path,
    count: int,
    steps: int | None,
    seed: int,
    sampling: Sampling,
    prompt: str | None,
    prompt_steps: int | None,
    fix: str | None,
    source: str,
    files: Files,
    as_json: bool,
) -> None:
    """Writes new chorales as MIDI, MusicXML, sound, piano roll and score, with their measures beside them."""
    from bach.prompts import check_prompt, find_prompt, given_notes, voice_numbers

    fixed = voice_numbers(fix) if fix else ()
    if prompt is None and (fixed or prompt_steps is not None):
        raise click.UsageError("--fix and --prompt-steps are about a prompt; name one with --prompt")
    if seed + count - 1 > LARGEST_SEED:
        raise click.UsageError(f"the last of {count} seeds would be above {LARGEST_SEED}; begin with a smaller --seed")
    check_place(out)
    source_named = ctx.get_parameter_source("source") is ParameterSource.COMMANDLINE
    opening = None if prompt is None else find_prompt(prompt, lambda: load_data(terminal, source))
    if steps is None:
        steps = len(opening) if opening is not None and fixed else STEPS
    if opening is not None and prompt_steps is not None:
        check_prompt(opening, steps=steps, prompt_steps=prompt_steps)
    maker = Maker.load(terminal, model)
    from bach.generation import Generator

    settings = sampling.settings()
    given = None
    if opening is not None:
        given = given_notes(opening, steps=steps, prompt_steps=prompt_steps, fixed=fixed)
    _, reference = reference_data(terminal, source, must=source_named)
    generator = Generator(maker.model)
    seeds = list(range(seed, seed + count))
    began, written = time.monotonic(), []
    making_s = 0.0
    for first in range(0, count, BATCH):
        batch = seeds[first : first + BATCH]
        started = time.monotonic()
        # The last batch is filled up: another size would be compiled anew.
        asked = batch + [batch[-1]] * (min(BATCH, count) - len(batch))
        chorales = generator.generate(
            seeds=asked, steps=steps, given=given, settings=settings, on_notes=maker.watch(first, len(batch), count)
        )
        making_s += time.monotonic() - started
        for number, pitches in zip(batch, chorales, strict=False):
            about = {"model": maker.facts, "seed": number, "prompt": prompt, "sampling": dataclasses.asdict(sampling)}
            written.append(
                maker.write(out / f"chorale-{number}", pitches, files, reference, about, f"Chorale {number}")
            )
    notes = count * steps * NUM_VOICES
    terminal.note(
        f"{count} chorale{'s' * (count > 1)} of {steps} steps in {time.monotonic() - began:.1f} s, "
        f"{notes / max(making_s, 1e-9):,.0f} notes/s"
    )
    if as_json:
        terminal.json({"model": maker.facts, "chorales": written})


@click.command(
    cls=Command,
    examples=["bach harmonise melody.mid --out harmonised --tries 32"],
    short_help="Write three voices to a soprano.",
)
@click.argument("melody", type=click.Path(path_type=Path))
@model_option
@out_option
@click.option(
    "--tries", type=click.IntRange(1, 1024), metavar="N", default=16, show_default=True, help="Attempts to choose from."
)
@click.option(
    "--by",
    type=click.Choice(["faults", "parallels", "likelihood"]),
    default="faults",
    show_default=True,
    help="What the best attempt has fewest of, or most.",
)
@seed_option("Of the first attempt; the next has the next number.")
@sampling_options
@data_option
@file_options
@json_option
@click.pass_context
@pass_terminal
def harmonise(
    terminal: Terminal,
    ctx: click.Context,
    melody: Path,
    model: str,
    out: Path,
    tries: int,
    by: str,
    seed: int,
    sampling: Sampling,
    source: str,
    files: Files,
    as_json: bool,
) -> None:
    """Writes alto, tenor and bass to a given soprano (MIDI, MusicXML or CSV), the best of many attempts."""
    from bach.formats import read_melody

    soprano = read_melody(melody)
    if seed + tries - 1 > LARGEST_SEED:
        raise click.UsageError(f"the last of {tries} seeds would be above {LARGEST_SEED}; begin with a smaller --seed")
    check_place(out)
    maker = Maker.load(terminal, model)
    from bach.generation import Generator
    from bach.harmony import harmonise as harmonised
    from bach.prediction import ModelPredictor

    settings = sampling.settings()
    source_named = ctx.get_parameter_source("source") is ParameterSource.COMMANDLINE
    _, reference = reference_data(terminal, source, must=source_named)
    attempts = harmonised(
        Generator(maker.model),
        ModelPredictor(maker.model),
        soprano,
        seeds=list(range(seed, seed + tries)),
        settings=settings,
        by=by,
        on_notes=maker.watch(0, tries, tries),
    )
    best = attempts[0]
    about = {
        "model": maker.facts,
        "seed": best.seed,
        "melody": melody.name,
        "tries": tries,
        "by": by,
        "nll_nats": best.nll,
        "sampling": dataclasses.asdict(sampling),
    }
    written = maker.write(out / f"{melody.stem}-harmonised", best.pitches, files, reference, about, melody.stem)
    terminal.note(f"Attempt {best.seed} is the best of {tries} by {by}: {best.nll:.3f} nats per note.")
    if as_json:
        tried = [{"seed": a.seed, "nll_nats": a.nll, "fault": a.fault, "measures": a.measures} for a in attempts]
        terminal.json({"model": maker.facts, "chorale": written, "attempts": tried})


class Maker:
    """A model that makes chorales, and how they are written and told of.

    Attributes:
        model: the loaded model.
        facts: what its record says of it, short.
    """

    def __init__(self, terminal: Terminal, model: "keras.Model", facts: dict[str, Any], *, as_json: bool):
        """Takes the parts; see `load`."""
        self.model, self.facts = model, facts
        self._terminal, self._as_json = terminal, as_json

    @classmethod
    def load(cls, terminal: Terminal, name: str) -> "Maker":
        """Returns the maker for the model that `--model` names."""
        start_keras(terminal)
        from bach import model_files

        terminal.status("loading the model", now=terminal.live)
        model = model_files.load(name)
        record = model_files.record(name)
        facts = {
            "path": name,
            **{key: record[key] for key in ("preset", "family", "data", "fingerprint") if key in record},
        }
        as_json = bool(click.get_current_context().params.get("as_json"))
        return cls(terminal, model, facts, as_json=as_json)

    def watch(self, first: int, batch: int, of: int) -> Any:
        """Returns what shows how far the making of chorales `first..first + batch` of `of` has come."""
        began = time.monotonic()

        def on_notes(done: int, steps: int) -> None:
            rate = done * NUM_VOICES * batch / max(time.monotonic() - began, 1e-9)
            self._terminal.status(f"composing {bar((first + batch * done / steps) / of)}  {rate:,.0f} notes/s")

        return on_notes

    def write(
        self,
        stem: Path,
        pitches: Pitches,
        files: Files,
        reference: "Reference | None",
        about: dict[str, Any],
        title: str,
    ) -> dict[str, Any]:
        """Writes one chorale, prints its files, and returns what JSON says of it."""
        from bach.formats import write_all
        from bach.measures import measure

        self._terminal.status(f"writing {stem.name}", now=self._terminal.live)
        measures = measure(pitches, reference)
        paths = write_all(
            pitches,
            stem,
            tempo=files.tempo,
            formats=files.formats,
            title=title,
            measures={**measures, "made_by": about},
        )
        if not self._as_json:
            self._terminal.out("\n".join(map(str, paths.values())))
        return {"seed": about["seed"], "files": {name: str(path) for name, path in paths.items()}, "measures": measures}
