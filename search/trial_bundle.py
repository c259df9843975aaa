"""A bundle for any trial: from the checkpoint of its best epoch, or by training it again up to there.

Its scores are those of the validation split. The test split stays closed: only the final job opens it.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from search import bundle, environment, rerun
from search.checkpoints import Checkpoints, identity
from search.errors import SweepAborted, SweepError, TaskError, did_you_mean
from search.final_models import references_of, samples_of, scores_of
from search.final_work import scratch
from search.rerun import OnEpoch, Recorded, blaming
from search.task import VALID

EXPORTS = "exports"
LARGEST_DIFFERENCE = 1e-4
"""A model in another form may give probabilities that differ by so much at most."""


def make(
    trial: Recorded,
    out: Path,
    *,
    exports: Sequence[str] = (),
    epochs: int | None = None,
    samples: int = 1,
    on_epoch: OnEpoch | None = None,
) -> dict[str, Any]:
    """Writes a bundle for a trial and returns its card.

    Args:
        trial: from `search.rerun.find`.
        out: the bundle's folder; there must be none of that name yet.
        exports: other forms in which the model is wanted, too; see `export`.
        epochs: what the trial's schedule spans; None for what the sweep's trials have.
        samples: pieces of each sort.
        on_epoch: called for each epoch that is trained again.

    Raises:
        CallerError: the trial has no score, the task cannot export, or `out` is there already.
        SweepAborted: the trial could not be trained again as far as its best epoch, or an export is not faithful.
    """
    best = trial.trial.best_epoch
    if best is None:
        raise SweepError(
            f"trial {trial.place} has no finite {trial.state.objective} ({trial.trial.state}), so there is no model of "
            "it to make a bundle of"
        )
    check_absent(out)
    task = rerun.prepare(trial)
    if not hasattr(task, "export"):
        raise TaskError(f"task {trial.spec.task!r} has no method export(run, folder), so there is nothing to bundle")
    check_forms(trial.spec.task, task, exports)
    schedule = epochs or trial.spec.epochs
    with scratch() as folder, rerun.told_apart():
        with _run(trial, task, best, schedule, on_epoch) as (run, about), blaming("the model"):
            task.export(run, folder)
        with blaming("the model's scores and samples"):
            made = {
                "scores": _scores(task, folder),
                "floors": task.floors(VALID) if hasattr(task, "floors") else {},
                "samples": list(_samples(task, folder, samples)),
            }
            references = references_of(task) if made["samples"] else {}
        about |= _about(trial, task, schedule) | {"sample_references": references}
        about["exports"] = export(task, folder, exports)
        card = bundle.card(about, **made)
        bundle.complete(folder, card)
        place(folder, out)
    return card


def add_exports(folder: Path, forms: Sequence[str], task: Any) -> dict[str, Any]:
    """Adds the model in other forms to a bundle that is whole, and returns its card.

    Args:
        folder: the bundle; `search.verification` says whether it is whole.
        forms: see `export`.
        task: of the bundle.

    Raises:
        TaskError: the task has no such form, or what it needs for it is not installed.
        SweepAborted: an export is not faithful; the bundle is as it was, as with any error.
    """
    check_forms(type(task).__name__, task, forms)
    card = json.loads((folder / bundle.CARD).read_text("utf-8"))
    folder, part, former = _beside(folder)
    try:
        with rerun.told_apart():
            shutil.copytree(folder, part)
            card["exports"] = {**card.get("exports", {}), **export(task, part, forms)}
            bundle.complete(part, card)
        os.replace(folder, former)
        os.replace(part, folder)
    finally:
        recover(folder)
    return card


def recover(folder: Path) -> None:
    """Brings a bundle back to its name if `add_exports` was killed, and removes what it left beside it."""
    folder, part, former = _beside(folder)
    if former.exists() and not folder.exists():
        os.replace(former, folder)
    for left in (part, former):
        shutil.rmtree(left, ignore_errors=True)


def _beside(folder: Path) -> tuple[Path, Path, Path]:
    """The bundle, the new one while it is made, and the former one until the new one has its name."""
    folder = folder.resolve()
    return folder, folder.with_name(f".{folder.name}.part"), folder.with_name(f".{folder.name}.former")


def export(task: Any, folder: Path, forms: Sequence[str]) -> dict[str, Any]:
    """Writes a model in other forms, below `EXPORTS` in its folder, and returns where each is and how faithful.

    Args:
        task: `convert(folder, form, out)` writes the model in `folder` in another form into the empty folder `out`,
            reads that back, and returns the largest difference between the probabilities that both give;
            `check_form(form)`, if it has that, raises where it could not.
        folder: of the model.
        forms: of `task.forms`.

    Raises:
        SweepAborted: probabilities differ by more than `LARGEST_DIFFERENCE`.
    """
    made = {}
    for form in forms:
        path = f"{EXPORTS}/{form}"
        out = folder / path
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        with blaming(f"the model as {form}"):
            difference = float(task.convert(folder, form, out))
        if not difference <= LARGEST_DIFFERENCE:
            raise SweepAborted(
                f"the model as {form} is not the same: a probability differs by {difference:.2g}, allowed is "
                f"{LARGEST_DIFFERENCE:g}; nothing was written"
            )
        made[form] = {"path": path, "difference": difference}
    return made


def check_forms(name: str, task: Any, forms: Sequence[str]) -> None:
    """Checks that a task has these forms, before any work is done.

    Raises:
        TaskError: it has not.
    """
    known = tuple(getattr(task, "forms", ())) if hasattr(task, "convert") else ()
    for form in forms:
        if form not in known:
            raise TaskError(f"task {name!r} cannot export a model as {form!r}{did_you_mean(form, known)}")
        if hasattr(task, "check_form"):
            with blaming(f"a model as {form}"):
                task.check_form(form)


def check_absent(out: Path) -> None:
    """Checks that a bundle's folder can be made.

    Raises:
        SweepError: there is something of that name.
    """
    if out.exists():
        raise SweepError(f"{out} is there already; give --out the name of a folder that is not")


def _about(trial: Recorded, task: Any, schedule: int) -> dict[str, Any]:
    return {
        "kind": "trial",
        "sweep": trial.spec.name,
        "task": trial.spec.task,
        "options": dict(trial.spec.options),
        "trial": trial.trial.trial,
        "state": trial.trial.state,
        "configuration": dict(trial.trial.values),
        "seed": trial.trial.seed,
        "epochs": schedule,
        "best_epoch": trial.trial.best_epoch,
        "objective": trial.state.objective,
        "goal": trial.state.goal,
        "data": {"name": trial.data.name, "fingerprint": trial.data.fingerprint},
        **bundle.facts(task, trial.spec, split=VALID),
    }


@contextlib.contextmanager
def _run(
    trial: Recorded, task: Any, best: int, schedule: int, on_epoch: OnEpoch | None
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The trial's run as it was after its best epoch, and what the card says of how it was had."""
    here = environment.here(trial.spec)
    with scratch() as folder:
        run = _restored(trial, task, best, schedule, folder)
        if run is not None:
            told = {"metrics": dict(trial.trial.epochs[best].metrics), "made_from": f"the checkpoint of epoch {best}"}
            yield run, told | bundle.environments(environment.of_session(trial.session), here)
            return
    with rerun.training(trial, until=best, epochs=schedule, on_epoch=on_epoch) as again:
        if again.failure is not None:
            raise SweepAborted(
                f"trial {trial.place} has no checkpoint of its best epoch {best} any more, and could not be trained "
                f"again up to there: {again.failure}"
            )
        compared = rerun.compare(trial, again, until=best)
        agreement = "to the last bit" if not compared.difference else f"but for {compared.difference:.1e} of a metric"
        told = f"agreeing with the ledger {agreement}" if compared.agrees else f"NOT agreeing with it, {agreement}"
        how = {"metrics": dict(again.history[best]), "made_from": f"a rerun of its {best} epochs, {told}"}
        yield again.worker.run, how | bundle.environments(here, here)


def _restored(trial: Recorded, task: Any, best: int, schedule: int, folder: Path) -> Any:
    spec, found = trial.spec, trial.trial
    checkpoints = Checkpoints(
        trial.storage, found.trial, identity(spec.task, dict(spec.options), found.values, found.seed)
    )
    if checkpoints.fetch_epoch(best, folder) is None:
        return None
    with blaming(f"trial {trial.place}, from its checkpoint"):
        run = task.start(dict(found.values), epochs=schedule, seed=found.seed)
        if not hasattr(run, "restore"):
            return None
        run.restore(folder)
    return run


def _scores(task: Any, folder: Path) -> dict[str, float]:
    if not hasattr(task, "score"):
        return {}
    return scores_of(task, folder, VALID)


def _samples(task: Any, folder: Path, count: int) -> Iterator[dict[str, Any]]:
    if count and hasattr(task, "samples"):
        out = folder / "samples"
        out.mkdir()
        yield from samples_of(task, folder, out, count=count, split=VALID, below="samples")


def place(folder: Path, out: Path) -> None:
    """Gives a finished folder its name; there is nothing of that name before all of it is there."""
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(folder, part)
        os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
