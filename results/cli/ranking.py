"""`results top`, `curves`, `importance`: which trials are good, how they learned, and what made them so."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from results.cli.commands import Command, pass_terminal
from results.cli.options import (
    Output,
    Source,
    columns_option,
    goal_option,
    listed,
    metric_option,
    output_options,
    parsed,
    source_options,
    where_option,
)
from results.cli.terminal import Terminal

if TYPE_CHECKING:
    from results.leaderboard import Leaderboard
    from results.opening import Results


@click.command(
    cls=Command,
    examples=[
        "results top laptop",
        "results top laptop families --where model.family=conv_lstm --columns train.*,val_nll",
        "results top --finals --json",
    ],
)
@source_options
@metric_option
@goal_option
@where_option
@columns_option
@click.option("--rows", "-n", type=click.IntRange(min=1), default=10, show_default=True, help="How many to show.")
@click.option("--all", "every", is_flag=True, help="Show all.")
@click.option("--finals", is_flag=True, help="Rank the models that the final job trained anew, not the trials.")
@click.option("--pareto", is_flag=True, help="Only those that no other one beats in every objective.")
@output_options
@pass_terminal
def top(
    terminal: Terminal,
    source: Source,
    metric: str | None,
    goal: str | None,
    conditions: tuple[str, ...],
    columns: str | None,
    rows: int,
    every: bool,
    finals: bool,
    pareto: bool,
    output: Output,
) -> None:
    """Ranks trials by their best epoch.

    Scores that were made on different data stand in tables of their own.
    """
    from results.filters import column_names
    from results.leaderboard import leaderboards

    results = source.open()
    table = "finals" if finals else "trials"
    wanted = listed(columns)
    boards = leaderboards(
        results,
        table=table,
        metric=metric,
        goal=goal,
        where=parsed(conditions),
        columns=column_names(wanted, results.column_names(table)) if wanted else None,
        top=None if every else rows,
        pareto=pareto,
    )
    if output.as_table:
        for i, board in enumerate(boards):
            if i:
                terminal.out("")
            _show(terminal, board, choose=wanted is None, titled=len(boards) > 1)
        if finals:
            _tell_openings(terminal, results)
        return
    _write(terminal, output, boards)


def _tell_openings(terminal: Terminal, results: "Results") -> None:
    """Says how often each sweep looked at the data held back for the last score."""
    for sweep in results.sweeps:
        splits = sweep.arrow("openings", ["split"])["split"].to_pylist()
        for split in dict.fromkeys(splits):
            times = "once" if splits.count(split) == 1 else f"{splits.count(split)} times; its scores flatter the more"
            terminal.note(f"{sweep.name}: the {split} split was opened {times}")


def _show(terminal: Terminal, board: "Leaderboard", *, choose: bool, titled: bool) -> None:
    from results.filters import short
    from results.leaderboard import UNKNOWN_DATA
    from results.schema import CONFIG

    if not board.num_ranked + board.num_without:
        terminal.note("no row meets the conditions")
        return
    data = board.data or UNKNOWN_DATA
    names = [name for name in board.rows.column_names if name != "data"] if choose else board.rows.column_names
    if choose:  # what is the same in all rows tells nothing apart
        told = [name for name in names if name.startswith(CONFIG) or name in ("source", "kind")]
        columns = {name: board.rows[name].to_pylist() for name in told}
        names = [name for name in names if name not in columns or len(set(columns[name])) > 1]
    if titled:
        terminal.out(f"data: {data} ({board.data_fingerprint[:12] or 'no fingerprint'})")
    if board.num_ranked:
        header = [short(name, names) for name in names]
        columns = [board.rows[name].to_pylist() for name in names]
        terminal.table(header, list(zip(*columns, strict=True)), keep=3)
    without = f", {board.num_without} without a value" if board.num_without else ""
    more = (
        f"{len(board.rows)} of {board.num_ranked} shown"
        if len(board.rows) < board.num_ranked
        else f"{board.num_ranked}"
    )
    better = "less" if board.goal == "min" else "more"
    terminal.note(f"{more}{without}; {board.metric}, {better} is better, on {data}")


def _write(terminal: Terminal, output: Output, boards: "list[Leaderboard]") -> None:
    import pyarrow as pa

    from results.opening import joined_tables
    from results.output import documents

    tables = []
    for board in boards:
        rows = board.rows.drop_columns([name for name in ("data",) if name in board.rows.column_names])
        for name, value in (("data", board.data), ("data_fingerprint", board.data_fingerprint)):
            if name not in rows.column_names:
                rows = rows.append_column(name, pa.array([value] * len(rows), pa.string()))
        tables.append(rows)
    document = [
        {
            "metric": board.metric,
            "goal": board.goal,
            "data": board.data,
            "data_fingerprint": board.data_fingerprint,
            "num_ranked": board.num_ranked,
            "num_without": board.num_without,
            "rows": documents(board.rows),
        }
        for board in boards
    ]
    output.write(terminal, joined_tables(tables), {"leaderboards": document})


@click.command(
    cls=Command,
    examples=["results curves laptop", "results curves laptop --trial laptop/3 --trial laptop/7 --png curves.png"],
)
@source_options
@metric_option
@click.option(
    "--trial", "ids", metavar="ID", multiple=True, help="Only this one, such as laptop/17; several may be given."
)
@click.option("--rows", "-n", type=click.IntRange(min=1), default=20, show_default=True, help="So many of the best.")
@click.option("--all", "every", is_flag=True, help="All trials.")
@click.option("--png", "picture", type=click.Path(path_type=Path), help="Draw them to this file: .png, .svg or .pdf.")
@output_options
@pass_terminal
def curves(
    terminal: Terminal,
    source: Source,
    metric: str | None,
    ids: tuple[str, ...],
    rows: int,
    every: bool,
    picture: Path | None,
    output: Output,
) -> None:
    """Shows how a metric went from epoch to epoch, the best trials first."""
    from results import curves as library
    from results.finding import trial
    from results.leaderboard import measures, objective

    results = source.open()
    goals = {name: goal for s in results.sweeps for name, goal in s.schema.objectives}
    known = measures(results, "trials")
    own = goals.get(metric or "") or (known[metric].goal if metric in known else None)
    # A metric of which nobody said what is better is drawn all the same.
    metric, goal = objective(results, metric, own if metric is None else own or "min")
    chosen = [trial(results, name).id for name in ids] or None
    found = library.curves(results, metric, chosen)
    if chosen is None:
        found = _best_first(found, goal)
        found = found if every else found[:rows]
    if picture is not None:
        library.save(library.plot(found, metric, known[metric].unit), picture)
        terminal.note(f"written: {picture}")
        if output.as_table:
            return
    if not output.as_table:
        _write_curves(terminal, output, metric, found)
        return
    finite = sorted(value for curve in found for value in curve.values if value - value == 0)
    # The first epochs of an untrained model would press all that follows flat.
    low, high = (finite[0], finite[int(0.95 * (len(finite) - 1))]) if finite else (0.0, 0.0)
    lines = [
        (
            c.id,
            library.sparkline(c.values, 32, low, high),
            c.values[0],
            c.best(goal),
            c.values[-1],
            len(c.epochs),
            c.state,
        )
        for c in found
    ]
    terminal.table(["id", metric, "first", "best", "last", "epochs", "state"], lines, keep=2)


def _best_first(found: list[Any], goal: str) -> list[Any]:
    sign = 1 if goal == "min" else -1

    def key(curve: Any) -> tuple[bool, float]:
        best = curve.best(goal)
        return (best != best, sign * best)  # those without any finite value come last

    return sorted(found, key=key)


def _write_curves(terminal: Terminal, output: Output, metric: str, found: list[Any]) -> None:
    import pyarrow as pa

    points = [(c.id, epoch, value) for c in found for epoch, value in zip(c.epochs, c.values, strict=True)]
    ids, epochs, values = zip(*points, strict=True) if points else ((), (), ())
    rows = pa.table(
        {
            "id": pa.array(ids, pa.string()),
            "epoch": pa.array(epochs, pa.int32()),
            metric: pa.array(values, pa.float64()),
        }
    )
    document = {
        "metric": metric,
        "curves": [{"id": c.id, "state": c.state, "epochs": list(c.epochs), "values": list(c.values)} for c in found],
    }
    output.write(terminal, rows, document)


@click.command(cls=Command, examples=["results importance laptop", "results importance laptop --method fanova --json"])
@source_options
@click.option(
    "--method",
    metavar="NAME",
    default="ped-anova",
    show_default=True,
    help="ped-anova: what the best trials have more often; fanova (needs scikit-learn): what explains the spread.",
)
@metric_option
@goal_option
@where_option
@output_options
@pass_terminal
def importance(
    terminal: Terminal,
    source: Source,
    method: str,
    metric: str | None,
    goal: str | None,
    conditions: tuple[str, ...],
    output: Output,
) -> None:
    """Shows how much each parameter mattered."""
    from results.importance import Importance, importances
    from results.output import table_of

    found = importances(source.open(), method=method, metric=metric, goal=goal, where=parsed(conditions))
    if not output.as_table:
        output.write(terminal, table_of(Importance, found))
        return
    terminal.table(
        ["parameter", "importance", "", "trials", "among"],
        [(e.parameter, f"{e.importance:.1%}", "█" * round(20 * e.importance), e.num_trials, e.scope) for e in found],
    )
