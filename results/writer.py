"""Writes a ledger: one writer at a time, every event one row, rows that appear in flushes."""

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from results import compaction, upgrade
from results.errors import LedgerError, RowError, StorageError
from results.parts import Flush, Listing, Part, Parts, encode, part_name, read_document, read_schema
from results.rows import check, check_row, to_arrow
from results.schema import COMMON, SCHEMA_VERSION, TABLES, SweepSchema, find
from results.storage import Storage

COMPACT_EVERY = 64
"""Flushes after which a writer puts its parts together."""
_log = logging.getLogger(__name__)


class Writer:
    """Writes events to a sweep's ledger; there must be one writer at a time.

    Rows wait in memory until `flush`. A flush that fails, as on a full disk, keeps them and may be tried again.

    Attributes:
        next_seq: the sequence number that the next row gets.
    """

    next_seq: int

    def __init__(
        self,
        storage: Storage,
        schema: SweepSchema,
        *,
        session: int,
        next_seq: int,
        upgrades: upgrade.Upgrades = upgrade.UPGRADES,
        compact_every: int = COMPACT_EVERY,
    ):
        """Begins a session: makes the ledger if there is none, and puts aside what a writer that died left torn.

        Args:
            storage: the sweep's folder.
            schema: must be the one that the ledger has, if there is one.
            session: from 1; greater than all before, `Ledger.last_session + 1`.
            next_seq: `Ledger.last_seq + 1`.
            upgrades: how to read ledgers of older versions.
            compact_every: flushes after which it puts its parts together.

        Raises:
            LedgerError: the ledger has another schema, or its events do not end before `next_seq`.
            StorageError: it cannot be written.
        """
        self._storage = storage.child("ledger")
        self._schema, self._session, self.next_seq = schema, session, next_seq
        self._parts = Parts(self._storage, upgrades)
        self._flush, self._compact_every = Flush(session, 0), compact_every
        self._arrow = {table: schema.arrow(table) for table in TABLES}
        taken = {column.name for column in COMMON} - {"time"}
        self._checks = {
            table: {column.name: check(column.type) for column in schema.columns(table) if column.name not in taken}
            for table in TABLES
        }
        self._keys = {name: [k for k in table.key if k not in taken] for name, table in TABLES.items()}
        self._waiting: dict[str, list[dict[str, Any]]] = {table: [] for table in TABLES}
        self._fresh: dict[str, list[tuple[Part, pa.Table]]] = {table: [] for table in TABLES}
        self._merged: Listing = {table: [] for table in TABLES}
        if self._storage.exists("schema.json"):
            self._continue(upgrades)
        elif next_seq:
            raise LedgerError(f"there is no ledger in {storage.uri} that could go on with event {next_seq}")
        else:
            self._storage.write("schema.json", schema.to_json().encode("utf-8"))

    def _continue(self, upgrades: upgrade.Upgrades) -> None:
        """Checks that this session may go on with the ledger, and tidies up after the one before."""
        kept = read_schema(self._storage, upgrades)
        if kept != self._schema:
            raise LedgerError(
                f"{self._storage.uri} was written for another schema: {differences(kept, self._schema)}; "
                f"begin a new sweep under another name, warm started from this one"
            )
        for _, folder in self._parts.folders():
            self._storage.remove_temporaries(folder)
        listing = self._parts.listing()
        torn = self._parts.torn(listing)
        self._parts.put_aside(torn, "torn")
        listing = {table: [part for part in found if part not in torn] for table, found in listing.items()}
        newest = max((part.flush.session for found in listing.values() for part in found), default=0)
        if self._session <= newest:
            raise LedgerError(f"session {self._session} of {self._storage.uri} is over; the next is {newest + 1}")
        last = self._parts.last_seq(listing)
        if self.next_seq != last + 1:
            raise LedgerError(
                f"{self._storage.uri} goes on with event {last + 1}, not {self.next_seq}; another driver may have "
                f"written to it meanwhile: look with `search status`, then try again"
            )
        if json.loads(read_document(self._storage))["version"] != SCHEMA_VERSION:
            compaction.compact_all(self._parts, self._schema)
            self._storage.write("schema.json", self._schema.to_json().encode("utf-8"))
            listing = self._parts.listing()
        self._merged = self._compacted(listing)

    @staticmethod
    def _compacted(listing: Listing) -> Listing:
        return {
            table: [part for part in parts if part.compacted and part.path.startswith(f"{table}/")]
            for table, parts in listing.items()
        }

    def append(self, table: str, row: Mapping[str, Any]) -> int:
        """Adds an event, to be written by the next flush.

        Args:
            table: a name of `TABLES`.
            row: values by column; what it lacks or has as None is null. `time` is now if it is not given; `sweep`,
                `seq` and `session` are the writer's to say.

        Returns:
            The event's sequence number.

        Raises:
            SchemaError: there is no such table.
            RowError: the row names an unknown column, holds a value of another type, or lacks a part of the key;
                nothing was added.
        """
        if table not in TABLES:
            find(table)
        own = {"sweep": self._schema.sweep, "session": self._session}
        if not row.keys().isdisjoint(own):
            for name, value in own.items():
                if row.get(name, value) not in (value, None):
                    raise RowError(f"table {table}: {name} is {value!r} in this ledger, not {row[name]!r}")
            row = {name: value for name, value in row.items() if name not in own}
        made = check_row(table, row, self._checks[table], self._keys[table])
        made.update(own, seq=self.next_seq)
        if "time" not in made:
            made["time"] = datetime.now(UTC)
        self._waiting[table].append(made)
        self.next_seq += 1
        return made["seq"]

    def flush(self) -> None:
        """Writes the rows that wait, one new part for each table that has some.

        Raises:
            StorageError: they could not be written; they still wait.
        """
        waiting = {table: rows for table, rows in self._waiting.items() if rows}
        if not waiting:
            return
        # A mounted folder that went away leaves an empty one behind, in which writing would go on as if nothing were.
        if not self._storage.exists("schema.json"):
            raise StorageError(
                f"the ledger in {self._storage.uri} is gone (no schema.json); bring it back, then resume"
            )
        first, last = min(rows[0]["seq"] for rows in waiting.values()), self.next_seq - 1
        tables = {table: to_arrow(rows, self._arrow[table]) for table, rows in waiting.items()}
        name = part_name(self._flush)
        self._storage.write_all({f"{table}/{name}": encode(rows, first, last) for table, rows in tables.items()})
        for table, rows in tables.items():
            part = Part(table=table, path=f"{table}/{name}", flush=self._flush, compacted=False)
            self._fresh[table].append((part, rows))
            self._waiting[table] = []
        self._flush = Flush(self._session, self._flush.number + 1)
        if self._flush.number % self._compact_every == 0:
            self._merge()

    def _merge(self) -> None:
        for table, fresh in self._fresh.items():
            if len(fresh) < 2:
                continue
            try:
                merged = compaction.merge_small(self._parts, self._schema, table, self._merged[table], fresh)
            except (StorageError, FileNotFoundError) as error:
                # Nothing is lost, there are only more files than need be.
                _log.warning("parts of %s could not be put together: %s", table, error)
                self._merged[table] = self._compacted(self._parts.listing())[table]
                continue
            self._merged[table], self._fresh[table] = merged, []


def differences(old: SweepSchema, new: SweepSchema) -> str:
    """Returns what distinguishes two schemas, in words."""
    found = []
    if old.sweep != new.sweep:
        found.append(f"its sweep is {old.sweep!r}, not {new.sweep!r}")
    for group in ("parameters", "metrics", "scores", "measures"):
        before, after = dict(getattr(old, group)), dict(getattr(new, group))
        for verb, names in (
            ("lost", before.keys() - after.keys()),
            ("gained", after.keys() - before.keys()),
            ("changed", {name for name in before.keys() & after.keys() if before[name] != after[name]}),
        ):
            if names:
                found.append(f"{group} {verb} {', '.join(sorted(names))}")
    if old.objectives != new.objectives:
        found.append(f"objectives were {list(old.objectives)}, now {list(new.objectives)}")
    return "; ".join(found) or "its columns are in another order"
