"""The final job's trainings: which there are to be, and those that are not done yet, done side by side."""

import contextlib
import dataclasses
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from results.errors import StorageError
from results.opening import typed
from results.storage import Storage
from search import stopping, sweep_file
from search.checkpoints import SPEC_FILE, folder_of
from search.crews import Crew
from search.errors import SweepStopped
from search.final_book import FinalBook
from search.final_candidates import Candidate, fresh_seed
from search.final_work import FOLDER, Place, Training, train
from search.spec import SweepSpec

_log = logging.getLogger(__name__)

SINGLE, WHOLE, ENSEMBLE = "single", "whole", "ensemble"
"""Kinds of final models: trained on train; on train and valid; several as one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinalTrainingDone:
    """A final training that has a row, for those who watch.

    Attributes:
        done: how many are done, this one included.
        total: of how many.
    """

    row: Mapping[str, Any]
    done: int
    total: int


OnEpoch = Callable[[int, int, Mapping[str, float]], None]
"""Called after each epoch of a final training: its number, the epoch, the metrics."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Planned:
    """A training that there is to be.

    Attributes:
        candidate: whose configuration it has.
        seed: of everything that it draws.
        index: which of the configuration's fresh seeds that is, from 0.
        round: of racing that asks for it; 0 for the seeds that all are given.
        kind: `SINGLE` or `WHOLE`.
        until: the epoch after which it ends; None for the end of its schedule.
    """

    candidate: Candidate
    seed: int
    index: int = 0
    round: int = 0
    kind: str = SINGLE
    until: int | None = None


def stop_if_asked(storage: Storage, *, is_known: bool = False) -> None:
    """Returns if the final job may go on.

    Args:
        storage: of the sweep.
        is_known: a training has told that it was asked to stop; otherwise it is looked for.

    Raises:
        SweepStopped: it was asked to stop.
    """
    with contextlib.suppress(StorageError):
        is_known = is_known or stopping.is_requested(storage, "user")
    if is_known:
        raise SweepStopped(f"the final job was stopped; `search final {typed(storage)}` goes on with it")


class Trainings:
    """Does a final job's trainings, each once; what the ledger has is not done again."""

    def __init__(
        self,
        *,
        spec: SweepSpec,
        book: FinalBook,
        storage: Storage,
        crew: Crew,
        on_epoch: OnEpoch | None = None,
        on_training: Callable[[FinalTrainingDone], None] | None = None,
    ):
        """Takes what it works with; see `search.final_job.FinalJob`."""
        self._spec, self._book, self._storage, self._crew = spec, book, storage, crew
        self._on_epoch, self._on_training = on_epoch, on_training
        self._objective, self._minimize = book.state.objective, book.state.goal != "max"
        self.epochs = spec.final.epochs or spec.epochs
        self.place = Place(
            storage=storage.uri,
            task=spec.task,
            options=dict(spec.options),
            folder=spec.folder,
            checkpoint_s=spec.checkpoints.every_s,
        )

    def planned(self, candidate: Candidate, index: int, number: int = 0) -> Planned:
        """Returns the training of a configuration with one of its fresh seeds, counted from 0, in a round of racing."""
        seed = fresh_seed(self._spec.seed, candidate.key, self.epochs, index)
        return Planned(candidate=candidate, seed=seed, index=index, round=number)

    def run(self, plan: Sequence[Planned]) -> list[dict[str, Any]]:
        """Returns one row a training, in their order, after those that were not done have been.

        Raises:
            SweepStopped: it was asked to stop; all trainings have saved.
        """
        assert len({(each.candidate.key, each.seed, each.kind) for each in plan}) == len(plan), "a training twice"
        rows: dict[int, dict[str, Any]] = {}
        numbers: dict[int, int] = {}
        for place, each in enumerate(plan):
            row = self._book.training(each.candidate.key, each.seed, each.kind)
            if row is not None:
                numbers[place] = row["final"]
                if row["state"] == "completed":
                    rows[place] = row
        fresh = [place for place in range(len(plan)) if place not in numbers]
        numbers |= dict(zip(fresh, self._book.free_numbers(len(fresh)), strict=True))
        left = [place for place in range(len(plan)) if place not in rows]
        trainings = [self._training(plan[place], numbers[place]) for place in left]
        if trainings:
            # Workers take a folder without it for one whose disk went away.
            asked = json.dumps(sweep_file.document(self._spec), indent=1) + "\n"
            self._storage.write(f"{FOLDER}/{SPEC_FILE}", asked.encode())
        spent, began, stopped = self._book.spent_s, time.monotonic(), False
        for index, message in self._crew.run(train, [((self.place, t), {}) for t in trainings]):
            place, training = left[index], trainings[index]
            if "epoch" in message:
                if self._on_epoch is not None:
                    self._on_epoch(training.final, message["epoch"], message["metrics"])
                continue
            if message.get("reason_kind") == "user":
                stopped = True  # the others are asked too, and save
                continue
            rows[place] = self._write(plan[place], training, message, spent + time.monotonic() - began)
            if self._on_training is not None:
                self._on_training(FinalTrainingDone(row=rows[place], done=len(rows), total=len(plan)))
        stop_if_asked(self._storage, is_known=stopped)
        return [rows[place] for place in sorted(rows)]

    def _training(self, planned: Planned, number: int) -> Training:
        return Training(
            final=number,
            values=planned.candidate.values,
            seed=planned.seed,
            epochs=self.epochs,
            objective=self._objective,
            minimize=self._minimize,
            until=planned.until,
            whole=planned.kind == WHOLE,
        )

    def _write(self, planned: Planned, training: Training, message: Mapping[str, Any], job_s: float) -> dict[str, Any]:
        result, key = message.get("result"), planned.candidate.key
        row: dict[str, Any] = {
            "final": training.final,
            "trial": key.trial,
            "source": key.source,
            "kind": planned.kind,
            "members": "",
            "round": planned.round,
            "seed": training.seed,
            "state": "failed" if result is None else "completed",
            "reason": "" if result is not None else message["failed"],
            "epochs": 0,
            "chosen": False,
            "model": "",
            "data": self._book.data[0],
            "data_fingerprint": self._book.data[1],
            "job_s": job_s,
            **self.configuration(planned.candidate.values),
        }
        if result is None:
            _log.warning("final training %d failed: %s", training.final, message["failed"])
        else:
            history = result["history"]
            row |= {"epochs": len(history), "model": result["model"], "train_s": result["train_s"]}
            if planned.kind == WHOLE:  # its metrics are of pieces that it was trained on: they are no scores
                row["best_epoch"] = len(history)
            else:
                sign = 1.0 if self._minimize else -1.0
                best = min(history, key=lambda epoch: sign * epoch["metrics"][self._objective])
                row |= {"best_epoch": best["epoch"], **best["metrics"]}
        self._book.note("finals", row)
        if result is not None:
            with contextlib.suppress(StorageError):  # what is left of it is only in the way
                self._storage.child(FOLDER).remove(folder_of(training.final))
        return row

    def configuration(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a configuration as columns, those of parameters that the sweep has."""
        known = self._book.state.schema.parameters
        return {f"config.{name}": value for name, value in values.items() if name in known}
