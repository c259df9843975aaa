"""Rows chosen by conditions and columns chosen by name, as they are typed: `model.family=conv_lstm`, `val_nll<0.9`.

A parameter may be named with or without `config.` before it. An unknown name is refused with the nearest known one.
"""

import contextlib
import dataclasses
import datetime
import functools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from results.errors import QueryError, did_you_mean
from results.opening import Results
from results.schema import CONFIG

NOTHING = frozenset({"none", "null"})
"""Words for "no value": a parameter that is inactive, a number that is not known, a text that is empty.

Where a column of texts holds one of them, that word means the text, and the other one still means no value.
"""

_CONDITION = re.compile(r"\s*(?P<name>[^\s=<>!]+)\s*(?P<sign>!=|<=|>=|=|<|>)=?\s*(?P<value>.*?)\s*")
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
_WORDS = {"true": True, "yes": True, "false": False, "no": False}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Condition:
    """One condition on a row.

    Attributes:
        name: of a column.
        sign: `=`, `!=`, `<`, `<=`, `>` or `>=`.
        value: as typed. After `=` and `!=` several may stand with commas between: any of them, none of them. `none`
            and `null` mean that there is no value, unless the column holds a text that is so called; apart from them,
            a row without a value meets no condition.
    """

    name: str
    sign: str
    value: str


def condition(text: str) -> Condition:
    """Returns the condition that `text` says.

    Raises:
        QueryError: it says none.
    """
    found = _CONDITION.fullmatch(text)
    if not found or not found["value"]:
        raise QueryError(
            f"condition {text!r}: expected a column, one of = != < <= > >=, and a value, "
            "for example model.family=conv_lstm or 'val_nll<0.9'"
        )
    return Condition(name=found["name"], sign=found["sign"], value=found["value"])


def column_name(name: str, known: Sequence[str]) -> str:
    """Returns the column among `known` that `name` means: itself, or a parameter without its `config.`.

    Raises:
        QueryError: there is none.
    """
    for full in (name, CONFIG + name):
        if full in known:
            return full
    raise QueryError(f"unknown column {name!r}{did_you_mean(name, {short(each, known) for each in known})}")


def short(name: str, known: Iterable[str] = ()) -> str:
    """Returns a column's name as it is shown: a parameter without `config.`, unless another column is called so."""
    plain = name.removeprefix(CONFIG)
    return name if plain != name and plain in known else plain


def column_names(names: Sequence[str], known: Sequence[str]) -> list[str]:
    """Returns the columns that are meant; `*` at the end of a name stands for all that begin so.

    Raises:
        QueryError: there is none of that name.
    """
    found: list[str] = []
    for name in names:
        if name.endswith("*"):
            start = name[:-1]
            matching = [each for each in known if each.startswith(start) or short(each, known).startswith(start)]
            if not matching:
                raise QueryError(f"no column begins with {start!r}; known: {', '.join(known)}")
            found += matching
        else:
            found.append(column_name(name, known))
    return list(dict.fromkeys(found))


def chosen_rows(
    results: Results, table: str, where: Sequence[Condition] = (), columns: Sequence[str] | None = None
) -> pa.Table:
    """Returns the rows of a table that meet all the conditions; names may be short.

    Args:
        results: the sweeps.
        table: its name.
        where: conditions.
        columns: only these, in this order; None: all.

    Raises:
        QueryError: unknown table or column, or a value that a column cannot have.
    """
    known = results.column_names(table)
    conditions = [dataclasses.replace(each, name=column_name(each.name, known)) for each in where]
    chosen = None if columns is None else column_names(columns, known)
    needed = None if chosen is None else [*chosen, *(each.name for each in conditions)]
    rows = rows_where(results.arrow(table, needed), conditions)
    return rows if chosen is None else rows.select(chosen)


def rows_where(rows: pa.Table, conditions: Iterable[Condition]) -> pa.Table:
    """Returns the rows that meet all the conditions.

    Raises:
        QueryError: unknown column.
        QueryError: a value that the column cannot have.
    """
    # All are asked of the same rows: what `none` means in a column must not hang on the conditions before it.
    masks = [_mask(rows, each) for each in conditions]
    return rows.filter(functools.reduce(pc.and_, masks)) if masks else rows


def _mask(rows: pa.Table, wanted: Condition) -> Any:
    column = rows[column_name(wanted.name, rows.column_names)]
    if wanted.sign in _COMPARE:
        if not _has_order(column.type):
            raise QueryError(f"condition on {wanted.name!r}: {wanted.sign} needs numbers or times; use = or !=")
        return _compared(_COMPARE[wanted.sign], column, _scalar(wanted, wanted.value, column.type))
    texts = [text.strip() for text in wanted.value.split(",") if text.strip()]
    is_text = pa.types.is_string(column.type)
    own = set(pc.unique(column).to_pylist()) if is_text else set()
    values = [text for text in texts if text.lower() not in NOTHING or text in own]
    empty = pc.is_null(column, nan_is_null=True)
    equal = pa.chunked_array([pa.array([False] * len(rows))])
    for text in values:
        equal = pc.or_(equal, _compared(pc.equal, column, _scalar(wanted, text, column.type)))
    if len(values) < len(texts):
        equal = pc.or_(equal, empty)
        if is_text:
            equal = pc.or_(equal, _compared(pc.equal, column, pa.scalar("")))
    # "Not" says something of rows that have a value: an inactive parameter is not "another value".
    return equal if wanted.sign == "=" else pc.and_(pc.invert(equal), pc.invert(empty))


def _compared(compare: Callable[[Any, Any], Any], column: pa.ChunkedArray, value: pa.Scalar) -> Any:
    """Returns which rows compare so with a value; those that have none do not."""
    if pa.types.is_integer(column.type) and pa.types.is_floating(value.type):
        column = pc.cast(column, pa.float64(), safe=False)  # beyond 2**53 the nearest number will do
    return pc.fill_null(compare(column, value), False)


def _has_order(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_timestamp(kind)


def _scalar(wanted: Condition, text: str, kind: pa.DataType) -> pa.Scalar:
    """Returns the value that `text` is in a column of type `kind`."""

    def wrong(expected: str) -> QueryError:
        return QueryError(f"condition on {wanted.name!r}: got {text!r}, expected {expected}")

    if pa.types.is_boolean(kind):
        if text.lower() not in _WORDS:
            raise wrong("true or false")
        return pa.scalar(_WORDS[text.lower()], kind)
    if pa.types.is_integer(kind):
        # Else as a float also beside whole numbers: `epochs<2.5` is a fair question.
        with contextlib.suppress(ValueError, OverflowError):
            return pa.scalar(int(text), pa.int64())
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        try:
            return pa.scalar(float(text), pa.float64())
        except ValueError:
            raise wrong("a number") from None
    if pa.types.is_timestamp(kind):
        try:
            # Without a zone it is the reader's own.
            return pa.scalar(datetime.datetime.fromisoformat(text).astimezone(datetime.UTC), kind)
        except (ValueError, OverflowError):
            raise wrong("a time such as 2026-05-01 or 2026-05-01T14:30") from None
    return pa.scalar(text, pa.string())
