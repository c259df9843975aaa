"""How the commands speak: results on stdout, all else on stderr.

There, progress is one live line on a terminal and plain lines elsewhere.
"""

import contextlib
import json
import logging
import math
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import click

REDRAW_S = 0.1
"""A live line is drawn anew after this many seconds at the earliest."""
PLAIN_S = 10.0
"""Without a terminal, a line of progress comes after this many seconds at the earliest."""
BAR_WIDTH = 20


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

    def out(self, text: str) -> None:
        """Prints a result."""
        self.clear()
        click.echo(text)

    def json(self, document: object, *, indent: int | None = 1) -> None:
        """Prints a result for machines; NaN and infinities become null. `indent` None keeps it on one line."""
        self.out(json.dumps(finite(document), indent=indent, ensure_ascii=False, allow_nan=False))

    def note(self, text: str) -> None:
        """Says something beside the results."""
        self.clear()
        click.echo(text, file=self._err)

    def status(self, text: str, *, now: bool = False) -> None:
        """Says how far the work has come.

        Args:
            text: short; on a terminal it is cut to one line, which it replaces.
            now: even if the last time was just before.
        """
        if not now and self._clock() - self._last < (REDRAW_S if self.live else PLAIN_S):
            return
        self._last = self._clock()
        if not self.live:
            click.echo(text, file=self._err)
            return
        text = text[: max(1, shutil.get_terminal_size().columns - 1)]
        self._err.write("\r" + text.ljust(self._drawn))
        self._err.flush()
        self._drawn = len(text)

    def progress(self, what: str, done: int, total: int | None) -> None:
        """Shows `done` of `total`; has the form of `bach.corpus.Progress`."""
        self.status(f"{what} {bar(done / total)} {done}/{total}" if total else f"{what} {done}")

    def clear(self) -> None:
        """Takes the live line away."""
        if self._drawn:
            with contextlib.suppress(OSError):
                self._err.write("\r" + " " * self._drawn + "\r")
                self._err.flush()
            self._drawn = 0


class LogLines(logging.Handler):
    """Says what the library logs, between the lines of progress."""

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


def duration(seconds: float) -> str:
    """Returns a length of time as people say it: `0.3 s`, `45 s`, `12 min`, `3 h 05 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


def table(rows: list[list[Any]], *, left: frozenset[int] = frozenset({0})) -> str:
    """Returns rows as lines of text in columns, those numbered in `left` flush left, the others flush right."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) if i in left else cell.rjust(width) for i, (cell, width) in enumerate(cells))
        for cells in (zip(row, widths, strict=True) for row in texts)
    ]
    return "\n".join(line.rstrip() for line in lines)


def finite(value: object) -> object:
    """Returns a document of plain Python values in which None stands for NaN and infinities."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
