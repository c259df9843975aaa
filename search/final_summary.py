"""What the final job says when it is done: what won, by how much, where everything lies, what to type next."""

import dataclasses
import statistics
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contender:
    """A configuration that was trained anew.

    Attributes:
        trial: whose it is.
        in_sweep: the first objective that the trial reached in the sweep.
        scores: the first objective of each final training, at its best epoch.
    """

    trial: int
    values: Mapping[str, Any]
    in_sweep: float
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean of `scores`, by which a model is chosen."""
        return statistics.fmean(self.scores)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinalSummary:
    """What came of a final job.

    Attributes:
        objective: the metric that models were chosen by, on the validation split.
        goal: min or max.
        contenders: the best first; the first one won.
        final: number of the training whose model was taken.
        seed: of that training.
        failed: final trainings that failed.
        data: name of the data.
        scores: of the chosen model on the test split.
        units: of the scores.
        floors: scores of models that need no training, by their names.
        openings: how often the test split has been opened in this sweep.
        samples: addresses of the chosen model's samples.
        bundle: address of the bundle; "" if the task writes no models.
        ledger: address of the tables.
        next_steps: lines to type.
    """

    sweep: str
    objective: str
    goal: str
    contenders: tuple[Contender, ...]
    final: int
    seed: int
    failed: int
    data: str
    scores: Mapping[str, float]
    units: Mapping[str, str]
    floors: Mapping[str, Mapping[str, float]]
    openings: int
    samples: tuple[str, ...]
    bundle: str
    ledger: str
    next_steps: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Returns all of it as plain values for JSON."""
        return dataclasses.asdict(self) | {"mean": self.contenders[0].mean}

    def text(self) -> str:
        """Returns it as lines for a person."""
        return "\n".join(
            [*self._winner(), *self._scores(), "", *self._places(), "", "Next:", *(f"  {s}" for s in self.next_steps)]
        )

    def _winner(self) -> list[str]:
        best, *others = self.contenders
        count = len(best.scores)
        of = f"the mean of {count} trainings" if count > 1 else "one training with a fresh seed"
        lines = [
            f"Trial {best.trial} of sweep {self.sweep} won: {self.objective} {best.mean:.4f} ({of}; in the sweep "
            f"{best.in_sweep:.4f})."
        ]
        if others:
            second = others[0]
            lines.append(
                f"That is {abs(second.mean - best.mean):.4f} better than trial {second.trial} ({second.mean:.4f}), the "
                f"next of {len(self.contenders)} configurations that were trained anew."
            )
            if count == 1:
                lines.append(
                    "With one training each, such a difference may be luck; more seeds would tell (--seeds 3)."
                )
        if self.failed:
            lines.append(f"{self.failed} final training{'s' * (self.failed > 1)} failed; the table finals says why.")
        return lines

    def _scores(self) -> list[str]:
        if not self.scores:
            return []
        lines = ["", f"On the test split{f' of {self.data}' if self.data else ''}:"]
        names = [name for name in self.scores if not name.endswith(("_low", "_high"))]
        width = max(map(len, names))
        for name in names:
            low, high = self.scores.get(f"{name}_low"), self.scores.get(f"{name}_high")
            span = f"  95 %: {low:.4f} to {high:.4f}" if low is not None and high is not None else ""
            floors = [f"{floor} {values[name]:.4f}" for floor, values in self.floors.items() if name in values]
            beside = f"  ({', '.join(floors)})" if floors else ""
            unit = self.units.get(name, "")
            lines.append(f"  {name:<{width}}  {self.scores[name]:.4f} {unit}{span}{beside}".rstrip())
        if self.floors:
            lines.append("  In brackets: models that need no training.")
        if self.openings > 1:
            lines.append(
                f"  The test split has been opened {self.openings} times in this sweep; its score flatters more."
            )
        return lines

    def _places(self) -> list[str]:
        rows = [("bundle", self.bundle), ("tables", self.ledger)]
        rows += [("sample", sample) for sample in self.samples]
        return [f"{name:<8}{place}" for name, place in rows if place]
