"""Sweeps as tables: `results.open(uri)` finds them, one or many, and gives their tables as Arrow or as pandas frames.

    opened = results.open("runs/laptop")
    opened.trials().sort_values("val_nll").head()

What a table holds is in docs/columns.md. Two things are more than the ledger's own rows: `trials` also has the trials
that have not ended, put together from their proposals, attempts and epochs; and `trials` and `finals` say on which data
their scores were made.
"""

import dataclasses
import json
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from results.errors import LedgerError, QueryError, SchemaError, did_you_mean
from results.ledger import Ledger, Look
from results.plain import several
from results.schema import TABLES, SweepSchema
from results.storage import Storage
from results.trials import all_trials, with_data

if TYPE_CHECKING:
    import pandas as pd

LOCK_FILE = "lock.json"
"""Lies in a sweep's folder as long as a driver works on it."""
RUNS = "runs"
"""Where sweeps lie if nobody says otherwise."""
UNFINISHED = ("proposed", "running", "paused", "unfinished")
"""States of trials that have not ended."""

Wanted = Mapping[str, Sequence[str] | None]
"""Tables by name, each with the columns that are wanted; None: all."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """One sweep that was found.

    Attributes:
        name: what its rows carry in the column `sweep`: its own name, or with folders before it where two that were
            opened together have the same.
        uri: where it lies.
    """

    name: str
    uri: str

    @property
    def storage(self) -> Storage:
        """Its folder."""
        return Storage(self.uri)

    @cached_property
    def ledger(self) -> Ledger:
        """Its ledger."""
        return Ledger(self.storage)

    @property
    def schema(self) -> SweepSchema:
        """Its columns, metrics and objectives."""
        return self.ledger.schema

    @property
    def driver(self) -> str | None:
        """Who is working on it, by the lock that the sweep's driver holds; None: nobody."""
        try:
            lock = json.loads(self.storage.read(LOCK_FILE))
            return f"process {lock['pid']} on {lock['host']}, since {lock['started']}"
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            return "somebody whose lock cannot be read"

    def arrow(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Returns one of its tables; see `Results.arrow`."""
        return self.tables({table: columns})[table]

    def tables(self, wanted: Wanted) -> dict[str, pa.Table]:
        """Returns several of its tables, all as they were at one moment; see `Results.arrow`."""
        return self.ledger.at_once(lambda look: {name: self._arrow(look, name, wanted[name]) for name in wanted})

    def _arrow(self, look: Look, table: str, columns: Sequence[str] | None) -> pa.Table:
        if table == "trials":
            rows = with_data(all_trials(look, columns), look, columns)
        elif table == "finals" or columns is None:
            rows = look.table(table)
        else:
            known = set(self.schema.arrow(table).names)
            rows = look.table(table, columns=[name for name in columns if name in known])
        if "sweep" in rows.column_names and self.schema.sweep != self.name:
            place = rows.column_names.index("sweep")
            rows = rows.set_column(place, "sweep", pa.array([self.name] * len(rows), pa.string()))
        return rows if columns is None else rows.select([name for name in columns if name in rows.column_names])


class Results:
    """The tables of one or many sweeps.

    Attributes:
        sweeps: in the order in which they were asked for.
    """

    def __init__(self, sweeps: Sequence[Sweep]):
        """Takes the sweeps; `results.open` finds them."""
        self.sweeps = tuple(sweeps)

    def sweep(self, name: str) -> Sweep:
        """Returns the sweep of that name.

        Raises:
            LedgerError: there is none.
        """
        for sweep in self.sweeps:
            if name == sweep.name:
                return sweep
        raise LedgerError(f"no sweep {name!r}{did_you_mean(name, [s.name for s in self.sweeps])}")

    def column_names(self, table: str) -> list[str]:
        """Returns the columns that a table has in any of the sweeps, in their order."""
        _check_table(table)
        extra = ["data", "data_fingerprint"] if table == "trials" else []
        return list(dict.fromkeys([*(n for s in self.sweeps for n in s.schema.arrow(table).names), *extra]))

    def arrow(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Returns a table of all the sweeps, sorted by sweep and sequence number.

        Args:
            table: a name of `results.schema.TABLES`.
            columns: only these, which is faster; None: all. A sweep that lacks one has null there.

        Raises:
            QueryError: no sweep has a table or a column of that name.
        """
        return self.tables({table: columns})[table]

    def tables(self, wanted: Wanted) -> dict[str, pa.Table]:
        """Returns several tables; those of one sweep are as they were at one moment, though its driver may be at work.

        Args:
            wanted: the columns of each table, as `arrow` takes them.

        Raises:
            QueryError: no sweep has a table or a column of that name.
        """
        known = {table: self.column_names(table) for table in wanted}
        for table, columns in wanted.items():
            for name in columns or ():
                if name not in known[table]:
                    raise QueryError(f"unknown column {name!r} of table {table!r}{did_you_mean(name, known[table])}")
        wanted = {table: None if names is None else list(dict.fromkeys(names)) for table, names in wanted.items()}
        of_sweeps = [sweep.tables(wanted) for sweep in self.sweeps]
        found = {}
        for table, columns in wanted.items():
            joined = joined_tables(tables[table] for tables in of_sweeps)
            names = known[table] if columns is None else columns
            found[table] = joined.select([name for name in names if name in joined.column_names])
        return found

    def frame(self, table: str, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Returns a table as a pandas frame; whole numbers and yes-or-no stay what they are beside missing values."""
        import pandas as pd

        nullable = {
            pa.int32(): pd.Int32Dtype(),
            pa.int64(): pd.Int64Dtype(),
            pa.bool_(): pd.BooleanDtype(),
        }
        return self.arrow(table, columns).to_pandas(types_mapper=nullable.get)

    def sessions(self, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Returns the runs of the driver: a row each time a sweep was started, resumed or extended."""
        return self.frame("sessions", columns)

    def proposals(self, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Returns the configurations as they were proposed."""
        return self.frame("proposals", columns)

    def trials(self, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Returns the trials, also those that have not ended, with the metrics of their best epoch."""
        return self.frame("trials", columns)

    def epochs(self, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Returns the epochs: what each returned, every epoch of a trial once."""
        return self.frame("epochs", columns)

    def decisions(self, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Returns what the scheduler decided, and against which cutoff."""
        return self.frame("decisions", columns)

    def attempts(self, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Returns the starts of trials, with their cause."""
        return self.frame("attempts", columns)

    def attempt_ends(self, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Returns the ends of attempts, with their reason."""
        return self.frame("attempt_ends", columns)

    def finals(self, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Returns the models that were trained anew at the end, with their scores."""
        return self.frame("finals", columns)

    def piece_scores(self, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Returns what the final models scored on each piece."""
        return self.frame("piece_scores", columns)

    def choices(self, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Returns how the configurations of each final job compared, and which was chosen."""
        return self.frame("choices", columns)

    def samples(self, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Returns what the final models produced."""
        return self.frame("samples", columns)

    def openings(self, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Returns when the test split was opened, and by whom."""
        return self.frame("openings", columns)


def open(uri: str | os.PathLike, *more: str | os.PathLike) -> Results:  # noqa: A001 - called as `results.open`
    """Returns the sweeps at one or several places.

    Args:
        uri: a sweep's folder, or a folder of sweeps; local, `s3://` or `gs://`.
        more: further ones. A sweep that is named twice counts once.

    Raises:
        LedgerError: there is no sweep; the message says what is there.
        StorageError: the place cannot be read.
    """
    found = dict.fromkeys(place for each in (uri, *more) for place in _sweeps_at(os.fspath(each)))
    names = _distinct_names(list(found))
    return Results([Sweep(name=names[place], uri=place) for place in found])


def _sweeps_at(uri: str) -> list[str]:
    storage = Storage(uri)
    sweeps = _sweeps_in(storage)
    if sweeps:
        return sweeps
    raise LedgerError(f"no sweep at {uri!r}: {_what_is_there(uri, storage.names())}")


def _sweeps_in(storage: Storage) -> list[str]:
    """Returns where the sweeps lie that a folder is, or holds."""
    if Ledger(storage).exists:
        return [storage.uri]
    return [child.uri for child in (storage.child(name) for name in storage.names()) if Ledger(child).exists]


def _what_is_there(uri: str, names: Sequence[str]) -> str:
    if names:
        return f"it holds {several(names, 8)}, none of them with a ledger; name a sweep's folder"
    *above, name = _folders(uri)
    parent = Storage("/".join(above) + _options(uri)) if above and above[-1] else Storage("." if not above else "/")
    beside = [each for each in parent.names() if Ledger(parent.child(each)).exists] if name else []
    if beside:
        return f"no ledger is there{did_you_mean(name, beside)}"
    return "nothing is there; a sweep leaves its ledger in <storage>/<sweep>/ledger, where storage is 'runs' by default"


def places(name: str, storage: str = RUNS) -> list[Storage]:
    """Returns where a sweep may lie that a user names by its place, or by its name alone if it is in `storage`."""
    if "://" in name or name.startswith(("/", "~")) or ".." in name.split("/"):
        return [Storage(name)]
    return [Storage(name), Storage(storage).child(name)]


def typed(storage: Storage) -> str:
    """Returns what a user types to name the sweep in a folder, quoted for the shell: its name where that is enough."""
    name = _folders(storage.uri)[-1]
    is_enough = storage == Storage(RUNS).child(name) and not Storage(name).exists()
    return shlex.quote(name if is_enough else storage.uri)


def locate(name: str, storage: str) -> str:
    """Returns where a sweep lies, or a folder of sweeps, that is named as `places` says.

    Raises:
        LedgerError: it is at none of them; the message says what is there.
    """
    if "://" in name:
        return name
    there = [place for place in places(name, storage) if place.exists()]
    if there:
        return next((place for place in there if _sweeps_in(place)), there[0]).uri
    inside = Storage(storage)
    known = [each for each in inside.names() if Ledger(inside.child(each)).exists]
    if not known:
        raise LedgerError(f"no sweep {name!r}: there is no such folder, and no sweep in {storage!r} either")
    raise LedgerError(f"no sweep {name!r} in {storage!r}{did_you_mean(name, known)}")


def _folders(uri: str) -> list[str]:
    return uri.partition("?")[0].rstrip("/").split("/")


def _options(uri: str) -> str:
    return "".join(uri.partition("?")[1:])


def _distinct_names(uris: Sequence[str]) -> dict[str, str]:
    """Returns for each place the sweep's name, with as many folders before it as tell it from the others."""
    names = {}
    own = {uri: _own_name(uri) for uri in uris}
    for uri in uris:
        others = [other for other in uris if other != uri and own[other] == own[uri]]
        folders = _folders(uri)[:-1]
        depth = 0
        while depth < len(folders) and any(_ending(other, depth) == _ending(uri, depth) for other in others):
            depth += 1
        names[uri] = "/".join([*folders[len(folders) - depth :], own[uri]]) if depth else own[uri]
    return names


def _own_name(uri: str) -> str:
    try:
        return Ledger(Storage(uri)).schema.sweep
    except SchemaError:
        return _folders(uri)[-1]  # whoever asks for a table is told what is wrong; `results check` says it too


def _ending(uri: str, depth: int) -> list[str]:
    folders = _folders(uri)[:-1]
    return folders[len(folders) - depth :] if depth else []


def _check_table(table: str) -> None:
    if table not in TABLES:
        raise QueryError(f"unknown table {table!r}{did_you_mean(table, TABLES)}")


def joined_tables(tables: Iterable[pa.Table]) -> pa.Table:
    """Returns tables below each other; a column that one lacks is null there.

    Where two sweeps give a column different types, whole numbers become floats, and any other pair becomes text.
    """
    tables = list(tables)
    types: dict[str, pa.DataType] = {}
    for table in tables:
        for field in table.schema:
            types[field.name] = _common(types[field.name], field.type) if field.name in types else field.type
    columns: Mapping[str, Any] = {
        name: pa.chunked_array(
            [
                chunk
                for table in tables
                for chunk in (
                    pc.cast(table[name], kind).chunks if name in table.column_names else [pa.nulls(len(table), kind)]
                )
            ],
            type=kind,
        )
        for name, kind in types.items()
    }
    return pa.table(columns)


def _common(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    if one == other:
        return one
    both = (one, other)
    if all(pa.types.is_integer(kind) for kind in both):
        return pa.int64()
    if all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in both):
        return pa.float64()
    return pa.string()
