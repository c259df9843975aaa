"""What a sweep asks of a task: the protocol, and how a task is made from its import path.

A task is any class with these members; it need not import anything of ours:

    class Spirals:
        metrics = {"loss": ("nats", "cross-entropy of the held-out points", "min")}

        def space(self, hp):
            hp.Float("rate", 1e-4, 1e-1, sampling="log")

        def start(self, values, *, epochs, seed):
            return Run(values["rate"], seed)        # with a method epoch() -> {"loss": 0.3}
"""

import importlib
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol, runtime_checkable

from results.errors import SchemaError
from results.schema import TABLES, Goal, Measure
from search.errors import SearchError, TaskError, did_you_mean
from search.native_output import printed_aside
from search.spec import Objective, SweepSpec

TEST, VALID = "test", "valid"
"""The split that is opened for what was chosen, and the one that models are compared on."""


@runtime_checkable
class TaskRun(Protocol):
    """One training.

    Two more methods make it robust; a run has both or none. Without them a trial that loses its worker starts over.

    - `save(folder: Path) -> None` writes all that is needed to go on into an empty folder;
    - `restore(folder: Path) -> None` brings a run that was just started to where another one was when it saved. The
      epochs after that are those that the other one would have run.
    """

    def epoch(self) -> Mapping[str, float]:
        """Trains for one epoch more and returns the task's metrics."""
        ...


@runtime_checkable
class Task(Protocol):
    """What is trained, in many variants.

    A task is made as `Class(**options)`, on the driver and once in every worker process; making it should be cheap.
    What it may have beside the members below:

    - `data() -> (name, fingerprint)`: what it is trained on, for the records. Scores on different data never compete.
    - `points() -> Mapping[str, values]`: configurations with a name, for `preset = "…"` in a sweep file. What one
      leaves out has its default.
    - `first_rung(values) -> int`: the first epoch after which a configuration can be judged fairly; 1 without it.

    For the final job:

    - `scores`, `measures`: like `metrics`; what `score` returns, and what is told of each sample;
    - `export(run, folder)`: writes the finished model into a folder;
    - `score(folder, split) -> Mapping[str, float]`: scores an exported model on `valid` or `test`;
    - `score_pieces(folder, split) -> Mapping[piece, (value, weight)]`: an exported model's score on each piece of a
      split; the mean of the values by weight is the first objective. With it, models are compared piece by piece;
    - `costs`: a list such as `["notes_per_s max", "num_parameters min"]`, metrics that tell which of two models is
      cheaper to run, the one that counts most first; those that are not measured are left out;
    - `samples(folder, out, *, count, split) -> Iterable[(name, path, measures, about)]`: what the model makes, written
      below `out`: `count` pieces of each sort, those that begin with a given piece with pieces of `split`. Names are
      unique. `about` is a mapping with `kind` (`free`, made from nothing; `continued`, goes on from a given beginning;
      `harmony`, completes a given part; `original`, a piece that was not made, for comparison) and `origin`, the id of
      the piece that it begins with, completes or is, "" for none;
    - `sample_references() -> Mapping[name, Mapping[measure, value]]`: the measures of other things than the model's,
      such as what people made;
    - `sample_limits: Mapping[measure, (low, high, text)]`: a sample whose measure is below `low` or above `high` (None
      for no end) is marked with the text;
    - `combine(folders, out)`: writes one model whose probabilities are the mean of those of several exported models
      into the folder `out`; all that is done with an exported model can be done with it. Needs `score_pieces`;
    - `costs_of(folder) -> Mapping[metric, value]`: metrics of an exported model that say how cheap it is, for models
      that were not trained as one;
    - `start_whole(values, *, epochs, seed) -> TaskRun`: like `start`, on all data but test; `export` of such a run
      writes its last epoch. What its metrics say of data that it was trained on is used by nobody.

    Attributes:
        metrics: what an epoch returns, name -> `(unit, meaning, goal)`, `(unit, meaning)`, a `Measure`, or the unit.
    """

    metrics: Mapping[str, Any]

    def space(self, hp: Any) -> None:
        """Declares what may vary, to `hp.Int`, `hp.Float`, `hp.Choice`, … of KerasTuner's idiom. Builds no model."""
        ...

    def start(self, values: Mapping[str, Any], *, epochs: int, seed: int) -> TaskRun:
        """Begins a training.

        Args:
            values: the configuration, complete but for parameters that are not active in it.
            epochs: how many there will be if nothing stops the trial; for schedules.
            seed: of everything random.
        """
        ...


def load_task(path: str, options: Mapping[str, Any] | None = None, *, folder: str | os.PathLike = "") -> Any:
    """Returns a task, made with its options.

    Args:
        path: `module:Class`, a module that can be imported from the current folder or is installed, or
            `path/to/file.py:Class`.
        options: keyword arguments of the class.
        folder: what the path of a file is relative to.

    Raises:
        TaskError: it cannot be imported or made, or lacks what every task has.
    """
    where, _, name = located(path, folder).rpartition(":")
    module = _module(path, where)
    made = getattr(module, name, None)
    if made is None:
        own = [n for n, v in vars(module).items() if inspect.isclass(v) and v.__module__ == module.__name__]
        raise TaskError(f"task {path!r}: {where} has no {name!r}{did_you_mean(name, own)}")
    if not callable(made):
        raise TaskError(f"task {path!r}: {name} is a {type(made).__name__}, expected a class")
    options = dict(options or {})
    _check_options(path, made, options)
    try:
        task = made(**options)
    except (Exception, SystemExit) as error:  # whatever somebody else's class does on being made is the task's mistake
        raise TaskError(_blamed(f"task {path!r} cannot be made with {options or 'no options'}", error)) from error
    _check_members(path, task)
    return task


def asked(path: str, task: Any, member: str, *arguments: Any, otherwise: Any) -> Any:
    """Returns what a method that a task may have answers, or `otherwise` if it has none.

    Args:
        path: the task's import path, for messages.
        task: the task.
        member: the method's name.
        arguments: it is called with.
        otherwise: the answer of a task without it.

    Raises:
        TaskError: it raises.
    """
    method = getattr(task, member, None)
    if method is None:
        return otherwise
    try:
        with printed_aside():
            return method(*arguments)
    except SearchError:
        raise
    except (Exception, SystemExit) as error:  # whatever somebody else's method does is the task's mistake
        raise TaskError(_blamed(f"task {path!r}: {member} does not answer", error)) from error


def located(path: str, folder: str | os.PathLike = "") -> str:
    """Returns a task's import path as it is understood from any folder of this machine."""
    where, _, name = path.rpartition(":")
    if not where.endswith(".py"):
        return path
    return f"{Path(folder, Path(where).expanduser()).resolve()}:{name}"


Group = Literal["metrics", "scores", "measures"]


def declared(path: str, task: Any, group: Group = "metrics") -> dict[str, Measure]:
    """Returns what a task measures.

    Args:
        path: its import path, for messages.
        task: the task.
        group: what an epoch returns, what `score` returns, or what is told of a sample.

    Raises:
        TaskError: a declaration is none, a name cannot be a column, or there are no metrics at all.
    """
    given = getattr(task, group, None) or {}
    example = '{"val_loss": ("nats", "loss on held-out data", "min")}'
    if isinstance(given, str) or not isinstance(given, Mapping | Iterable):
        raise TaskError(f"task {path!r}: {group}: got {given!r}, expected a mapping such as {example}")
    pairs = given.items() if isinstance(given, Mapping) else ((name, "") for name in given)
    measures = {}
    for name, said in pairs:
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise TaskError(f"task {path!r}: {group}: got the name {name!r}, expected letters, digits and _")
        if owner := _owner(group, name):
            raise TaskError(f"task {path!r}: {group}: {name!r} is a column of {owner} already; choose another name")
        try:
            measures[name] = Measure.of(said)
        except (SchemaError, TypeError) as error:
            raise TaskError(f"task {path!r}: {group}: {name}: {error}; expected for example {example}") from error
    if group == "metrics" and not measures:
        raise TaskError(f"task {path!r} declares no metrics; give the class, for example, metrics = {example}")
    return measures


def goals(path: str, metrics: Mapping[str, Measure], objectives: Iterable[Objective]) -> tuple[tuple[str, Goal], ...]:
    """Returns what to look for, each metric with what is better; the first one decides on stopping.

    Raises:
        TaskError: the task has no such metric, or neither it nor the sweep file says what is better.
    """
    found = []
    for objective in objectives:
        measure = metrics.get(objective.metric)
        if measure is None:
            raise TaskError(
                f"objective {objective.metric!r}: task {path!r} has no such metric"
                f"{did_you_mean(objective.metric, metrics)}"
            )
        goal = objective.goal or measure.goal
        if goal is None:
            raise TaskError(
                f"objective {objective.metric!r}: neither the sweep file nor task {path!r} says whether less or "
                f'more is better; write "{objective.metric} min" or "{objective.metric} max"'
            )
        found.append((objective.metric, goal))
    return tuple(found)


def costs(
    path: str, task: Any, metrics: Mapping[str, Measure], asked: Iterable[Objective]
) -> tuple[tuple[str, Goal], ...]:
    """Returns the metrics that say what is cheap to run, each with what is cheaper: those asked for, or the task's own.

    Raises:
        TaskError: the task has no such metric, or nobody says what is cheaper.
    """
    asked = tuple(asked)
    if asked:
        try:
            return goals(path, metrics, asked)
        except TaskError as error:
            raise TaskError(f"[final] costs: {error}") from None
    found = []
    for text in getattr(task, "costs", ()):
        name, _, goal = str(text).partition(" ")
        if goal not in ("min", "max"):
            raise TaskError(f'task {path!r}: costs: got {text!r}, expected a metric and min or max: "seconds min"')
        if name in metrics:
            found.append((name, goal))
    return tuple(found)


def check_final(spec: SweepSpec, task: Any) -> None:
    """Checks that a task can do what `[final]` asks for.

    Raises:
        TaskError: it lacks a method for it.
    """
    needed = {"export(run, folder)": "export"} if spec.final.whole or spec.final.ensemble != "none" else {}
    if spec.final.whole:
        needed["start_whole(values, *, epochs, seed)"] = "start_whole"
    if spec.final.ensemble != "none":
        needed |= {"combine(folders, out)": "combine", "score_pieces(folder, split)": "score_pieces"}
    asked = "whole = true" if spec.final.whole else f'ensemble = "{spec.final.ensemble}"'
    missing = [call for call, name in needed.items() if not callable(getattr(task, name, None))]
    if missing:
        raise TaskError(
            f"[final] {asked}: task {spec.task!r} has no method {' and no '.join(missing)}; docs/own_task.md says what "
            "it does, and without this line of [final] it is not needed"
        )


def _owner(group: Group, name: str) -> str:
    """Returns whose column has a name where what the task measures is to stand; "" if it is free."""
    from results.leaderboard import PLACES
    from results.schema import COMMON

    tables = [table for table in TABLES.values() if group in table.varying]
    if name in {column.name for table in tables for column in [*COMMON, *table.columns]}:
        return "the ledger"
    return "`results top`" if name in PLACES else ""


def _module(path: str, where: str) -> ModuleType:
    # A console script's own folder is what Python looks in first; the current one is what people expect.
    if "" not in sys.path and os.getcwd() not in sys.path:  # noqa: PTH109 - an entry of sys.path is a string
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        return _from_file(path, Path(where)) if where.endswith(".py") else importlib.import_module(where)
    except TaskError:
        raise
    except ModuleNotFoundError as error:
        if error.name and (where == error.name or where.startswith(f"{error.name}.")):
            raise TaskError(
                f"task {path!r} cannot be imported: there is no module {error.name!r}, neither installed nor in "
                f"{Path.cwd()}; start from the folder that holds it, or give its file: path/to/file.py:Class"
            ) from error
        raise TaskError(
            f"task {path!r} cannot be imported: it needs the module {error.name!r}, which is not installed"
            f"{_place(error)}"
        ) from error
    except (Exception, SystemExit) as error:  # whatever somebody else's module does on being imported
        raise TaskError(_blamed(f"task {path!r} cannot be imported", error)) from error


def _from_file(path: str, file: Path) -> ModuleType:
    if not file.is_file():
        beside = sorted(other.name for other in file.parent.glob("*.py")) if file.parent.is_dir() else []
        what = "is a folder" if file.is_dir() else "is not there"
        raise TaskError(f"task {path!r}: {file} {what}{did_you_mean(file.name, beside)}")
    name = file.stem
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(file):
        return known
    # What lies beside the file can be imported by it, as if Python had been started with it.
    if str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))
    if known is not None or not name.isidentifier():
        name = f"task_{re.sub(r'[^0-9a-zA-Z]', '_', str(file))}"
        if name in sys.modules:
            return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise TaskError(f"task {path!r}: {file} cannot be read as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _check_options(path: str, made: Any, options: Mapping[str, Any]) -> None:
    try:
        signature = inspect.signature(made)
    except (TypeError, ValueError):
        return  # written in C; making it will tell
    takes = {
        name: parameter
        for name, parameter in signature.parameters.items()
        if parameter.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    }
    anything = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values())
    unknown = [] if anything else [name for name in options if name not in takes]
    if unknown:
        known = did_you_mean(unknown[0], takes) if takes else "; it takes none"
        raise TaskError(f"task {path!r}: [task] {unknown[0]}: unknown option{known}")
    missing = [n for n, parameter in takes.items() if parameter.default is parameter.empty and n not in options]
    if missing:
        raise TaskError(f"task {path!r}: [task] {missing[0]}: missing; the class asks for it")


def _check_members(path: str, task: Any) -> None:
    example = "; docs/own_task.md shows a whole one"
    for name, call in (("space", "space(self, hp)"), ("start", "start(self, values, *, epochs, seed)")):
        if not callable(getattr(task, name, None)):
            raise TaskError(f"task {path!r} has no method {call}{example}")
    declared(path, task)


def _blamed(what: str, error: BaseException) -> str:
    """A sentence on an error in somebody else's code, with the line where it was raised."""
    if isinstance(error, SystemExit):
        said = f"it ends the process (exit {error.code})"
    elif isinstance(error, SyntaxError):
        return f"{what}: {error.msg} ({error.filename}, line {error.lineno})"
    else:
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"{what}: {said}{_place(error)}"


def _place(error: BaseException) -> str:
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and "importlib" not in frame.filename
    ]
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
