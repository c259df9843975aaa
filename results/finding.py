"""Trials found by the name that tables give them: `laptop/17`, trial 17 of the sweep laptop."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from results.errors import QueryError
from results.opening import Results, Sweep

_MOST_DIGITS = 18
"""A number of so many fits the column."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """All that is known of a trial.

    Attributes:
        id: `sweep/number`.
        sweep: where it is from.
        row: of the table `trials`.
        epochs: rows, by epoch.
        attempts: rows of `attempts` with those of `attempt_ends` joined to them; an attempt that has not ended has None
            in what its end would say.
        decisions: rows, in the order in which they were made.
    """

    id: str
    sweep: Sweep
    row: Mapping[str, Any]
    epochs: Sequence[Mapping[str, Any]]
    attempts: Sequence[Mapping[str, Any]]
    decisions: Sequence[Mapping[str, Any]]


def trial(results: Results, name: str) -> Trial:
    """Returns a trial.

    Args:
        results: the sweeps.
        name: `sweep/number`, or the number alone if there is only one sweep.

    Raises:
        QueryError: it does not exist, or the name is none.
        LedgerError: no sweep of that name.
    """
    sweep, digits = _parts(results, name)
    tables = sweep.tables(dict.fromkeys(("trials", "attempts", "attempt_ends", "epochs", "decisions")))
    rows = tables["trials"]
    known = rows["trial"]
    number = int(digits) if len(digits) <= _MOST_DIGITS else -1
    found = rows.filter(pc.equal(known, number)).to_pylist()
    if not found:
        there = f"it has {len(rows)}, {pc.min(known)} to {pc.max(known)}" if len(rows) else "it has none yet"
        raise QueryError(f"no trial {digits} in sweep {sweep.name!r}: {there}")
    ends = {row["attempt"]: row for row in _rows(tables["attempt_ends"], number, "attempt")}
    blank = dict.fromkeys(sweep.schema.arrow("attempt_ends").names)
    return Trial(
        id=f"{sweep.name}/{number}",
        sweep=sweep,
        row=found[0],
        epochs=_rows(tables["epochs"], number, "epoch"),
        attempts=[ends.get(row["attempt"], blank) | row for row in _rows(tables["attempts"], number, "attempt")],
        decisions=_rows(tables["decisions"], number, "seq"),
    )


def _parts(results: Results, name: str) -> tuple[Sweep, str]:
    sweep_name, _, number = name.rpartition("/")
    if not number.isdecimal():
        raise QueryError(f"{name!r} names no trial; expected sweep/number, for example {results.sweeps[0].name}/0")
    if sweep_name:
        return results.sweep(sweep_name), number
    only, *others = results.sweeps
    if others:
        names = ", ".join(f"{sweep.name}/{number}" for sweep in results.sweeps)
        raise QueryError(f"trial {number} of which sweep? One of {names}")
    return only, number


def _rows(rows: pa.Table, number: int, order: str) -> list[dict[str, Any]]:
    return rows.filter(pc.equal(rows["trial"], number)).sort_by(order).to_pylist()
