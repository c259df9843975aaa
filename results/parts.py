"""The part files of a ledger: their names, what is in them, and which of them count.

A flush writes one part for each table that has new rows. It counts only as a whole: every part carries the first and
last sequence number of its flush, so a reader sees when one of them is missing and leaves the others out as well. Only
the last flush of all can be torn so, for a new writer puts a torn one aside before it begins.
"""

import json
import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from results import upgrade
from results.course import on_course
from results.errors import LedgerError, SchemaError
from results.schema import SCHEMA_VERSION, TABLES, SweepSchema
from results.storage import Storage

SUPERSEDED = "superseded"
"""Folder of the tables' rows that a later row of the same key replaced; `compact` moves them there."""

NAME = re.compile(r"(?P<kind>[sc])(?P<session>\d{4,})-(?P<number>\d{6,})(-(?P<first>\d+)-(?P<rows>\d+))?\.parquet")
_META = b"ledger"
_log = logging.getLogger(__name__)

Damage = (pa.ArrowInvalid, pa.ArrowKeyError, pa.ArrowNotImplementedError, OSError, ValueError, KeyError, TypeError)
"""What reading a file that is not a whole part may raise."""


class Flush(NamedTuple):
    """Which flush of which session; later ones are greater."""

    session: int
    number: int


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part file.

    Attributes:
        table: whose rows it holds.
        path: below the ledger's folder.
        flush: that wrote it; for a compacted part, the last one in it.
        compacted: whether it was put together from others.
        rows: how many it holds, as a compacted part's name says; 0 for others.
    """

    table: str
    path: str
    flush: Flush
    compacted: bool
    rows: int = 0


class Mark(NamedTuple):
    """What a part says of itself: version of the schema, its rows, first and last sequence number of its flush."""

    version: int
    rows: int
    first: int
    last: int


Listing = dict[str, list[Part]]
"""Parts by table, oldest first; a compacted part stands behind those that are in it."""


def part_name(flush: Flush) -> str:
    """Returns the name of a part that a flush writes."""
    return f"s{flush.session:04d}-{flush.number:06d}.parquet"


def compacted_name(flush: Flush, rows: pa.Table) -> str:
    """Returns the name of a compacted part; no two with different rows have the same."""
    first = rows.column("seq")[0].as_py()
    return f"c{flush.session:04d}-{flush.number:06d}-{first}-{len(rows)}.parquet"


def encode(rows: pa.Table, first: int, last: int) -> bytes:
    """Returns the bytes of a part file."""
    mark = json.dumps({"version": SCHEMA_VERSION, "first": first, "last": last}).encode()
    sink = pa.BufferOutputStream()
    marked = rows.replace_schema_metadata({_META: mark})
    pq.write_table(marked, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue().to_pybytes()


class Parts:
    """The part files below a ledger's folder."""

    def __init__(self, storage: Storage, upgrades: upgrade.Upgrades = upgrade.UPGRADES):
        """Takes the ledger's folder and how to read older versions."""
        self.storage = storage
        self._upgrades = upgrades

    def folders(self) -> list[tuple[str, str]]:
        """Returns the tables and the folders in which their parts lie."""
        return [(table, folder) for table in TABLES for folder in (table, f"{SUPERSEDED}/{table}")]

    def listing(self) -> Listing:
        """Returns all parts by table, whether they can be read or not.

        A writer may be at work meanwhile, so it looks until it sees the same twice.
        """
        before = None
        for _ in range(10):
            names = self.storage.each(lambda place: self.storage.names(place[1]), self.folders())
            if names == before:
                break
            before = names
        found: Listing = {table: [] for table in TABLES}
        for (table, folder), inside in zip(self.folders(), before or [], strict=True):
            for name in inside:
                if match := NAME.fullmatch(name):
                    found[table].append(
                        Part(
                            table=table,
                            path=f"{folder}/{name}",
                            flush=Flush(int(match["session"]), int(match["number"])),
                            compacted=match["kind"] == "c",
                            rows=int(match["rows"] or 0),
                        )
                    )
        for parts in found.values():
            parts.sort(key=lambda part: (part.flush, part.compacted))
        return found

    def torn(self, listing: Listing) -> list[Part]:
        """Returns the parts of the last flush if it is not there whole."""
        parts = [part for found in listing.values() for part in found]
        last = max((part.flush for part in parts if not part.compacted), default=None)
        if last is None or any(part.compacted and part.flush >= last for part in parts):
            return []  # only whole flushes are ever compacted
        mine = [part for part in parts if part.flush == last]
        marks = self.storage.each(self.mark, mine)
        sound = [mark for mark in marks if mark is not None]
        spans = {(mark.first, mark.last) for mark in sound}
        if len(sound) == len(mine) and len(spans) == 1:
            first, end = spans.pop()
            if sum(mark.rows for mark in sound) == end - first + 1:
                return []
        return mine

    def whole(self) -> Listing:
        """Returns the parts by table, without those of a torn flush."""
        listing = self.listing()
        if torn := set(self.torn(listing)):
            return {table: [part for part in parts if part not in torn] for table, parts in listing.items()}
        return listing

    def mark(self, part: Part) -> Mark | None:
        """Returns what a part says of itself; None if it cannot be read.

        Raises:
            FileNotFoundError: it was compacted meanwhile.
        """
        try:
            with self.storage.open(part.path) as stream:
                return self._mark(pq.ParquetFile(stream).metadata)
        except FileNotFoundError:
            raise
        except Damage:
            return None

    def current(self, part: Part) -> bool:
        """Returns whether a part was written with the present version of the schema; raises as `mark`."""
        mark = self.mark(part)
        return mark is not None and mark.version == SCHEMA_VERSION

    def columns(self, part: Part) -> list[str]:
        """Returns the columns of a part that can be read, as they stand in the file; raises as `mark`."""
        with self.storage.open(part.path) as stream:
            return pq.ParquetFile(stream).schema_arrow.names

    def _mark(self, metadata: pq.FileMetaData) -> Mark:
        mark = json.loads((metadata.metadata or {})[_META])
        return Mark(int(mark["version"]), metadata.num_rows, int(mark["first"]), int(mark["last"]))

    def last_seq(self, listing: Listing) -> int:
        """Returns the greatest sequence number of a listing without torn parts; -1 if there is none."""
        parts = [part for found in listing.values() for part in found]
        newest = max((part.flush for part in parts if not part.compacted), default=None)
        marks = self.storage.each(self.mark, [part for part in parts if part.compacted or part.flush == newest])
        return max((mark.last for mark in marks if mark is not None), default=-1)

    def read(self, part: Part, schema: SweepSchema, columns: Sequence[str] | None = None) -> pa.Table | None:
        """Returns a part's rows as the present schema has them; None if it cannot be read.

        Args:
            part: the part.
            schema: what the rows must be like.
            columns: only these; None: all.

        Raises:
            FileNotFoundError: it was compacted meanwhile.
            LedgerError: it can be read, but its columns are not those of the schema.
        """
        wanted = schema.arrow(part.table)
        if columns is not None:
            wanted = pa.schema([wanted.field(name) for name in columns])
        try:
            with self.storage.open(part.path) as stream:
                file = pq.ParquetFile(stream, page_checksum_verification=True)
                version = self._mark(file.metadata).version
                # An older part may keep under other names what the present schema asks for.
                rows = file.read(columns=wanted.names if version == SCHEMA_VERSION else None)
        except FileNotFoundError:
            raise
        except Damage as error:
            _log.debug("%s: %s", self.storage.where(part.path), error)
            return None
        rows = upgrade.table(part.table, rows, version, SCHEMA_VERSION, self._upgrades)
        if problem := misfit(rows.schema, wanted):
            raise LedgerError(
                f"{self.storage.where(part.path)} is not as {self.storage.where('schema.json')} says: {problem}; "
                f"restore one of the two from a copy"
            )
        return rows.select(wanted.names).replace_schema_metadata(None)

    def rows(
        self, parts: Iterable[Part], table: str, schema: SweepSchema, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Returns the rows of some parts of a table, each once, sorted by sequence number.

        Args:
            parts: of one table; those that cannot be read are left out, which is logged.
            table: its name.
            schema: of the sweep.
            columns: only these, `seq` among them; None: all.
        """
        parts = list(parts)
        tables = self.storage.each(lambda part: self.read(part, schema, columns), parts)
        for part, rows in zip(parts, tables, strict=True):
            if rows is None:
                _log.warning(
                    "%s cannot be read, its rows are left out; `results check` says more",
                    self.storage.where(part.path),
                )
        wanted = schema.arrow(table)
        empty = (wanted if columns is None else pa.schema([wanted.field(name) for name in columns])).empty_table()
        return once(pa.concat_tables([empty, *(rows for rows in tables if rows is not None)]))

    def put_aside(self, parts: Iterable[Part], why: str) -> list[str]:
        """Renames parts so that no reader meets them, and returns their new paths."""
        moved = []
        for part in parts:
            folder, _, name = part.path.rpartition("/")
            aside = f"{folder}/.{why}-{name.removesuffix('.parquet')}"
            self.storage.rename(part.path, aside)
            moved.append(aside)
        return moved


def once(rows: pa.Table) -> pa.Table:
    """Returns rows sorted by sequence number, without those that stand there a second time."""
    seq = rows.column("seq").to_numpy()
    if len(seq) < 2 or bool(np.all(seq[1:] > seq[:-1])):
        return rows
    _, places = np.unique(seq, return_index=True)
    return rows.take(pa.array(places))


def deciding(table: str) -> tuple[str, ...]:
    """Returns the columns of a table that `seen` looks at."""
    return (*TABLES[table].key, "seq", *(("attempt",) if table == "epochs" else ()))


def seen(rows: pa.Table, table: str) -> np.ndarray:
    """Returns for rows sorted by sequence number which of them readers see, as booleans.

    Of the rows with equal keys it is the last one. Epochs that a trial gave up, for it went on from one before them,
    are seen no more (`results.course`).
    """
    column = {name: rows.column(name).to_numpy() for name in deciding(table) if name != "sweep"}
    places = np.arange(len(rows))
    if table == "epochs":
        places = np.flatnonzero(on_course(column["trial"], column["attempt"], column["epoch"]))
    keys = [column[name][places] for name in TABLES[table].key if name != "sweep"]  # a ledger holds one sweep
    order = np.lexsort(keys)  # stable: rows of equal keys stay in the order of their sequence numbers
    ends = np.ones(len(places), bool)
    if len(places):
        ends[:-1] = np.any([key[order][1:] != key[order][:-1] for key in keys], axis=0)
    last = np.zeros(len(rows), bool)
    last[places[order[ends]]] = True
    return last


def misfit(found: pa.Schema, wanted: pa.Schema) -> str:
    """Returns what is wrong with a part's columns, in words; empty if nothing is."""
    for field in wanted:
        if field.name not in found.names:
            return f"column {field.name} is missing"
        if found.field(field.name).type != field.type:
            return f"column {field.name} is {found.field(field.name).type}, {field.type} was expected"
    return ""


def read_schema(storage: Storage, upgrades: upgrade.Upgrades = upgrade.UPGRADES) -> SweepSchema:
    """Returns the schema in a ledger's folder.

    Raises:
        LedgerError: there is no ledger.
        SchemaError: it is none, or one of a newer version.
    """
    return SweepSchema.from_json(read_document(storage), upgrades)


def read_document(storage: Storage) -> str:
    """Returns the text of a ledger's `schema.json`; raises as `read_schema`."""
    try:
        return storage.read("schema.json").decode("utf-8")
    except FileNotFoundError:
        raise LedgerError(
            f"there is no ledger in {storage.uri} (no schema.json); give the folder of a sweep, the one above `ledger`"
        ) from None
    except UnicodeDecodeError as error:
        raise SchemaError(f"{storage.where('schema.json')} is no text; restore it from a copy") from error
