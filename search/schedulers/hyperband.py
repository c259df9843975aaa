"""Hyperband: brackets of a set size, each halved in step.

Source: Li et al., Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization, JMLR 18 (2018),
<https://jmlr.org/papers/v18/16-558.html>.
"""

import math
from functools import cached_property

from search.schedulers.promotion import Pausing
from search.schedulers.rungs import Rung


class Hyperband(Pausing):
    """Fills brackets one after the other by the numbers of the trials, and halves each when all have come to its rung.

    With `K` rungs there are `K + 1` sorts of bracket: the first has the most trials and all rungs, each next one fewer
    trials and a rung less, and the last has no rung at all. After the last sort comes the first again, as a bracket of
    its own: brackets are numbered on, and sort is number modulo `K + 1`. All this depends on `max_epochs`.

    All trials that set out for a rung count there, those that failed on the way as worse than all others; so one that
    fails is never waited for. The best `1 / reduction` go on, at least one. Once closed, a bracket does with the trials
    that it has; a trial that joins a settled rung later is compared with those who were there, and judged at once.
    """

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many trials each sort of bracket begins with."""
        num_sorts = len(self.settings.rungs) + 1
        return tuple(
            math.ceil(num_sorts / (halvings + 1) * self.settings.reduction**halvings)
            for halvings in reversed(range(num_sorts))
        )

    def bracket_of(self, trial: int) -> int:
        """Returns the number of the bracket that the trial falls into."""
        turn, at = divmod(trial, sum(self.sizes))
        for sort, size in enumerate(self.sizes):
            if at < size:
                return turn * len(self.sizes) + sort
            at -= size
        raise AssertionError("the sizes add up")

    def skipped(self, bracket: int) -> int:
        """Returns how many rungs a bracket leaves out."""
        return bracket % len(self.sizes)

    def settle(self, bracket: int, index: int | None) -> None:
        """Halves the rungs that all have come to who can; on a settled one, judges who has come late."""
        for at in range(self.skipped(bracket), len(self.settings.rungs)):
            rung = self.rung(bracket, at)
            if not self._is_settled(rung, at):
                full = len(self.in_bracket[bracket]) >= self.sizes[self.skipped(bracket)]
                if not (full or self.closed) or self.coming(bracket, at):
                    return
            missing = len(rung.missing)
            num_best = max(1, self.settings.num_best(len(rung.losses) + missing))
            for trial in self.waiting(bracket, at):
                if rung.losses.rank(trial) <= num_best:
                    self.promote(trial, at, missing=missing)
                else:
                    self.dismiss(trial, at, missing=missing)

    def _is_settled(self, rung: Rung, index: int) -> bool:
        """Whether it is decided who goes on from a rung; that is seen by any whose loss is there."""
        return bool(rung.promoted) or any(
            member.status == "stopped" or member.audited_at == self.settings.rungs[index]
            for member in map(self.members.__getitem__, rung.losses.values)
        )
