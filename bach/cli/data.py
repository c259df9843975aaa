"""`bach data`: what the chorales are, whether they are in order, where to get them, how they look."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from bach.cli.commands import FAILED, Commands
from bach.cli.options import data_option, json_option, load_data, pass_terminal
from bach.cli.terminal import Terminal, table
from bach.notes import VOICES

if TYPE_CHECKING:
    from bach.duplicates import NearDuplicate, SopranosSeen
    from bach.inspection import Description

SHOWN_PAIRS = 12
"""Near-duplicates across splits beyond this number are counted, not listed; `--json` lists all."""


@click.group(
    cls=Commands,
    invoke_without_command=True,
    examples=["bach data show --data jsb"],
    short_help="Show, check, fetch, draw chorales.",
)
@data_option
@json_option
@click.pass_context
def data(ctx: click.Context, source: str, as_json: bool) -> None:
    """Shows, checks, fetches and draws the chorales; shows them if nothing else is asked."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(show, source=source, as_json=as_json)
    elif any(ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in ("source", "as_json")):
        raise click.UsageError(f"options come behind the command: bach data {ctx.invoked_subcommand} --data ...")


@data.command(examples=["bach data show --data music21 --json"], short_help="Counts, ranges, near-duplicates.")
@data_option
@json_option
@pass_terminal
def show(terminal: Terminal, source: str, as_json: bool) -> None:
    """Prints counts, lengths, ranges, silences, crossings, near-duplicates and the fingerprint."""
    from bach.inspection import describe, near_duplicates, sopranos_seen

    dataset = load_data(terminal, source)
    terminal.status("comparing every chorale with every other", now=terminal.live)
    description, pairs = describe(dataset), near_duplicates(dataset)
    sopranos = {split: sopranos_seen(dataset, split) for split in ("valid", "test")}
    if as_json:
        duplicates = [{**vars(pair), "across_splits": pair.crosses, "splits": list(pair.splits)} for pair in pairs]
        seen = {split: {"seen": list(s.seen), "chorales": s.num_chorales} for split, s in sopranos.items()}
        terminal.json({**description.as_json(), "near_duplicates": duplicates, "sopranos_seen_in_train": seen})
        return
    terminal.out("\n\n".join([_counts(description), _voices(description), _leaks(pairs, sopranos)]))


def _counts(description: "Description") -> str:
    rows: list[list[Any]] = [["split", "chorales", "steps", "shortest", "median", "longest", "crossed"]]
    for name, split in description.splits.items():
        lengths = [split.shortest, f"{split.median:g}", split.longest]
        rows.append([name, split.num_chorales, split.num_steps, *lengths, f"{split.crossings:.1%}"])
    title = f"{description.name}, fingerprint {description.fingerprint}"
    explained = "Lengths are in steps (sixteenths). Crossed: steps on which a voice sings below its lower neighbour."
    return f"{title}\n\n{table(rows)}\n{explained}"


def _voices(description: "Description") -> str:
    rows = [["voice", *description.splits, *(f"silent {name}" for name in description.splits)]]
    for number, name in enumerate(VOICES):
        voices = [split.voices[number] for split in description.splits.values()]
        ranges = ["-" if voice.lowest is None else f"{voice.lowest}..{voice.highest}" for voice in voices]
        rows.append([name, *ranges, *(f"{voice.silence:.2%}" for voice in voices)])
    return f"{table(rows)}\nLowest and highest MIDI pitch of each voice, and the share of steps in which it rests."


def _leaks(pairs: "list[NearDuplicate]", sopranos: "dict[str, SopranosSeen]") -> str:
    across = [pair for pair in pairs if pair.crosses]
    lines = [
        f"{len(across)} pairs of near-duplicates across splits, {len(pairs) - len(across)} within one "
        "(a shared passage, up to transposition)"
    ]
    if across:
        rows: list[list[Any]] = [["first", "second", "moved", "longest passage", "shared", "what"]]
        rows += [
            [
                pair.first,
                pair.second,
                f"{pair.transposition:+d}",
                f"{pair.longest_run} steps",
                f"{pair.share:.0%}",
                pair.kind,
            ]
            for pair in across[:SHOWN_PAIRS]
        ]
        lines.append(table(rows, left=frozenset({0, 1, 5})))
    if len(across) > SHOWN_PAIRS:
        lines.append(f"and {len(across) - SHOWN_PAIRS} more; --json lists all")
    lines += [
        f"{len(seen.seen)} of {seen.num_chorales} sopranos of {split} are sung in train"
        for split, seen in sopranos.items()
    ]
    return "\n".join(lines)


@data.command(examples=["bach data check --data FOLDER"], short_help="Print what is wrong, if anything.")
@data_option
@json_option
@click.pass_context
@pass_terminal
def check(terminal: Terminal, ctx: click.Context, source: str, as_json: bool) -> None:
    """Prints what is probably wrong with the chorales, and nothing if they are in order.

    Exit status 1 if something was found, 2 if the chorales cannot be read at all.
    """
    from bach.inspection import check as findings_of

    findings = findings_of(load_data(terminal, source, silent=not terminal.live))
    if as_json:
        terminal.json([vars(finding) for finding in findings])
    for finding in [] if as_json else findings:
        terminal.out(finding.message)
    if findings:
        ctx.exit(FAILED)


@data.command(examples=["bach data fetch jsb --from jsb_chorales.tgz"], short_help="Put chorales into the cache.")
@click.argument("name", type=click.Choice(["jsb", "music21"]), metavar="jsb|music21")
@click.option(
    "--from", "from_file", type=click.Path(path_type=Path), help="A copy of the archive, instead of a download."
)
@pass_terminal
def fetch(terminal: Terminal, name: str, from_file: Path | None) -> None:
    """Puts the chorales of a named source into the cache, their SHA-256 checked, and prints where or what they are."""
    from bach.corpus import fetch_jsb

    if name == "jsb":
        terminal.out(str(fetch_jsb(from_file, progress=terminal.progress)))
        return
    if from_file is not None:
        raise click.UsageError("--from is for jsb; music21's chorales are rebuilt from the installed package")
    dataset = load_data(terminal, name)
    terminal.out(f"{dataset.name}: {len(dataset.chorales())} chorales, fingerprint {dataset.fingerprint}")


@data.command(examples=["bach data plot --out chorales.png"], short_help="Draw pitches and lengths.")
@data_option
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The PNG file.")
@pass_terminal
def plot(terminal: Terminal, source: str, out: Path) -> None:
    """Draws how often each voice sings each pitch, and how long the chorales are, as a PNG file."""
    from bach.inspection import plot as draw

    dataset = load_data(terminal, source)
    terminal.status("drawing", now=terminal.live)
    draw(dataset, out)
    terminal.out(str(out))
