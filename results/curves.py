"""Learning curves: a metric over the epochs of trials, as lines of blocks in a terminal or as a picture."""

import dataclasses
import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from results.errors import CallerError, LedgerError
from results.leaderboard import objective
from results.opening import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLOCKS = "▁▂▃▄▅▆▇█"
PICTURES = (".png", ".svg", ".pdf")
_MOST_LABELS = 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
    """A metric of a trial.

    Attributes:
        id: `sweep/number`.
        state: of the trial.
        epochs: numbers, rising.
        values: of the metric, one an epoch; NaN where there is none.
    """

    id: str
    state: str
    epochs: tuple[int, ...]
    values: tuple[float, ...]

    def best(self, goal: str) -> float:
        """Returns the best finite value; NaN if there is none."""
        finite = [value for value in self.values if math.isfinite(value)]
        return (min if goal == "min" else max)(finite, default=math.nan)


def curves(results: Results, metric: str | None = None, ids: Sequence[str] | None = None) -> list[Curve]:
    """Returns the learning curves of trials.

    Args:
        results: the sweeps.
        metric: what an epoch returned; None: the first objective.
        ids: `sweep/number` of the trials, in the order wanted; None: all trials that have an epoch.

    Raises:
        QueryError: no metric of that name.
        LedgerError: no epoch has ended yet.
    """
    metric, _ = objective(results, metric, "min" if metric else None)
    tables = results.tables({"epochs": ["sweep", "trial", "epoch", metric], "trials": ["sweep", "trial", "state"]})
    rows = tables["epochs"]
    if not len(rows):
        raise LedgerError(
            f"{', '.join(s.name for s in results.sweeps)}: no epoch has ended yet, so there are no curves"
        )
    names = pc.binary_join_element_wise(rows["sweep"], pc.cast(rows["trial"], pa.string()), "/")
    if ids is not None:
        kept = pc.is_in(names, value_set=pa.array(list(ids), pa.string()))
        rows, names = rows.filter(kept), names.filter(kept)
    points: dict[str, dict[int, float]] = defaultdict(dict)
    for name, epoch, value in zip(names.to_pylist(), rows["epoch"].to_pylist(), rows[metric].to_pylist(), strict=True):
        points[name][epoch] = math.nan if value is None else value
    states = {f"{row['sweep']}/{row['trial']}": row["state"] for row in tables["trials"].to_pylist()}
    return [
        Curve(
            id=name,
            state=states.get(name, ""),
            epochs=tuple(sorted(points[name])),
            values=tuple(points[name][epoch] for epoch in sorted(points[name])),
        )
        for name in (points if ids is None else ids)
        if name in points
    ]


def sparkline(values: Sequence[float], width: int = 24, low: float | None = None, high: float | None = None) -> str:
    """Returns values as blocks of eight heights, a higher block for a higher value.

    Args:
        values: in their order; one that is not finite is shown as `×`.
        width: longer curves are thinned to so many blocks: each shows the mean of its values.
        low: what the lowest block stands for; None: the lowest value. Lower values are shown as the lowest block.
        high: what the highest block stands for; None: the highest value.
    """
    if len(values) > width:
        edges = [round(i * len(values) / width) for i in range(width + 1)]
        values = [_mean(values[a:b]) for a, b in itertools.pairwise(edges)]
    finite = [value for value in values if math.isfinite(value)]
    low = min(finite, default=0.0) if low is None else low
    high = max(finite, default=0.0) if high is None else high
    span = high - low

    def block(value: float) -> str:
        if not math.isfinite(value):
            return "×"
        share = (value - low) / span if span > 0 else 0.5
        return BLOCKS[min(max(int(share * len(BLOCKS)), 0), len(BLOCKS) - 1)]

    return "".join(map(block, values))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def plot(found: Sequence[Curve], metric: str, unit: str = "") -> "Figure":
    """Returns a figure of curves; stopped trials end in a dot, failed ones in a cross.

    Args:
        found: the curves; the first dozen have a label.
        metric: its name, for the axis.
        unit: of the metric.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    marks = {"stopped": "o", "failed": "x"}
    for i, curve in enumerate(found):
        labelled = i < _MOST_LABELS
        (line,) = axes.plot(
            curve.epochs,
            curve.values,
            label=curve.id if labelled else None,
            linewidth=1.6 if labelled else 0.6,
            alpha=1.0 if labelled else 0.4,
        )
        if curve.state in marks:
            axes.plot(curve.epochs[-1:], curve.values[-1:], marks[curve.state], color=line.get_color(), markersize=4)
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"{metric} ({unit})" if unit else metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    if found:
        axes.legend(frameon=False, fontsize="small", ncols=2)
    return figure


def save(figure: "Figure", path: Path) -> None:
    """Writes a figure, whole or not at all; the ending of `path` chooses PNG, SVG or PDF.

    Raises:
        CallerError: another ending.
        StorageError: the place cannot be written.
    """
    import io

    from results.output import write_whole

    if path.suffix.lower() not in PICTURES:
        raise CallerError(f"{path}: expected a name that ends in {', '.join(PICTURES)}")
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix.lower()[1:], dpi=150)
    write_whole(path, buffer.getvalue())
