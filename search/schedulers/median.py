"""The median rule.

Source: Golovin et al., Google Vizier: A Service for Black-Box Optimization, KDD 2017, section 3.2.2,
<https://doi.org/10.1145/3097983.3098043>.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

from search.scheduler import Decision, SchedulerSettings
from search.schedulers.rungs import Members, Ranking, check_epoch, finite


class Median(Members):
    """Stops a trial whose best loss so far is worse than the median of the others' running averages at the same epoch.

    A running average is the mean of all losses of a trial up to an epoch. Every epoch from the first rung on is a rung.
    """

    def __init__(self, settings: SchedulerSettings):
        """Begins without trials."""
        super().__init__(settings)
        self._curves: dict[int, dict[int, float]] = defaultdict(dict)
        self._averages: dict[int, Ranking] = defaultdict(Ranking)

    def milestones(self, trial: int) -> tuple[int, ...]:
        """Returns every epoch from the first rung to the one before the last."""
        return tuple(range(self.member(trial).first_rung, self.settings.max_epochs))

    def report(self, trial: int, epoch: int, value: float) -> Decision | None:
        """See `search.scheduler.Scheduler.report`."""
        check_epoch(epoch)
        member, curve = self.member(trial), self._curves[trial]
        if not finite(value):
            curve.pop(epoch, None)
            self._average(trial, epoch)
            return self.not_finite(trial, epoch, value)
        member.status = "running"
        curve[epoch] = value
        self._averages[epoch].drop(trial)  # it is compared with the others
        decision = None
        if member.first_rung <= epoch < self.settings.max_epochs:
            decision = self._judge(trial, epoch, value)
        self._average(trial, epoch)
        return decision

    def _judge(self, trial: int, epoch: int, value: float) -> Decision:
        member, others = self.members[trial], self._averages[epoch]
        cutoff = others.median() if len(others) >= self.settings.min_trials else None
        best = min(_until(self._curves[trial], epoch))
        fails = cutoff is not None and best > cutoff
        audited = member.audited_at is not None and epoch >= member.audited_at
        if fails and not audited and (self.settings.audits(trial) or member.audited_at is not None):
            member.audited_at, audited = epoch, True
        if fails and not audited:
            member.status = "stopped"
        return Decision(
            trial=trial,
            epoch=epoch,
            bracket=0,
            rung=epoch - self.settings.first_rung,
            value=value,
            cutoff=cutoff,
            num_values=len(others),
            verdict="stop" if fails and not audited else "continue",
            audited=audited,
        )

    def _average(self, trial: int, changed: int) -> None:
        """Brings the running averages of a trial up to date, from an epoch on."""
        curve, member = self._curves[trial], self.members[trial]
        for epoch in [changed, *(e for e in curve if e > changed)]:
            if epoch in curve and member.counts_at(epoch):
                self._averages[epoch].put(trial, _mean(_until(curve, epoch)))
            else:
                self._averages[epoch].drop(trial)

    def state(self) -> dict[str, Any]:
        """See `search.scheduler.Scheduler.state`."""
        curves = {
            str(trial): {str(epoch): self._curves[trial][epoch] for epoch in sorted(self._curves[trial])}
            for trial in sorted(self._curves)
        }
        averages = {str(epoch): self._averages[epoch].document() for epoch in sorted(self._averages)}
        return super().state() | {"curves": curves, "averages": averages}


def _until(curve: Mapping[int, float], epoch: int) -> Collection[float]:
    """Returns the losses up to an epoch."""
    if max(curve) <= epoch:
        return curve.values()
    return [value for at, value in curve.items() if at <= epoch]


def _mean(values: Collection[float]) -> float:
    try:
        return math.fsum(values) / len(values)
    except OverflowError:  # the sum is too large for a number, the mean is not
        return math.fsum(value / len(values) for value in values)
