"""What can go wrong in `search`: whose mistake is it, and how far does it reach?

    SearchError
    ├── CallerError            the caller's mistake: nothing was started, nothing half-written (exit 2)
    │   ├── SpecError          a sweep file that cannot be read or asks for what cannot be
    │   ├── SpaceError         a parameter that the space does not have, or a value outside its range
    │   ├── TaskError          a task that cannot be imported or made, or does not keep the protocol
    │   └── SweepError         a sweep that is not there, runs elsewhere, or was begun otherwise
    ├── TrialFailed            one trial could not go on: its row says why, the sweep goes on
    └── SweepAborted           the sweep cannot go on; what the ledger has stays, `search resume` takes it up (exit 1)

Every message says what is wrong, what was found, what was expected, and what to do next. What goes wrong in the ledger
and in storage is a `results.errors.ResultsError`.
"""

import difflib
from collections.abc import Iterable, Sequence


class SearchError(Exception):
    """The root of all errors that `search` raises on purpose."""


class CallerError(SearchError):
    """A mistake of the caller; the command line turns it into exit status 2."""


class SpecError(CallerError):
    """A sweep file that cannot be read or asks for what cannot be.

    Attributes:
        problems: one sentence a mistake.
    """

    def __init__(self, what: str, problems: Sequence[str] = ()):
        """Takes what is wrong with what, and the single mistakes, which the message lists."""
        self.problems = tuple(problems)
        super().__init__("\n  ".join([what, *self.problems]))


class SpaceError(CallerError):
    """A parameter that the space does not have, a range that is none, or a value outside its range."""


class TaskError(CallerError):
    """A task that cannot be imported or made, or does not keep the protocol."""


class SweepError(CallerError):
    """A sweep that is not there, runs elsewhere, or was begun otherwise."""


class TrialFailed(SearchError):
    """One trial could not go on; its row says why, and the sweep goes on.

    Attributes:
        reason_kind: one word of `results.schema` for the reason, such as `non_finite`.
        detail: a traceback, or "".
    """

    def __init__(self, reason: str, *, reason_kind: str = "error", detail: str = ""):
        """Takes the reason as a sentence."""
        super().__init__(reason)
        self.reason_kind, self.detail = reason_kind, detail


class SweepAborted(SearchError):
    """The sweep cannot go on; the ledger keeps what has happened. The command line exits with 1."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns `"; did you mean 'x'?"` for the known name nearest to `name`, or the list of known names."""
    choices = sorted(known)
    nearest = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    if nearest:
        return f"; did you mean {nearest[0]!r}?"
    return f"; known: {', '.join(choices)}" if choices else "; there are none"
