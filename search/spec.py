"""What a sweep is asked to do: the content of a sweep file, read and checked.

One frozen dataclass a table of the file; `SweepSpec` holds those of `[sweep]` itself. Each field says its key in the
file, how it is read, what it means and whether it may be changed later: `docs/sweeps.md` is checked against that.
`search.sweep_file` reads and writes them.
"""

import dataclasses
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from search.errors import SpecError, did_you_mean
from search.fields import (
    NAME,
    SIZE,
    TEXT,
    TEXTS,
    TIME,
    Kind,
    When,
    is_number,
    key,
    list_of,
    number,
    one_of,
    shown,
    text,
    violations,
    whole,
)

Goal = Literal["min", "max"]
Backend = Literal["tensorflow", "jax"]
SearcherKind = Literal["tpe", "random", "qmc", "cmaes", "nsga2"]
SchedulerKind = Literal["asha", "asha_promotion", "hyperband", "median", "none"]

NotifyEvent = Literal["finished", "failed", "budget", "stopped"]
EnsembleKind = Literal["none", "seeds", "tied"]
FinalRule = Literal["tied_cheapest", "one_standard_error", "best_mean"]
"""Rules of `results.statistics`, which is not imported for their names: it would bring numpy to every `--help`."""

SCALES = ("linear", "log", "reverse_log")
LARGEST_SEED = 2**32 - 1
POSITIVE = number(0, low_open=True)


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What to look for.

    Attributes:
        metric: name of one of the task's metrics.
        goal: `min` or `max`; `None` is the goal that the task declares for the metric.
    """

    metric: str
    goal: Goal | None = None

    def __str__(self) -> str:
        return f"{self.metric} {self.goal}" if self.goal else self.metric


def _objective(value: object) -> Objective:
    words = text(value).split()
    if len(words) > 2 or (len(words) == 2 and words[1] not in get_args(Goal)):
        raise ValueError(f'got {shown(value)}, expected a metric and min or max, such as "val_loss min"')
    return Objective(metric=words[0], goal=words[1] if len(words) == 2 else None)  # pyright: ignore[reportArgumentType]


def _objectives(value: Any) -> tuple[Objective, ...]:
    objectives = list_of(_objective, 'texts such as "val_loss min"')(value)
    if not objectives:
        raise ValueError('got an empty list, expected at least one, such as ["val_loss min"]')
    metrics = [objective.metric for objective in objectives]
    twice = {metric for metric in metrics if metrics.count(metric) > 1}
    if twice:
        raise ValueError(f"got {sorted(twice)[0]} twice, expected each metric once")
    return objectives


def _costs(value: Any) -> tuple[Objective, ...]:
    return list_of(_objective, 'texts such as "notes_per_s max"')(value)


def _task(value: object) -> str:
    path = text(value)
    module, colon, name = path.rpartition(":")
    if not colon or not module or not name.isidentifier():
        raise ValueError(f'got {shown(path)}, expected "module:Class" or "path/to/file.py:Class"')
    return path


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"got {shown(value)}, expected true or false")
    return value


def _command(value: Any) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(text(value))) if isinstance(value, str) else list_of(text, "texts")(value)
    except ValueError as error:
        if "quotation" in str(error) or "escaped" in str(error):
            raise ValueError(f"got {shown(value)}: {error}") from None
        raise
    if any("\0" in word for word in words):
        raise ValueError(f"got {shown(value)}, expected texts without a zero byte")
    return words


def _events(value: Any) -> tuple[str, ...]:
    events = list_of(one_of(NotifyEvent).read, "names of events")(value)
    if not events:
        raise ValueError("got an empty list, expected at least one event; leave command out to be told of none")
    return tuple(dict.fromkeys(events))


COMMAND = Kind(name="a text as a shell would split it, or a list of texts", read=_command, write=list)
EVENTS = Kind(name="a list of " + ", ".join(f'"{event}"' for event in get_args(NotifyEvent)), read=_events, write=list)
OBJECTIVES = Kind(
    name='a list of texts such as "val_loss min"', read=_objectives, write=lambda value: [str(item) for item in value]
)
COSTS = Kind(
    name='a list of texts such as "notes_per_s max"', read=_costs, write=lambda value: [str(item) for item in value]
)
FLAG = Kind(name="true or false", read=_flag)
TASK = Kind(name="`module:Class` or `path/to/file.py:Class`", read=_task)


class _Checked:
    """Refuses values that are impossible by themselves."""

    def __post_init__(self):
        if problems := list(violations(self)):
            raise SpecError(f"{type(self).__name__}: impossible values", problems)


@dataclass(frozen=True, kw_only=True)
class Point:
    """A configuration to try before the searcher proposes any.

    Attributes:
        preset: a point that the task names, or `None`.
        values: parameter -> value; laid over the preset's. What both leave out has its default.
    """

    preset: str | None = None
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SearcherSettings(_Checked):
    """`[searcher]`: how configurations are proposed."""

    kind: SearcherKind = key("kind", one_of(SearcherKind), "tpe", "what proposes the next configuration")
    startup_trials: int = key(
        "startup_trials", whole(0), 10, "configurations drawn at random before the searcher learns from results"
    )


@dataclass(frozen=True, kw_only=True)
class SchedulerSettings(_Checked):
    """`[scheduler]`: which trials are stopped before their last epoch. It looks at the first objective."""

    kind: SchedulerKind = key("kind", one_of(SchedulerKind), "asha", "what decides on stopping")
    first_rung: int = key(
        "first_rung", whole(0), 0, "no trial is stopped before this epoch; 0: as early as the task finds it fair"
    )
    reduction: int = key("reduction", whole(2), 3, "one trial in so many goes on from a rung to the next")
    brackets: int = key("brackets", whole(1), 1, "trials are dealt out over so many brackets, each begins a rung later")
    audit_share: float = key(
        "audit_share", number(0, 1), 0.05, "share of stopped trials that run on, to see how often stopping was wrong"
    )


@dataclass(frozen=True, kw_only=True)
class ResourceSettings(_Checked):
    """`[resources]`: what one trial gets."""

    cpus: float = key("cpus", POSITIVE, 1.0, "cores of a trial", change=When.RESUME)
    gpus: float = key("gpus", number(0), 0.0, "GPUs of a trial; 0.25: four trials share one", change=When.RESUME)
    memory_limit_bytes: int = key(
        "memory_limit", SIZE, 4 * 10**9, "a worker above it is replaced by a fresh one", change=When.RESUME
    )
    retries: int = key(
        "retries", whole(0), 2, "a trial that failed through its own fault is begun so often again", change=When.RESUME
    )


@dataclass(frozen=True, kw_only=True)
class CheckpointSettings(_Checked):
    """`[checkpoints]`: how much work may be lost, and how much disk that may take."""

    every_s: float = key(
        "every", TIME, 20.0, "a trial that is lost loses at most so much training, or one epoch", change=When.RESUME
    )
    keep_best: int = key(
        "keep_best", whole(0), 1, "so many best trials of the sweep keep their checkpoint", change=When.RESUME
    )
    disk_bytes: int = key("disk", SIZE, 10 * 10**9, "all checkpoints together stay below it", change=When.RESUME)


@dataclass(frozen=True, kw_only=True)
class FinalSettings(_Checked):
    """`[final]`: the final job, which trains the best configurations anew and opens the test split once."""

    models: int = key(
        "models", whole(0), 1, "so many best configurations are trained anew; 0: no final job", change=When.RESUME
    )
    seeds: int = key("seeds", whole(1), 1, "fresh seeds for each of them", change=When.RESUME)
    epochs: int = key("epochs", whole(0), 0, "epochs of a final training; 0: as in the sweep", change=When.RESUME)
    apart: float = key(
        "apart",
        number(0, 1),
        0.05,
        "so far apart they have to be; 1: nothing is alike, 0: any difference will do",
        change=When.RESUME,
    )
    rule: FinalRule = key(
        "rule",
        one_of(FinalRule),
        "tied_cheapest",
        "which is chosen: the cheapest of those tied with the best, or of those within a standard error of it, "
        "or the best mean",
        change=When.RESUME,
    )
    costs: tuple[Objective, ...] = key(
        "costs",
        COSTS,
        (),
        "metrics with `min` or `max` that say what is cheap, the first counts most; empty: as the task says",
        change=When.RESUME,
    )
    samples: int = key(
        "samples",
        whole(0),
        1,
        "pieces of each sort that the chosen model, and those tied with it, make; 0: none",
        change=When.RESUME,
    )
    sweeps: tuple[str, ...] = key(
        "sweeps",
        TEXTS,
        (),
        "other sweeps of the same task and data, by name or folder, whose trials are candidates too",
        change=When.RESUME,
    )
    racing: int = key(
        "racing",
        whole(0),
        0,
        "so many more trainings at most, with fresh seeds for those between which it is not decided",
        change=When.RESUME,
    )
    wall_time_s: float | None = key(
        "wall_time", TIME, None, "budget of racing: none is begun once trainings have taken so long", change=When.RESUME
    )
    whole: bool = key(
        "whole",
        FLAG,
        False,
        "whether the chosen configuration is trained once more, on train and valid, to be shipped",
        change=When.RESUME,
    )
    ensemble: EnsembleKind = key(
        "ensemble",
        one_of(EnsembleKind),
        "none",
        "of what several models are made one, shipped if it is better: all seeds of the chosen configuration, "
        "or the best model of each that is tied with the best",
        change=When.RESUME,
    )


@dataclass(frozen=True, kw_only=True)
class NotifySettings(_Checked):
    """`[notify]`: a command that is told, as JSON on its stdin, how the sweep has ended."""

    command: tuple[str, ...] = key(
        "command",
        COMMAND,
        (),
        "a program with its arguments, run without a shell; one with `/` in it is seen from the sweep file; "
        "empty: nobody is told",
        change=When.RESUME,
    )
    on: tuple[NotifyEvent, ...] = key("on", EVENTS, get_args(NotifyEvent), "what it is told of", change=When.RESUME)
    timeout_s: float = key("timeout", TIME, 30.0, "if it takes longer, it is ended", change=When.RESUME)


@dataclass(frozen=True, kw_only=True)
class SweepSpec(_Checked):
    """A sweep, as a sweep file asks for it.

    `name`, `task` and `objectives` must be given, and at least one of `trials`, `wall_time_s`, `gpu_hours` and `money`;
    whichever is used up first ends the sweep. `search.sweep_file.load` reads and checks one; made by hand, it is
    checked as well.

    Attributes:
        options: `[task]`, keyword arguments for the task's class.
        space: `[space]`, parameter -> a value (pinned), `{"choice": [...]}`, or `{"low":, "high":, "scale":}`, any of
            which may be left out.
        points: `[[points]]`, tried first, in this order.
        folder: paths of task files are relative to it; that of the sweep file, "" for the current one.
    """

    name: str = key("name", NAME, None, "of the sweep and its folder; the file's own name if not given", required=True)
    task: str = key("task", TASK, None, "what to train: `module:Class`, or `path/to/file.py:Class`", required=True)
    objectives: tuple[Objective, ...] = key(
        "objectives", OBJECTIVES, None, "metrics with `min` or `max`; stopping follows the first", required=True
    )
    trials: int | None = key("trials", whole(1), None, "budget: trials", change=When.RESUME)
    epochs: int = key("epochs", whole(1, 1_000_000), 10, "epochs of a trial that nothing stops", change=When.EXTEND)
    wall_time_s: float | None = key("wall_time", TIME, None, "budget: time that the sweep runs", change=When.RESUME)
    gpu_hours: float | None = key(
        "gpu_hours", POSITIVE, None, "budget: hours of GPUs that trials hold", change=When.RESUME
    )
    money: float | None = key("money", POSITIVE, None, "budget: money; needs `price_per_hour`", change=When.RESUME)
    price_per_hour: float | None = key(
        "price_per_hour",
        POSITIVE,
        None,
        "of one GPU; of one core where trials use no GPU",
        change=When.RESUME,
    )
    trial_time_s: float | None = key(
        "trial_time",
        TIME,
        None,
        "a trial that takes longer in one attempt has failed; one that is taken up again has as long anew",
        change=When.RESUME,
    )
    seed: int = key("seed", whole(0, LARGEST_SEED), 1, "same seed, same proposals, if one trial runs at a time")
    storage: str = key("storage", TEXT, "runs", "where the sweep's folder lies: a folder, `s3://…` or `gs://…`")
    concurrency: int = key(
        "concurrency", whole(0), 0, "trials at a time; 0: as many as cores and GPUs allow", change=When.RESUME
    )
    backend: Backend = key("backend", one_of(Backend), "tensorflow", "Keras's backend in the workers")
    warm_start: tuple[str, ...] = key("warm_start", TEXTS, (), "folders of earlier sweeps to learn from")
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    searcher: SearcherSettings = dataclasses.field(default_factory=SearcherSettings)
    scheduler: SchedulerSettings = dataclasses.field(default_factory=SchedulerSettings)
    resources: ResourceSettings = dataclasses.field(default_factory=ResourceSettings)
    checkpoints: CheckpointSettings = dataclasses.field(default_factory=CheckpointSettings)
    space: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    points: tuple[Point, ...] = ()
    final: FinalSettings = dataclasses.field(default_factory=FinalSettings)
    notify: NotifySettings = dataclasses.field(default_factory=NotifySettings)
    folder: str = ""

    def __post_init__(self):
        super().__post_init__()
        problems = [sentence for _, sentence in conflicts(self)]
        for parameter, wanted in self.space.items():
            problems += [f"[space] {parameter}: {problem}" for problem in narrowing_problems(wanted)]
        if problems:
            raise SpecError(f"sweep {shown(self.name)}: impossible values", problems)


TABLES: Mapping[str, type] = {
    "sweep": SweepSpec,
    "searcher": SearcherSettings,
    "scheduler": SchedulerSettings,
    "resources": ResourceSettings,
    "checkpoints": CheckpointSettings,
    "final": FinalSettings,
    "notify": NotifySettings,
}
"""Tables of the sweep file whose keys are declared -> their dataclass; each is also the name of the field it fills."""
FREE_TABLES = ("task", "space", "points")
"""Tables whose keys the task decides on."""


def conflicts(spec: Any) -> Iterator[tuple[frozenset[str], str]]:
    """Yields what does not go together in a sweep, as the fields that it is about and a sentence.

    Args:
        spec: a `SweepSpec`, or anything with its attributes.
    """
    budgets = ("trials", "wall_time_s", "gpu_hours", "money")
    if all(getattr(spec, name) is None for name in budgets):
        yield (
            frozenset(budgets),
            "[sweep] no budget: got none of trials, wall_time, gpu_hours and money, expected at least one; "
            'add for example wall_time = "1 h"',
        )
    if spec.money is not None and spec.price_per_hour is None:
        yield (
            frozenset({"money", "price_per_hour"}),
            "[sweep] money: got no price_per_hour with it, expected one; "
            "add what an hour of one GPU costs (of one core, where trials use no GPU)",
        )
    if spec.gpu_hours is not None and spec.resources.gpus == 0:
        yield (
            frozenset({"gpu_hours", "resources"}),
            "[sweep] gpu_hours: the trials hold no GPU, so the budget would never be used up; "
            "set gpus in [resources], or give wall_time instead",
        )
    if spec.resources.gpus > 1 and spec.resources.gpus != int(spec.resources.gpus):
        yield (
            frozenset({"resources"}),
            f"[resources] gpus: got {spec.resources.gpus:g}, expected a part of one GPU or a whole number of them",
        )
    if spec.searcher.kind == "cmaes" and len(spec.objectives) > 1:
        yield (
            frozenset({"searcher", "objectives"}),
            f'[searcher] kind: "cmaes" follows one objective, got {len(spec.objectives)}; use "nsga2" or "tpe"',
        )
    if spec.final.whole and spec.final.ensemble != "none":
        yield (
            frozenset({"final"}),
            f'[final] whole: got true together with ensemble = "{spec.final.ensemble}", expected one of them; whether '
            "an ensemble is better is seen on valid, which models that are trained on it cannot tell",
        )
    if spec.scheduler.first_rung > spec.epochs:
        yield (
            frozenset({"scheduler", "epochs"}),
            f"[scheduler] first_rung: got {spec.scheduler.first_rung}, expected at most the {spec.epochs} epochs "
            "of a trial",
        )


def narrowing_problems(wanted: Any) -> Iterator[str]:
    """Yields what is wrong with what a sweep file wants of a parameter, apart from whether there is such a one."""
    if isinstance(wanted, str | bool) or is_number(wanted):
        return
    if not isinstance(wanted, Mapping):
        yield f"got {shown(wanted)}, expected a value, {{ choice = [...] }} or {{ low = ..., high = ... }}"
        return
    known = {"choice", "low", "high", "scale"}
    unknown = [name for name in wanted if name not in known]
    if unknown and all(isinstance(wanted[name], Mapping) for name in unknown):
        yield f'got a table with the key {unknown[0]!r}; put names with dots in quotes, such as "train.rate" = 0.1'
        return
    for name in unknown:
        yield f"unknown key {name!r}{did_you_mean(name, known)}"
    if unknown:
        return
    if "choice" in wanted:
        yield from _choice_problems(wanted)
    else:
        yield from _range_problems(wanted)


def _choice_problems(wanted: Mapping[str, Any]) -> Iterator[str]:
    options = wanted["choice"]
    if len(wanted) > 1:
        other = next(name for name in wanted if name != "choice")
        yield f"got choice together with {other}, expected either a choice or low and high"
    if not isinstance(options, list | tuple):
        yield f"choice: got {shown(options)}, expected a list in square brackets"
    elif not options:
        yield "choice: got an empty list, expected at least one value"
    elif any(not (isinstance(option, str | bool) or is_number(option)) for option in options):
        yield f"choice: got {shown(list(options))}, expected texts, finite numbers, true or false"
    elif len({(type(option), option) for option in options}) < len(options):
        yield f"choice: got {shown(list(options))}, expected each value once"


def _range_problems(wanted: Mapping[str, Any]) -> Iterator[str]:
    low, high = wanted.get("low"), wanted.get("high")
    scale = wanted.get("scale", "linear")
    if not wanted:
        yield "got an empty table, expected choice, or low and high"
    for name in ("low", "high"):
        if name in wanted and not is_number(wanted[name]):
            yield f"{name}: got {shown(wanted[name])}, expected a finite number"
            return
    if scale not in SCALES:
        yield f"scale: got {shown(scale)}, expected one of {', '.join(SCALES)}"
    if low is not None and high is not None and low > high:
        yield f"low above high: got low = {low} and high = {high}, expected low first; swap them"
    if scale in SCALES[1:] and low is not None and low <= 0:
        yield f"log scale from {low}: got low = {low}, expected more than 0"
