"""What the kinds of scheduler share: the losses of a rung in order, and what is known of each trial."""

import bisect
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from search.scheduler import Decision, SchedulerSettings, Verdict

Status = Literal["running", "paused", "stopped", "ended"]

_STATUS: dict[Verdict, Status] = {"continue": "running", "promote": "running", "pause": "paused", "stop": "stopped"}


class Ranking:
    """The losses of trials, kept in order; one a trial, all finite. Among equal ones the earlier trial stands first."""

    def __init__(self) -> None:
        """Begins empty."""
        self.values: dict[int, float] = {}
        self._sorted: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._sorted)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranking) and self._sorted == other._sorted

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __iter__(self) -> Iterator[int]:
        """Goes over the trials, the best first."""
        return iter([trial for _, trial in self._sorted])

    def put(self, trial: int, value: float) -> None:
        """Takes in the loss of a trial in place of its earlier one."""
        self.drop(trial)
        self.values[trial] = value
        bisect.insort(self._sorted, (value, trial))

    def drop(self, trial: int) -> None:
        """Forgets the loss of a trial, if there is one."""
        value = self.values.pop(trial, None)
        if value is not None:
            del self._sorted[bisect.bisect_left(self._sorted, (value, trial))]

    def rank(self, trial: int) -> int:
        """Returns the place of a trial, from 1."""
        return bisect.bisect_left(self._sorted, (self.values[trial], trial)) + 1

    def best(self, rank: int) -> float:
        """Returns the loss at a place, from 1."""
        return self._sorted[rank - 1][0]

    def median(self) -> float:
        """Returns the median; of an even number the mean of the middle two.

        Raises:
            IndexError: there is none.
        """
        middle = len(self._sorted) // 2
        if len(self._sorted) % 2:
            return self._sorted[middle][0]
        low, high = self._sorted[middle - 1][0], self._sorted[middle][0]
        return low / 2 + high / 2  # their sum might overflow

    def document(self) -> dict[str, float]:
        """Returns the losses by trial, for `state`."""
        return {str(trial): self.values[trial] for trial in sorted(self.values)}


@dataclass
class Rung:
    """Where the trials of a bracket are compared after the same epoch.

    Attributes:
        losses: of the trials that count.
        audited: losses of trials that run on for the audit; they count for nothing.
        promoted: trials that were paused here and went on, by right.
        missing: trials that ended on their way here, or came with a loss that is not finite.
    """

    losses: Ranking = field(default_factory=Ranking)
    audited: dict[int, float] = field(default_factory=dict)
    promoted: set[int] = field(default_factory=set)
    missing: set[int] = field(default_factory=set)

    def forget(self, trial: int) -> None:
        """Forgets what a trial reported here."""
        self.losses.drop(trial)
        self.audited.pop(trial, None)
        self.missing.discard(trial)

    def document(self) -> dict[str, Any]:
        """Returns all of it, for `state`."""
        return {
            "losses": self.losses.document(),
            "audited": {str(trial): self.audited[trial] for trial in sorted(self.audited)},
            "promoted": sorted(self.promoted),
            "missing": sorted(self.missing),
        }


@dataclass
class Member:
    """What is known of one trial.

    Attributes:
        bracket: its bracket.
        first_rung: it is not judged before this epoch.
        status: paused and stopped are what the scheduler has said; ended is what it was told.
        audited_at: the epoch of the rung that would have stopped it, if it goes on for the audit.
    """

    bracket: int
    first_rung: int
    status: Status = "running"
    audited_at: int | None = None

    def counts_at(self, epoch: int) -> bool:
        """Whether what it reports after `epoch` may enter a cutoff."""
        return self.audited_at is None or epoch <= self.audited_at

    def document(self) -> dict[str, Any]:
        """Returns all of it, for `state`."""
        return {
            "bracket": self.bracket,
            "first_rung": self.first_rung,
            "status": self.status,
            "audited_at": self.audited_at,
        }


class Members:
    """The trials of a scheduler, and what all kinds do alike. The kinds inherit from it."""

    pauses = False

    def __init__(self, settings: SchedulerSettings):
        """Begins without trials."""
        self.settings = settings
        self.members: dict[int, Member] = {}

    def bracket_of(self, trial: int) -> int:
        """Returns the bracket of a trial, from its number."""
        return 0

    def start(self, trial: int, *, first_rung: int | None = None) -> int:
        """See `search.scheduler.Scheduler.start`."""
        member = self.member(trial)
        if first_rung is not None:
            member.first_rung = first_rung
        return member.bracket

    def member(self, trial: int) -> Member:
        """Returns what is known of a trial, from now on if it is new."""
        found = self.members.get(trial)
        if found is None:
            found = Member(bracket=self.bracket_of(trial), first_rung=self.settings.first_rung)
            self.members[trial] = found
        return found

    def milestones(self, trial: int) -> tuple[int, ...]:
        """See `search.scheduler.Scheduler.milestones`."""
        return ()

    def end(self, trial: int) -> None:
        """See `search.scheduler.Scheduler.end`."""
        self.member(trial).status = "ended"

    def released(self) -> list[Decision]:
        """See `search.scheduler.Scheduler.released`."""
        return []

    def close(self) -> list[Decision]:
        """See `search.scheduler.Scheduler.close`."""
        return self.released()

    def recorded(self, decision: Decision) -> None:
        """See `search.scheduler.Scheduler.recorded`."""
        member = self.member(decision.trial)
        if decision.audited:
            known = member.audited_at
            member.audited_at = decision.epoch if known is None else min(known, decision.epoch)
        elif member.audited_at == decision.epoch:
            member.audited_at = None
        member.status = _STATUS[decision.verdict]

    def state(self) -> dict[str, Any]:
        """See `search.scheduler.Scheduler.state`."""
        return {
            "kind": self.settings.kind,
            "members": {str(trial): self.members[trial].document() for trial in sorted(self.members)},
        }

    def not_finite(self, trial: int, epoch: int, value: float) -> Decision:
        """Stops a trial whose loss is not finite, and returns that verdict."""
        member = self.member(trial)
        member.status = "stopped"
        rung = sum(milestone < epoch for milestone in self.settings.rungs)
        return Decision(
            trial=trial,
            epoch=epoch,
            bracket=member.bracket,
            rung=rung,
            value=value,
            cutoff=None,
            num_values=0,
            verdict="stop",
        )


def check_epoch(epoch: int) -> None:
    """Refuses an epoch below 1.

    Raises:
        ValueError: it is.
    """
    if epoch < 1:
        raise ValueError(f"epoch: got {epoch}, expected a number from 1")


def finite(value: float) -> bool:
    """Whether a loss is a number that can be compared; None is not."""
    return value is not None and math.isfinite(value)
