"""The final job: the best configurations of a sweep are trained anew, one model is chosen, and only that is tested.

The best of many noisy scores is partly luck, so nothing of the sweep's own trainings is used but their configurations.
The job can be interrupted anywhere and begun again: what the ledger has is not done a second time, and a training that
had begun goes on from its checkpoint.
"""

import dataclasses
import getpass
import hashlib
import json
import logging
import math
import platform
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from results.storage import Storage
from search import bundle
from search.checkpoints import folder_of
from search.crews import Crew
from search.errors import SweepAborted, SweepError
from search.final_summary import Contender, FinalSummary
from search.final_work import FOLDER, Place, Training, finish, train
from search.spec import SweepSpec
from search.state import SweepState, TrialState

_log = logging.getLogger(__name__)

TEST = "test"
"""The split that is opened for the chosen model, and for nothing else."""


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


def candidates(state: SweepState, count: int) -> list[TrialState]:
    """Returns the trials with the best distinct configurations, at most `count`, the best first.

    Trials that were stopped come last: they have lost against others at the same epoch. One that the end of the sweep
    has left unfinished counts with what it has reached.
    """
    found: dict[str, TrialState] = {}
    ranked = state.ranked()
    for trial in sorted(ranked, key=lambda trial: trial.state == "stopped"):
        found.setdefault(_identity(trial.values), trial)
    return list(found.values())[:count]


def _identity(values: Mapping[str, Any]) -> str:
    return json.dumps(dict(values), sort_keys=True, default=str)


def fresh_seed(seed: int, trial: int, epochs: int, index: int) -> int:
    """Returns the seed of a final training: one for each sweep, trial, length and repetition."""
    digest = hashlib.sha256(f"final {seed} {trial} {epochs} {index}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


class FinalJob:
    """The final job of one sweep."""

    def __init__(
        self,
        *,
        spec: SweepSpec,
        state: SweepState,
        writer: Any,
        storage: Storage,
        task: Any,
        crew: Crew,
        command: str = "search final",
        on_epoch: OnEpoch | None = None,
        on_training: Callable[[FinalTrainingDone], None] | None = None,
        environment: Mapping[str, Any] | None = None,
    ):
        """Takes what it works with.

        Args:
            spec: of the sweep.
            state: what the sweep has come to; rows are added to it as they are written.
            writer: a `results.ledger.Writer`, or what takes rows as it does.
            storage: of the sweep.
            task: only asked what it can do, and for its data: the work is the crew's.
            crew: trains, scores and samples.
            command: what the user typed, for the record.
            on_epoch: see `OnEpoch`.
            on_training: called after each final training.
            environment: python, packages, commit and backend, for the model's card.
        """
        self._spec, self._state, self._writer, self._storage = spec, state, writer, storage
        self._task, self._crew, self._command = task, crew, command
        self._on_epoch, self._on_training = on_epoch, on_training
        self._environment = dict(environment or {})
        self._objective, self._goal = state.objective, state.goal
        self._sign = -1.0 if state.goal == "max" else 1.0
        self._data, self._fingerprint = task.data() if hasattr(task, "data") else ("", "")
        self._epochs = spec.final.epochs or spec.epochs

    def run(self) -> FinalSummary:
        """Does all that is still to be done and returns what came of it.

        Raises:
            SweepError: the sweep has no trial with a score, or asks for no final job.
            SweepAborted: no final training could be finished, or the chosen model could not be scored.
        """
        if not self._spec.final.models:
            raise SweepError(
                f"sweep {self._spec.name!r} asks for no final job ([final] models = 0); ask for one with --models 1"
            )
        chosen = candidates(self._state, self._spec.final.models)
        if not chosen:
            raise SweepError(
                f"sweep {self._spec.name!r} has no trial with a finite {self._objective}, so there is nothing to "
                f"choose from; `search status {self._spec.name}` says what became of its trials"
            )
        rows = self._train(chosen)
        contenders = self._contenders(chosen, rows)
        if not contenders:
            reasons = "; ".join(dict.fromkeys(row["reason"] for row in rows))
            raise SweepAborted(
                f"none of the {len(rows)} final trainings of sweep {self._spec.name!r} could be finished: {reasons}; "
                "the same command tries them again"
            )
        row = min(
            (row for row in rows if row["trial"] == contenders[0].trial and row["state"] == "completed"),
            key=self._loss,
        )
        card = bundle.read_card(self._storage)
        if card is None or card["final"] != row["final"]:
            card = self._produce(row, contenders)
        return self._summary(contenders, row, card)

    # --- training anew ------------------------------------------------------------------------------------------------

    def _train(self, chosen: Iterable[TrialState]) -> list[dict[str, Any]]:
        """Returns one row a training, after those that were not done have been."""
        plan = [
            (trial, fresh_seed(self._spec.seed, trial.trial, self._epochs, index))
            for trial in chosen
            for index in range(self._spec.final.seeds)
        ]
        rows: dict[int, dict[str, Any]] = {}
        numbers: dict[int, int] = {}
        for place, (trial, seed) in enumerate(plan):
            row = self._row_of(trial, seed)
            if row is not None:
                numbers[place] = row["final"]
                if row["state"] == "completed":
                    rows[place] = row
        free = (n for n in range(len(plan) + len(self._state.finals)) if n not in self._taken())
        for place in range(len(plan)):
            if place not in numbers:
                numbers[place] = next(free)
        left = [place for place in range(len(plan)) if place not in rows]
        trainings = [
            Training(
                final=numbers[place],
                values=plan[place][0].values,
                seed=plan[place][1],
                epochs=self._epochs,
                objective=self._objective,
                minimize=self._goal == "min",
            )
            for place in left
        ]
        for index, message in self._crew.run(train, [((self._place(), t), {}) for t in trainings]):
            place, training = left[index], trainings[index]
            if "epoch" in message:
                if self._on_epoch is not None:
                    self._on_epoch(training.final, message["epoch"], message["metrics"])
                continue
            rows[place] = self._write_final(plan[place][0], training, message)
            if self._on_training is not None:
                self._on_training(FinalTrainingDone(row=rows[place], done=len(rows), total=len(plan)))
        return [rows[place] for place in sorted(rows)]

    def _taken(self) -> set[int]:
        return {row["final"] for row in self._state.finals}

    def _row_of(self, trial: TrialState, seed: int) -> dict[str, Any] | None:
        """The row of a training that was asked for before, on the same data."""
        for row in self._state.finals:
            if (row["trial"], row["seed"], row["data_fingerprint"]) == (trial.trial, seed, self._fingerprint):
                return row
        return None

    def _place(self) -> Place:
        return Place(
            storage=self._storage.uri,
            task=self._spec.task,
            options=dict(self._spec.options),
            folder=self._spec.folder,
            checkpoint_s=self._spec.checkpoints.every_s,
        )

    def _write_final(self, trial: TrialState, training: Training, message: Mapping[str, Any]) -> dict[str, Any]:
        result = message.get("result")
        row: dict[str, Any] = {
            "final": training.final,
            "trial": trial.trial,
            "seed": training.seed,
            "state": "failed" if result is None else "completed",
            "reason": "" if result is not None else message["failed"],
            "epochs": 0,
            "chosen": False,
            "model": "",
            "data": self._data,
            "data_fingerprint": self._fingerprint,
            **{f"config.{name}": value for name, value in trial.values.items()},
        }
        if result is None:
            _log.warning("final training %d failed: %s", training.final, message["failed"])
            if message.get("reason_kind") == "user":
                raise SweepAborted(f"{message['failed']}; `search final {self._spec.name}` goes on with it")
        else:
            best = min(result["history"], key=lambda epoch: self._sign * epoch["metrics"][self._objective])
            row |= {
                "epochs": len(result["history"]),
                "best_epoch": best["epoch"],
                "model": result["model"],
                "train_s": result["train_s"],
                **best["metrics"],
            }
        self.note("finals", row)
        if result is not None:
            self._storage.child(FOLDER).remove(folder_of(training.final))
        return row

    # --- choosing and producing ---------------------------------------------------------------------------------------

    def _loss(self, row: Mapping[str, Any]) -> float:
        return self._sign * row[self._objective]

    def _contenders(self, chosen: Iterable[TrialState], rows: Iterable[Mapping[str, Any]]) -> list[Contender]:
        """Returns the configurations by the mean of their final trainings, the best first."""
        rows = list(rows)
        found = []
        for trial in chosen:
            values = [
                row[self._objective] for row in rows if row["trial"] == trial.trial and row["state"] == "completed"
            ]
            if values:
                in_sweep = self._state.best_value(trial.trial)
                found.append(
                    Contender(
                        trial=trial.trial,
                        values=dict(trial.values),
                        in_sweep=math.nan if in_sweep is None else in_sweep,
                        scores=tuple(values),
                    )
                )
        return sorted(found, key=lambda contender: self._sign * contender.mean)

    def _produce(self, row: Mapping[str, Any], contenders: Iterable[Contender]) -> dict[str, Any]:
        """Opens the test split for the chosen model, lets it make samples, writes the bundle; returns its card."""
        if not row["model"]:
            self._choose(row, {})
            return bundle.card(self._about(row, contenders), scores={}, floors={}, samples=[])
        bundle.begin(self._storage)
        known = {name: row[name] for name in self._state.schema.scores if row.get(name) is not None}
        split = TEST if hasattr(self._task, "score") and not known else ""
        if split and not self._is_open(row["model"]):
            self.note("openings", self._opening(row["model"]))
        work = {
            "model": row["model"],
            "split": split,
            "stored": known,
            "out": bundle.SAMPLES,
            "num_samples": self._spec.final.samples,
        }
        for _, message in self._crew.run(finish, [((self._place(),), work)]):
            if message.get("scored"):
                self._choose(row, message["scores"])
            if "failed" in message:
                raise SweepAborted(
                    f"the chosen model ({row['model']}) could not be scored or heard: {message['failed']}; "
                    f"`search final {self._spec.name}` tries again"
                )
            if "result" in message:
                if not split:
                    self._choose(row, known)
                made = dict(message["result"])
                files = made.pop("files")
                self._write_samples(row["final"], made["samples"])
                card = bundle.card(self._about(row, contenders), **made)
                bundle.write(self._storage, row["model"], card, files)
                return card
        raise SweepAborted("the work on the chosen model ended without a word; the same command tries again")

    def _is_open(self, model: str) -> bool:
        return any(
            (row["split"], row["model"], row["data_fingerprint"]) == (TEST, model, self._fingerprint)
            for row in self._state.openings
        )

    def _opening(self, model: str) -> dict[str, Any]:
        return {
            "opening": 1 + max((row["opening"] for row in self._state.openings), default=-1),
            "who": f"{_user()}@{platform.node()}",
            "command": self._command,
            "split": TEST,
            "model": model,
            "data": self._data,
            "data_fingerprint": self._fingerprint,
        }

    def _choose(self, row: Mapping[str, Any], scores: Mapping[str, float]) -> None:
        """Marks a final training as the chosen one, and no other."""
        for other in self._state.finals:
            if other["chosen"] and other["final"] != row["final"]:
                self.note("finals", {**_without_common(other), "chosen": False})
        self.note("finals", {**_without_common(row), **scores, "chosen": True})

    def _write_samples(self, final: int, samples: Iterable[Mapping[str, Any]]) -> None:
        known = {row["name"]: row["sample"] for row in self._state.samples if row["final"] == final}
        number = 1 + max((row["sample"] for row in self._state.samples), default=-1)
        for sample in samples:
            if sample["name"] not in known:
                known[sample["name"]], number = number, number + 1
            row = {"sample": known[sample["name"]], "final": final, "name": sample["name"], "path": sample["path"]}
            self.note("samples", row | dict(sample["measures"]))

    def _about(self, row: Mapping[str, Any], contenders: Iterable[Contender]) -> dict[str, Any]:
        """What the card says of where the model comes from."""
        return {
            "sweep": self._spec.name,
            "task": self._spec.task,
            "options": dict(self._spec.options),
            "trial": row["trial"],
            "final": row["final"],
            "configuration": {name[7:]: value for name, value in row.items() if name.startswith("config.")},
            "seed": row["seed"],
            "epochs": row["epochs"],
            "best_epoch": row["best_epoch"],
            "objective": self._objective,
            "goal": self._goal,
            "metrics": {name: row[name] for name in self._state.schema.metrics if row.get(name) is not None},
            "data": {"name": self._data, "fingerprint": self._fingerprint},
            "compared": [dataclasses.asdict(contender) | {"mean": contender.mean} for contender in contenders],
            "environment": self._environment,
            **bundle.facts(self._task, self._spec),
        }

    def _summary(
        self, contenders: Iterable[Contender], row: Mapping[str, Any], card: Mapping[str, Any]
    ) -> FinalSummary:
        place = self._storage.where(bundle.FOLDER) if row["model"] else ""
        return FinalSummary(
            sweep=self._spec.name,
            objective=self._objective,
            goal=self._goal,
            contenders=tuple(contenders),
            final=row["final"],
            seed=row["seed"],
            failed=sum(other["state"] == "failed" for other in self._state.finals),
            data=self._data,
            scores=card["scores"],
            units={name: measure.unit for name, measure in self._state.schema.scores.items()},
            floors=card["floors"],
            openings=len(self._state.openings),
            samples=tuple(self._storage.where(sample["path"]) for sample in card["samples"]),
            bundle=place,
            ledger=self._storage.where("ledger"),
            next_steps=(
                *(self._task.next_steps(place) if place and hasattr(self._task, "next_steps") else ()),
                f"results top {self._storage.uri}",
            ),
        )

    def note(self, table: str, row: Mapping[str, Any]) -> None:
        """Writes an event down, at once: each of them stands for minutes of work."""
        seq = self._writer.append(table, row)
        self._writer.flush()
        self._state.apply(table, {**row, "seq": seq})


_COMMON = ("sweep", "seq", "session", "time")


def _without_common(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in _COMMON}


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"
