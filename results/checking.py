"""Verifies what a ledger promises, and says which row of which file breaks it.

Here: the files, their columns, and the numbering of events. What rows promise about each other is in
`results.promises`.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from results.errors import LedgerError, SchemaError
from results.ledger import Ledger
from results.parts import NAME, Listing, Part, once, seen
from results.rows import to_python
from results.schema import COMMON, TABLES, SweepSchema

MOST = 20
"""Problems of one kind in one table that are told one by one; the rest are counted."""
NO_KEY = "a part of the key is missing"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A promise that is broken.

    Attributes:
        table: in which; empty if it concerns no single one.
        part: the file, below the ledger's folder; empty if it concerns no single one.
        where: the row, by its sequence number and key; empty for a whole file.
        what: what is wrong, in words.
    """

    table: str
    part: str
    where: str
    what: str

    def __str__(self) -> str:
        return ": ".join(text for text in (self.part or self.table, self.where, self.what) if text)


class View:
    """The rows of a ledger as the checks want them, each with the part that it is in.

    Attributes:
        schema: of the sweep.
        raw: every row by table, each once, sorted by sequence number.
    """

    def __init__(self, schema: SweepSchema, parts: dict[str, list[tuple[Part, pa.Table]]]):
        """Takes the rows of each part that can be read."""
        self.schema = schema
        self._parts = parts
        self.raw = {
            table: once(pa.concat_tables([schema.arrow(table).empty_table(), *(rows for _, rows in read)]))
            for table, read in parts.items()
        }

    def part(self, table: str, seq: int) -> str:
        """Returns the part that an event is in; of several, the first."""
        found = (part for part, rows in self._parts[table] if seq in rows.column("seq").to_numpy())
        return next((part.path for part in found), "")

    def latest(self, table: str) -> pa.Table:
        """Returns the rows of a table as readers see them."""
        rows = self.raw[table]
        return rows.filter(pa.array(seen(rows, table)))

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Returns every row of a table, sorted by sequence number; not for epochs, of which there are too many."""
        if table not in self._rows:
            self._rows[table] = list(to_python(self.raw[table]))
        return self._rows[table]

    def latest_rows(self, table: str) -> list[dict[str, Any]]:
        """Returns the rows of a table as readers see them; not for epochs."""
        last = seen(self.raw[table], table)
        return [row for row, counts in zip(self.rows(table), last.tolist(), strict=True) if counts]

    @cached_property
    def _rows(self) -> dict[str, list[dict[str, Any]]]:
        return {}

    @cached_property
    def last_seq(self) -> int:
        """The greatest sequence number; -1 without rows."""
        return max((rows.column("seq")[-1].as_py() for rows in self.raw.values() if len(rows)), default=-1)


@dataclass
class Finder:
    """Gathers problems, and keeps those of one kind to a number that can be read."""

    view: View | None = None
    problems: list[Problem] = field(default_factory=list)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def file(self, table: str, part: str, what: str) -> None:
        """Adds a problem of a whole file."""
        self.problems.append(Problem(table=table, part=part, where="", what=what))

    def row(self, kind: str, table: str, row: dict[str, Any], what: str) -> None:
        """Adds a problem of a row, given with its `seq` and key at least; `kind` is counted."""
        self.counts[table, kind] += 1
        if self.counts[table, kind] > MOST or self.view is None:
            return
        key = (f"{name} {row[name]}" for name in TABLES[table].key if name != "sweep" and row.get(name) is not None)
        where = ", ".join([f"seq {row['seq']}", *key])
        part = self.view.part(table, row["seq"])
        self.problems.append(Problem(table=table, part=part, where=where, what=what))

    def finish(self) -> list[Problem]:
        """Returns all, with a last line for what was only counted."""
        for (table, kind), count in self.counts.items():
            if count > MOST:
                what = f"{count - MOST} more: {kind}"
                self.problems.append(Problem(table=table, part="", where="", what=what))
        return self.problems


def check(ledger: Ledger) -> list[Problem]:
    """Returns every broken promise of a ledger, file by file and row by row; an empty list if it keeps them all.

    Rows of a flush that its writer did not finish count as not written, so a sweep that was killed has no problem.

    Raises:
        LedgerError: there is no ledger.
        StorageError: it cannot be read.
    """
    from results import promises

    finder = Finder()
    try:
        schema = ledger.schema
    except SchemaError as error:
        finder.file("", "schema.json", str(error))
        return finder.finish()
    view = ledger.steady(lambda listing: _read(ledger, schema, listing, finder))
    finder.view = view
    _check_numbers(view, finder)
    _check_common(view, finder)
    if not any(kind == NO_KEY for _, kind in finder.counts):  # rows without a key can be compared with nothing
        for promise in promises.ALL:
            promise(view, finder)
    return finder.finish()


def _read(ledger: Ledger, schema: SweepSchema, whole: Listing, finder: Finder) -> View:
    """Reads all parts that count; what is wrong with files is said here."""
    finder.problems.clear()
    for table, folder in ledger.parts.folders():
        for name in ledger.storage.names(folder):
            if not NAME.fullmatch(name):
                finder.file(
                    table, f"{folder}/{name}", "is no part of a ledger; readers that take the whole folder trip"
                )
    counted = {part.path for parts in whole.values() for part in parts}
    for part in (part for parts in ledger.parts.listing().values() for part in parts):
        if part.path not in counted and ledger.parts.mark(part) is None:
            finder.file(part.table, part.path, "cannot be read; its flush is left out as a whole")
    read: dict[str, list[tuple[Part, pa.Table]]] = {table: [] for table in whole}
    for part in (part for parts in whole.values() for part in parts):
        try:
            rows = ledger.parts.read(part, schema)
        except LedgerError as error:
            finder.file(part.table, part.path, str(error))
            continue
        if rows is None:
            finder.file(part.table, part.path, "cannot be read, its rows are lost; `search resume` puts it aside")
            continue
        columns, wanted = ledger.parts.columns(part), schema.arrow(part.table).names
        if columns != wanted and ledger.parts.current(part):
            extra = [name for name in columns if name not in wanted]
            order = f"has columns of its own: {', '.join(extra)}" if extra else "has its columns in another order"
            finder.file(part.table, part.path, f"{order}; it was not written by this software")
        read[part.table].append((part, rows))
    return View(schema, read)


def _check_numbers(view: View, finder: Finder) -> None:
    """Every number from 0 to the last stands once."""
    owners = [(table, rows.column("seq").to_numpy()) for table, rows in view.raw.items()]
    everything = np.concatenate([seq for _, seq in owners])
    numbers, counts = np.unique(everything, return_counts=True)
    for number in numbers[counts > 1].tolist():
        tables = [table for table, seq in owners if number in seq]
        finder.row("a number stands twice", tables[-1], {"seq": number}, f"stands also in table {tables[0]}")
    for start, end in _gaps(numbers):
        what = f"event {start} is missing" if end == start else f"events {start} to {end} are missing"
        finder.problems.append(Problem(table="", part="", where="", what=f"{what}: rows were lost"))


def _gaps(numbers: np.ndarray) -> Iterator[tuple[int, int]]:
    before = np.concatenate([[-1], numbers[:-1]])
    for place in np.flatnonzero(numbers - before > 1).tolist():
        yield int(before[place]) + 1, int(numbers[place]) - 1


def _check_common(view: View, finder: Finder) -> None:
    """What the writer fills in is there, and sessions follow each other."""
    started: dict[int, int] = {}
    pieces = []
    for table, rows in view.raw.items():
        for name in dict.fromkeys([*(column.name for column in COMMON), *TABLES[table].key]):
            for place in np.flatnonzero(rows.column(name).is_null().to_numpy()).tolist():
                seq = rows.column("seq")[place].as_py()
                finder.row(NO_KEY, table, {"seq": seq}, f"{name} is missing")
        for name in set(rows.column("sweep").unique().to_pylist()) - {view.schema.sweep, None}:
            finder.problems.append(Problem(table=table, part="", where="", what=f"has rows of another sweep, {name!r}"))
        pieces.append((rows.column("seq").to_numpy(), rows.column("session").to_numpy()))
    for row in view.rows("sessions"):
        if row["session"] in started:
            finder.row("a session began twice", "sessions", row, "this session began a second time")
        started.setdefault(row["session"], row["seq"])
    seq, session = (np.concatenate(arrays) for arrays in zip(*pieces, strict=True))
    session = session[np.argsort(seq, kind="stable")]
    if np.any(session[1:] < session[:-1]):
        finder.problems.append(
            Problem(table="sessions", part="", where="", what="an older session wrote after a newer one had begun")
        )
    for number in sorted({int(number) for number in np.unique(session) if number == number} - started.keys()):
        finder.problems.append(
            Problem(table="sessions", part="", where="", what=f"session {number} wrote rows, but never began")
        )
