"""The table of trials as readers see it: those that ended, and those that have not, put together from their events."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from results.ledger import Look
from results.schema import SweepSchema

DATA = ("data", "data_fingerprint")
"""Columns that `with_data` adds."""
_ALWAYS = ("trial", "seq", "session", "best_epoch")


def all_trials(look: Look, columns: Sequence[str] | None = None) -> pa.Table:
    """Returns the table `trials` with a row also for every trial that has not ended.

    Such a row has the state `proposed` (no attempt yet), `running`, `paused`, or `unfinished` (its last attempt was
    lost, and no other has begun); a trial that was taken up again after it had ended counts as not ended. Its best
    epoch is the one with the best value of the first objective so far. What is not known yet is null.

    Args:
        look: at a sweep's ledger.
        columns: these at least; None: all.
    """
    schema = look.schema.arrow("trials")
    names = [name for name in schema.names if columns is None or name in columns or name in _ALWAYS]
    wanted = pa.schema([schema.field(name) for name in names])
    ended = look.table("trials", columns=names).select(names)
    last_row = dict(zip(ended["trial"].to_pylist(), ended["seq"].to_pylist(), strict=True))
    attempts = look.table("attempts", columns=["trial", "attempt", "seq", "session", "time"])
    live = set(look.table("proposals", columns=["trial"])["trial"].to_pylist()) - last_row.keys()
    again = zip(attempts["trial"].to_pylist(), attempts["seq"].to_pylist(), strict=True)
    live |= {trial for trial, seq in again if seq > last_row.get(trial, seq)}
    if not live:
        return ended
    rows = _live_rows(look, live, attempts)
    kept = ended.filter(pc.invert(_among(ended["trial"], live)))
    return pa.concat_tables([kept.cast(wanted), pa.Table.from_pylist(rows, schema=wanted)])


def _live_rows(look: Look, live: set[int], attempts: pa.Table) -> list[dict[str, Any]]:
    """Returns a row of the table `trials` for each trial that has not ended, in the order of their numbers."""

    def events(table: pa.Table) -> dict[int, list[dict[str, Any]]]:
        found: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for row in table.filter(_among(table["trial"], live)).to_pylist():
            found[row["trial"]].append(row)
        return found

    begun, ends = events(attempts), events(look.table("attempt_ends"))
    epochs = events(look.table("epochs"))
    return [
        _live_row(look.schema, proposal[-1], begun[trial], ends[trial], epochs[trial])
        for trial, proposal in sorted(events(look.table("proposals")).items())
    ]


def _live_row(
    schema: SweepSchema,
    proposal: Mapping[str, Any],
    begun: Sequence[Mapping[str, Any]],
    ends: Sequence[Mapping[str, Any]],
    epochs: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Returns what can be said of one trial that has not ended."""
    newest = max([proposal, *begun, *ends, *epochs], key=lambda row: row["seq"])
    last = max((row["attempt"] for row in begun), default=0)
    over = {row["attempt"]: row for row in ends}
    best = best_epoch(schema, epochs)
    row = dict(proposal) | {name: newest[name] for name in ("seq", "session", "time")}
    if best is not None:
        row |= {name: best[name] for name in schema.metrics}
    running_s = sum(e["duration_s"] or 0.0 for e in epochs if e["attempt"] not in over)
    return row | {
        "state": _live_state(last, over.get(last)),
        "reason_kind": over[last]["reason_kind"] if last in over else "",
        "reason": over[last]["reason"] if last in over else "",
        "detail": over[last]["detail"] if last in over else "",
        "attempts": last,
        "epochs": max((e["epoch"] for e in epochs), default=0),
        "best_epoch": best["epoch"] if best is not None else None,
        "train_s": running_s + sum(end["train_s"] or 0.0 for end in ends),
        "started": min((row["time"] for row in begun), default=None),
    }


def _live_state(last: int, end: Mapping[str, Any] | None) -> str:
    if not last:
        return "proposed"
    if end is None:
        return "running"
    return "paused" if end["outcome"] == "paused" else "unfinished"


def best_epoch(schema: SweepSchema, epochs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Returns the epoch with the best finite value of the first objective, the earliest of equals, or None."""
    if not schema.objectives:
        return None
    metric, goal = schema.objectives[0]
    sign = 1 if goal == "min" else -1
    finite = [row for row in epochs if row[metric] is not None and math.isfinite(row[metric])]
    return min(finite, key=lambda row: (sign * row[metric], row["epoch"]), default=None)


def with_data(rows: pa.Table, look: Look, columns: Sequence[str] | None = None) -> pa.Table:
    """Returns rows of `trials` with the columns `data` and `data_fingerprint`: on what their best epoch was scored.

    Args:
        rows: with the columns `trial`, `session` and `best_epoch`.
        look: where they are from.
        columns: None, or names; without any of the two, the rows are returned as they are.
    """
    if columns is not None and not set(DATA) & set(columns):
        return rows
    sessions = {row["session"]: row for row in look.table("sessions", columns=["session", *DATA]).to_pylist()}
    of_row = rows["session"].to_pylist()
    if len({row["data_fingerprint"] for row in sessions.values()}) > 1:
        # The data changed between two sessions, so the session that ended a trial need not be the one that scored it.
        table = look.table("epochs", columns=["trial", "epoch", "session"])
        keys = zip(table["trial"].to_pylist(), table["epoch"].to_pylist(), strict=True)
        session_of = dict(zip(keys, table["session"].to_pylist(), strict=True))
        best = zip(rows["trial"].to_pylist(), rows["best_epoch"].to_pylist(), strict=True)
        of_row = [session_of.get(key, session) for key, session in zip(best, of_row, strict=True)]
    for name in DATA:
        values = [sessions.get(session, {}).get(name) for session in of_row]
        rows = rows.append_column(name, pa.array(values, pa.string()))
    return rows


def _among(column: pa.ChunkedArray, values: set[int]) -> pa.ChunkedArray:
    return pc.is_in(column, value_set=pa.array(sorted(values), column.type))
