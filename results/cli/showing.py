"""`results show`, `compare`, `failures`: what happened, one thing at a time or side by side."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from results.cli.commands import Command, pass_terminal
from results.cli.options import (
    Output,
    Source,
    json_option,
    output_options,
    parsed,
    source_options,
    storage_option,
    where_option,
)
from results.cli.terminal import Terminal, cell
from results.errors import LedgerError
from results.plain import several

if TYPE_CHECKING:
    from results.finding import Trial
    from results.opening import Results, Sweep


@click.command(
    cls=Command, examples=["results show laptop", "results show laptop/17", "results show s3://bucket/runs/laptop/17"]
)
@click.argument("name", metavar="SWEEP|TRIAL")
@storage_option
@json_option
@pass_terminal
def show(terminal: Terminal, name: str, storage: str, as_json: bool) -> None:
    """Shows a sweep, or a trial: configuration, epochs, attempts, and why it was stopped or failed."""
    from results.comparison import summary
    from results.finding import trial

    if not _is_trial(name, storage):
        results = Source(names=(name,), storage=storage).open()
        figures = {sweep.name: summary(sweep) for sweep in results.sweeps}
        if as_json:
            terminal.json(figures if len(figures) > 1 else next(iter(figures.values())))
            return
        for i, sweep in enumerate(results.sweeps):
            if i:
                terminal.out("")
            _show_sweep(terminal, sweep, figures[sweep.name])
        return
    found = trial(*_sweep_of(name, storage))
    if as_json:
        document = {
            "id": found.id,
            "trial": dict(found.row),
            "epochs": [dict(row) for row in found.epochs],
            "attempts": [dict(row) for row in found.attempts],
            "decisions": [dict(row) for row in found.decisions],
        }
        terminal.json(document)
        return
    _show_trial(terminal, found)


def _is_trial(name: str, storage: str) -> bool:
    """Returns whether a name is that of a trial, `sweep/17`, and not of a sweep."""
    from results.ledger import Ledger
    from results.storage import Storage

    head, _, last = name.rpartition("/")
    if not head or not last.isdecimal():
        return False
    # A sweep may be called 17 as well.
    places = [Storage(name)] + ([] if "://" in name or name.startswith("/") else [Storage(storage).child(name)])
    return not any(Ledger(place).exists for place in places)


def _sweep_of(name: str, storage: str) -> "tuple[Results, str]":
    """Returns the sweep that a trial's name or place begins with, and the trial's number as text."""
    place, _, number = name.rpartition("/")
    results = Source(names=(place,), storage=storage).open()
    if len(results.sweeps) > 1:
        names = ", ".join(f"{place}/{sweep.name}/{number}" for sweep in results.sweeps[:3])
        raise LedgerError(f"trial {number} of which sweep in {place!r}? For example {names}")
    return results, number


def _pairs(terminal: Terminal, title: str, pairs: Sequence[tuple[str, Any]]) -> None:
    if pairs:
        wide = max(len(name) for name, _ in pairs)
        terminal.out("\n".join([title, *(f"  {name:{wide}}  {cell(value, name)}" for name, value in pairs)]))


def _show_sweep(terminal: Terminal, sweep: "Sweep", figures: dict[str, Any]) -> None:
    from results.leaderboard import UNKNOWN_DATA

    figures = figures | {"data": figures["data"] or UNKNOWN_DATA}
    figures["data_fingerprint"] = (figures["data_fingerprint"] or "")[:12] or None
    _pairs(terminal, f"sweep {sweep.name}  ({sweep.uri})", list(figures.items()))
    parameters = ", ".join(sweep.schema.parameters)
    terminal.out(f"  varied: {parameters or 'nothing'}")


def _show_trial(terminal: Terminal, found: "Trial") -> None:
    from results.curves import sparkline
    from results.schema import CONFIG

    row = found.row
    best = f"best epoch {row['best_epoch']} of {row['epochs']}" if row["best_epoch"] else f"{row['epochs'] or 0} epochs"
    terminal.out(f"trial {found.id}: {row['state']}, {best}")
    if row["reason"]:
        terminal.out(f"  why: {cell(row['reason'])}" + (f" ({row['reason_kind']})" if row["reason_kind"] else ""))
    _pairs(terminal, "at the best epoch", [(name, row[name]) for name in found.sweep.schema.metrics])
    parameters = [(n.removeprefix(CONFIG), v) for n, v in row.items() if n.startswith(CONFIG) and v is not None]
    _pairs(terminal, "configuration", parameters)
    facts = ("origin", "seed", "bracket", "started", "ended", "train_s", "wall_s", "gpu_s", "checkpoint", "data")
    _pairs(terminal, "about", [(name, row[name]) for name in facts if row[name] not in (None, "")])
    metrics = list(found.sweep.schema.metrics)
    if found.epochs:
        terminal.out("epochs")
        for name in metrics:
            values = [float("nan") if e[name] is None else e[name] for e in found.epochs]
            terminal.out(f"  {name}: {sparkline(values, 40)}")
        rows = [[e["epoch"], e["attempt"], e["duration_s"], *(e[name] for name in metrics)] for e in found.epochs]
        terminal.table(["epoch", "attempt", "duration_s", *metrics], rows, keep=3)
    _attempts(terminal, found)
    for each in found.decisions:
        cutoff = "no cutoff yet" if each["cutoff"] is None else f"cutoff {cell(each['cutoff'])}"
        audited = ", runs on to be audited" if each["audited"] else ""
        terminal.out(
            f"epoch {each['epoch']}, rung {each['rung']} of bracket {each['bracket']}: {each['verdict']}; "
            f"value {cell(each['value'])}, {cutoff} among {each['num_values']}{audited}"
        )
    detail = next((a["detail"] for a in reversed(found.attempts) if a["detail"]), row["detail"])
    if detail:
        terminal.out(
            "traceback of the last attempt that left one\n"
            + "\n".join(f"  {cell_line(x)}" for x in detail.splitlines())
        )


def cell_line(text: str) -> str:
    """Returns a line without characters that steer a terminal; its indentation stays."""
    return "".join(c if c.isprintable() else "?" for c in text.expandtabs())


def _attempts(terminal: Terminal, found: "Trial") -> None:
    if not found.attempts:
        return
    terminal.out("attempts")
    names = ["attempt", "cause", "outcome", "from_epoch", "to_epoch", "node", "pid", "reason_kind", "wall_s"]
    names.append("peak_memory_mb")
    terminal.table(names, [[a[name] for name in names] for a in found.attempts], keep=3)


@click.command(
    cls=Command,
    examples=["results compare laptop/3 laptop/7", "results compare laptop families --json"],
)
@click.argument("names", metavar="SWEEP|TRIAL...", nargs=-1, required=True)
@storage_option
@click.option("--all", "every", is_flag=True, help="Show also what is the same everywhere.")
@output_options
@pass_terminal
def compare(terminal: Terminal, names: tuple[str, ...], storage: str, every: bool, output: Output) -> None:
    """Puts trials or sweeps side by side: settings that differ, results, cost."""
    import pyarrow as pa

    from results.comparison import compare_sweeps, compare_trials
    from results.finding import trial
    from results.output import text

    sweeps = [name for name in names if not _is_trial(name, storage)]
    if len(sweeps) == len(names):
        found = compare_sweeps(Source(names=names, storage=storage).open())
    elif sweeps:
        raise click.UsageError(f"trials or sweeps, not both: {', '.join(sweeps)} is no trial")
    else:
        results, ids = _all_of(names, storage)
        found = compare_trials([trial(results, name) for name in ids])
    lines = [line for line in found.lines if every or line.differs]
    if output.as_table:
        if found.warning:
            terminal.note(f"warning: {found.warning}")
        rows = [[line.name.removeprefix("config."), *(cell(v, line.name) for v in line.values)] for line in lines]
        terminal.table(["", *found.names], rows, keep=3)
        same = len(found.lines) - len(lines)
        if same:
            terminal.note(f"{same} more are the same everywhere; --all shows them")
        return
    columns = {"part": [x.part for x in lines], "name": [x.name for x in lines]}
    columns |= {name: [text(line.values[i]) for line in lines] for i, name in enumerate(found.names)}
    document = {
        "names": list(found.names),
        "warning": found.warning,
        "lines": [{"part": x.part, "name": x.name, "values": list(x.values), "differs": x.differs} for x in lines],
    }
    output.write(
        terminal, pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()}), document
    )


def _all_of(names: Sequence[str], storage: str) -> "tuple[Results, list[str]]":
    """Returns the sweeps of all these trials, and the trials' ids among them."""
    from results.opening import open as open_results

    places = []
    for name in names:
        results, number = _sweep_of(name, storage)
        places.append((results.sweeps[0].uri, number))
    joined = open_results(*(uri for uri, _ in places))
    by_place = {sweep.uri: sweep.name for sweep in joined.sweeps}
    return joined, [f"{by_place[uri]}/{number}" for uri, number in places]


@click.command(cls=Command, examples=["results failures laptop", "results failures laptop --detail"])
@source_options
@where_option
@click.option("--detail", is_flag=True, help="Show the last traceback of each kind.")
@output_options
@pass_terminal
def failures(terminal: Terminal, source: Source, conditions: tuple[str, ...], detail: bool, output: Output) -> None:
    """Shows what went wrong: how often, why, and what the failed trials share."""
    import dataclasses

    from results.failures import Failure
    from results.failures import failures as library
    from results.output import table_of

    found = library(source.open(), parsed(conditions))
    if not output.as_table:
        output.write(terminal, table_of(Failure, found), [dataclasses.asdict(each) for each in found])
        return
    if not found:
        terminal.note("nothing failed")
        return
    terminal.table(
        ["kind", "trials", "attempts", "own fault", "lost_s", "reason"],
        [(f.kind, f.num_trials, f.num_attempts, f.own_fault, f.lost_s, f.reason) for f in found],
        keep=3,
    )
    for each in found:
        if each.trials:
            terminal.out(f"{each.kind}: {several(each.trials, 8)}")
        if each.shared:
            terminal.out(f"  stands out: {cell(each.shared)}")
        if detail and each.detail:
            terminal.out("\n".join(f"  {cell_line(line)}" for line in each.detail.splitlines()))
