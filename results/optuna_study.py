"""A sweep as a study in an Optuna storage, which optuna-dashboard and Optuna's own functions read."""

import logging
import math
import re
import statistics
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results.errors import CallerError, StorageError
from results.opening import Sweep
from results.schema import CONFIG

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

_WIDE = 10
"""A log scale is thought of only where the largest value is so many times the smallest."""
_JOURNALS = (".log", ".journal", ".jsonl")
BATCH = 200

Progress = Callable[[str, int, int | None], None]


def distributions(points: Sequence[Mapping[str, Any]]) -> dict[str, "BaseDistribution"]:
    """Returns for each parameter a distribution that holds all values met.

    The ledger has the values, not the ranges they were drawn from: a number ranges from the least to the greatest value
    met, on a log scale if the values are spread more evenly there; texts and yes-or-no are choices.

    Args:
        points: parameter values by name; an inactive parameter is missing.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    met: dict[str, list[Any]] = defaultdict(list)
    for point in points:
        for name, value in point.items():
            met[name].append(value)
    found: dict[str, BaseDistribution] = {}
    for name, values in met.items():
        if any(isinstance(value, str | bool) for value in values):
            found[name] = CategoricalDistribution(sorted(set(values), key=lambda value: (str(type(value)), value)))
            continue
        low, high = min(values), max(values)
        log = low > 0 and high >= _WIDE * low and _drawn_on_a_log_scale(values)
        kind = IntDistribution if all(isinstance(value, int) for value in values) else FloatDistribution
        found[name] = kind(low, high, log=log)
    return found


def _drawn_on_a_log_scale(values: Sequence[float]) -> bool:
    """Returns whether the median of positive values is nearer to the middle of their range on a log scale."""
    low, middle, high = min(values), statistics.median(values), max(values)
    on_log = (math.log(middle) - math.log(low)) / (math.log(high) - math.log(low))
    return abs(on_log - 0.5) < abs((middle - low) / (high - low) - 0.5)


def storage(url: str) -> "BaseStorage":
    """Returns the Optuna storage at `url`.

    Args:
        url: `sqlite:///study.db` or another database that SQLAlchemy knows, or the path of a journal file, which ends
            in `.log`, `.journal` or `.jsonl`.

    Raises:
        CallerError: neither.
        StorageError: it cannot be opened.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if re.match(r"[a-z0-9+]+://", url):
        place = re.fullmatch(r"sqlite:///(?P<path>[^?]+)", url)
        if place:
            Path(place["path"]).absolute().parent.mkdir(parents=True, exist_ok=True)
        try:
            return optuna.storages.RDBStorage(url)
        except Exception as error:
            raise StorageError(f"cannot open the Optuna storage {url}: {_first_line(error)}") from error
    if Path(url).suffix not in _JOURNALS:
        raise CallerError(
            f"Optuna storage {url!r}: expected an address such as sqlite:///study.db, or a journal file that ends in "
            + " or ".join(_JOURNALS)
        )
    from optuna.storages.journal import JournalFileBackend

    Path(url).absolute().parent.mkdir(parents=True, exist_ok=True)
    return optuna.storages.JournalStorage(JournalFileBackend(url))


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def write_study(sweep: Sweep, url: str, *, name: str | None = None, progress: Progress | None = None) -> int:
    """Writes a sweep as a new study; the number of its trials is returned.

    A stopped trial is PRUNED, with the values of its epochs; a failed one is FAIL; one that has not ended is
    RUNNING, or WAITING before its first attempt. The value of a completed trial is its best epoch's. What Optuna has no
    place for stands in user attributes: reason, budget, seed and the other metrics.

    Args:
        sweep: what to write.
        url: see `storage`.
        name: of the study; None: the sweep's.
        progress: is told how far the work has come.

    Raises:
        CallerError: a study of that name is there already, or the sweep has no objective.
        StorageError: the storage cannot be written; a study half-written is taken away.
    """
    import optuna

    name = name or sweep.name
    objectives = sweep.schema.objectives
    if not objectives:
        raise CallerError(f"sweep {sweep.name!r} has no objective, and Optuna has no study without one")
    trials = _frozen_trials(sweep)
    place = storage(url)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            study = optuna.create_study(
                storage=place,
                study_name=name,
                directions=["minimize" if goal == "min" else "maximize" for _, goal in objectives],
            )
        except optuna.exceptions.DuplicatedStudyError:
            raise CallerError(
                f"a study {name!r} is in {url} already; give another place, or a name with --name"
            ) from None
        except Exception as error:
            raise StorageError(f"cannot write to the Optuna storage {url}: {_first_line(error)}") from error
        try:
            study.set_metric_names([metric for metric, _ in objectives])
            for start in range(0, len(trials), BATCH):
                study.add_trials(trials[start : start + BATCH])
                if progress:
                    progress(f"study {name}", min(start + BATCH, len(trials)), len(trials))
        except BaseException as error:
            optuna.delete_study(study_name=name, storage=place)
            if isinstance(error, Exception):
                raise StorageError(f"cannot write to the Optuna storage {url}: {_first_line(error)}") from error
            raise
    return len(trials)


def _frozen_trials(sweep: Sweep) -> list["FrozenTrial"]:
    rows = sweep.arrow("trials").sort_by("trial").to_pylist()
    points = [{n.removeprefix(CONFIG): v for n, v in r.items() if n.startswith(CONFIG) and v is not None} for r in rows]
    spaces = distributions(points)
    metric = sweep.schema.objectives[0][0]
    curves: dict[int, dict[int, float]] = defaultdict(dict)
    if len(sweep.schema.objectives) == 1:  # Optuna keeps curves of studies with one objective only
        epochs = sweep.arrow("epochs", ["trial", "epoch", metric])
        columns = (epochs[name].to_pylist() for name in ("trial", "epoch", metric))
        for number, epoch, value in zip(*columns, strict=True):
            if value is not None:
                curves[number][epoch] = value
    logging.getLogger(__name__).debug("%d trials of %s go to Optuna", len(rows), sweep.name)
    return [_frozen(sweep, row, point, spaces, curves[row["trial"]]) for row, point in zip(rows, points, strict=True)]


def _frozen(
    sweep: Sweep,
    row: Mapping[str, Any],
    point: Mapping[str, Any],
    spaces: Mapping[str, "BaseDistribution"],
    curve: Mapping[int, float],
) -> "FrozenTrial":
    from optuna.trial import FrozenTrial, TrialState

    values = [row[metric] for metric, _ in sweep.schema.objectives]
    scored = all(value is not None and math.isfinite(value) for value in values)
    states = {
        "completed": TrialState.COMPLETE if scored else TrialState.FAIL,
        "stopped": TrialState.PRUNED,
        "failed": TrialState.FAIL,
        "proposed": TrialState.WAITING,
    }
    state = states.get(row["state"], TrialState.RUNNING)
    kept = (
        "state",
        "reason_kind",
        "reason",
        "seed",
        "origin",
        "bracket",
        "attempts",
        "epochs",
        "best_epoch",
        "train_s",
    )
    attributes = {name: row[name] for name in (*kept, *sweep.schema.metrics) if row[name] not in (None, "")}
    start = row["started"] or row["time"]
    return FrozenTrial(
        number=row["trial"],
        trial_id=-1,  # the storage gives it one
        state=state,
        value=None,
        values=values if state == TrialState.COMPLETE else None,
        datetime_start=None if state == TrialState.WAITING else _local(start),
        datetime_complete=_local(row["ended"] or row["time"]) if state.is_finished() else None,
        params=dict(point),
        distributions={name: spaces[name] for name in point},
        user_attrs={"trial": f"{sweep.name}/{row['trial']}"} | attributes,
        system_attrs={},
        intermediate_values=dict(curve),
    )


def _local(time: Any) -> Any:
    """Returns a time as Optuna has it: the local clock, without a zone."""
    return time.astimezone().replace(tzinfo=None)
