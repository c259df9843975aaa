"""Several final models as one: made, scored on the pieces of valid, and taken if that is better than the single one."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from search.crews import Crew
from search.final_book import FinalBook
from search.final_models import combine
from search.final_trainings import ENSEMBLE
from search.final_work import Place, model_folder
from search.task import VALID

if TYPE_CHECKING:
    from results.statistics import Pieces


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ensemble:
    """An ensemble beside the model that it would replace.

    Attributes:
        final: its number.
        members: numbers of the models that it is made of.
        score: the first objective on valid.
        single: that of the model chosen without it.
        difference: `score` less `single`.
        interval: 95 % interval of that over pieces, for these two models; None if there are too few.
        better: whether it is taken.
        costs: what it takes to run, where the task has measured that.
        single_costs: the same of the single model.
    """

    final: int
    members: tuple[int, ...]
    score: float
    single: float
    difference: float
    interval: tuple[float, float] | None
    better: bool
    costs: Mapping[str, float]
    single_costs: Mapping[str, float]


def make(
    members: Sequence[Mapping[str, Any]],
    *,
    book: FinalBook,
    crew: Crew,
    place: Place,
    costs: Sequence[str],
    seed: int,
    say: Callable[[str], None],
) -> tuple[dict[str, Any], Ensemble] | None:
    """Returns the row of an ensemble and how it compares; None if there is none, which is said.

    Args:
        members: rows of `finals`, the model that was chosen first.
        book: has what is done.
        crew: does the work.
        place: of the work.
        costs: metrics that say what is cheap.
        seed: of all that is drawn.
        say: told why there is none.
    """
    if len(members) < 2:
        say("An ensemble needs two models, and there is one; the single model is taken.")
        return None
    if not book.state.piece_scores(members[0]["final"], VALID):
        say("An ensemble is compared piece by piece, and the pieces of the chosen model could not be scored.")
        return None
    foreign = next((row for row in members if not _explained(row, book)), None)
    if foreign is not None:
        say(
            f"An ensemble is compared by the pieces, and those of final {foreign['final']} do not explain its "
            f"{book.state.objective} ({foreign[book.state.objective]:.4g}): their mean by weight is "
            f"{_mean(book.state.piece_scores(foreign['final'], VALID)):.4g}. They are scores of something else; the "
            "single model is taken."
        )
        return None
    numbers = tuple(row["final"] for row in members)
    told = ", ".join(map(str, numbers))
    row = next((row for row in book.finals(ENSEMBLE) if row["members"] == told), None)
    if row is None:
        row = _made(members, told, book, crew, place, say)
        if row is None:
            return None
    from results.statistics import difference

    best = members[0]
    sign = -1.0 if book.state.goal == "max" else 1.0
    objective = book.state.objective
    pieces = [book.state.piece_scores(each["final"], VALID) for each in (row, best)]
    apart, interval = difference(*pieces, seed=seed)
    return row, Ensemble(
        final=row["final"],
        members=numbers,
        score=row[objective],
        single=best[objective],
        difference=apart,
        interval=interval,
        better=sign * apart < 0,
        **{
            name: {cost: each[cost] for cost in costs if each.get(cost) is not None}
            for name, each in (("costs", row), ("single_costs", best))
        },
    )


def _explained(row: Mapping[str, Any], book: FinalBook) -> bool:
    """Whether a model's pieces, if they were scored, are its first objective piece by piece, and not another score."""
    from results.statistics import AS_ONE

    pieces, score = book.state.piece_scores(row["final"], VALID), row[book.state.objective]
    return not pieces or abs(_mean(pieces) - score) <= AS_ONE * abs(score)


def _mean(pieces: "Pieces") -> float:
    """The mean by weight."""
    weight = sum(weight for _, weight in pieces.values())
    return sum(value * weight for value, weight in pieces.values()) / weight if weight else math.nan


def _made(
    members: Sequence[Mapping[str, Any]],
    told: str,
    book: FinalBook,
    crew: Crew,
    place: Place,
    say: Callable[[str], None],
) -> dict[str, Any] | None:
    number = book.free_numbers(1)[0]
    out = model_folder(number)
    work = {"models": [row["model"] for row in members], "out": out, "split": VALID}
    for _, message in crew.run(combine, [((place,), work)]):
        if "failed" in message:
            say(f"The ensemble of finals {told} could not be made: {message['failed']}; the single model is taken.")
        elif "result" in message:
            return _written(members[0], told, number, out, message["result"], book)
    return None


def _written(
    first: Mapping[str, Any], told: str, number: int, out: str, result: Mapping[str, Any], book: FinalBook
) -> dict[str, Any]:
    pieces = result["pieces"]
    copied = ("trial", "source", "data", "data_fingerprint")
    row = {
        "final": number,
        "kind": ENSEMBLE,
        "members": told,
        "round": 0,
        "seed": None,
        "state": "completed",
        "reason": "",
        "chosen": False,
        "model": out,
        **{name: first[name] for name in copied},
        **{name: value for name, value in first.items() if name.startswith("config.")},
        **{name: value for name, value in result["costs"].items() if name in book.state.schema.metrics},
        book.state.objective: _mean(pieces),
    }
    book.note_all([*book.piece_rows(number, VALID, pieces), ("finals", row)])
    return row
