"""What can go wrong in `results`, and whose mistake it is.

    ResultsError
    ├── CallerError            the caller's mistake, or a place that does not answer (exit 2)
    │   ├── StorageError       a folder or bucket that cannot be reached, read or written; no room
    │   ├── SchemaError        a schema that contradicts itself, is newer than this software, or is not one
    │   ├── LedgerError        no ledger where one was expected, or one that does not fit what is asked of it
    │   └── QueryError         a sweep, trial, column, condition or export that is not there or cannot be
    └── RowError               a row that does not fit its table: refused before anything of it is written

Every message says what is wrong, what was found, what was expected, and what to do next.
"""

import difflib
from collections.abc import Iterable


class ResultsError(Exception):
    """The root of all errors that `results` raises on purpose."""


class CallerError(ResultsError):
    """A mistake of the caller; the command line turns it into exit status 2."""


class StorageError(CallerError):
    """A folder or bucket that cannot be reached, read or written."""


class SchemaError(CallerError):
    """A schema that contradicts itself, is newer than this software, or is not one."""


class LedgerError(CallerError):
    """No ledger where one was expected, or one that does not fit what is asked of it."""


class QueryError(CallerError):
    """A question that the tables cannot answer: an unknown sweep, trial or column, or a condition that says nothing."""


class RowError(ResultsError):
    """A row that does not fit its table."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns `"; did you mean 'x'?"` for the known name nearest to `name`, or the list of known names."""
    choices = sorted(known)
    nearest = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    if nearest:
        return f"; did you mean {nearest[0]!r}?"
    return f"; known: {', '.join(choices)}" if choices else "; there are none"
