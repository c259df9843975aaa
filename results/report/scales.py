"""Scales: where a value stands on an axis, and which ticks the axis has."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from results.report.markup import number

MOST_STEPS = 7
"""A number with at most so many different values is drawn like a choice: evenly spaced, each with its own tick."""
LOG_FROM = 8.0
"""Positive values whose greatest is so many times the smallest are drawn on a logarithmic scale."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """An axis from 0 to 1.

    Attributes:
        kind: `linear`, `log` or `steps`.
        low: value at 0; not for steps.
        high: value at 1; not for steps.
        steps: the values of `steps`, in their order.
        ticks: positions in [0, 1] with their labels.
    """

    kind: str
    low: float = 0.0
    high: float = 1.0
    steps: tuple[Any, ...] = ()
    ticks: tuple[tuple[float, str], ...] = ()

    def at(self, value: Any) -> float | None:
        """Returns where a value stands, beyond 0 or 1 if it is out of the range; None if it has no place."""
        if self.kind == "steps":
            return _even(self.steps.index(value), len(self.steps)) if value in self.steps else None
        if value is None or not math.isfinite(value) or (self.kind == "log" and value <= 0):
            return None
        return _share(value, self.low, self.high, self.kind)


def scale(values: Sequence[Any]) -> Scale:
    """Returns the scale that suits values; None and what is not finite counts as no value."""
    known = {v for v in values if v is not None and not (isinstance(v, float) and not math.isfinite(v))}
    texts = any(isinstance(v, str | bool) for v in known)
    if texts or len(known) <= MOST_STEPS:
        steps = tuple(sorted(known, key=lambda v: (str(type(v)), v) if texts else v))
        ticks = tuple((_even(i, len(steps)), number(v)) for i, v in enumerate(steps))
        return Scale(kind="steps", steps=steps, ticks=ticks)
    low, high = float(min(known)), float(max(known))
    kind = "log" if low > 0 and high / low >= LOG_FROM else "linear"
    return between(low, high, kind)


def between(low: float, high: float, kind: str = "linear", ticks: int = 5) -> Scale:
    """Returns the scale from one value to another."""
    if not high > low:
        low, high = low - 0.5, high + 0.5
    marks = _decades(low, high) if kind == "log" else _round_numbers(low, high, ticks)
    placed = tuple((_share(v, low, high, kind), number(v)) for v in marks)
    return Scale(kind=kind, low=low, high=high, ticks=placed)


def _even(place: int, of: int) -> float:
    return (place + 0.5) / of if of else 0.5


def _share(value: float, low: float, high: float, kind: str) -> float:
    if kind == "log":
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / (high - low) if high > low else 0.5


def _round_numbers(low: float, high: float, about: int) -> list[float]:
    raw = (high - low) / max(about - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw), 10 * power)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{i * step:.10g}") for i in range(first, last + 1)]


def _decades(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    leads = (1,) if last - first > 3 else (1, 3) if last - first > 1 else (1, 2, 5)
    marks = [lead * 10.0**power for power in range(first, last + 1) for lead in leads]
    return [m for m in marks if low * 0.999 <= m <= high * 1.001]
