"""How much a sweep will take: epochs by simulating its scheduler, time and money from what earlier sweeps measured."""

import json
import math
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from results.errors import ResultsError
from results.ledger import Ledger
from results.storage import Storage
from search.scheduler import Scheduler
from search.shares import fitting, priced
from search.simulation import Curve, Simulation, simulate
from search.spec import SweepSpec

MOST_TRIALS = 20_000
MOST_EPOCHS = 500_000
"""No more is simulated, or a plan would take too long; the rest is taken to go on in the same way."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What trials of the same task took in earlier sweeps.

    Attributes:
        epoch_s: mean duration of an epoch.
        start_s: mean time from handing out a trial to its first epoch.
        epochs: how many were measured.
        sweeps: names of the sweeps.
    """

    epoch_s: float
    start_s: float
    epochs: int
    sweeps: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a sweep will come to.

    Attributes:
        trials: that will have been begun; `None` if that depends on the time of an epoch, which nobody has measured.
        epochs_most: of all trials if nothing is stopped; `None` as above.
        epochs: to be expected with the scheduler, if trials keep their order over the epochs; `None` as above.
        wall_s: how long it will run; `None` as above.
        worker_s: how long all workers together will be busy; `None` as above.
        gpu_hours: of GPUs held; `None` as above.
        money: `None` without a price, or as above.
    """

    trials: int | None
    epochs_most: int | None
    epochs: int | None
    wall_s: float | None
    worker_s: float | None
    gpu_hours: float | None
    money: float | None


@dataclass(frozen=True, kw_only=True)
class FinalForecast:
    """What the trainings of a final job will come to; scoring and samples are not reckoned.

    Attributes:
        trainings: of the configurations with their first seeds.
        trainings_most: with all that racing may add, and one on all data if that is asked for.
        epochs: of each training.
        wall_s: how long all of `trainings_most` take; `None` if nobody has measured an epoch. So for the next two.
        gpu_hours: of GPUs held.
        money: `None` without a price, too.
    """

    trainings: int
    trainings_most: int
    epochs: int
    wall_s: float | None
    gpu_hours: float | None
    money: float | None


def measured(spec: SweepSpec) -> Measured | None:
    """Returns what sweeps of the same task, options, backend and GPUs took, beside which this one will lie; or None."""
    place, durations, starts, names = Storage(spec.storage), [], [], []
    try:
        folders = place.names()
    except (ResultsError, OSError):
        return None
    for folder in folders:
        try:
            if _is_alike(json.loads(place.read(f"{folder}/sweep.json")), spec):
                ledger = Ledger(place.child(folder))
                epochs = [s for s in ledger.table("epochs").column("duration_s").to_pylist() if s is not None]
                ends = ledger.table("attempt_ends")
                waits = zip(ends.column("wait_s").to_pylist(), ends.column("start_s").to_pylist(), strict=True)
                starts += [(wait or 0.0) + start for wait, start in waits if start is not None]
                durations += epochs
                names += [folder] if epochs else []
        except (ResultsError, OSError, ValueError, KeyError, TypeError):
            continue  # no sweep, or one that cannot be read: nothing to learn from
    if not durations:
        return None
    start_s = sum(starts) / len(starts) if starts else 0.0
    return Measured(
        epoch_s=sum(durations) / len(durations), start_s=start_s, epochs=len(durations), sweeps=tuple(names)
    )


def _is_alike(document: dict, spec: SweepSpec) -> bool:
    sweep, gpus = document["sweep"], document["resources"]["gpus"]
    same = (sweep["task"], sweep["backend"], document["task"]) == (spec.task, spec.backend, dict(spec.options))
    return same and (gpus > 0) == (spec.resources.gpus > 0)


def workers(spec: SweepSpec) -> int:
    """Returns how many trials will run at a time on this machine."""
    if spec.concurrency:
        return spec.concurrency
    gpus = len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
    return fitting(spec.resources, cpus=len(os.sched_getaffinity(0)), gpus=gpus)


def forecast(spec: SweepSpec, make_scheduler: Callable[[], Scheduler], known: Measured | None) -> Forecast:
    """Returns what a sweep will come to: its course in virtual time, with trials of random but lasting quality.

    Args:
        spec: the sweep.
        make_scheduler: makes its scheduler, fresh.
        known: what an epoch takes, or None.
    """
    if known is None and spec.trials is None:
        nothing = dict.fromkeys(("trials", "epochs_most", "epochs", "wall_s", "worker_s", "gpu_hours", "money"))
        return Forecast(**nothing)
    epoch_s, start_s = (known.epoch_s, known.start_s) if known else (1.0, 0.0)
    budget_s = _budget_s(spec) if known else float("inf")
    least = max(budget_s, 0.0) / max(epoch_s, 1e-9)
    wanted = spec.trials or MOST_TRIALS
    limit = min(wanted, MOST_TRIALS, max(1, MOST_EPOCHS // spec.epochs))
    rng = random.Random(spec.seed)
    costs = (start_s + epoch_s, *(epoch_s,) * (spec.epochs - 1))

    def propose(trial: int) -> Curve:
        quality = rng.random()
        return Curve(losses=(quality,) * spec.epochs, costs=costs)

    if least <= 0:
        limit = 0
    course = simulate(make_scheduler(), propose, workers=workers(spec), num_trials=limit, max_cost=budget_s)
    more = _times_more(wanted, course, budget_s)
    begun = round(len(course.runs) * more)
    wall_s, busy_s = (course.time * more, course.cost * more) if known else (None, None)
    hours = None if busy_s is None else busy_s / 3600
    return Forecast(
        trials=begun,
        epochs_most=begun * spec.epochs,
        epochs=round(course.epochs * more),
        wall_s=wall_s,
        worker_s=busy_s,
        gpu_hours=None if hours is None else hours * spec.resources.gpus,
        money=_money(spec, hours),
    )


def final_forecast(spec: SweepSpec, known: Measured | None) -> FinalForecast | None:
    """Returns what the trainings of a sweep's final job will come to; None if it has none.

    Args:
        spec: the sweep.
        known: what an epoch takes, or None.
    """
    final = spec.final
    trainings = final.models * final.seeds
    if not trainings:
        return None
    most = trainings + (final.racing if final.models > 1 else 0) + final.whole
    epochs = final.epochs or spec.epochs
    one_s = None if known is None else known.start_s + epochs * known.epoch_s
    hours = None if one_s is None else most * one_s / 3600
    return FinalForecast(
        trainings=trainings,
        trainings_most=most,
        epochs=epochs,
        wall_s=None if one_s is None else math.ceil(most / workers(spec)) * one_s,
        gpu_hours=None if hours is None else hours * spec.resources.gpus,
        money=_money(spec, hours),
    )


def _times_more(wanted: int, course: Simulation, budget_s: float) -> float:
    """Returns how much longer a sweep goes on than its simulated course, in the same way."""
    if not course.runs or len(course.runs) >= wanted or course.cost >= budget_s:
        return 1.0
    return min(wanted / len(course.runs), budget_s / course.cost if course.cost else math.inf)


def _money(spec: SweepSpec, hours: float | None) -> float | None:
    """What so many hours of one worker cost; `None` if nobody knows."""
    if hours is None or spec.price_per_hour is None:
        return None
    return hours * priced(spec.resources) * spec.price_per_hour


def _budget_s(spec: SweepSpec) -> float:
    """How long all workers together may be busy."""
    limits = [float("inf")]
    if spec.wall_time_s is not None:
        limits.append(spec.wall_time_s * workers(spec))
    if spec.gpu_hours is not None:
        limits.append(spec.gpu_hours * 3600 / spec.resources.gpus)
    if spec.money is not None and spec.price_per_hour is not None:
        limits.append(spec.money / spec.price_per_hour * 3600 / priced(spec.resources))
    return min(limits)
