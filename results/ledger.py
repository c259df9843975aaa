"""Reads a sweep's ledger: its tables as readers see them, or all events in their order.

`<sweep>/ledger/<table>/*.parquet` holds the rows, `<sweep>/ledger/schema.json` what they mean. Reading is safe while a
driver writes: a flush is seen whole or not at all.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from results import compaction, upgrade
from results.errors import LedgerError, QueryError, did_you_mean
from results.parts import SUPERSEDED, Listing, Part, Parts, deciding, read_schema, seen
from results.rows import to_python
from results.schema import TABLES, SweepSchema, find
from results.storage import Storage
from results.writer import Writer

__all__ = ["Ledger", "Writer"]

TRIES = 100
"""How often reading begins anew because parts were put together under its hands."""

Made = TypeVar("Made")


class Ledger:
    """A sweep's ledger; it reads anew whenever it is asked, so it sees what was written meanwhile.

    Attributes:
        storage: the folder with the tables.
        parts: the files in it.
    """

    def __init__(self, storage: Storage, *, upgrades: upgrade.Upgrades = upgrade.UPGRADES):
        """Takes the sweep's folder, the one above `ledger`, and how to read older versions; nothing is read yet."""
        self.storage = storage.child("ledger")
        self._upgrades = upgrades
        self.parts = Parts(self.storage, upgrades)

    @property
    def exists(self) -> bool:
        """Whether there is a ledger."""
        return self.storage.exists("schema.json")

    @cached_property
    def schema(self) -> SweepSchema:
        """What its tables hold.

        Raises:
            LedgerError: there is no ledger.
            SchemaError: its schema cannot be understood, or is of a newer version.
        """
        return read_schema(self.storage, self._upgrades)

    @property
    def last_seq(self) -> int:
        """Sequence number of the last event, -1 if there is none."""
        return self.steady(self.parts.last_seq)

    @property
    def last_session(self) -> int:
        """Number of the last session, 0 if there is none."""
        return max((p.flush.session for parts in self.parts.listing().values() for p in parts), default=0)

    def table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Returns `Look.table` of this moment. Who needs several tables that belong together asks `at_once`."""
        return self.at_once(lambda look: look.table(name, columns))

    def raw(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Returns `Look.raw` of this moment."""
        return self.at_once(lambda look: look.raw(name, columns))

    def at_once(self, read: "Callable[[Look], Made]") -> Made:
        """Returns what `read` makes of tables that are all from one look at the folder.

        A driver that writes meanwhile is seen in all of them or in none. `read` may be called several times.
        """
        return self.steady(lambda listing: read(Look(self, listing)))

    def events(self, columns: Mapping[str, list[str]] | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields every event in its order, as the name of its table and a row with all columns, null as None.

        Args:
            columns: for a table that it names, only these columns; of a table with an empty list, no rows. Others come
                whole. None: all whole.
        """
        columns = dict(columns or {})
        tables = [name for name in TABLES if columns.get(name) != []]
        rows = self.at_once(lambda look: {name: look.raw(name, _with_seq(columns.get(name))) for name in tables})
        seqs = [rows[name].column("seq").to_numpy() for name in tables]
        owner = np.concatenate([np.full(len(seq), place, np.int8) for place, seq in enumerate(seqs)])
        order = owner[np.argsort(np.concatenate(seqs), kind="stable")].tolist()
        shown = {name: rows[name].select(columns[name]) if name in columns else rows[name] for name in tables}
        del rows, seqs, owner
        values = [to_python(shown[name]) for name in tables]
        for place in order:
            yield tables[place], next(values[place])

    def damaged(self) -> list[str]:
        """Returns the part files that cannot be read, below the ledger's folder."""
        return [part.path for part in self.steady(self._damaged)]

    def quarantine(self) -> list[str]:
        """Puts part files that cannot be read aside, under names that no reader meets, and returns these.

        Only for the one who writes to the ledger. If it was the last flush that lost a part so, all of it is left out.
        """
        return self.parts.put_aside(self.steady(self._damaged), "damaged")

    def compact(self) -> None:
        """Makes each table one part in which every key stands once; only for the one who writes to the ledger.

        Rows that a later one of the same key replaced move to `superseded/`, where `raw` and `events` still find them.
        """
        self.steady(lambda _: compaction.compact_all(self.parts, self.schema))

    def _damaged(self, _: Listing) -> list[Part]:
        parts = [part for found in self.parts.listing().values() for part in found]
        read = self.storage.each(lambda part: self.parts.read(part, self.schema), parts)
        return [part for part, rows in zip(parts, read, strict=True) if rows is None]

    def steady(self, read: Callable[[Listing], Made]) -> Made:
        """Returns what a function makes of the parts that count.

        It is called again if one of them was put together with others meanwhile, which it meets as FileNotFoundError.
        """
        for _ in range(TRIES):
            try:
                return read(self.parts.whole())
            except FileNotFoundError:
                continue
        raise LedgerError(f"{self.storage.uri} changes faster than it can be read; try again")


class Look:
    """A ledger as it is at one moment: all tables are from one listing of its files.

    Attributes:
        schema: what they hold.
    """

    def __init__(self, ledger: Ledger, listing: Listing):
        """Takes the ledger and its files; nothing is read yet."""
        self.schema = ledger.schema
        self._parts, self._listing = ledger.parts, listing

    def table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Returns a table as readers see it: of the rows with equal keys the last one, sorted by `seq`.

        Epochs that a trial gave up, for a later attempt went on from one before them, are not among them.

        Args:
            name: a name of `TABLES`.
            columns: only these, which is faster; None: all.

        Raises:
            SchemaError: there is no such table.
            QueryError: there is no such column.
        """
        find(name)
        parts = [part for part in self._listing[name] if not part.path.startswith(SUPERSEDED)]
        rows = self._rows(name, parts, columns, deciding(name))
        rows = rows.filter(pa.array(seen(rows, name)))
        return rows if columns is None else rows.select(list(columns))

    def raw(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Returns every row of a table that was written, sorted by `seq`; arguments and errors as `table`."""
        find(name)
        rows = self._rows(name, self._listing[name], columns, ("seq",))
        return rows if columns is None else rows.select(list(columns))

    def _rows(
        self, table: str, parts: Sequence[Part], columns: Sequence[str] | None, needed: Sequence[str]
    ) -> pa.Table:
        """Returns the rows of some parts of a table, with the columns asked for and those that are needed."""
        known = self.schema.arrow(table).names
        for name in columns or ():
            if name not in known:
                raise QueryError(f"table {table} has no column {name!r}{did_you_mean(name, known)}")
        wanted = None if columns is None else list(dict.fromkeys([*columns, *needed]))
        return self._parts.rows(parts, table, self.schema, wanted)


def _with_seq(columns: Sequence[str] | None) -> list[str] | None:
    return None if columns is None else list(dict.fromkeys([*columns, "seq"]))
