"""Kinds that pause every trial at its rung, and promote the best of those who wait; and ASHA in that form."""

import dataclasses
import heapq
from collections import defaultdict

from search.scheduler import Decision, SchedulerSettings
from search.schedulers.asha import Halving
from search.schedulers.rungs import Member, finite


class Pausing(Halving):
    """What the kinds that pause share. A trial that waits at a rung has a loss there, and is not among the promoted."""

    pauses = True

    def __init__(self, settings: SchedulerSettings):
        """Begins without trials."""
        super().__init__(settings)
        self.closed = False
        self.in_bracket: dict[int, list[int]] = defaultdict(list)
        self._released: dict[int, Decision] = {}

    def member(self, trial: int) -> Member:
        """Returns what is known of a trial, from now on if it is new."""
        is_new = trial not in self.members
        found = super().member(trial)
        if is_new:
            self.closed = False
            self.in_bracket[found.bracket].append(trial)
        return found

    def judge(self, trial: int, index: int) -> Decision:
        """Returns `pause`, or the verdict at once if it is known."""
        member = self.members[trial]
        rung = self.rung(member.bracket, index)
        if trial in rung.promoted:  # another attempt at a rung that it has left
            return self.decision(trial, index, "continue")
        if member.audited_at == self.settings.rungs[index]:
            return self.decision(trial, index, "continue", audited=True)
        member.status = "paused"
        self.settle(member.bracket, index)
        now = self._released.pop(trial, None)
        if now is None:
            return self.decision(trial, index, "pause", missing=len(rung.missing))
        return dataclasses.replace(now, verdict="stop" if now.verdict == "stop" else "continue")

    def settle(self, bracket: int, index: int | None) -> None:
        """Decides what can be decided in a bracket, after something changed at the rung `index`, or at all of them."""
        raise NotImplementedError

    def lost(self, trial: int, epoch: int, value: float) -> Decision:
        """Stops a trial whose loss is not finite; nobody waits for it any more."""
        decision = super().lost(trial, epoch, value)
        self._missed(trial)
        return decision

    def end(self, trial: int) -> None:
        """See `search.scheduler.Scheduler.end`."""
        super().end(trial)
        self._released.pop(trial, None)
        self._missed(trial)

    def _missed(self, trial: int) -> None:
        """Notes that a trial will not come to the next rung on its way."""
        member = self.members[trial]
        if member.audited_at is None:
            for epoch in self.milestones(trial):
                rung = self.rung(member.bracket, self._index[epoch])
                if trial not in rung.losses.values:
                    rung.missing.add(trial)
                    break
        self.settle(member.bracket, None)

    def coming(self, bracket: int, index: int) -> bool:
        """Whether a trial that runs may still come to a rung, and count there."""
        rung, epoch = self.rung(bracket, index), self.settings.rungs[index]
        return any(
            member.status == "running"
            and member.audited_at is None
            and epoch >= member.first_rung
            and trial not in rung.promoted
            for trial in self.in_bracket[bracket]
            for member in (self.members[trial],)
        )

    def waiting(self, bracket: int, index: int) -> list[int]:
        """Returns the trials that wait at a rung, the best first."""
        rung = self.rung(bracket, index)
        return [t for t in rung.losses if self.members[t].status == "paused" and t not in rung.promoted]

    def promote(self, trial: int, index: int, *, missing: int = 0) -> None:
        """Lets a trial go on that waits at a rung."""
        member = self.members[trial]
        self.rung(member.bracket, index).promoted.add(trial)
        member.status = "running"
        self._released[trial] = self.decision(trial, index, "promote", missing=missing)

    def dismiss(self, trial: int, index: int, *, missing: int = 0) -> None:
        """Stops a trial that waits at a rung, or lets it go on for the audit."""
        member = self.members[trial]
        audited = self.audited_instead(member, trial, self.settings.rungs[index])
        member.status = "running" if audited else "stopped"
        verdict = "promote" if audited else "stop"
        self._released[trial] = self.decision(trial, index, verdict, audited=audited, missing=missing)

    def released(self) -> list[Decision]:
        """See `search.scheduler.Scheduler.released`."""
        found = [self._released[trial] for trial in sorted(self._released)]
        self._released.clear()
        return found

    def close(self) -> list[Decision]:
        """See `search.scheduler.Scheduler.close`."""
        self.closed = True
        for bracket in sorted(self.in_bracket):
            self.settle(bracket, None)
        return self.released()

    def recorded(self, decision: Decision) -> None:
        """See `search.scheduler.Scheduler.recorded`."""
        super().recorded(decision)
        self._released.pop(decision.trial, None)
        if decision.epoch not in self._index or not finite(decision.value):
            return
        rung = self.rung(self.members[decision.trial].bracket, self._index[decision.epoch])
        if decision.verdict in ("promote", "continue") and not decision.audited:
            rung.promoted.add(decision.trial)
        else:
            rung.promoted.discard(decision.trial)


class PromotingAsha(Pausing):
    """Pauses every trial at its rung, and promotes whoever is among the best `1 / reduction` there and has not gone on.

    Of fewer trials than `reduction` none is promoted, until the sweep is closed: then a rung that nobody has left sends
    its best on, so that some trial is always trained to the end.
    """

    def __init__(self, settings: SchedulerSettings):
        """Begins without trials."""
        super().__init__(settings)
        self._heaps: dict[tuple[int, int], list[tuple[float, int]]] = defaultdict(list)

    def judge(self, trial: int, index: int) -> Decision:
        """Returns `pause`, or `continue` at once."""
        member = self.members[trial]
        rung = self.rung(member.bracket, index)
        heapq.heappush(self._heaps[member.bracket, index], (rung.losses.values[trial], trial))
        return super().judge(trial, index)

    def settle(self, bracket: int, index: int | None) -> None:
        """Promotes from the rung that has changed; once closed, sends everybody home who can hope no more."""
        if index is not None:
            self._promote_best(bracket, index)
        if not self.closed:
            return
        for at in range(self.skipped(bracket), len(self.settings.rungs)):
            if self.coming(bracket, at):
                return
            waiting = self.waiting(bracket, at)
            if waiting and not self.rung(bracket, at).promoted:
                self.promote(waiting.pop(0), at)
            for trial in waiting:
                self.dismiss(trial, at)

    def _promote_best(self, bracket: int, index: int) -> None:
        rung, heap = self.rung(bracket, index), self._heaps[bracket, index]
        num_best = self.settings.num_best(len(rung.losses))
        while heap:
            value, trial = heap[0]
            stale = rung.losses.values.get(trial) != value or trial in rung.promoted
            if not stale and self.members[trial].status == "paused":
                if rung.losses.rank(trial) > num_best:
                    return
                self.promote(trial, index)
            heapq.heappop(heap)
