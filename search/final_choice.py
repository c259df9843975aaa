"""Which of the configurations that were trained anew is taken, by what the sweeps know of them."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from results import choices, choosing
from results.choices import Choice, Key
from results.choosing import Promise
from search.final_candidates import Source
from search.spec import FinalRule, Goal
from search.state import SweepState

if TYPE_CHECKING:
    from results.statistics import Comparison, Cost


@dataclasses.dataclass(frozen=True, kw_only=True)
class Way:
    """How configurations are compared and one is taken.

    Attributes:
        split: whose pieces models were scored on, if they were.
        rule: how one is taken.
        costs: metrics that say what is cheap, with what is cheaper.
        as_in_sweep: whether the trainings had as many epochs as in the sweep, so that its scores compare.
        seed: of all that is drawn.
    """

    split: str
    rule: FinalRule
    costs: Sequence[tuple[str, Goal]]
    as_in_sweep: bool
    seed: int


def compared(state: SweepState, rows: Iterable[Mapping[str, Any]], way: Way) -> "tuple[Comparison, list[Cost]] | None":
    """Returns how configurations stand by their final trainings, by `Key`, and what they cost; None if none is done.

    Args:
        state: of the final job's own sweep.
        rows: of the table `finals`, the configuration that was best in its sweep first.
        way: see `Way`.
    """
    rows = list(rows)
    return choosing.compared(rows, **_terms(state, rows, way))


def choose(
    state: SweepState, rows: Sequence[Mapping[str, Any]], way: Way, *, sources: Sequence[Source]
) -> Choice | None:
    """Returns how the configurations compare by their final trainings, and which is taken; None if none was finished.

    Args:
        state: of the final job's own sweep.
        rows: of the table `finals`, the configuration that was best in its sweep first.
        way: see `Way`.
        sources: the sweeps that they are of.
    """
    promises = {
        Key(source.name, trial.trial): Promise(
            math.nan if (value := source.state.best_value(trial.trial)) is None else value,
            # What a trial that was cut short has reached is no promise of what all its epochs would give.
            fair=way.as_in_sweep and trial.state == "completed",
        )
        for source in sources
        for trial in source.state.ranked()
    }
    return choosing.choose(rows, promises, rule=way.rule, **_terms(state, rows, way))


def written(state: SweepState, choice: Choice) -> list[dict[str, Any]]:
    """Returns the rows of the table `choices` that say what was chosen; none if the last ones say it already."""
    newest = max((row["choice"] for row in state.choices), default=-1)
    known = [row for row in state.choices if row["choice"] == newest]
    rows = choices.rows(choice, newest)
    if len(rows) == len(known) and all(
        all(old.get(name) == value for name, value in row.items()) for row, old in zip(rows, known, strict=True)
    ):
        return []
    return choices.rows(choice, newest + 1)


def _terms(state: SweepState, rows: Sequence[Mapping[str, Any]], way: Way) -> dict[str, Any]:
    return {
        "objective": state.objective,
        "goal": state.goal,
        "pieces": {row["final"]: state.piece_scores(row["final"], way.split) for row in rows},
        "costs": way.costs,
        "seed": way.seed,
    }
