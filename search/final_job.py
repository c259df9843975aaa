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
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from results.storage import Storage
from search import bundle, sweep_file
from search.checkpoints import SPEC_FILE, folder_of
from search.crews import Crew
from search.distance import apart
from search.errors import SweepAborted, SweepError
from search.final_choice import Choice, choose
from search.final_summary import FinalSummary
from search.final_work import FOLDER, Place, Training, finish, measure, train
from search.space import Space
from search.spec import SweepSpec
from search.state import SweepState, TrialState
from search.task import costs

_log = logging.getLogger(__name__)

TEST = "test"
"""The split that is opened for the chosen model, and for nothing else."""
VALID = "valid"
"""The split that models are compared on."""


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


def candidates(state: SweepState, space: Space, count: int, *, least: float) -> list[TrialState]:
    """Returns the trials with the best configurations that are far enough apart, at most `count`, the best first.

    Trials that were stopped come last, for somebody has found them worse. One that a budget cut short does not: if it
    is among the best with fewer epochs, so much the better.

    Args:
        state: of the sweep.
        space: where configurations are compared.
        count: so many at most.
        least: how far apart they have to be, see `search.distance`; so copies of one point do not fill the list.
    """
    ranked = sorted(state.ranked(), key=lambda trial: trial.state == "stopped")
    return apart(space, ((trial, trial.values) for trial in ranked), count=count, least=least)


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
        space: Space | None = None,
        command: str = "search final",
        on_epoch: OnEpoch | None = None,
        on_training: Callable[[FinalTrainingDone], None] | None = None,
        say: Callable[[str], None] = _log.info,
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
            space: of the sweep; None to ask the task for it.
            command: what the user typed, for the record.
            on_epoch: see `OnEpoch`.
            on_training: called after each final training.
            say: told what a person at the terminal should know.
            environment: python, packages, commit and backend, for the model's card.
        """
        self._spec, self._state, self._writer, self._storage = spec, state, writer, storage
        self._task, self._crew, self._command = task, crew, command
        self._space = space or Space.explore(task.space).narrowed(spec.space)
        self._on_epoch, self._on_training, self._say = on_epoch, on_training, say
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
        final = self._spec.final
        chosen = candidates(self._state, self._space, final.models, least=final.apart)
        if not chosen:
            raise SweepError(
                f"sweep {self._spec.name!r} has no trial with a finite {self._objective}, so there is nothing to "
                f"choose from; `search status {self._spec.name}` says what became of its trials"
            )
        if len(chosen) < final.models:
            self._say(
                f"{final.models} configurations were asked for; the sweep has {len(chosen)} with a finite "
                f"{self._objective} that are far enough apart (apart = {final.apart:g} of [final])."
            )
        rows = self._train(chosen)
        self._score_pieces(rows)
        choice = self._choice(chosen, rows)
        if choice is None:
            reasons = "; ".join(dict.fromkeys(row["reason"] for row in rows))
            raise SweepAborted(
                f"none of the {len(rows)} final trainings of sweep {self._spec.name!r} could be finished: {reasons}; "
                "the same command tries them again"
            )
        of_winner = (row for row in rows if row["trial"] == choice.winner.trial and row["state"] == "completed")
        row = min(of_winner, key=lambda row: self._sign * row[self._objective])
        card = bundle.read_card(self._storage)
        if card is None or card["final"] != row["final"]:
            card = self._produce(row, choice)
        return self._summary(choice, row, card, page=self._write_page())

    def _write_page(self) -> str:
        """Writes the page that a person decides on, and returns its address; "" if it could not be made."""
        from results import report

        try:
            return report.write(self._storage)
        except Exception as error:  # noqa: BLE001 - hours of work lie in the bundle; a page can be made again
            _log.debug("the page could not be made", exc_info=True)
            self._say(
                f"The page could not be made ({type(error).__name__}: {error}); all else is done. "
                f"`results report {self._storage.uri}` tries it again."
            )
            return ""

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
        if trainings:
            # Workers take a folder without it for one whose disk went away.
            asked = json.dumps(sweep_file.document(self._spec), indent=1) + "\n"
            self._storage.write(f"{FOLDER}/{SPEC_FILE}", asked.encode())
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

    def _score_pieces(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Scores the models on each piece of the validation split, those that have not been, if the task can."""
        if not hasattr(self._task, "score_pieces"):
            return
        left = [row for row in rows if row["model"] and not self._state.piece_scores(row["final"], VALID)]
        work = [((self._place(),), {"model": row["model"], "split": VALID}) for row in left]
        for index, message in self._crew.run(measure, work):
            if "failed" in message:
                self._say(
                    f"The pieces of final training {left[index]['final']} could not be scored: {message['failed']}; "
                    "the models are compared by their seeds alone."
                )
            else:
                self._note_all(self._piece_rows(left[index]["final"], VALID, message["result"]["pieces"]))

    def _piece_rows(
        self, final: int, split: str, pieces: Mapping[str, tuple[float, float]]
    ) -> list[tuple[str, dict[str, Any]]]:
        return [
            ("piece_scores", {"final": final, "split": split, "piece": piece, "value": value, "weight": weight})
            for piece, (value, weight) in pieces.items()
        ]

    def _choice(self, chosen: Sequence[TrialState], rows: Iterable[Mapping[str, Any]]) -> Choice | None:
        final = self._spec.final
        return choose(
            self._state,
            chosen,
            rows,
            split=VALID,
            rule=final.rule,
            costs=costs(self._spec.task, self._task, self._state.schema.metrics, final.costs),
            as_in_sweep=self._epochs == self._spec.epochs,
            seed=self._spec.seed,
        )

    def _produce(self, row: Mapping[str, Any], choice: Choice) -> dict[str, Any]:
        """Opens the test split for the chosen model, lets it make samples, writes the bundle; returns its card."""
        if not row["model"]:
            self._choose(row, {})
            return bundle.card(self._about(row, choice), scores={}, floors={}, samples=[])
        bundle.begin(self._storage)
        known = {name: row[name] for name in self._state.schema.scores if row.get(name) is not None}
        split = TEST if hasattr(self._task, "score") and not known else ""
        if split:
            self._open(row["model"])
        work = {
            "model": row["model"],
            "split": split,
            "stored": known,
            "out": bundle.SAMPLES,
            "num_samples": self._spec.final.samples,
        }
        for _, message in self._crew.run(finish, [((self._place(),), work)]):
            if message.get("scored"):
                self._choose(row, message["scores"], message["pieces"])
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
                card = bundle.card(self._about(row, choice), **made)
                bundle.write(self._storage, row["model"], card, files)
                return card
        raise SweepAborted("the work on the chosen model ended without a word; the same command tries again")

    def _open(self, model: str) -> None:
        """Notes that the test split is opened for a model, and says so if it was opened before."""
        before = [
            row["model"]
            for row in self._state.openings
            if (row["split"], row["data_fingerprint"]) == (TEST, self._fingerprint)
        ]
        if model in before:
            self._say(
                f"The test split was opened for {model} before, but its scores were never written down; it is scored "
                "again, and this counts as the same opening."
            )
            return
        if before:
            self._say(
                f"The test split is opened again: in this sweep it was opened for {', '.join(before)}, and now it is "
                f"for {model}. A choice that changes after a look at the test split makes its score flatter the model."
            )
        self.note("openings", self._opening(model))

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

    def _choose(
        self,
        row: Mapping[str, Any],
        scores: Mapping[str, float],
        pieces: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        """Marks a final training as the chosen one, and no other, and writes what it scored on the test split."""
        others = (other for other in self._state.finals if other["chosen"] and other["final"] != row["final"])
        self._note_all(
            [
                *self._piece_rows(row["final"], TEST, pieces or {}),
                *(("finals", {**_without_common(other), "chosen": False}) for other in others),
                ("finals", {**_without_common(row), **scores, "chosen": True}),
            ]
        )

    def _write_samples(self, final: int, samples: Iterable[Mapping[str, Any]]) -> None:
        known = {row["name"]: row["sample"] for row in self._state.samples if row["final"] == final}
        number = 1 + max((row["sample"] for row in self._state.samples), default=-1)
        for sample in samples:
            if sample["name"] not in known:
                known[sample["name"]], number = number, number + 1
            row = {"sample": known[sample["name"]], "final": final, "name": sample["name"], "path": sample["path"]}
            self.note("samples", row | dict(sample["measures"]))

    def _about(self, row: Mapping[str, Any], choice: Choice) -> dict[str, Any]:
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
            "compared": [dataclasses.asdict(each) | {"mean": each.mean} for each in choice.contenders],
            "choice": {"rule": choice.rule, "over": choice.over, "seed_sd": choice.seed_sd},
            "environment": self._environment,
            **bundle.facts(self._task, self._spec),
        }

    def _summary(self, choice: Choice, row: Mapping[str, Any], card: Mapping[str, Any], *, page: str) -> FinalSummary:
        place = self._storage.where(bundle.FOLDER) if row["model"] else ""
        return FinalSummary(
            sweep=self._spec.name,
            objective=self._objective,
            goal=self._goal,
            choice=choice,
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
            page=page,
            ledger=self._storage.where("ledger"),
            next_steps=(
                *(self._task.next_steps(place) if place and hasattr(self._task, "next_steps") else ()),
                f"results top {self._storage.uri}",
            ),
        )

    def note(self, table: str, row: Mapping[str, Any]) -> None:
        """Writes an event down, at once: each of them stands for minutes of work."""
        self._note_all([(table, row)])

    def _note_all(self, events: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Writes events down, all or none."""
        numbers = [self._writer.append(table, row) for table, row in events]
        self._writer.flush()
        for number, (table, row) in zip(numbers, events, strict=True):
            self._state.apply(table, {**row, "seq": number})


_COMMON = ("sweep", "seq", "session", "time")


def _without_common(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in _COMMON}


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"
