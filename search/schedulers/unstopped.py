"""No early stopping."""

from search.scheduler import Decision
from search.schedulers.rungs import Members, check_epoch, finite


class Unstopped(Members):
    """Lets every trial run to its last epoch, unless its loss is not finite."""

    def report(self, trial: int, epoch: int, value: float) -> Decision | None:
        """See `search.scheduler.Scheduler.report`."""
        check_epoch(epoch)
        member = self.member(trial)
        if not finite(value):
            return self.not_finite(trial, epoch, value)
        member.status = "running"
        return None
