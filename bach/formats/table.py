"""CSV tables of pitches, in the shape of the canonical corpus, and JSON."""

import csv
import io
import json
import math
from collections.abc import Mapping

import numpy as np

from bach.errors import FormatError
from bach.formats.grid import MAX_STEPS, writable
from bach.notes import MAX_PITCH, MIN_PITCH, NUM_VOICES, SILENCE, Pitches

HEADER = tuple(f"note{voice}" for voice in range(NUM_VOICES))


def render_csv(pitches: Pitches) -> bytes:
    """Returns a chorale `[T, 4]` as a table: `note0,note1,note2,note3`, then a line per step; 0 is silence."""
    rows = [HEADER, *writable(pitches).tolist()]
    return "".join(",".join(map(str, row)) + "\n" for row in rows).encode()


def parse_csv(content: bytes, where: str) -> np.ndarray:
    """Returns the table as `[T, columns]`, int16; one column, or four.

    A first line of names (any text that is no number) is skipped; so are empty lines at the end.

    Args:
        content: the bytes of the file.
        where: the file, for messages.

    Raises:
        FormatError: a cell that is no pitch, lines of different length, neither one nor four columns, no line at all,
        or
            more than `MAX_STEPS` lines; names line and cell.
    """
    try:
        text = content.decode("utf-8-sig")
        lines = list(csv.reader(io.StringIO(text.rstrip(), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"{where} is not a CSV text file: {error}") from error
    rows = list(enumerate(lines, start=1))
    if rows and not any(_is_number(cell) for cell in rows[0][1]):
        rows = rows[1:]
    if not rows:
        raise FormatError(f"{where} has no steps; expected one line per sixteenth")
    if len(rows) > MAX_STEPS:
        raise FormatError(f"{where} has {len(rows):,} steps; at most {MAX_STEPS:,} are read")
    columns = len(rows[0][1])
    if columns not in (1, NUM_VOICES):
        raise FormatError(
            f"{where}, line {rows[0][0]}: {columns} columns, expected {NUM_VOICES} (soprano, alto, tenor, bass) "
            "or, for a melody, one"
        )
    for line, cells in rows:
        if len(cells) != columns:
            raise FormatError(f"{where}, line {line}: {len(cells)} columns, expected {columns} as on the lines before")
    return np.array([[_pitch(cell, where, line, at) for at, cell in enumerate(row, 1)] for line, row in rows], np.int16)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _pitch(cell: str, where: str, line: int, column: int) -> int:
    """Returns the pitch in a cell; `60.0` is 60, as tables saved by other programs have it."""
    value = float(cell) if _is_number(cell) else math.nan
    if value == SILENCE or (MIN_PITCH <= value <= MAX_PITCH and value.is_integer()):
        return int(value)
    raise FormatError(
        f"{where}, line {line}, column {column}: {cell.strip()[:40]!r} is no pitch; "
        f"expected {SILENCE} (silence) or a whole number within {MIN_PITCH}..{MAX_PITCH}"
    )


def render_json(values: Mapping[str, object]) -> bytes:
    """Returns `values` as JSON text with NaN and infinities as null, keys in their order, and a newline at the end."""
    return (json.dumps(_finite(values), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
