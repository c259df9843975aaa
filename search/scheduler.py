"""Schedulers: which trials go on, told from how they stand at certain epochs (*rungs*).

A scheduler is pure: reports go in, decisions come out. It has no clock, no random state and no storage; what looks
random (the bracket of a trial, the audit) follows from the trial's number and the seed alone. So the same reports in
the same order always give the same state, and a scheduler is rebuilt by telling a new one what the ledger has.

Values are *losses*: lower is better. The caller flips the sign of what is to be maximised.

What holds for every kind:

- Nothing that is not finite enters a cutoff or goes on: its verdict is `stop`.
- The best trial of a rung so far is never stopped there.
- *Audit*: a share of the trials that would be stopped goes on, marked `audited`, to see how often stopping is wrong.
  What such a trial reports after the rung that would have stopped it takes no part in any cutoff, so all other verdicts
  are what they would be without the audit.
- *Replay*: tell the scheduler of starts, reports and ends in the order of the ledger. A verdict that has been written
  down is told by `recorded` and stands, even if other settings or a sweep of another size would now give another.
"""

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol, get_args

from search.errors import SpecError, did_you_mean

Kind = Literal["asha", "asha_promotion", "hyperband", "median", "none"]
Verdict = Literal["continue", "stop", "pause", "promote"]

_JUST_BELOW = 1e-9
"""Keeps `floor(3 * (1 / 3) * 27)` from losing one to rounding."""


@dataclass(frozen=True, kw_only=True)
class SchedulerSettings:
    """How trials are stopped.

    Attributes:
        kind: `asha` stops at once what is not among the best `1 / reduction` of a rung so far; `asha_promotion` pauses
            every trial at its rung and promotes from the best; `hyperband` fills rungs of a set size and then promotes
            the best of each; `median` stops what is worse than the median trial was on average; `none` stops nothing.
        first_rung: epochs after which a trial is judged for the first time, from 1.
        reduction: above 1; one trial in so many goes on, and each rung is at so many times the epochs of the last.
        brackets: of `asha` and `asha_promotion`; bracket 1 leaves out the first rung, bracket 2 the first two, and so
            on. Bracket `s` gets a share of the trials in proportion to `reduction ** -s`. Hyperband has all.
        max_epochs: of a trial that is never stopped, from 1.
        audit_share: of the trials that would be stopped, so many go on all the same; 0..1.
        seed: of the choice which ones are audited.
        min_trials: of `median`; so many others must have reached an epoch before anything is stopped there, from 1.
    """

    kind: Kind = "asha"
    first_rung: int = 1
    reduction: float = 3
    brackets: int = 1
    max_epochs: int
    audit_share: float = 0.0
    seed: int = 0
    min_trials: int = 5

    def __post_init__(self) -> None:
        """Refuses impossible values.

        Raises:
            SpecError: with a sentence a mistake.
        """
        if problems := list(self._problems()):
            raise SpecError("scheduler: these settings cannot be", problems)

    def _problems(self) -> list[str]:
        found = []
        if self.kind not in get_args(Kind):
            found.append(f"kind: unknown {self.kind!r}{did_you_mean(str(self.kind), get_args(Kind))}")
        for name in ("first_rung", "brackets", "max_epochs", "min_trials"):
            value = getattr(self, name)
            if not _whole(value) or value < 1:
                found.append(f"{name}: got {value!r}, expected a whole number from 1")
        if not _number(self.reduction) or self.reduction <= 1:
            found.append(f"reduction: got {self.reduction!r}, expected a finite number above 1, such as 3")
        if not _number(self.audit_share) or not 0 <= self.audit_share <= 1:
            found.append(f"audit_share: got {self.audit_share!r}, expected 0..1")
        if not _whole(self.seed):
            found.append(f"seed: got {self.seed!r}, expected a whole number")
        if not found and self.kind.startswith("asha") and self.brackets > max(1, len(self.rungs)):
            found.append(
                f"brackets: got {self.brackets}, expected at most {max(1, len(self.rungs))}: there are rungs at epochs "
                f"{', '.join(map(str, self.rungs)) or '(none)'} of {self.max_epochs}"
            )
        return found

    @cached_property
    def rungs(self) -> tuple[int, ...]:
        """The epochs of all rungs, ascending, before the last epoch of a trial.

        They do not depend on `max_epochs` except that they end before it: a sweep that is extended keeps its rungs.
        """
        epochs: list[int] = []
        at = float(self.first_rung)
        while (epoch := math.floor(at + _JUST_BELOW)) < self.max_epochs:
            if not epochs or epoch > epochs[-1]:
                epochs.append(epoch)
            at *= self.reduction
        return tuple(epochs)

    def num_best(self, num_values: int) -> int:
        """Returns how many of `num_values` trials go on; may be 0."""
        return math.floor(num_values / self.reduction + _JUST_BELOW)

    def audits(self, trial: int) -> bool:
        """Whether `trial` goes on should it ever be stopped; from its number and the seed alone."""
        digest = hashlib.blake2b(f"audit {self.seed} {trial}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64 < self.audit_share


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a scheduler says of a trial at a rung.

    Attributes:
        trial: its number.
        epoch: after which it is said.
        bracket: the trial's bracket.
        rung: of the rung among all of the settings, from 0.
        value: the loss that the trial reported.
        cutoff: the loss that it had to reach, its own counted; None where there was nothing to compare with.
        num_values: how many losses the cutoff was taken from, the trial's own among them if it counts.
        verdict: `continue` or `stop` at once, `pause` until others have come as far; later `promote` or `stop`.
        audited: it would have been stopped here or before, and goes on for the audit.
    """

    trial: int
    epoch: int
    bracket: int
    rung: int
    value: float
    cutoff: float | None
    num_values: int
    verdict: Verdict
    audited: bool = False


class Scheduler(Protocol):
    """What every kind of scheduler does."""

    @property
    def settings(self) -> SchedulerSettings:
        """What it was made with."""
        ...

    @property
    def pauses(self) -> bool:
        """Whether trials may be let go of at a milestone and go on later."""
        ...

    def start(self, trial: int, *, first_rung: int | None = None) -> int:
        """Takes in a new trial and returns its bracket, which follows from its number. Again is fine.

        Args:
            trial: its number, from 0.
            first_rung: it is not judged before this epoch, so at no rung before it; None: as the settings say.
        """
        ...

    def milestones(self, trial: int) -> tuple[int, ...]:
        """Returns the epochs, ascending, after which the trial has to ask before it goes on."""
        ...

    def report(self, trial: int, epoch: int, value: float) -> Decision | None:
        """Takes in a loss; returns the verdict, or None between milestones.

        A second report of an epoch (of another attempt) replaces the first.

        Raises:
            ValueError: `epoch` is below 1.
        """
        ...

    def end(self, trial: int) -> None:
        """Learns that a trial completed or failed. If it failed on its way to a rung, nobody waits for it there."""
        ...

    def released(self) -> list[Decision]:
        """Returns the verdicts, `promote` or `stop`, on paused trials whose fate is now known; each only once."""
        ...

    def recorded(self, decision: Decision) -> None:
        """Learns in replay of a verdict that was written down; it stands."""
        ...

    def close(self) -> list[Decision]:
        """Learns that no new trial will come for now; returns what `released` would.

        Paused trials are promoted or stopped as soon as nobody can join their rung any more, so none waits for ever.
        After it, `start` of a new trial opens the sweep again.
        """
        ...

    def state(self) -> dict[str, Any]:
        """Returns all that later verdicts depend on, fit for JSON; equal for equal schedulers."""
        ...


def create(settings: SchedulerSettings) -> Scheduler:
    """Returns a new scheduler of the kind that the settings name."""
    # The kinds import this module for what they keep to.
    from search.schedulers.asha import Asha
    from search.schedulers.hyperband import Hyperband
    from search.schedulers.median import Median
    from search.schedulers.promotion import PromotingAsha
    from search.schedulers.unstopped import Unstopped

    kinds = {"asha": Asha, "asha_promotion": PromotingAsha, "hyperband": Hyperband, "median": Median, "none": Unstopped}
    return kinds[settings.kind](settings)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
