"""What a trial is given of machines: what that costs, and how many trials fit."""

from typing import Protocol


class Share(Protocol):
    """What is given to one trial, such as an attempt or `[resources]` say it."""

    @property
    def cpus(self) -> float:
        """Cores."""
        ...

    @property
    def gpus(self) -> float:
        """GPUs, fractions too."""
        ...


def priced(share: Share) -> float:
    """Returns how much of a share has the price per hour: its GPUs, or its cores if it has none."""
    return share.gpus or share.cpus


def fitting(share: Share, *, cpus: float, gpus: float) -> int:
    """Returns how many trials with such a share there is room for at a time; at least one.

    Args:
        share: of each.
        cpus: cores that there are.
        gpus: GPUs that there are.
    """
    fits = [have / each for have, each in ((cpus, share.cpus), (gpus, share.gpus)) if each]
    return max(1, int(min(fits, default=1.0) + 1e-9))
