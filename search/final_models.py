"""The final job's work on finished models, in worker processes: scoring, sampling, making one of several.

Each piece of work is a generator as those of `search.final_work`.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from results.promises import SAMPLE_KINDS
from results.storage import Storage
from search.crews import Message
from search.errors import TrialFailed
from search.final_work import Place, download, files_of, list_files, scratch, upload
from search.task import TEST, VALID, Group, declared


def measure(place: Place, *, model: str, split: str) -> Iterator[Message]:
    """Scores a model on each piece of a split.

    Yields:
        The result: `pieces`, piece -> (value, weight).

    Raises:
        TrialFailed: the task returns something else.
    """
    sweep, task = Storage(place.storage), place.made()
    with scratch() as folder:
        download(sweep, model, folder)
        yield {"result": {"pieces": _pieces(task, folder, split)}}


def _pieces(task: Any, folder: Path, split: str) -> dict[str, tuple[float, float]]:
    told = task.score_pieces(folder, split)
    try:
        return {str(piece): (float(value), float(weight)) for piece, (value, weight) in dict(told).items()}
    except (TypeError, ValueError) as error:
        raise TrialFailed(
            f"score_pieces returned no mapping of pieces to (value, weight): {error}", reason_kind="no_metric"
        ) from error


def scores_of(task: Any, folder: Path, split: str) -> dict[str, float]:
    """Returns what a task scores an exported model on a split.

    Raises:
        TrialFailed: it returns something else than numbers by the names of its `scores`; on valid, also of its
            `metrics`, which are of that split.
    """
    groups: tuple[Group, ...] = ("scores", "metrics") if split == VALID else ("scores",)
    return _numbers(task, "score", task.score(folder, split), groups)


def _numbers(task: Any, told_by: str, told: Any, groups: tuple[Group, ...]) -> dict[str, float]:
    name, group = type(task).__name__, " and ".join(groups)
    known = [each for one in groups for each in declared(name, task, one)]
    try:
        found = {str(each): float(value) for each, value in dict(told).items()}
    except (TypeError, ValueError) as error:
        raise TrialFailed(
            f"task {name}: {told_by} returned no mapping of {group} to numbers: {error}", reason_kind="no_metric"
        ) from error
    foreign = [each for each in found if each not in known]
    if foreign:
        raise TrialFailed(
            f"task {name}: {told_by} returned {', '.join(foreign)}, and declares the {group} "
            f"{', '.join(known) or '(none)'}",
            reason_kind="no_metric",
        )
    return found


def rehearse(place: Place, *, model: str) -> Iterator[Message]:
    """Scores a model on valid and forgets it: what a task does wrong is found before the test split is opened.

    Yields:
        An empty result.

    Raises:
        TrialFailed: the task returns something else than it declares.
    """
    sweep, task = Storage(place.storage), place.made()
    with scratch() as folder:
        download(sweep, model, folder)
        scores_of(task, folder, VALID)
        if hasattr(task, "score_pieces"):
            _pieces(task, folder, VALID)
    yield {"result": {}}


def score(place: Place, *, model: str, split: str, stored: Mapping[str, float]) -> Iterator[Message]:
    """Scores a model on a split.

    Args:
        place: of the sweep.
        model: its folder below the sweep's; what the task writes there while scoring is kept.
        split: what to score it on; "" not to, because `stored` has the scores.
        stored: scores that are known already.

    Yields:
        `{"scored": split, "scores": ..., "pieces": ...}`, then the result: `scores`, and `floors`, model -> scores
        (empty if the task has none).
    """
    sweep, task = Storage(place.storage), place.made()
    scores, pieces = dict(stored), {}
    if split:
        with scratch() as folder:
            download(sweep, model, folder)
            known = files_of(sweep, model)
            scores = scores_of(task, folder, split)
            if hasattr(task, "score_pieces"):
                pieces = _pieces(task, folder, split)
            added = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - known.keys()
            list_files(sweep, model, known | upload(folder, sweep, model, added))
    yield {"scored": split, "scores": scores, "pieces": pieces}
    yield {"result": {"scores": scores, "floors": task.floors(TEST) if hasattr(task, "floors") else {}}}


def sample(place: Place, *, model: str, out: str, count: int, split: str) -> Iterator[Message]:
    """Lets a model produce something.

    Args:
        place: of the sweep.
        model: its folder below the sweep's.
        out: where it goes, below the sweep's folder.
        count: pieces of each sort.
        split: whose pieces it may begin with.

    Yields:
        The result: `samples`, see `samples_of`, their paths below the sweep's folder; `files`, all that was written
        below `out`, with SHA-256; `references`, what the measures are of other things, by their names.
    """
    sweep, task = Storage(place.storage), place.made()
    samples, files = [], {}
    if count and hasattr(task, "samples"):
        with scratch() as folder, scratch() as made:
            download(sweep, model, folder)
            samples = list(samples_of(task, folder, made, count=count, split=split, below=out))
            files = upload(made, sweep, out)
    yield {"result": {"samples": samples, "files": files, "references": references_of(task)}}


def samples_of(task: Any, folder: Path, out: Path, *, count: int, split: str, below: str) -> Iterator[dict[str, Any]]:
    """Yields what a model produces, as documents: `name`, `kind`, `origin`, `path` below `below`, `measures`.

    Args:
        task: has `samples`.
        folder: of the model, on this machine.
        out: an empty folder for what it produces.
        count: pieces of each sort.
        split: whose pieces it may begin with.
        below: what the paths begin with.

    Raises:
        TrialFailed: two have the same name, or what is told of one is not what the task declares.
    """
    names = set[str]()
    for name, path, measures, about in task.samples(folder, out, count=count, split=split):
        if name in names:
            raise TrialFailed(f"samples: two are called {name!r}; names tell them apart", reason_kind="error")
        names.add(name)
        where = Path(out, path).relative_to(out)
        kind = str(about.get("kind", ""))
        if kind not in SAMPLE_KINDS:
            raise TrialFailed(
                f"task {type(task).__name__}: samples returned {name!r} of the kind {kind!r}, expected one of "
                f"{', '.join(filter(None, SAMPLE_KINDS))}"
            )
        known = {measure: value for measure, value in dict(measures).items() if value is not None}
        yield {
            "name": name,
            "kind": kind,
            "origin": str(about.get("origin", "")),
            "path": f"{below}/{where.as_posix()}",
            "measures": _numbers(task, f"the measures of sample {name!r}", known, ("measures",)),
        }


def references_of(task: Any) -> dict[str, dict[str, float]]:
    """Returns what the measures of samples are of other things, such as what people made; empty if it does not say."""
    told = task.sample_references() if hasattr(task, "sample_references") else {}
    return {str(name): dict(measures) for name, measures in told.items()}


def combine(place: Place, *, models: Sequence[str], out: str, split: str) -> Iterator[Message]:
    """Makes one model of several, and scores it on each piece of a split.

    Args:
        place: of the sweep.
        models: their folders below the sweep's.
        out: the folder of the one.
        split: what to score it on.

    Yields:
        The result: `pieces`, piece -> (value, weight); `costs`, metrics that the task has measured anew.

    Raises:
        TrialFailed: the task writes nothing, or scores no pieces.
    """
    sweep, task = Storage(place.storage), place.made()
    with contextlib.ExitStack() as stack:
        folders = [stack.enter_context(scratch()) for _ in models]
        made = stack.enter_context(scratch())
        for model, folder in zip(models, folders, strict=True):
            download(sweep, model, folder)
        task.combine(folders, made)
        files = upload(made, sweep, out)
        if not files:
            raise TrialFailed("combine wrote no model", reason_kind="error")
        pieces = _pieces(task, made, split)
        costs = {name: float(v) for name, v in task.costs_of(made).items()} if hasattr(task, "costs_of") else {}
        list_files(sweep, out, files)
    yield {"result": {"pieces": pieces, "costs": costs}}
