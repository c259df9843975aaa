"""What can go wrong in `search`: whose mistake is it, and how far does it reach?

    SearchError
    ├── CallerError            the caller's mistake: nothing was started, nothing half-written (exit 2)
    │   ├── SpecError          a sweep file that cannot be read or asks for what cannot be
    │   ├── SpaceError         a parameter that the space does not have, or a value outside its range
    │   ├── TaskError          a task that cannot be imported or made, or does not keep the protocol
    │   └── SweepError         a sweep that is not there, runs elsewhere, or was begun otherwise
    ├── TrialFailed            one trial could not go on: its row says why, the sweep goes on
    └── SweepAborted           the sweep cannot go on; what the ledger has stays, `search resume` takes it up (exit 1)
        └── SweepStopped       it was asked to stop, and has saved (exit 130, as after Ctrl-C)

Every message says what is wrong, what was found, what was expected, and what to do next. What goes wrong in the ledger
and in storage is a `results.errors.ResultsError`.
"""

from collections.abc import Sequence

from results.errors import did_you_mean  # noqa: F401 - the words of `search` are those of `results`


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


class SweepStopped(SweepAborted):
    """It was asked to stop, and what ran has been saved. The command line exits with 130."""
