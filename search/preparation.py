"""From a sweep file to what conducts it: the task it names, the space, points, searcher, scheduler, conductor."""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from results.ledger import Ledger
from results.schema import Parameter, SweepSchema
from search import warm_start
from search.conductor import Conductor, FirstPoint
from search.errors import SpaceError, SpecError, TaskError, did_you_mean
from search.fields import is_number
from search.folders import folder_of
from search.native_output import muffled, printed_aside
from search.origins import Data
from search.scheduler import Scheduler, SchedulerSettings, create
from search.searcher import Searcher
from search.space import Space
from search.spec import Point, SweepSpec
from search.task import asked, check_final, costs, declared, goals, load_task
from search.warm_start import Lesson


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """A sweep file together with what it names: the task made, the space explored and narrowed, points completed.

    Attributes:
        space: as narrowed.
        schema: of the ledger.
        points: tried first.
    """

    spec: SweepSpec
    task: Any
    space: Space
    schema: SweepSchema
    points: tuple[FirstPoint, ...]


def prepare(spec: SweepSpec) -> Prepared:
    """Returns the sweep with all that it names looked up and checked; nothing is started or written.

    Raises:
        TaskError: the task cannot be had, or its metrics do not fit the objectives.
        SpecError: the space cannot be narrowed so, or has no such points; the message has every mistake found.
    """
    # To hear what varies, the driver may have to import Keras: on the workers' backend, without TensorFlow's greetings.
    os.environ.setdefault("KERAS_BACKEND", spec.backend)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with muffled(), printed_aside():
        task = load_task(spec.task, spec.options, folder=spec.folder)
        metrics = declared(spec.task, task)
        space = Space.explore(task.space)
        _refuse(spec, [f"[space] {problem}" for problem in space.problems(spec.space)])
        space = space.narrowed(spec.space)
    schema = SweepSchema(
        sweep=spec.name,
        parameters={name: Parameter(kind) for name, kind in space.kinds.items()},
        metrics=metrics,
        scores=declared(spec.task, task, "scores"),
        measures=declared(spec.task, task, "measures"),
        objectives=goals(spec.task, metrics, spec.objectives),
    )
    costs(spec.task, task, metrics, spec.final.costs)
    if spec.final.models:
        check_final(spec, task)
    if not warm_start.is_kept(spec, folder_of(spec)):
        for uri in spec.warm_start:
            if theirs := other_data(warm_start.teacher(uri, schema), spec, task):
                raise SpecError(f"warm_start: the sweep at {uri} {theirs}; leave it out")
    return Prepared(spec=spec, task=task, space=space, schema=schema, points=tuple(_points(spec, task, space)))


def _refuse(spec: SweepSpec, problems: Sequence[str]) -> None:
    """Raises what is wrong with a sweep, if anything is."""
    if problems:
        count = len(problems)
        raise SpecError(f"sweep {spec.name}: {count} mistake{'s' if count > 1 else ''}; nothing was started", problems)


def _points(spec: SweepSpec, task: Any, space: Space) -> Iterator[FirstPoint]:
    if not spec.points:
        return
    named = asked(spec.task, task, "points", otherwise={})
    if not isinstance(named, Mapping):
        raise TaskError(
            f"task {spec.task!r}: points: got {type(named).__name__}, expected a mapping of names to values"
        )
    problems = []
    for number, point in enumerate(spec.points, 1):
        try:
            yield _point(point, named, space)
        except SpaceError as error:
            problems.append(f"[[points]] {number}: {error}")
    _refuse(spec, problems)


def _point(point: Point, named: Mapping[str, Mapping[str, Any]], space: Space) -> FirstPoint:
    values: dict[str, Any] = {}
    if point.preset is not None:
        if point.preset not in named:
            raise SpaceError(f"preset: the task has no point {point.preset!r}{did_you_mean(point.preset, named)}")
        values |= named[point.preset]
    values |= point.values
    origin = "point" if point.preset is None else f"point:{point.preset}"
    return FirstPoint(values=space.point(values), origin=origin)


def first_rung(prepared: Prepared, values: Mapping[str, Any]) -> int:
    """Returns the epoch before which a configuration is not judged: the file's, or what the task says of it."""
    spec = prepared.spec
    if spec.scheduler.first_rung or not hasattr(prepared.task, "first_rung"):
        return max(1, spec.scheduler.first_rung)
    epoch = asked(spec.task, prepared.task, "first_rung", values, otherwise=1)
    if not is_number(epoch):
        raise TaskError(f"task {spec.task!r}: first_rung: got {epoch!r}, expected the number of an epoch")
    return max(1, min(int(epoch), spec.epochs))


def make_scheduler(prepared: Prepared) -> Scheduler:
    """Returns the scheduler that the sweep asks for; its rungs begin where the space's defaults can be judged."""
    spec = prepared.spec
    return create(
        SchedulerSettings(
            kind=spec.scheduler.kind,
            first_rung=first_rung(prepared, prepared.space.defaults()),
            reduction=spec.scheduler.reduction,
            brackets=spec.scheduler.brackets,
            max_epochs=spec.epochs,
            audit_share=spec.scheduler.audit_share,
            seed=spec.seed,
        )
    )


def make_searcher(prepared: Prepared, lessons: Sequence[Lesson] | None = None) -> Searcher:
    """Returns the searcher that the sweep asks for, warm from earlier sweeps if it names any.

    Args:
        prepared: from `prepare`.
        lessons: what it learns from them; None: see `search.warm_start.lessons`.
    """
    spec = prepared.spec
    searcher = Searcher(prepared.space, spec.searcher, [goal for _, goal in prepared.schema.objectives], seed=spec.seed)
    if lessons is None:
        lessons = warm_start.lessons(spec, folder_of(spec), prepared.schema)
    warm_start.learn(searcher, lessons)
    return searcher


def other_data(ledger: Ledger, spec: SweepSpec, task: Any) -> str:
    """Returns how the data that a sweep was trained on last differ from those that a task has, "" if they do not."""
    told = asked(spec.task, task, "data", otherwise=None)
    rows = ledger.table("sessions", ["data", "data_fingerprint"]).to_pylist()
    if told is None or not rows:
        return ""
    mine, theirs = Data(*told), Data.of(rows[-1])
    if mine.fingerprint == theirs.fingerprint:
        return ""
    return f"was trained on {theirs}, and the task has {mine} now; scores on different data are never ranked together"


def make_conductor(
    prepared: Prepared,
    writer: Any,
    *,
    session: int,
    concurrency: int,
    searcher: Searcher | None = None,
    scheduler: Scheduler | None = None,
    **options: Any,
) -> Conductor:
    """Returns the conductor of a sweep, before any event; with the sweep's own searcher and scheduler, if not given."""
    spec = prepared.spec
    return Conductor(
        spec=spec,
        schema=prepared.schema,
        writer=writer,
        session=session,
        searcher=searcher or make_searcher(prepared),
        scheduler=scheduler or make_scheduler(prepared),
        first_rung=lambda values: first_rung(prepared, values),
        points=prepared.points,
        concurrency=concurrency,
        **options,
    )
