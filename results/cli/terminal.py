"""How the commands speak: results on stdout, all else on stderr.

There, progress is one live line on a terminal and plain lines elsewhere. Tables fit the terminal: long cells are cut,
and columns that find no room are left out and named.
"""

import contextlib
import datetime
import logging
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TextIO

import click

from results.plain import duration, json_text

REDRAW_S = 0.1
"""A live line is drawn anew after this many seconds at the earliest."""
PLAIN_S = 10.0
"""Without a terminal, a line of progress comes after this many seconds at the earliest."""
BAR_WIDTH = 20
WIDTH = 100
"""Columns of text where there is no terminal to ask."""
LONGEST_CELL = 44
"""Longer texts are cut in a table."""


class Terminal:
    """Where a command's words go."""

    def __init__(self, *, err: TextIO | None = None, clock: Callable[[], float] = time.monotonic):
        """Takes where progress goes.

        Args:
            err: the stream; `None` is stderr as it is when something is said.
            clock: seconds.
        """
        self._given, self._clock = err, clock
        self._drawn = 0
        self._last = clock()

    @property
    def _err(self) -> TextIO:
        return self._given or sys.stderr

    @property
    def live(self) -> bool:
        """Whether progress is one line that changes."""
        return self._err.isatty()

    @property
    def width(self) -> int:
        """Columns of text; `COLUMNS` in the environment sets them."""
        return shutil.get_terminal_size((WIDTH, 24)).columns

    def out(self, text: str) -> None:
        """Prints a result; on a terminal without what could steer it, elsewhere as it is."""
        self.clear()
        click.echo(harmless(text) if sys.stdout.isatty() else text)

    def json(self, document: object, *, indent: int | None = 1) -> None:
        """Prints a result for machines; NaN and infinities become null. `indent` None keeps it on one line."""
        self.out(json_text(document, indent=indent))

    def table(self, header: Sequence[str], rows: Sequence[Sequence[Any]], *, keep: int = 1) -> None:
        """Prints a table that fits the terminal, and says on stderr which columns found no room.

        Args:
            header: the columns' names.
            rows: cells: None is shown as a dash.
            keep: so many columns are always shown, however narrow the terminal.
        """
        text, left_out = fitted(header, rows, self.width, keep=keep)
        self.out(text)
        if left_out:
            named = ", ".join(left_out) if len(left_out) <= 6 else f"{len(left_out)} columns, from {left_out[0]} on"
            self.note(f"no room for {named}; --columns chooses, --format csv shows all")

    def note(self, text: str) -> None:
        """Says something beside the results."""
        self.clear()
        click.echo(harmless(text), file=self._err)

    def status(self, text: str, *, now: bool = False) -> None:
        """Says how far the work has come.

        Args:
            text: short; on a terminal it is cut to one line, which it replaces.
            now: even if the last time was just before.
        """
        if not now and self._clock() - self._last < (REDRAW_S if self.live else PLAIN_S):
            return
        self._last = self._clock()
        text = harmless(text)
        if not self.live:
            click.echo(text, file=self._err)
            return
        text = text[: max(1, self.width - 1)]
        self._err.write("\r" + text.ljust(self._drawn))
        self._err.flush()
        self._drawn = len(text)

    def progress(self, what: str, done: int, total: int | None) -> None:
        """Shows `done` of `total`."""
        self.status(f"{what} {bar(done / total)} {done}/{total}" if total else f"{what} {done}")

    def clear(self) -> None:
        """Takes the live line away."""
        if self._drawn:
            with contextlib.suppress(OSError):
                self._err.write("\r" + " " * self._drawn + "\r")
                self._err.flush()
            self._drawn = 0


class LogLines(logging.Handler):
    """Says what a library logs, between the lines of progress."""

    def __init__(self, terminal: Terminal):
        """Takes where the lines go."""
        super().__init__()
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        """Says one record."""
        self._terminal.note(f"{record.levelname.lower()}: {record.getMessage()}")


def bar(share: float) -> str:
    """Returns a bar that is filled for `share` of its width, and the percentage."""
    share = min(max(share, 0.0), 1.0)
    filled = int(share * BAR_WIDTH)
    return f"[{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {share:4.0%}"


def harmless(text: str) -> str:
    """Returns a text in which nothing steers a terminal; lines and tabs stay.

    Names and messages come from files, tasks and command lines, which may hold anything.
    """
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)


def cell(value: Any, name: str = "") -> str:
    """Returns a value as a table shows it, on one line.

    Args:
        value: None is a dash; numbers have five significant digits.
        name: the column; seconds (`…_s`) are shown as a length of time.
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float) and name.endswith("_s") and not name.endswith("per_s"):
        return duration(value)
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, datetime.datetime):
        return f"{value.astimezone():%Y-%m-%d %H:%M:%S}"
    # A message of somebody's task may hold anything; nothing in it may steer the terminal.
    return "".join(c if c.isprintable() else "?" for c in " ".join(str(value).split()))


def fitted(header: Sequence[str], rows: Sequence[Sequence[Any]], width: int, *, keep: int = 1) -> tuple[str, list[str]]:
    """Returns a table as text at most `width` wide, and the names of the columns that found no room.

    Columns are left out from the right; numbers are flush right, all else flush left.

    Args:
        header: the columns' names.
        rows: cells.
        width: in characters.
        keep: so many columns stay even if they do not fit; their text is cut then.
    """
    texts = [[_cut(cell(value, name), LONGEST_CELL) for value, name in zip(row, header, strict=True)] for row in rows]
    columns = [[name, *column] for name, column in zip(header, zip(*texts, strict=True), strict=True)] if rows else []
    columns = columns or [[name] for name in header]
    right = [
        any(_is_number(row[i]) for row in rows) and all(row[i] is None or _is_number(row[i]) for row in rows)
        for i in range(len(header))
    ]
    widths = [max(map(len, column)) for column in columns]
    shown = len(header)
    while shown > keep and sum(widths[:shown]) + 2 * (shown - 1) > width:
        shown -= 1
    lines = [
        "  ".join(
            column[i].rjust(size) if flush else column[i].ljust(size)
            for column, size, flush in zip(columns[:shown], widths[:shown], right, strict=False)
        )
        for i in range(len(rows) + 1)
    ]
    return "\n".join(_cut(line.rstrip(), width) for line in lines), list(header[shown:])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"
