"""What can go wrong in `bach`, and whose mistake it is.

    BachError
    ├── CallerError            the caller's mistake: nothing was started, nothing half-written (exit 2)
    │   ├── DataError          chorales that are missing, unreadable or not chorales
    │   ├── FormatError        a MIDI, MusicXML, CSV or WAV file that cannot be read or written
    │   ├── ModelError         a model file that is missing, corrupt, not ours, or wants to run code
    │   ├── SettingError       an unknown name or an impossible value in a configuration or an option
    │   └── OutputError        a place that cannot be written: no permission, no room
    └── TrainingFailed         a run that started and could not go on, with its reason (exit 1)

Every message says what is wrong, what was found, what was expected, and what to do next.
"""

import difflib
from collections.abc import Iterable


class BachError(Exception):
    """The root of all errors that `bach` raises on purpose."""


class CallerError(BachError):
    """A mistake of the caller; the command line turns it into exit status 2."""


class DataError(CallerError):
    """Chorales that are missing, unreadable or not chorales."""


class FormatError(CallerError):
    """A music file that cannot be read or written."""


class ModelError(CallerError):
    """A model file that is missing, corrupt, not ours, or wants to run code on loading."""


class SettingError(CallerError):
    """An unknown name or an impossible value in a configuration or an option."""


class OutputError(CallerError):
    """A place that cannot be written to."""


class TrainingFailed(BachError):
    """A training run that started and could not go on; the command line exits with 1.

    Attributes:
        reason_kind: the reason in one word, for tables: the loss or the score is no finite number.
    """

    reason_kind = "non_finite"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns `"; did you mean 'x'?"` for the known name nearest to `name`, or the list of known names."""
    choices = sorted(known)
    nearest = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    return f"; did you mean {nearest[0]!r}?" if nearest else f"; known: {', '.join(choices)}"
