"""Tables in the formats that other tools read: CSV, JSON, Parquet. A file appears whole or not at all."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_type_hints

import pyarrow as pa

from results.errors import CallerError, StorageError, did_you_mean
from results.plain import finite, json_text
from results.storage import Storage

FORMATS = ("csv", "json", "parquet")


def encoded(rows: pa.Table, format: str) -> bytes:  # noqa: A002 - the word that everybody looks for
    """Returns a table as the bytes of a file.

    Args:
        rows: any table.
        format: `csv` (a header; nothing between commas is no value), `json` (a list of objects; numbers that are not
            finite are null) or `parquet` (types as in the ledger).

    Raises:
        CallerError: another format.
    """
    if format == "json":
        return f"{json_text(rows.to_pylist())}\n".encode()
    buffer = io.BytesIO()
    if format == "csv":
        from pyarrow import csv

        csv.write_csv(rows, buffer)
    elif format == "parquet":
        from pyarrow import parquet

        parquet.write_table(rows, buffer, compression="zstd")
    else:
        raise CallerError(f"unknown format {format!r}{did_you_mean(format, FORMATS)}")
    return buffer.getvalue()


def table_of(kind: type, rows: Sequence[Any]) -> pa.Table:
    """Returns dataclasses as the rows of a table, whose columns are there without any row as well.

    Args:
        kind: the dataclass; its fields are texts, numbers, and tuples of texts, which become one text each.
        rows: of this kind.
    """
    types = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    columns = {}
    for name, hint in get_type_hints(kind).items():
        values = [getattr(row, name) for row in rows]
        values = values if hint in types else [" ".join(value) for value in values]
        columns[name] = pa.array(values, types.get(hint, pa.string()))
    return pa.table(columns)


def text(value: Any) -> str | None:
    """Returns a value as text that holds all of it, for a column of values of several types; None stays None."""
    value = finite(value)
    return value if value is None or isinstance(value, str) else json.dumps(value)


def documents(rows: pa.Table) -> list[dict[str, Any]]:
    """Returns the rows as dictionaries that JSON can hold."""
    return finite(rows.to_pylist())


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file, whole or not at all; its folder is made.

    Raises:
        StorageError: the place cannot be written.
    """
    if path.is_dir():
        raise StorageError(f"{path} is a folder; name a file in it")
    Storage(path.absolute().parent).write(path.name, data)
