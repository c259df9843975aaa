"""Is a bundle what its card says? Files by their checksums, the model by loading it, its scores by scoring it again."""

import dataclasses
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from search import bundle, rerun
from search.errors import SweepError, TaskError
from search.final_work import scratch
from search.task import TEST, load_task

TOLERANCE = 1e-4
"""A score is the same if it differs by no more than this share of it (of 1 for smaller ones)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verified:
    """What came of it.

    Attributes:
        problems: one sentence for each thing that differs; empty if the bundle is what its card says.
        files: how many were checked.
        scores: name -> (as the card has it, as it is now), of those that were scored again.
        split: what that was done on; "" if nothing was.
    """

    problems: tuple[str, ...]
    files: int
    scores: Mapping[str, tuple[float | None, float | None]]
    split: str

    def document(self) -> dict[str, Any]:
        """Returns this for JSON."""
        return {**dataclasses.asdict(self), "verified": not self.problems}

    def text(self) -> str:
        """Returns this for a person."""
        lines = [f"{self.files} files checked by their checksums"]
        if self.scores:
            lines += ["", f"{'score on ' + self.split:<24}{'card':>12}{'now':>12}"]
            lines += [f"{name:<24}{_number(then):>12}{_number(now):>12}" for name, (then, now) in self.scores.items()]
        if self.problems:
            lines += ["", "It is NOT what its card says:", *(f"  {problem}" for problem in self.problems)]
        else:
            lines += ["", "The bundle is what its card says."]
        return "\n".join(lines)


def read(folder: Path) -> dict[str, Any]:
    """Returns the card of the bundle in a folder.

    Raises:
        SweepError: it is no bundle, or only a part of one.
    """
    if not folder.is_dir():
        raise SweepError(f"no bundle at {folder}: there is no such folder; `search bundle make` or `search final` do")
    for name in (bundle.CARD, bundle.SUMS):
        if not (folder / name).is_file():
            raise SweepError(f"no whole bundle at {folder}: it has no {name}; whoever wrote it did not come to the end")
    try:
        card = json.loads((folder / bundle.CARD).read_text("utf-8"))
        missing = [name for name in ("task", "options", "data", "scores") if name not in card]
    except (ValueError, TypeError) as error:
        raise SweepError(f"{folder / bundle.CARD} is damaged: {error}") from error
    if missing:
        raise SweepError(f"{folder / bundle.CARD} is no card of a bundle: it lacks {', '.join(missing)}")
    return card


def task_of(card: Mapping[str, Any], *, task: str | None = None) -> Any:
    """Returns the task of a bundle, made with the options that it had.

    Args:
        card: from `read`.
        task: import path to be used in place of the card's. A card that names a file asks for it: files lie elsewhere
            on other machines, and no bundle shall decide which file of this one is run.

    Raises:
        TaskError: it cannot be had.
    """
    path = task or str(card["task"])
    if task is None and path.partition(":")[0].endswith(".py"):
        raise TaskError(
            f"the task of this bundle is in a file of its own, {path}; say where it lies here: --task {path}"
        )
    backend = (card.get("environment") or {}).get("backend")
    if backend:
        os.environ.setdefault("KERAS_BACKEND", str(backend))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return load_task(path, card["options"])


def verify(folder: Path, *, task: str | None = None, score: bool = True, tolerance: float = TOLERANCE) -> Verified:
    """Checks a bundle: its files, that the model loads, and its scores.

    The scores are made again on the split that they were made on, for this very model; nothing is chosen by them.

    Args:
        folder: the bundle, wherever it lies; nothing is written there.
        task: see `task_of`.
        score: False checks the files alone.
        tolerance: see `TOLERANCE`.

    Raises:
        CallerError: there is no whole bundle, or its task or data cannot be had here.
    """
    try:
        card = read(folder)
    except SweepError:
        problems = list(_files(folder)) if (folder / bundle.SUMS).is_file() else []
        if not problems:
            raise
        return Verified(problems=tuple(problems), files=len(_sums(folder)), scores={}, split="")
    problems = list(_files(folder))
    split = str(card.get("split", TEST))
    known = {**card.get("metrics", {}), **card["scores"]}
    compared: dict[str, tuple[float | None, float | None]] = {}
    if score and card["scores"] and not problems:
        # A damaged model is not loaded at all.
        with rerun.told_apart(), scratch() as copy:
            made = task_of(card, task=task)
            problems += _data(card, made)
            if not problems:
                shutil.copytree(folder, copy, dirs_exist_ok=True)
                try:
                    now = {name: float(value) for name, value in made.score(copy, split).items()}
                except Exception as error:  # noqa: BLE001 - whatever a task does with a model that it cannot use
                    problems.append(f"the model cannot be loaded and scored: {type(error).__name__}: {error}")
                else:
                    names = [name for name in known if name in now or name in card["scores"]]
                    compared = {name: (known[name], now.get(name)) for name in names}
    problems += [
        f"{name} is {_number(now)}, the card says {_number(then)}"
        for name, (then, now) in compared.items()
        if not _same(then, now, tolerance)
    ]
    return Verified(
        problems=tuple(problems), files=len(_sums(folder)), scores=compared, split=split if compared else ""
    )


def scored_on_test(folder: Path) -> bool:
    """Returns whether the scores of a bundle are those of the test split."""
    try:
        card = read(folder)
    except SweepError:
        return False
    return bool(card.get("scores")) and card.get("split", TEST) == TEST


def _sums(folder: Path) -> dict[str, str]:
    return bundle.listed((folder / bundle.SUMS).read_bytes())


def _files(folder: Path) -> Iterator[str]:
    sums, there = _sums(folder), set(bundle.names(folder)) - {bundle.SUMS}
    if not sums:
        yield f"{bundle.SUMS} lists no files"
    for name, digest in sums.items():
        if name not in there:  # so nothing outside the folder is looked at
            yield f"{name} is missing"
        elif bundle.digest(folder / name) != digest:
            yield f"{name} was changed: its checksum differs"
    for name in sorted(there - sums.keys()):
        yield f"{name} does not belong to it: {bundle.SUMS} does not list it"


def _data(card: Mapping[str, Any], task: Any) -> Iterator[str]:
    then = card["data"]
    with rerun.blaming("the data that the bundle names"):
        name, fingerprint = task.data() if hasattr(task, "data") else ("", "")
    if fingerprint != then["fingerprint"]:
        yield (
            f"the data are {name or 'without a name'} ({fingerprint[:12] or 'no fingerprint'}), the card says "
            f"{then['name'] or 'without a name'} ({then['fingerprint'][:12] or 'no fingerprint'}): "
            "scores do not compare"
        )


def _same(then: float | None, now: float | None, tolerance: float) -> bool:
    if then is None or now is None:
        return then is now or (now is not None and math.isnan(now))
    return math.isclose(then, now, rel_tol=tolerance, abs_tol=tolerance)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.6f}"
