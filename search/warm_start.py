"""What a sweep learns from earlier ones.

It is kept in the sweep's own folder, so that a later session is told the same, whatever has become of them: they may
have gone on, or be gone.
"""

import dataclasses
import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from results.ledger import Ledger
from results.schema import SweepSchema
from results.storage import Storage
from search.checkpoints import SPEC_FILE
from search.errors import SpecError, SweepError
from search.searcher import Searcher, State
from search.spec import SweepSpec
from search.state import SweepState

_log = logging.getLogger(__name__)

FILE = "warm_start.json"
"""Lies in the folder of a sweep that names others; one that began with an older version has none."""

ENDINGS: Mapping[str, State] = {"completed": "completed", "stopped": "stopped"}
"""The states that there is something to learn from."""


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """A trial of an earlier sweep.

    Attributes:
        values: its configuration.
        state: how it ended.
        results: the objectives at its best epoch, as measured; finite.
        curve: epoch -> first objective, where it was finite.
    """

    values: Mapping[str, Any]
    state: State
    results: Sequence[float]
    curve: Mapping[int, float]


def teacher(uri: str, schema: SweepSchema) -> Ledger:
    """Returns the ledger of a sweep to learn from.

    Raises:
        SpecError: there is none, or it does not measure what the sweep of this schema looks for.
    """
    storage = Storage(uri)
    ledger = Ledger(storage)
    if not ledger.exists:
        raise SpecError(f"warm_start: there is no sweep at {storage.uri}; give the folder of one, such as runs/laptop")
    missing = [name for name, _ in schema.objectives if name not in ledger.schema.metrics]
    if missing:
        raise SpecError(f"warm_start: the sweep at {storage.uri} does not measure {', '.join(missing)}")
    return ledger


def lessons(spec: SweepSpec, storage: Storage, schema: SweepSchema) -> list[Lesson]:
    """Returns what a sweep has learnt from others when it began, or if it has not begun, what there is to learn now.

    Args:
        spec: of the sweep.
        storage: its folder.
        schema: of its ledger.

    Raises:
        SpecError: a sweep to learn from does not serve.
        SweepError: what was kept is damaged.
    """
    if is_kept(spec, storage):
        return _kept(storage)
    return [lesson for uri in spec.warm_start for lesson in _lessons_of(uri, schema)]


def is_kept(spec: SweepSpec, storage: Storage) -> bool:
    """Whether the sweep in a folder has begun and kept what it has learnt from others."""
    return bool(spec.warm_start) and storage.exists(SPEC_FILE) and storage.exists(FILE)


def keep(storage: Storage, taught: Iterable[Lesson]) -> None:
    """Writes what a sweep has learnt into its folder; to be called before it begins."""
    document = [dataclasses.asdict(lesson) for lesson in taught]
    storage.write(FILE, (json.dumps(document, allow_nan=False) + "\n").encode())


def learn(searcher: Searcher, taught: Sequence[Lesson]) -> None:
    """Tells a new searcher; trials that are no configurations of its space are left out."""
    known = [searcher.learn(each.values, each.state, each.results, each.curve) for each in taught]
    if known:
        _log.info("warm start: %d of %d trials fit the space", sum(known), len(known))


def _lessons_of(uri: str, schema: SweepSchema) -> Iterator[Lesson]:
    ledger = teacher(uri, schema)
    old = SweepState(dataclasses.replace(ledger.schema, objectives=schema.objectives)).replay(ledger.events())
    sign = -1.0 if old.goal == "max" else 1.0
    for trial in old.ended:
        results = () if trial.best_epoch is None else old.results(trial.trial, trial.best_epoch)
        if trial.state in ENDINGS and results and all(map(math.isfinite, results)):
            losses = old.losses(trial.trial).items()
            curve = {epoch: sign * loss for epoch, loss in losses if math.isfinite(loss)}
            yield Lesson(values=trial.values, state=ENDINGS[trial.state], results=results, curve=curve)


def _kept(storage: Storage) -> list[Lesson]:
    try:
        return [
            Lesson(
                values=row["values"],
                state=ENDINGS[row["state"]],
                results=tuple(row["results"]),
                curve={int(epoch): value for epoch, value in row["curve"].items()},
            )
            for row in json.loads(storage.read(FILE))
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SweepError(
            f"{storage.where(FILE)} is damaged ({error!r}); it holds what the sweep had learnt from others when it "
            "began. Bring it back, or remove it to learn from them as they are now"
        ) from error
