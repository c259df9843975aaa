"""Keeps what others print off the terminal: native libraries their greetings, tasks all that is too much."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO

ASIDE_LIMIT = 20_000
"""Characters that a task may print into a command's own words; the rest is dropped."""


class Bounded(io.TextIOBase):
    """Passes on what is written until there has been too much of it."""

    def __init__(self, stream: TextIO | None, limit: int):
        """Takes where to; None is stderr as it is when something is written. `limit` is in characters."""
        self._stream, self._limit, self._left = stream, limit, limit

    def writable(self) -> bool:
        """Returns that it is."""
        return True

    def write(self, text: str) -> int:
        """Passes on what there is room for; returns as if it were all."""
        if self._left > 0:
            stream = self._stream or sys.stderr
            stream.write(text[: self._left])
            self._left -= len(text)
            if self._left <= 0:
                stream.write(f"\n[more than {self._limit} characters: the rest of this is dropped]\n")
        return len(text)

    def flush(self) -> None:
        """Passes it on."""
        with contextlib.suppress(OSError, ValueError):
            (self._stream or sys.stderr).flush()


_aside = Bounded(None, ASIDE_LIMIT)


@contextlib.contextmanager
def printed_aside() -> Iterator[None]:
    """For the length of a `with`, sends to stderr what is printed, so that results alone are on stdout."""
    with contextlib.redirect_stdout(_aside):
        yield


@contextlib.contextmanager
def muffled() -> Iterator[None]:
    """For the length of a `with`, drops what is written to stderr's descriptor but not through `sys.stderr`."""
    try:
        kept = os.dup(2)
    except OSError:  # stderr is closed
        yield
        return
    with open(kept, "w", encoding="utf-8", errors="backslashreplace", buffering=1) as stderr:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        sys.stderr.flush()
        os.dup2(nowhere, 2)
        os.close(nowhere)
        try:
            with contextlib.redirect_stderr(stderr):
                yield
        finally:
            os.dup2(kept, 2)
