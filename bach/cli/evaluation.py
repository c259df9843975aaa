"""`bach score` and `bach measure`: how good a model is, and how far music is from Bach."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from bach.cli.commands import Command
from bach.cli.keras_start import start_keras
from bach.cli.options import data_option, json_option, load_data, model_option, pass_terminal, split_option
from bach.cli.terminal import Terminal, table
from bach.errors import CallerError
from bach.notes import Split

if TYPE_CHECKING:
    from bach.corpus import Dataset
    from bach.measures import Reference
    from bach.scoring import Predictor, Report, ScoreProtocol

SHOWN_FILES = 4
"""Files that get a column each in the table of `bach measure`; of more, only all together are shown."""


@click.command(cls=Command, examples=["bach score --model run --split valid"], short_help="Nats per note, and more.")
@model_option
@click.option(
    "--floor", type=click.Choice(["repeat", "counting"]), help="Score what needs no training, instead of a model."
)
@data_option
@split_option("valid")
@click.option(
    "--protocol",
    type=click.Choice(["pieces", "windows", "both"]),
    default="both",
    show_default=True,
    help="Whole pieces, or the windows of the recipe that this project began with.",
)
@click.option("--by-piece", is_flag=True, help="Print each chorale's own score, too.")
@json_option
@click.pass_context
@pass_terminal
def score(
    terminal: Terminal,
    ctx: click.Context,
    model: str,
    floor: str | None,
    source: str,
    split: Split,
    protocol: str,
    by_piece: bool,
    as_json: bool,
) -> None:
    """Scores a model in nats per note on chorales that it was not trained on."""
    from bach.scoring import SCORE_PROTOCOLS
    from bach.scoring import score as scored

    if floor and ctx.get_parameter_source("model") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--floor is scored instead of a model; give it or --model, not both")
    if split == "test":
        terminal.note(
            "The test split is for the end: every choice made after looking at it makes its score too good; "
            "choose on valid."
        )
    data = load_data(terminal, source)
    predictor, facts = _floor(terminal, data, floor) if floor else _model(terminal, data, model, split)
    protocols: tuple[ScoreProtocol, ...] = (
        SCORE_PROTOCOLS if protocol == "both" else tuple(p for p in SCORE_PROTOCOLS if p == protocol)
    )
    leave_out = _near_duplicates(terminal, data, split)
    report = scored(predictor, data, split, protocols=protocols, leave_out=leave_out, progress=terminal.progress)
    if as_json:
        terminal.json({"model": facts, **report.to_json()})
        return
    terminal.out(f"{facts['name']} on {report.table()}")
    if by_piece:
        terminal.out(_by_piece(report))


def _floor(terminal: Terminal, data: "Dataset", floor: str) -> "tuple[Predictor, dict[str, Any]]":
    from bach.floors import CountingFloor, RepeatFloor

    if floor == "repeat":
        return RepeatFloor(), {"name": "floor repeat", "floor": floor}
    terminal.status("counting the training chorales", now=terminal.live)
    return CountingFloor.fit(data.splits["train"]), {"name": "floor counting", "floor": floor}


def _model(terminal: Terminal, data: "Dataset", name: str, split: Split) -> "tuple[Predictor, dict[str, Any]]":
    start_keras(terminal)
    from bach import model_files
    from bach.prediction import ModelPredictor

    terminal.status("loading the model", now=terminal.live)
    model = model_files.load(name)
    record = model_files.record(name)
    trained_on = record.get("fingerprint")
    if trained_on != data.fingerprint:
        of = f"{record.get('data')} ({str(trained_on)[:12]})" if trained_on else "data that its record does not name"
        terminal.note(
            f"This model was trained on {of}, and is scored on {data.name} ({data.fingerprint[:12]}): chorales scored "
            "here may have been seen in training."
        )
    learnt = model_files.trained_on(record)
    if split in learnt and len(learnt) > 1:
        terminal.note(
            f"This model was trained on {split}, too: what it scores there is how well it remembers. Score it on test."
        )
    kept = ("preset", "family", "parameters", "data", "fingerprint", "seed", "epochs", "best_epoch", "trained_on")
    facts = {"name": f"model {name}", "path": name, **{key: record[key] for key in kept if key in record}}
    return ModelPredictor(model), facts


def _near_duplicates(terminal: Terminal, data: "Dataset", split: Split) -> frozenset[str]:
    """Returns the chorales of the split that stand in train, too, unless all do."""
    from bach.duplicates import seen_in_train

    terminal.status("looking for near-duplicates", now=terminal.live)
    seen = seen_in_train(data, split)
    if len(seen) == len(data.splits[split]):
        terminal.note(f"Every chorale of {split} is a near-duplicate of one in train; there is no score without them.")
        return frozenset()
    return seen


def _by_piece(report: "Report") -> str:
    lines: list[str] = []
    for protocol, summary in report.results.items():
        rows: list[list[Any]] = [[protocol, "nats", "bits", "accuracy", "count", ""]]
        for name, own in summary.by_piece.items():
            numbers = [f"{own.nll_nats:.4f}", f"{own.nll_bits:.4f}", f"{own.accuracy:.4f}"] if own.count else ["-"] * 3
            rows.append([name, *numbers, own.count, "near-duplicate" if name in report.left_out else ""])
        lines += ["", table(rows, left=frozenset({0, 5}))]
    return "\n".join(lines)


@click.command(
    cls=Command,
    examples=["bach measure first/*.mid", "bach measure --data jsb --split test"],
    short_help="Compare music with Bach.",
)
@click.argument("files", nargs=-1, metavar="FILE...")
@data_option
@split_option("test")
@json_option
@click.pass_context
@pass_terminal
def measure(
    terminal: Terminal, ctx: click.Context, files: tuple[str, ...], source: str, split: Split, as_json: bool
) -> None:
    """Measures music files (MIDI, MusicXML, CSV) beside Bach's chorales, or a split of these alone.

    What is copied and how far the music is from Bach is told by the training split of the data.
    """
    from bach.formats import read_pitches
    from bach.measures import measure as measured
    from bach.measures import measure_many

    pieces = {file: read_pitches(file) for file in files}
    must = not files or ctx.get_parameter_source("source") is ParameterSource.COMMANDLINE
    data, reference = reference_data(terminal, source, must=must)
    terminal.status("measuring", now=terminal.live)
    columns: dict[str, dict[str, float]] = {file: measured(pitches, reference) for file, pitches in pieces.items()}
    together = measure_many(pieces.values(), reference) if len(pieces) > 1 else None
    bach = _split_measures(data, split, reference) if data else None
    if as_json:
        about = data and {"data": data.name, "fingerprint": data.fingerprint, "split": split, "measures": bach}
        terminal.json({"files": columns, "together": together, "bach": about})
        return
    shown = columns if len(columns) <= SHOWN_FILES else {}
    if together:
        shown = {**shown, f"all {len(pieces)}": together}
    if data and bach:
        shown = {**shown, f"Bach ({data.name} {split})": bach}
    terminal.out(_measure_table(shown))


def _split_measures(data: "Dataset", split: Split, reference: "Reference | None") -> dict[str, float]:
    from bach.measures import measure_many

    # Train is not compared with itself: all of it is copied from there.
    return measure_many([c.pitches for c in data.splits[split]], None if split == "train" else reference)


def _measure_table(columns: dict[str, dict[str, float]]) -> str:
    names = list(dict.fromkeys(name for values in columns.values() for name in values))
    rows: list[list[Any]] = [["measure", *(Path(name).name for name in columns)]]
    rows += [[name, *(_number(values.get(name)) for values in columns.values())] for name in names]
    return table(rows)


def _number(value: float | None) -> str:
    if value is None or value != value:
        return "-"
    return f"{value:.0f}" if value.is_integer() else f"{value:.4f}"


def reference_data(terminal: Terminal, source: str, *, must: bool) -> "tuple[Dataset | None, Reference | None]":
    """Returns the data and its training split to compare with; without them, says why there is nothing to compare with.

    Args:
        terminal: where to say so.
        source: of the data.
        must: raise what is wrong with the data, instead of saying it.

    Raises:
        CallerError: the data cannot be had, and `must`.
    """
    from bach.measures import Reference

    try:
        data = load_data(terminal, source)
    except CallerError as error:
        if must:
            raise
        terminal.note(f"Measured without a comparison to Bach: {error}")
        return None, None
    try:
        return data, Reference(chorale.pitches for chorale in data.splits["train"])
    except ValueError as error:
        terminal.note(f"Measured without a comparison to {data.name}: {error}")
        return data, None
