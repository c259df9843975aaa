"""Rows as Python knows them to rows as Arrow knows them, and back: each value checked one way, and fast the other."""

import math
import numbers
import operator
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from results.errors import RowError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CHUNK = 1 << 15
"""Rows that are turned into Python values at a time."""

Check = Callable[[Any], Any]


def check(kind: pa.DataType) -> Check:
    """Returns a function from a value to what the column takes, which raises TypeError if it does not fit."""
    if pa.types.is_integer(kind):
        limit = 2 ** (kind.bit_width - 1)

        def whole(value: Any) -> int:
            if isinstance(value, bool | np.bool_):
                raise TypeError("a whole number")
            try:
                number = operator.index(value)
            except TypeError:
                raise TypeError("a whole number") from None
            if not -limit <= number < limit:
                raise TypeError(f"a whole number of {kind.bit_width} bits")
            return number

        return whole
    return {pa.float64(): _number, pa.string(): _text, pa.bool_(): _truth}.get(kind, _moment)


def _number(value: Any) -> float:
    if type(value) is float:
        return value
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        # Arrays of one number, which tensors become, are no `Real`.
        if getattr(value, "shape", None) == () and getattr(value, "dtype", None) is not None:
            return _number(np.asarray(value)[()])
        raise TypeError("a number")
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        # Names of files and tracebacks may hold what UTF-8 cannot; that must not cost the row.
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    return str(value)


def _truth(value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise TypeError("True or False")
    return bool(value)


def _moment(value: Any) -> datetime:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise TypeError("a datetime with a time zone")
    return value.astimezone(UTC)


def to_arrow(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """Returns checked rows as a table; what a row lacks is null."""
    return pa.table([pa.array([row.get(field.name) for row in rows], field.type) for field in schema], schema=schema)


def to_python(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Yields the rows as dictionaries of all columns, null as None, moments as datetimes in UTC."""
    names = table.column_names
    for start in range(0, len(table), CHUNK):
        part = table.slice(start, CHUNK)
        for values in zip(*[_values(column) for column in part.itercolumns()], strict=True):
            yield dict(zip(names, values, strict=True))


def _values(column: pa.ChunkedArray) -> list[Any]:
    """Returns what `column.to_pylist()` returns, in a tenth of the time."""
    kind = column.type
    if pa.types.is_string(kind):
        encoded = column.combine_chunks().dictionary_encode()
        words = [*encoded.dictionary.to_pylist(), None]
        return [words[i] for i in pc.fill_null(encoded.indices, len(words) - 1).to_numpy(zero_copy_only=False).tolist()]
    if pa.types.is_timestamp(kind):
        values = column.cast(pa.int64())
        made: list[Any] = [EPOCH + timedelta(microseconds=us) for us in pc.fill_null(values, 0).to_numpy().tolist()]
    else:
        zero = pa.scalar(0, kind) if not pa.types.is_boolean(kind) else pa.scalar(False)
        made = (pc.fill_null(column, zero) if column.null_count else column).to_numpy().tolist()
    if column.null_count:
        for place in np.flatnonzero(column.is_null().to_numpy()).tolist():
            made[place] = None
    return made


def check_row(table: str, row: Any, checks: dict[str, Check], key: Sequence[str]) -> dict[str, Any]:
    """Returns a row as the table takes it, without what is None.

    Raises:
        RowError: it names a column that the table lacks, a value does not fit, or a part of the key is missing.
    """
    made: dict[str, Any] = {}
    for name, value in row.items():
        if value is None:
            continue
        try:
            made[name] = checks[name](value)
        except KeyError:
            from results.errors import did_you_mean

            raise RowError(f"table {table} has no column {name!r}{did_you_mean(str(name), checks)}") from None
        except TypeError as error:
            raise RowError(
                f"table {table}, column {name}: {error} was expected, not {value!r} ({type(value).__name__})"
            ) from None
    for name in key:
        if name not in made:
            raise RowError(f"table {table}: the row has no {name}, which is part of its key; it has {sorted(made)}")
    return made
