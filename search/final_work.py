"""The final job's trainings, as they are done in worker processes, where the task and its framework are loaded.

Each piece of work is a generator that tells how it comes along in plain documents and ends with `{"result": ...}`;
a crew (`search.crews`) runs them.
"""

import contextlib
import dataclasses
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from results.storage import Storage
from search import stopping
from search.attempts import Attempt
from search.crews import Message
from search.errors import TrialFailed
from search.trial import Worker, let_go_of_models

FOLDER = "finals"
"""Where the final trainings lie below the sweep's folder: their checkpoints, and each one's model."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """What all work of a sweep's final job has in common.

    Attributes:
        storage: URI of the sweep's folder.
        task: where the task is imported from.
        options: what it is made with.
        folder: what the path of a task's file is relative to.
        checkpoint_s: a training's state is written if this much time has passed since the last was.
    """

    storage: str
    task: str
    options: Mapping[str, Any]
    folder: str
    checkpoint_s: float

    def made(self) -> Any:
        """Returns the task."""
        from search.task import load_task

        return load_task(self.task, self.options, folder=self.folder)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """A training of the final job.

    Attributes:
        final: its number.
        values: the configuration.
        seed: of everything that it draws.
        epochs: how many it has.
        objective: the metric whose best epoch counts.
        minimize: whether less of it is better.
        until: the epoch after which it ends; None for the end of its schedule.
        whole: whether it is trained on all data but test, by the task's `start_whole`.
    """

    final: int
    values: Mapping[str, Any]
    seed: int
    epochs: int
    objective: str
    minimize: bool
    until: int | None = None
    whole: bool = False


class FinalWorker(Worker):
    """A worker whose finished run can be exported, and that only a user stops: the final job has its own budget."""

    def __init__(self, sweep: Storage, **options: Any):
        """Takes the sweep that it heeds, whose folder holds the one that it trains in, and what `Worker` takes."""
        super().__init__(storage=sweep.child(FOLDER).uri, **options)
        self._sweep = sweep

    def take(self, task: Any) -> None:
        """Takes a task that is made already."""
        self._task = task

    @property
    def run(self) -> Any:
        """The task's run, as it is now; None if it failed or has not begun."""
        return self._run

    def export(self, folder: Path) -> None:
        """Writes the finished model to `folder`, if the task can."""
        if hasattr(self._task, "export"):
            self._task.export(self._run, folder)

    def _asked_to_stop(self) -> tuple[str, str] | None:
        found = stopping.requested(self._sweep)
        return found if found is not None and found[0] == "user" else None


def model_folder(final: int) -> str:
    """Returns where the model of a final training lies below the sweep's folder."""
    return f"{FOLDER}/models/{final:05d}"


def train(place: Place, training: Training) -> Iterator[Message]:
    """Trains one model, from its last checkpoint if there is one, and puts it into the sweep's storage.

    Yields:
        `{"epoch": ..., "metrics": ...}` for each epoch, those of an earlier process too; then the result: `history`,
        `train_s` and `model`, where it lies ("" if the task has no `export`).

    Raises:
        TrialFailed: it could not go on, or was asked to stop and has saved.
    """
    sweep = Storage(place.storage)
    worker = FinalWorker(
        sweep,
        task=place.task,
        options=place.options,
        folder=place.folder,
        memory_limit_mb=None,
    )
    history: list[Mapping[str, Any]] = []
    try:
        if training.whole:
            worker.take(_Whole(place.made()))
        worker.begin(_attempt(place, training))
        while True:
            progress = worker.step()
            for row in progress.epochs:
                history.append(row)
                yield {"epoch": row["epoch"], "metrics": dict(row["metrics"])}
            if progress.outcome == "completed" or (training.until is not None and len(history) >= training.until):
                break
            if progress.outcome == "paused":
                raise TrialFailed("the final job was stopped", reason_kind="user")
            if progress.outcome is not None:
                raise TrialFailed(progress.reason, reason_kind=progress.reason_kind, detail=progress.detail)
        with scratch() as folder:
            worker.export(folder)
            model = model_folder(training.final)
            files = upload(folder, sweep, model)
            list_files(sweep, model, files)
        train_s = sum(row["duration_s"] for row in history)
        yield {
            "result": {"history": [dict(row) for row in history], "train_s": train_s, "model": model if files else ""}
        }
    finally:
        worker.close()
        let_go_of_models()  # Ray may give this process another training


class _Whole:
    """A task that begins its trainings with all data but test."""

    def __init__(self, task: Any):
        self._task = task

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def start(self, values: Mapping[str, Any], *, epochs: int, seed: int) -> Any:
        """Begins a training on all data but test."""
        return self._task.start_whole(values, epochs=epochs, seed=seed)


def _attempt(place: Place, training: Training) -> Attempt:
    return Attempt(
        trial=training.final,
        attempt=1,
        cause="resumed",  # a checkpoint is used if there is one
        values=training.values,
        seed=training.seed,
        epochs=training.epochs,
        milestones=() if training.until is None else (training.until,),
        known_epoch=0,
        objective=training.objective,
        minimize=training.minimize,
        time_limit_s=None,
        checkpoint_s=place.checkpoint_s,
        cpus=0.0,
        gpus=0.0,
        handed_out=time.time(),
    )


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A local folder for the length of a `with`."""
    folder = Path(tempfile.mkdtemp(prefix="search-model-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def files_of(sweep: Storage, model: str) -> dict[str, str]:
    """Returns the files of a finished model with their SHA-256, as the list beside its folder has them."""
    return dict(json.loads(sweep.read(f"{model}.json")))


def list_files(sweep: Storage, model: str, files: Mapping[str, str]) -> None:
    """Writes the list that `files_of` reads; a model without it was never finished."""
    sweep.write(f"{model}.json", json.dumps(files, indent=1).encode())


def upload(folder: Path, sweep: Storage, to: str, names: Iterable[str] | None = None) -> dict[str, str]:
    """Copies the files of a local folder (or those named) and returns them with their SHA-256."""
    if names is None:
        names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    files = {}
    for name in sorted(names):
        with open(folder / name, "rb") as file:
            files[name] = hashlib.file_digest(file, "sha256").hexdigest()
        sweep.upload(folder / name, f"{to}/{name}")
    return files


def download(sweep: Storage, model: str, to: Path) -> None:
    """Copies the files of a finished model to a local folder."""
    for name in files_of(sweep, model):
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        sweep.download(f"{model}/{name}", to / name)
