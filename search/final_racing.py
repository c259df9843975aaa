"""Racing: fresh seeds, a round at a time, for the configurations between which it is not decided.

What a round asks for follows from the rows of the rounds before it and from nothing else, so a job that died asks for
the same again.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from results.racing import next_seeds
from search.final_book import FinalBook
from search.final_candidates import Candidate, Key, key_of
from search.final_choice import Way, compared
from search.final_trainings import Planned, Trainings
from search.spec import FinalSettings


def race(
    rows: list[dict[str, Any]],
    candidates: Sequence[Candidate],
    *,
    trainings: Trainings,
    book: FinalBook,
    final: FinalSettings,
    way: Way,
    width: Callable[[], int],
    score_pieces: Callable[[Sequence[dict[str, Any]]], None],
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Returns the rows of the first trainings and of those that racing adds.

    Args:
        rows: of the first trainings, their pieces scored.
        candidates: whose they are.
        trainings: does what is asked for.
        book: has what is done.
        final: what the sweep asks for.
        way: how configurations are compared.
        width: how many trainings run at a time.
        score_pieces: scores models on pieces, before they are compared.
        say: told how the race ended.
    """
    if not final.racing or len(candidates) < 2:
        return rows
    if final.seeds < 2:
        say("Racing needs the spread from seed to seed, and with seeds = 1 there is none; ask for 2 or more.")
        return rows
    order = {candidate.key: candidate for candidate in candidates}
    known = _known(trainings, book, order, final)
    added, number, last = 0, 0, max((planned.round for planned in known), default=0)
    while True:
        number += 1
        left = max(0, final.racing - added)
        before = [planned for planned in known if planned.round == number][:left]
        plan, why = list(before), ""
        if number >= last:  # the rounds before it have all that they asked for
            wanted = _wanted(rows, book, way, left) if left > len(before) else []
            if left == len(before):
                why = f", as many as it may ([final] racing = {final.racing}); several configurations may be the best."
            elif not wanted:
                why = "; only one configuration may still be the best."
            elif final.wall_time_s is not None and book.spent_s >= final.wall_time_s:
                why = "; the time for trainings is used up ([final] wall_time), and several may be the best."
            else:
                plan += _fresh(wanted[: max(1, width())], known, trainings, order, final, number)
        if not plan and number >= last:
            say(f"Racing added {added} training{'' if added == 1 else 's'}{why}")
            return rows
        plan.sort(key=lambda planned: (list(order).index(planned.candidate.key), planned.index))
        made = trainings.run(plan)
        score_pieces(made)
        rows = rows + made
        added += len(plan)
        known += [planned for planned in plan if planned not in before]


def _wanted(rows: Sequence[dict[str, Any]], book: FinalBook, way: Way, count: int) -> list[Key]:
    found = compared(book.state, rows, way)
    return [] if found is None else [cast("Key", name) for name in next_seeds(found[0], count, rule=way.rule)]


def _known(trainings: Trainings, book: FinalBook, order: dict[Key, Candidate], final: FinalSettings) -> list[Planned]:
    """What racing asked for before and the ledger has, in the order of rounds."""
    found: list[Planned] = []
    rows = [row for row in book.finals("single") if row.get("round") and key_of(row) in order]
    for row in rows:
        for index in range(final.seeds, final.seeds + final.racing + len(rows)):
            planned = trainings.planned(order[key_of(row)], index, row["round"])
            if planned.seed == row["seed"]:
                found.append(planned)
    return sorted(found, key=lambda planned: planned.round)


def _fresh(
    wanted: Sequence[Key],
    known: Sequence[Planned],
    trainings: Trainings,
    order: dict[Key, Candidate],
    final: FinalSettings,
    number: int,
) -> Iterator[Planned]:
    """What a round asks for and has not begun to have; what it has need not be of its first seeds."""
    there = Counter(planned.candidate.key for planned in known if planned.round == number)
    taken = {(planned.candidate.key, planned.index) for planned in known}
    for key, count in Counter(wanted).items():
        free = (index for index in itertools.count(final.seeds) if (key, index) not in taken)
        for index in itertools.islice(free, max(0, count - there[key])):
            yield trainings.planned(order[key], index, number)
