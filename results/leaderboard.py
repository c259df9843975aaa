"""The best trials, or final models, of one or many sweeps.

A trial is ranked by its best epoch, never by its last one: stopped and full trials would not be comparable. Scores that
were made on different data are never ranked together; each data set has a leaderboard of its own.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from results.errors import CallerError, LedgerError, QueryError, did_you_mean
from results.filters import Condition, column_name, rows_where
from results.opening import Results
from results.schema import CONFIG, Measure

UNKNOWN_DATA = "not recorded"
PLACES = ("rank", "id")
"""Columns that a leaderboard puts before those of the table."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leaderboard:
    """Rows that may be compared, the best first.

    Attributes:
        metric: what they are ranked by.
        goal: `min` or `max`.
        data: name of the data; "" if it was not recorded.
        data_fingerprint: of the data; "" if it was not recorded.
        rows: with the columns `rank` (from 1; equal values have equal ranks), `id` (`sweep/number`) and those of the
            table.
        num_ranked: rows that have a value, also those that `rows` leaves out.
        num_without: rows that have none: nothing was scored yet, or nothing finite.
    """

    metric: str
    goal: str
    data: str
    data_fingerprint: str
    rows: pa.Table
    num_ranked: int
    num_without: int


def measures(results: Results, table: str) -> dict[str, Measure]:
    """Returns what the rows of `trials` or `finals` may be ranked by."""
    found: dict[str, Measure] = {}
    for sweep in results.sweeps:
        found |= sweep.schema.metrics
        if table == "finals":
            found |= sweep.schema.scores
    return found


def objective(
    results: Results, metric: str | None = None, goal: str | None = None, table: str = "trials"
) -> tuple[str, str]:
    """Returns the metric to rank by and its goal, `min` or `max`: the first objective if nothing is asked.

    Raises:
        QueryError: no metric of that name.
        CallerError: sweeps with different objectives, or a metric of which nobody said whether less is better.
    """
    objectives = {sweep.name: sweep.schema.objectives for sweep in results.sweeps}
    if metric is None:
        first = {pairs[0] for pairs in objectives.values() if pairs}
        if not first:
            raise CallerError("these sweeps name no objective; choose what to rank by with --metric")
        if len(first) > 1:
            told = ", ".join(f"{name}: {pairs[0][0]} {pairs[0][1]}" for name, pairs in objectives.items() if pairs)
            raise CallerError(f"these sweeps have different objectives ({told}); choose one with --metric")
        metric, own = first.pop()
        return metric, goal or own
    known = measures(results, table)
    if metric not in known:
        raise QueryError(f"unknown metric {metric!r}{did_you_mean(metric, known)}")
    goals = {own for pairs in objectives.values() for name, own in pairs if name == metric}
    goal = goal or (goals.pop() if len(goals) == 1 else known[metric].goal)
    if goal is None:
        raise CallerError(f"metric {metric!r}: nobody said whether less or more of it is better; add --goal min or max")
    return metric, goal


def leaderboards(
    results: Results,
    *,
    table: str = "trials",
    metric: str | None = None,
    goal: str | None = None,
    where: Sequence[Condition] = (),
    columns: Sequence[str] | None = None,
    top: int | None = 10,
    pareto: bool = False,
) -> list[Leaderboard]:
    """Returns one leaderboard for each data set, the one with most rows first; without any row, one that is empty.

    Args:
        results: the sweeps.
        table: `trials` or `finals`.
        metric: what to rank by; None: the first objective.
        goal: `min` or `max`; None: as declared.
        where: conditions on rows.
        columns: full names to have beside rank and id; None: what tells rows apart.
        top: so many rows each; None: all.
        pareto: only rows that no other one is better than or equal to in every objective of the sweep.

    Raises:
        LedgerError: nothing has been tried yet, or a metric is called like a column of `PLACES`.
        QueryError: no metric or column of that name.
        CallerError: objectives that cannot be brought together.
    """
    metric, goal = objective(results, metric, goal, table)
    known = results.column_names(table)
    for name in PLACES:
        if name in known:
            raise LedgerError(
                f"table {table} has a column {name!r}, and so has every leaderboard; results export --table {table} "
                "writes the rows, to be ranked elsewhere"
            )
    conditions = [dataclasses.replace(each, name=column_name(each.name, known)) for each in where]
    number = "trial" if table == "trials" else "final"
    default = ["state", "epochs", "best_epoch", "train_s", *(name for name in known if name.startswith(CONFIG))]
    default += ["data"] + (["trial", "source", "kind", "seed", "chosen", "model"] if table == "finals" else [])
    scores = list(dict.fromkeys(n for s in results.sweeps for n in s.schema.scores)) if table == "finals" else []
    objectives = [name for name, _ in results.sweeps[0].schema.objectives]
    shown = [metric, *objectives, *([*scores, *default] if columns is None else columns)]
    needed = ["sweep", number, metric, "data_fingerprint", "data", *shown, *(each.name for each in conditions)]
    rows = results.arrow(table, list(dict.fromkeys(needed)))
    if not len(rows):
        raise LedgerError(_nothing_yet(results, table))
    rows = rows_where(rows, conditions)
    ids = pc.binary_join_element_wise(rows["sweep"], pc.cast(rows[number], pa.string()), "/")
    rows = rows.add_column(0, "id", ids)
    boards = [
        _board(
            part, metric=metric, goal=goal, data=data, fingerprint=fingerprint, top=top, pareto=_goals(results, pareto)
        )
        for data, fingerprint, part in _by_data(rows)
    ]
    shown = [*PLACES, *dict.fromkeys(shown)]
    boards = [dataclasses.replace(each, rows=each.rows.select(shown)) for each in boards]
    return sorted(boards, key=lambda board: -board.num_ranked)


def _nothing_yet(results: Results, table: str) -> str:
    names = ", ".join(sweep.name for sweep in results.sweeps)
    if table == "finals":
        return f"{names}: no final model yet; the final job comes after the trials"
    return f"{names}: the ledger is empty, no trial has been proposed yet"


def _goals(results: Results, pareto: bool) -> tuple[tuple[str, str], ...]:
    return results.sweeps[0].schema.objectives if pareto else ()


def _by_data(rows: pa.Table) -> list[tuple[str, str, pa.Table]]:
    """Returns the rows apart by the data that they were scored on: (name, fingerprint, rows)."""
    prints = pc.fill_null(rows["data_fingerprint"], "")
    parts = []
    for fingerprint in pc.unique(prints).to_pylist() or [""]:
        part = rows.filter(pc.equal(prints, fingerprint))
        names = [name for name in pc.unique(part["data"]).to_pylist() if name]
        parts.append((" or ".join(sorted(names)), fingerprint, part))
    return parts


def _board(
    rows: pa.Table,
    *,
    metric: str,
    goal: str,
    data: str,
    fingerprint: str,
    top: int | None,
    pareto: tuple[tuple[str, str], ...],
) -> Leaderboard:
    values = _signed(rows, metric, goal)
    scored = np.isfinite(values)
    kept = np.flatnonzero(scored)
    if pareto:
        kept = kept[undominated(np.stack([_signed(rows, name, way)[kept] for name, way in pareto], axis=1))]
    order = kept[np.argsort(values[kept], kind="stable")]
    ranks = 1 + np.searchsorted(values[order], values[order], side="left")
    order, ranks = order[:top], ranks[:top]
    return Leaderboard(
        metric=metric,
        goal=goal,
        data=data,
        data_fingerprint=fingerprint,
        rows=rows.take(pa.array(order)).add_column(0, "rank", pa.array(ranks, pa.int64())),
        num_ranked=int(scored.sum()),
        num_without=int((~scored).sum()),
    )


def _signed(rows: pa.Table, metric: str, goal: str) -> np.ndarray:
    """Returns the values of a metric such that less is better; NaN where there is none."""
    values = pc.fill_null(rows[metric].cast(pa.float64()), math.nan).to_numpy()
    return values if goal == "min" else -values


def undominated(values: np.ndarray) -> np.ndarray:
    """Returns the indices of the points that no other point beats: as good everywhere and better somewhere.

    Args:
        values: `[N, D]`, less is better; a point with NaN is beaten.
    """
    found = []
    for i in np.flatnonzero(np.isfinite(values).all(axis=1)):
        beaten = (values <= values[i]).all(axis=1) & (values < values[i]).any(axis=1)
        if not beaten.any():
            found.append(i)
    return np.asarray(found, dtype=np.int64)
