"""How the keys of a sweep file are declared: name, kind of value, default, meaning, and whether it may change later.

A field of a dataclass made by `key` carries all of that, so that reading, writing, checking, comparing and documenting
a sweep file follow one declaration.
"""

import dataclasses
import enum
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, get_args

from search.errors import did_you_mean
from search.quantities import number_of_bytes, seconds, size_text, time_text


class When(enum.Enum):
    """Whether a key may differ from what a sweep was begun with."""

    NEVER = "never"
    RESUME = "resume"
    """The next `search resume` or `extend` takes the new value."""
    EXTEND = "extend"
    """`search extend` alone takes the new value."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of value.

    Attributes:
        name: what a reader is told that it is.
        read: what stands in the file -> the value; `ValueError` says what it got and expected.
        write: the value -> what stands in the file.
    """

    name: str
    read: Callable[[Any], Any]
    write: Callable[[Any], Any] = lambda value: value


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key of a table of the sweep file.

    Attributes:
        name: in the file.
        field: of the dataclass.
        kind: of its value.
        default: `None` if it has none.
        required: whether it must be there.
        meaning: what it does, in a few words.
        change: whether it may change later.
    """

    name: str
    field: str
    kind: Kind
    default: Any
    required: bool
    meaning: str
    change: When


def key(name: str, kind: Kind, default: Any, meaning: str, *, required: bool = False, change: When = When.NEVER) -> Any:
    """Returns a dataclass field that stands under `name` in the sweep file; the rest as in `Key`."""
    metadata = {"name": name, "kind": kind, "required": required, "meaning": meaning, "change": change}
    return dataclasses.field(metadata=metadata) if required else dataclasses.field(default=default, metadata=metadata)


def keys(part: type) -> Iterator[Key]:
    """Yields the keys of a dataclass, in the order of its fields; fields not made by `key` are left out."""
    for field in dataclasses.fields(part):
        if "kind" in field.metadata:
            default = None if field.default is dataclasses.MISSING else field.default
            yield Key(field=field.name, default=default, **field.metadata)


def violations(part: Any) -> Iterator[str]:
    """Yields what is wrong with the values of a dataclass, each as `key: got this, expected that`."""
    for declared in keys(type(part)):
        value = getattr(part, declared.field)
        if value is None and not declared.required:
            continue
        try:
            declared.kind.read(declared.kind.write(value))
        except (ValueError, TypeError, AttributeError) as error:
            yield f"{declared.name}: {error}"


def shown(value: object) -> str:
    """Returns a value as a sweep file would have it, cut to a readable length."""
    if isinstance(value, bool):
        return str(value).lower()
    text = f'"{value}"' if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def is_number(value: object) -> bool:
    """Returns whether a value is a finite number that a float can be; true and false are none."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


LARGEST = 10**9
"""Whole numbers above it are slips of the hand."""


def whole(low: int, high: int | None = None) -> Kind:
    """Returns the kind of whole numbers from `low` to `high`, both included; `None` is no end."""
    text = f"a whole number, {low} or more" if high is None else f"a whole number from {low} to {high}"

    def read(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < low or (high is not None and value > high):
            raise ValueError(f"got {shown(value)}, expected {text}")
        if high is None and value > LARGEST:
            raise ValueError(f"got {shown(value)}, expected {LARGEST} at most")
        return value

    return Kind(name=text, read=read)


def number(low: float, high: float | None = None, *, low_open: bool = False) -> Kind:
    """Returns the kind of finite numbers from `low` to `high`; `low_open` leaves `low` itself out."""
    text = f"a number above {low:g}" if low_open else f"a number, {low:g} or more"
    text = text if high is None else f"a number from {low:g} to {high:g}"

    def read(value: Any) -> float:
        if not is_number(value) or value < low or (low_open and value == low) or (high is not None and value > high):
            raise ValueError(f"got {shown(value)}, expected {text}")
        return float(value)

    return Kind(name=text, read=read)


def one_of(literal: Any) -> Kind:
    """Returns the kind of the words of a `Literal`."""
    words = get_args(literal)

    def read(value: object) -> str:
        if not isinstance(value, str):
            raise ValueError(f"got {shown(value)}, expected one of {', '.join(words)}")
        if value not in words:
            raise ValueError(f"got {shown(value)}, expected one of {', '.join(words)}{_nearest(value, words)}")
        return value

    return Kind(name="one of " + ", ".join(f'"{word}"' for word in words), read=read)


def text(value: object) -> str:
    """Returns a string that is not empty.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, str):
        raise ValueError(f"got {shown(value)}, expected a text in quotes")
    if not value.strip():
        raise ValueError('got "", expected a text that is not empty')
    return value


def list_of(read_one: Callable[[Any], Any], what: str) -> Callable[[Any], tuple[Any, ...]]:
    """Returns a reader of lists whose items `read_one` reads."""

    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise ValueError(f"got {shown(value)}, expected {what} in square brackets")
        return tuple(map(read_one, value))

    return read


def _time(value: object) -> float:
    if not isinstance(value, str):
        raise ValueError(f'got {shown(value)}, expected a length of time in quotes, such as "90 s" or "1 h 30 min"')
    duration_s = seconds(value)
    if duration_s <= 0:
        raise ValueError(f"got {shown(value)}, expected more than 0 s")
    return duration_s


def _size(value: object) -> int:
    if not isinstance(value, str):
        raise ValueError(f'got {shown(value)}, expected an amount in quotes, such as "500 MB" or "4 GB"')
    size_bytes = number_of_bytes(value)
    if size_bytes <= 0:
        raise ValueError(f"got {shown(value)}, expected more than 0 B")
    return size_bytes


def _nearest(word: str, words: tuple[str, ...]) -> str:
    found = did_you_mean(word, words)
    return found if "did you mean" in found else ""


LONGEST_NAME = 100
"""Bytes of a sweep's name: a file name may have 255, and marks are put before and after it."""


def _name(value: object) -> str:
    name = text(value)
    if len(name.encode("utf-8", "replace")) > LONGEST_NAME:
        raise ValueError(f"got a name of {len(name.encode())} bytes, expected at most {LONGEST_NAME}")
    if not re.fullmatch(r"\w(?:[\w. +=-]*[\w+=-])?", name):
        raise ValueError(
            f"got {shown(name)}, expected a folder's name: letters, digits, spaces and . _ - + = "
            "with a letter or digit in front"
        )
    return name


TEXT = Kind(name="a text", read=text)
TEXTS = Kind(name="a list of texts", read=list_of(text, "texts"), write=list)
TIME = Kind(name='a length of time, such as "90 s" or "1 h 30 min"', read=_time, write=time_text)
SIZE = Kind(name='an amount of memory, such as "4 GB"', read=_size, write=size_text)
NAME = Kind(name="a folder's name", read=_name)
