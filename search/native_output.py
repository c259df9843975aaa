"""Keeps what native libraries write to stderr, such as TensorFlow's greetings, off the terminal."""

import contextlib
import os
import sys
from collections.abc import Iterator


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
