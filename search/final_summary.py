"""What the final job says when it is done: what won, by how much, where everything lies, what to type next."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from results.choices import Choice, Contender
from search.final_ensemble import Ensemble

_WORDS = {
    "tied_cheapest": "the cheapest of those that are tied with the best",
    "one_standard_error": "the cheapest within a standard error of the best mean",
    "best_mean": "the best mean",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinalSummary:
    """What came of a final job.

    Attributes:
        objective: the metric that models were chosen by, on the validation split.
        goal: min or max.
        choice: how the configurations that were trained anew compare, and which was taken.
        kind: of the model that was taken, `single` or `ensemble`.
        ensemble: how an ensemble compares with the single model; None if there is none.
        final: number of the training whose model was taken.
        seed: of that training; None for an ensemble.
        failed: final trainings that failed, of those that the choice asked for.
        data: name of the data.
        scores: of the chosen model on the test split.
        whole_scores: of the model that is shipped in its place, trained on train and valid; empty if there is none.
        units: of the scores.
        floors: scores of models that need no training, by their names.
        openings: how often the test split has been opened in this sweep.
        openings_to_ship: those of them that were for a model trained on train and valid, by which nothing is chosen.
        samples: addresses of the chosen model's samples.
        bundle: address of the bundle; "" if the task writes no models.
        page: address of the page to decide by; "" if it could not be made.
        ledger: address of the tables.
        next_steps: lines to type.
    """

    sweep: str
    objective: str
    goal: str
    choice: Choice
    kind: str
    ensemble: Ensemble | None
    final: int
    seed: int | None
    failed: int
    data: str
    scores: Mapping[str, float]
    whole_scores: Mapping[str, float]
    units: Mapping[str, str]
    floors: Mapping[str, Mapping[str, float]]
    openings: int
    openings_to_ship: int
    samples: tuple[str, ...]
    bundle: str
    page: str
    ledger: str
    next_steps: tuple[str, ...]

    @property
    def contenders(self) -> tuple[Contender, ...]:
        """The configurations that were trained anew, the best mean first."""
        return self.choice.contenders

    def document(self) -> dict[str, Any]:
        """Returns all of it as plain values for JSON."""
        return dataclasses.asdict(self) | {"mean": self.choice.winner.mean}

    def text(self) -> str:
        """Returns it as lines for a person."""
        parts = [*self._winner(), *self._table(), *self._sureness(), *self._curse()]
        parts += [*self._as_one(), *self._failures()]
        return "\n".join(
            [*parts, *self._scores(), "", *self._places(), "", "Next:", *(f"  {s}" for s in self.next_steps)]
        )

    def _winner(self) -> Iterator[str]:
        won, count = self.choice.winner, len(self.choice.winner.scores)
        of = f"the mean of {count} trainings" if count > 1 else "one training with a fresh seed"
        before = "" if won.in_sweep is None else f"; in the sweep {won.in_sweep:.4f}"
        whose = f"Trial {won.trial} of sweep {won.source or self.sweep}"
        yield f"{whose} won: {self.objective} {won.mean:.4f} ({of}{before})."
        best = self.contenders[0]
        if best.key != won.key:
            yield (
                f"Trial {best.key} has the best mean, {best.mean:.4f}; the rule {self.choice.rule} takes "
                f"{_WORDS[self.choice.rule]}{_told_costs(won, best)}."
            )
        elif len(self.contenders) > 1:
            second = self.contenders[1]
            yield (
                f"That is {abs(second.mean - best.mean):.4f} better than trial {second.key} ({second.mean:.4f}), the "
                f"next of {len(self.contenders)} configurations that were trained anew."
            )

    def _table(self) -> Iterator[str]:
        if len(self.contenders) == 1 and self.contenders[0].interval is None:
            return
        costs = list(dict.fromkeys(name for each in self.contenders for name in each.costs))
        head = ["", "trial", "mean", "95 % interval", "sd", "behind the best", "is the best", *costs]
        rows = [head, *(self._row(each, costs) for each in self.contenders)]
        kept = [i for i, name in enumerate(head) if not name or any(row[i] not in ("", "-") for row in rows[1:])]
        widths = [max(len(row[i]) for row in rows) for i in kept]
        yield ""
        for row in rows:
            yield "  ".join(f"{row[i]:>{width}}" for i, width in zip(kept, widths, strict=True)).rstrip()
        yield ""

    def _row(self, each: Contender, costs: list[str]) -> list[str]:
        behind = "" if each is self.contenders[0] else f"{abs(each.difference):.4f}"
        if behind and each.difference_interval:
            low, high = sorted(_behind(end, self.goal) for end in each.difference_interval)
            behind += f" ({low:.4f} to {high:.4f})"
        return [
            "*" if each.chosen else "=" if each.tied else "",
            str(each.key),
            f"{each.mean:.4f}",
            "-" if each.interval is None else f"{each.interval[0]:.4f} to {each.interval[1]:.4f}",
            "-" if each.sd is None else f"{each.sd:.4f}",
            behind,
            "-" if each.chance_best is None else f"{100 * each.chance_best:.0f} %",
            *(f"{each.costs[name]:.6g}" if name in each.costs else "-" for name in costs),
        ]

    def _sureness(self) -> Iterator[str]:
        choice, several = self.choice, len(self.contenders) > 1
        tied = [str(each.key) for each in self.contenders if each.tied]
        if choice.over == "nothing" or choice.over == "pieces":
            yield "With one training each, an interval is not possible, for nobody knows what another seed would give."
            if several:
                yield "With one training each, such a difference may be luck; more seeds would tell (--seeds 3)."
        if choice.over == "nothing":
            return
        over = f"{choice.num_pieces} pieces of the validation split" if choice.num_pieces else ""
        if choice.seed_sd is not None:
            over = f"seeds (sd {choice.seed_sd:.4f} from one to the next)" + (f" and {over}" if over else "")
            yield f"Intervals are over {over}."
        if not several:
            return
        alone = f"Over {over} alone" if choice.over == "pieces" else "By that"
        if len(tied) > 1:
            yield f"{alone}, trials {', '.join(tied)} are tied (* and =): each of them may be the best."
        else:
            yield f"{alone}, no other one may be as good as trial {tied[0]}."

    def _curse(self) -> Iterator[str]:
        choice = self.choice
        if choice.promised is None or choice.found is None:
            return
        lost = _behind(choice.found - choice.promised, self.goal)
        some = "" if choice.kept == len(self.contenders) else f"{choice.kept} of "
        line = (
            f"The sweep promised {choice.promised:.4f} (mean of {some}these configurations), training anew gave "
            f"{choice.found:.4f}: {abs(lost):.4f} {_than(lost)}."
        )
        if choice.expected is not None:
            luck = _behind(choice.expected - choice.promised, self.goal)
            line += f" {abs(luck):.4f} {_than(luck)} was to be expected"
            line += ", as the best of many are also the luckiest." if luck > 0 else ": these are not the lucky ones."
        yield line

    def _as_one(self) -> Iterator[str]:
        made = self.ensemble
        if made is None:
            return
        count, span = len(made.members), ""
        if made.interval is not None:
            low, high = sorted(_behind(-end, self.goal) for end in made.interval)
            span = f" (95 % over pieces, for these two models: {low:.4f} to {high:.4f})"
        gain = _behind(made.single - made.score, self.goal)
        yield (
            f"{count} models as one: {self.objective} {made.score:.4f} against {made.single:.4f} of the single one, "
            f"{abs(gain):.4f} {'better' if gain > 0 else 'worse'}{span}; "
            f"{'it is taken' if made.better else 'the single one is taken'}."
        )
        told = [
            f"{name} {value:.6g} against {made.single_costs[name]:.6g}"
            for name, value in made.costs.items()
            if name in made.single_costs
        ]
        yield f"Each of the {count} is run for every prediction{': ' if told else ''}{', '.join(told)}."

    def _failures(self) -> Iterator[str]:
        if self.failed:
            yield f"{self.failed} final training{'s' * (self.failed > 1)} failed; the table finals says why."

    def _scores(self) -> list[str]:
        if not self.scores:
            return []
        which = ", the model trained on train alone" if self.whole_scores else ""
        lines = ["", f"On the test split{f' of {self.data}' if self.data else ''}{which}:"]
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
        looks = self.openings - self.openings_to_ship
        if looks > 1:
            lines.append(f"  The test split has been opened {looks} times in this sweep; its score flatters more.")
        if self.whole_scores:
            lines.append("The bundle holds the same configuration, trained on train and valid. It scores there:")
            lines += [
                f"  {name:<{width}}  {self.whole_scores[name]:.4f}" for name in names if name in self.whole_scores
            ]
        return lines

    def _places(self) -> list[str]:
        rows = [("bundle", self.bundle), ("page", self.page), ("tables", self.ledger)]
        rows += [("sample", sample) for sample in self.samples]
        return [f"{name:<8}{place}" for name, place in rows if place]


def _behind(difference: float, goal: str) -> float:
    """A difference such that more of it is worse."""
    return difference if goal == "min" else -difference


def _than(worse: float) -> str:
    return "worse" if worse > 0 else "better"


def _told_costs(won: Contender, best: Contender) -> str:
    told = [f"{n} {won.costs[n]:.6g} against {best.costs[n]:.6g}" for n in won.costs if n in best.costs]
    return f": {', '.join(told)}" if told else ""
