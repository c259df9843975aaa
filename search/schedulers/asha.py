"""Asynchronous successive halving: a trial is compared at each rung with those who were there before it.

Source: Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020, <https://arxiv.org/abs/1810.05934>.
The paper pauses and promotes (`search.schedulers.promotion`); to stop at once instead needs no checkpoint of the trials
that wait, and is what Ray Tune and Determined do under the same name.
"""

from typing import Any

from search.scheduler import Decision, SchedulerSettings, Verdict
from search.schedulers.rungs import Member, Members, Rung, check_epoch, finite

_GOLDEN = 0.6180339887498949
"""Multiples of it, modulo 1, are spread evenly whichever way they are cut off."""


class Halving(Members):
    """What halving kinds share: rungs by bracket, and where a trial is judged."""

    def __init__(self, settings: SchedulerSettings):
        """Begins without trials."""
        super().__init__(settings)
        self._rungs: dict[tuple[int, int], Rung] = {}
        self._index = {epoch: index for index, epoch in enumerate(settings.rungs)}
        self._shares = [settings.reduction**-skipped for skipped in range(settings.brackets)]

    def bracket_of(self, trial: int) -> int:
        """Returns the bracket, in proportion to their shares over any stretch of trials."""
        at = (trial * _GOLDEN) % 1 * sum(self._shares)
        for bracket, share in enumerate(self._shares):
            if at < share:
                return bracket
            at -= share
        return len(self._shares) - 1

    def skipped(self, bracket: int) -> int:
        """Returns how many rungs a bracket leaves out."""
        return bracket

    def milestones(self, trial: int) -> tuple[int, ...]:
        """Returns the epochs of the rungs that the trial is judged at."""
        member = self.member(trial)
        return tuple(e for e in self.settings.rungs[self.skipped(member.bracket) :] if e >= member.first_rung)

    def rung(self, bracket: int, index: int) -> Rung:
        """Returns a rung; `index` counts from the first of the settings."""
        return self._rungs.setdefault((bracket, index), Rung())

    def report(self, trial: int, epoch: int, value: float) -> Decision | None:
        """See `search.scheduler.Scheduler.report`."""
        check_epoch(epoch)
        member = self.member(trial)
        milestone = epoch in self.milestones(trial)
        if not finite(value):
            if milestone:
                self.rung(member.bracket, self._index[epoch]).forget(trial)
            return self.lost(trial, epoch, value)
        member.status = "running"
        if not milestone:
            return None
        index = self._index[epoch]
        rung = self.rung(member.bracket, index)
        rung.forget(trial)
        if member.counts_at(epoch):
            rung.losses.put(trial, value)
            return self.judge(trial, index)
        rung.audited[trial] = value
        return self.decision(trial, index, "continue", audited=True)

    def lost(self, trial: int, epoch: int, value: float) -> Decision:
        """Stops a trial whose loss is not finite."""
        return self.not_finite(trial, epoch, value)

    def judge(self, trial: int, index: int) -> Decision:
        """Returns the verdict on a trial whose loss has just entered a rung."""
        raise NotImplementedError

    def cutoff(self, rung: Rung, missing: int = 0) -> float | None:
        """Returns the loss of the last that goes on: of all so far, `1 / reduction`, at least the best one.

        Args:
            rung: where.
            missing: so many more trials count, as worse than all.
        """
        num = len(rung.losses)
        if num == 0 or num + missing == 1:
            return None
        return rung.losses.best(min(num, max(1, self.settings.num_best(num + missing))))

    def decision(
        self, trial: int, index: int, verdict: Verdict, *, audited: bool = False, missing: int = 0
    ) -> Decision:
        """Returns a decision with the figures of the rung."""
        bracket = self.members[trial].bracket
        rung = self.rung(bracket, index)
        value = rung.losses.values.get(trial, rung.audited.get(trial))
        assert value is not None, "a verdict needs a loss"
        return Decision(
            trial=trial,
            epoch=self.settings.rungs[index],
            bracket=bracket,
            rung=index,
            value=value,
            cutoff=self.cutoff(rung, missing),
            num_values=len(rung.losses) + missing,
            verdict=verdict,
            audited=audited,
        )

    def audited_instead(self, member: Member, trial: int, epoch: int) -> bool:
        """Whether a trial that is to be stopped goes on for the audit, which is noted."""
        if not (self.settings.audits(trial) or member.audited_at is not None):
            return False
        member.audited_at = epoch
        return True

    def state(self) -> dict[str, Any]:
        """See `search.scheduler.Scheduler.state`."""
        rungs = [
            {"bracket": bracket, "rung": index, **self._rungs[bracket, index].document()}
            for bracket, index in sorted(self._rungs)
            if self._rungs[bracket, index] != Rung()
        ]
        return super().state() | {"rungs": rungs}


class Asha(Halving):
    """Stops a trial at a rung unless it is among the best `1 / reduction` of those who have come there so far.

    The number that goes on is rounded down, but is at least one: the best so far always goes on, so the first to come
    does. A loss equal to the cutoff goes on. Trials that failed count for nothing.
    """

    def judge(self, trial: int, index: int) -> Decision:
        """Returns `continue` or `stop`."""
        member = self.members[trial]
        rung = self.rung(member.bracket, index)
        epoch = self.settings.rungs[index]
        cutoff = self.cutoff(rung)
        passes = cutoff is None or rung.losses.values[trial] <= cutoff
        if member.audited_at == epoch:
            # Another attempt at the very rung that would have stopped it: once audited it stays so, for what it has
            # reported at later rungs was left out of them.
            return self.decision(trial, index, "continue", audited=True)
        if passes:
            return self.decision(trial, index, "continue")
        if self.audited_instead(member, trial, epoch):
            return self.decision(trial, index, "continue", audited=True)
        member.status = "stopped"
        return self.decision(trial, index, "stop")
