"""A stand-in for training, made of recorded learning curves: a configuration in, a curve out, in microseconds.

Curves are described by their mean and three principal components. Each component is a Gaussian process of the
configuration, whose length scales (one a parameter, that of a parameter without effect grows long) and noise are fitted
by marginal likelihood under a weak prior. A trial's curve is the process's mean, plus a draw of the fitted noise (which
stands for the seed, and for all that the model cannot explain), plus what the components leave over, drawn epoch by
epoch. The space is read off the recordings: ranges and options as far as they were seen, and a parameter that is empty
exactly where another has certain values hangs on that one.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy import linalg, optimize, stats

COMPONENTS = 3
MAX_OPTIONS = 8


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """Configurations with their curves.

    Attributes:
        points: parameter -> value, without what is inactive.
        curves: `[points, epochs]`, lower is better.
        source: where they are from.
    """

    points: list[dict[str, Any]]
    curves: np.ndarray
    source: str


def load(place: str) -> Recorded:
    """Returns the whole curves of a CSV file, as `record_curves.py` writes it, or of a sweep's folder."""
    if place.endswith(".csv"):
        with open(place, newline="") as file:
            rows = list(csv.DictReader(file))
        epochs = [column for column in rows[0] if column.isdigit()]
        whole = [row for row in rows if all(row[epoch] for epoch in epochs)]
        points = [
            {k.removeprefix("config."): _value(v) for k, v in row.items() if k.startswith("config.") and v}
            for row in whole
        ]
        curves = [[float(row[epoch]) for epoch in epochs] for row in whole]
        return Recorded(points=points, curves=np.array(curves), source=Path(place).name)
    from results.ledger import Ledger
    from results.storage import Storage
    from search import recordings

    read = recordings.read(Ledger(Storage(place)))
    long = [trial for trial in read.trials if len(trial.curve.losses) == read.max_epochs]
    return Recorded(
        points=[dict(trial.values) for trial in long],
        curves=np.array([trial.curve.losses for trial in long]),
        source=read.sweep,
    )


def _value(text: str) -> Any:
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


class Surrogate:
    """The stand-in; see the module.

    Args:
        recorded: what it is made of; at least 20 curves.
    """

    def __init__(self, recorded: Recorded):
        self._points, curves = recorded.points, recorded.curves
        self.epochs = curves.shape[1]
        self._names = list(dict.fromkeys(name for point in recorded.points for name in point))
        self._seen = {n: [p[n] for p in recorded.points if n in p] for n in self._names}
        self._parents = {name: self._parent(name) for name in self._names}
        self._mean = curves.mean(axis=0)
        _, _, axes = np.linalg.svd(curves - self._mean, full_matrices=False)
        self._axes = axes[:COMPONENTS]
        scores = (curves - self._mean) @ self._axes.T
        self._left_over = (curves - self._mean - scores @ self._axes).std(axis=0)
        table = np.array([self._encoded(point) for point in recorded.points])
        self._processes = [_Process(table, column, self._groups) for column in scores.T]
        self._scores = scores

    def space(self, hp: Any) -> None:
        """Declares the space as far as it was seen."""
        for name in self._names:
            if self._parents[name] is None:
                self._declare(hp, name)
        for name in self._names:
            if (parent := self._parents[name]) is not None:
                with hp.conditional_scope(parent[0], parent[1]):
                    self._declare(hp, name)

    def expected(self, values: Mapping[str, Any]) -> np.ndarray:
        """Returns the curve without noise, `[epochs]`."""
        return self._expected(np.array([self._encoded(values)]))[0]

    def expected_of(self, points: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Returns the curves of many configurations without noise, `[points, epochs]`."""
        return self._expected(np.array([self._encoded(point) for point in points]))

    def curve(self, values: Mapping[str, Any], rng: np.random.Generator) -> np.ndarray:
        """Returns a curve as one training might give it, `[epochs]`."""
        noise = np.array([process.noise * rng.standard_normal() for process in self._processes])
        return self.expected(values) + noise @ self._axes + self._left_over * rng.standard_normal(self.epochs)

    def quality(self) -> dict[str, float]:
        """Returns how well the last value of a recorded curve is told from all others (leave one out)."""
        scores = np.column_stack([process.left_out() for process in self._processes])
        last = (self._mean + scores @ self._axes)[:, -1]
        true = (self._mean + self._scores @ self._axes)[:, -1]
        rank = stats.spearmanr(last, true).statistic
        return {"r2": 1 - float(np.mean((last - true) ** 2) / np.var(true)), "rank_correlation": float(rank)}

    def noise_of_last(self) -> float:
        """Returns the standard deviation that a curve's last value has around the expected one."""
        parts = [process.noise * axis[-1] for process, axis in zip(self._processes, self._axes, strict=True)]
        return float(np.sqrt(np.sum(np.square(parts)) + self._left_over[-1] ** 2))

    def _expected(self, table: np.ndarray) -> np.ndarray:
        return self._mean + np.column_stack([process.mean(table) for process in self._processes]) @ self._axes

    def _parent(self, name: str) -> tuple[str, list[Any]] | None:
        has = [name in point for point in self._points]
        if all(has):
            return None
        for other in self._names:
            if other == name or not all(other in point for point in self._points):
                continue
            inside = {point[other] for point, there in zip(self._points, has, strict=True) if there}
            outside = {point[other] for point, there in zip(self._points, has, strict=True) if not there}
            if not inside & outside:
                return other, sorted(inside)
        raise ValueError(f"{name!r} is empty at some points, and no other parameter says where")

    def _options(self, name: str) -> list[Any] | None:
        found = sorted(set(self._seen[name]))
        return found if len(found) <= MAX_OPTIONS else None

    def _declare(self, hp: Any, name: str) -> None:
        if (found := self._options(name)) is not None:
            hp.Choice(name, found)
        else:
            low, high = min(self._seen[name]), max(self._seen[name])
            kind = hp.Int if isinstance(low, int) else hp.Float
            kind(name, low, high, sampling="log" if low > 0 and high > 20 * low else "linear")

    @cached_property
    def _groups(self) -> np.ndarray:
        """For each column of the encoding, the number of its parameter."""
        return np.array([i for i, name in enumerate(self._names) for _ in self._columns(name, None)])

    def _encoded(self, values: Mapping[str, Any]) -> list[float]:
        return [x for name in self._names for x in self._columns(name, values.get(name))]

    def _columns(self, name: str, value: Any) -> list[float]:
        found = self._options(name)
        if found is not None and isinstance(found[0], str):
            return [float(value == option) for option in found]
        if value is None:
            return [0.5]
        if found is not None:
            return [found.index(value) / max(1, len(found) - 1)]
        low, high = min(self._seen[name]), max(self._seen[name])
        if low > 0 and high > 20 * low:
            low, high, value = np.log(low), np.log(high), np.log(value)
        return [float((value - low) / (high - low))]


class _Process:
    """A Gaussian process with one length scale a parameter."""

    def __init__(self, table: np.ndarray, target: np.ndarray, groups: np.ndarray):
        self._table, self._groups = table, groups
        self._offset, self._spread = float(target.mean()), float(target.std())
        self._target = (target - self._offset) / self._spread
        number = int(groups.max()) + 1
        start = np.concatenate([np.full(number, np.log(1.5)), [np.log(1.0), np.log(0.3)]])
        found = optimize.minimize(
            self._cost, start, method="L-BFGS-B", bounds=[(-2.5, 4.0)] * number + [(-3, 3), (-4, 0.5)]
        )
        self._set(found.x)
        self.noise = float(np.exp(found.x[-1])) * self._spread

    def mean(self, table: np.ndarray) -> np.ndarray:
        return self._offset + self._spread * (self._kernel(table, self._table) @ self._weights)

    def left_out(self) -> np.ndarray:
        inverse = linalg.cho_solve(self._factor, np.eye(len(self._target)))
        return self._offset + self._spread * (self._target - self._weights / np.diag(inverse))

    def _set(self, logs: np.ndarray) -> None:
        self._scales, self._height = np.exp(logs[:-2]), np.exp(2 * logs[-2])
        covariance = self._kernel(self._table, self._table) + (np.exp(2 * logs[-1]) + 1e-8) * np.eye(len(self._table))
        self._factor = linalg.cho_factor(covariance, lower=True)
        self._weights = linalg.cho_solve(self._factor, self._target)

    def _kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        scales = self._scales[self._groups]
        a, b = a / scales, b / scales
        squared = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
        return self._height * np.exp(-0.5 * np.maximum(squared, 0))

    def _cost(self, logs: np.ndarray) -> float:
        self._set(logs)
        fit = 0.5 * self._target @ self._weights + np.log(np.diag(self._factor[0])).sum()
        return float(
            fit + 0.5 * np.sum(((logs[:-2] - np.log(1.5)) / 1.0) ** 2) + 0.5 * ((logs[-1] - np.log(0.3)) / 1.0) ** 2
        )
