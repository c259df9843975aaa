"""The space of a task: all that may vary, as its function of `hp` declares it and a sweep file narrows it.

space = Space.explore(task.space)
space = space.narrowed({"train.learning_rate": {"low": 1e-4, "high": 1e-3}, "train.ema": 0.999})
values = space.sample(lambda parameter: parameter.at(rng.random()))     # a configuration at random
values = space.point({"model.family": "transformer"})                   # the rest at its default
"""

import dataclasses
import itertools
import random
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from search.errors import SearchError, SpaceError, TaskError, did_you_mean
from search.hyperparameters import HyperParameters
from search.native_output import printed_aside
from search.parameters import SCALES, Fixed, Options, Parameter, ParameterKind, Range, options

Declare = Callable[[Any], Any]
"""What a task gives: asks `hp` for all that may vary; what it returns does not matter."""

MAX_SCOPES = 500
"""So many conditional scopes are entered, at most, to find all parameters."""
DRAWS = 12
"""So many points are drawn at random to find more."""


class Space:
    """A task's parameters, found by running its function at many points; see the module for how to use it.

    Attributes:
        parameters: name -> its declarations that differ in range, in the order in which they were found. More than one
            where branches of the space declare the same name differently.
        declarations: every declaration found, with its conditions.
    """

    def __init__(
        self,
        declare: Declare,
        narrowing: Mapping[str, Any],
        declarations: Iterable[Parameter],
        *,
        irregular: Iterable[str] = (),
        left_out: Iterable[str] = (),
    ):
        """Takes a function, what a sweep file says of its parameters, and what the function declares under that.

        Args:
            declare: the function.
            narrowing: as `narrowed` takes it.
            declarations: all that have been found.
            irregular: names that are not always declared where their conditions hold, but as Python code decides.
            left_out: names that the function has, but not under this narrowing.
        """
        self._declare, self._narrowing = declare, dict(narrowing)
        self._irregular, self._left_out = frozenset(irregular), frozenset(left_out)
        self.declarations = tuple(declarations)
        self.parameters: dict[str, tuple[Parameter, ...]] = {}
        for parameter in self.declarations:
            known = self.parameters.get(parameter.name, ())
            if not any(parameter.same_range(other) for other in known):
                self.parameters[parameter.name] = (*known, parameter)
        for name, alike in self.parameters.items():
            _common_kind(name, alike)

    @classmethod
    def explore(cls, declare: Declare) -> "Space":
        """Returns the space that a function of `hp` declares.

        The function is run within every conditional scope in turn, so often that each choice has had each option and
        each whole number both ends, and at some points drawn at random (the same ones every time): so parameters are
        found that only a Python `if` or a loop brings about.

        Raises:
            TaskError: the function raises.
            SpaceError: it declares what is no range, or one name with values of different types.
        """
        exploration = _Exploration(declare, lambda parameter: parameter)
        return cls(declare, {}, exploration.declarations(), irregular=exploration.irregular())

    @property
    def kinds(self) -> dict[str, ParameterKind]:
        """The type of each parameter's values, by name; whole and decimal numbers under one name are decimal."""
        return {name: _common_kind(name, alike) for name, alike in self.parameters.items()}

    @property
    def varying(self) -> tuple[str, ...]:
        """The names of those that can have more than one value."""
        return tuple(name for name, alike in self.parameters.items() if any(not single(p) for p in alike))

    def narrowed(self, narrowing: Mapping[str, Any]) -> "Space":
        """Returns the space within what a sweep file says of its parameters.

        Args:
            narrowing: name -> a value (pinned to it), `{"choice": [...]}`, or `{"low": ..., "high": ..., "scale": ...}`
                of which any part may be missing.

        Raises:
            SpaceError: an unknown parameter (the nearest is named), or a range that is none or reaches out of the
                task's; the message has every mistake found.
        """
        if problems := list(self.problems(narrowing)):
            raise SpaceError("\n  ".join(problems))
        both = {**self._narrowing, **narrowing}
        exploration = _Exploration(self._declare, _adapter(both))
        declarations = [p for p in exploration.declarations() if (p.name, p.conditions) in exploration.active]
        left_out = self._left_out | (self.parameters.keys() - {p.name for p in declarations})
        return Space(self._declare, both, declarations, irregular=exploration.irregular(), left_out=left_out)

    def problems(self, narrowing: Mapping[str, Any]) -> Iterator[str]:
        """Yields what is wrong with a narrowing, in sentences; see `narrowed`."""
        for name, how in narrowing.items():
            if name not in self.parameters:
                yield f"unknown parameter {name!r}{did_you_mean(name, self.parameters)}"
                continue
            found: list[str] = []
            for parameter in self.parameters[name]:
                try:
                    _narrow(parameter, how)
                except SpaceError as error:
                    found.append(str(error))
            # Of a name that branches declare differently, a branch that has nothing in common keeps its own range.
            if len(found) == len(self.parameters[name]):
                yield found[0]

    def sample(self, answer: Callable[[Parameter], Any]) -> dict[str, Any]:
        """Returns a configuration: the active parameters in the order of their declaration.

        Args:
            answer: called for each active parameter, once a name; returns its value.

        Raises:
            TaskError: the task's function raises, or declares what has not been found before.
        """
        return self._values(answer=answer)

    def defaults(self) -> dict[str, Any]:
        """Returns the configuration with every parameter at its default."""
        return self.point({})

    def point(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the configuration that has `values`, and defaults for the rest.

        Raises:
            SpaceError: an unknown name (the nearest is named), a parameter that is not active there, or a value outside
                its range.
        """
        for name in values:
            if name in self._left_out:
                raise SpaceError(
                    f"parameter {name!r} is not in the space that the sweep file leaves: no value of others needs it"
                )
            if name not in self.parameters:
                raise SpaceError(f"unknown parameter {name!r}{did_you_mean(name, self.parameters)}")
        found = self._values(values=values)
        for name in values:
            if name not in found:
                raise SpaceError(f"parameter {name!r} is not active at this point: {self._needs(name)}")
        return found

    def contains(self, values: Mapping[str, Any]) -> bool:
        """Returns whether `values` is a whole configuration of this space.

        It asks no task, so it is quick. Of parameters that only Python code brings about (an `if` or a loop outside a
        conditional scope) it cannot tell whether one is missing or too many.
        """
        active = {parameter.name: parameter for parameter in self.active(values)}
        fits = all(name in active and active[name].fitted(value) is not None for name, value in values.items())
        return fits and active.keys() - self._irregular <= values.keys()

    def active(self, values: Mapping[str, Any]) -> list[Parameter]:
        """Returns the declarations, one a name, whose conditions hold at a whole configuration."""
        found: dict[str, Parameter] = {}
        for parameter in self.declarations:
            if all(condition.is_active(values) for condition in parameter.conditions):
                found.setdefault(parameter.name, parameter)
        return list(found.values())

    def _values(self, **how: Any) -> dict[str, Any]:
        """Returns the configuration that an `hp` made with `how` answers with."""
        if not self._irregular:
            # The declarations and their conditions say all; a task may take its time to declare them again.
            hp = HyperParameters(**how)
            for parameter in self.declarations:
                hp.declare(parameter)
            return hp.values
        hp = HyperParameters(**how, adapt=_adapter(self._narrowing))
        _run(self._declare, hp)
        for name in hp.values:
            if name not in self.parameters:
                raise TaskError(
                    f"the space declares {name!r} at this point and nowhere that was looked at before; declare it "
                    "always, inside `with hp.conditional_scope(...)` if it is not always active"
                )
        return hp.values

    def _needs(self, name: str) -> str:
        ways = []
        for parameter in self.declarations:
            if parameter.name == name and parameter.conditions:
                each = (
                    f"{c.name} {'=' if len(c.values) == 1 else 'one of'} {_listed(c.values)}"
                    for c in parameter.conditions
                )
                ways.append(" and ".join(each))
        return f"it needs {' or '.join(dict.fromkeys(ways))}" if ways else "other values leave it out"


def single(parameter: Parameter) -> bool:
    """Returns whether it has one value only."""
    if isinstance(parameter, Options):
        return len(parameter.values) == 1
    return isinstance(parameter, Fixed) or (isinstance(parameter, Range) and parameter.min_value == parameter.max_value)


class _Exploration:
    """Finds all declarations of a function, in few runs: building layers, as some functions do, takes its time."""

    def __init__(self, declare: Declare, adapt: Callable[[Parameter], Parameter]):
        self._declare, self._adapt = declare, adapt
        self._found: dict[tuple[str, Any], Parameter] = {}
        self.active: set[tuple[str, Any]] = set()
        self._runs: list[HyperParameters] = []
        self._scopes: set[Any] = set()
        self._waiting: list[dict[str, Any]] = []

    def declarations(self) -> list[Parameter]:
        """Returns all of them, in the order in which they were found."""
        self._waiting.append({})
        for _ in range(MAX_SCOPES):
            if self._waiting:
                self._look_within(self._waiting.pop(0))
        rng = random.Random(0)  # the same points every time
        for _ in range(DRAWS):
            self._look(lambda parameter: parameter.at(rng.random()), {})
        return list(self._found.values())

    def irregular(self) -> set[str]:
        """Returns the names that were missing at some point where their conditions held."""
        return {
            parameter.name
            for parameter in self._found.values()
            if any(hp.is_active(parameter) and parameter.name not in hp.values for hp in self._runs)
        }

    def _look_within(self, wanted: dict[str, Any]) -> None:
        """Looks at the defaults, then at every parameter's first extreme, at every one's second, and so on."""
        most = self._look(lambda parameter: _wish(parameter, wanted, parameter.default), wanted)
        number = 0
        while number < most:

            def extreme(parameter: Parameter, number: int = number) -> Any:
                values = _extremes(parameter) or (parameter.default,)
                return _wish(parameter, wanted, values[number % len(values)])

            most = max(most, self._look(extreme, wanted))
            number += 1

    def _look(self, answer: Callable[[Parameter], Any], wanted: dict[str, Any]) -> int:
        """Runs the function; returns how many extremes the parameter with most of them has."""
        hp = HyperParameters(answer=answer, adapt=self._adapt)
        _run(self._declare, hp)
        self._runs.append(hp)
        for scope in hp.scopes:
            if scope not in self._scopes and not all(condition.is_active(hp.values) for condition in scope):
                self._scopes.add(scope)
                names = [condition.name for condition in scope]
                for values in itertools.islice(itertools.product(*(condition.values for condition in scope)), 64):
                    self._waiting.append({**wanted, **dict(zip(names, values, strict=True))})
        for parameter in hp.space:
            self._found.setdefault((parameter.name, parameter.conditions), parameter)
            if hp.is_active(parameter):
                self.active.add((parameter.name, parameter.conditions))
        return max((len(_extremes(parameter)) for parameter in hp.space if hp.is_active(parameter)), default=0)


def _extremes(parameter: Parameter) -> tuple[Any, ...]:
    """Values that may bring about other parameters: every option, and how often a loop runs at most."""
    if isinstance(parameter, Options):
        few = len(parameter.values) <= (8 if parameter.ordered else 32)
        return parameter.values if few else (parameter.values[-1], parameter.values[0])
    if isinstance(parameter, Range) and parameter.kind == "int":
        return (parameter.max_value, parameter.min_value)
    return ()


def _wish(parameter: Parameter, wanted: Mapping[str, Any], otherwise: Any) -> Any:
    fitted = parameter.fitted(wanted[parameter.name]) if parameter.name in wanted else None
    return otherwise if fitted is None else fitted


def _run(declare: Declare, hp: HyperParameters) -> None:
    try:
        with printed_aside():
            declare(hp)
    except SearchError:
        raise
    except (Exception, SystemExit) as error:
        at = ", ".join(f"{name}={value!r}" for name, value in hp.values.items()) or "the start"
        raise TaskError(
            f"the task's space cannot be declared: {type(error).__name__}: {error}{_line(error)} (at {at}); it must "
            "answer at every point of the space"
        ) from error


def _line(error: BaseException) -> str:
    """Returns where in the task's code an error was raised."""
    frames = traceback.extract_tb(error.__traceback__)[1:]
    return f", {frames[-1].filename}, line {frames[-1].lineno}" if frames else ""


def _adapter(narrowing: Mapping[str, Any]) -> Callable[[Parameter], Parameter]:
    def adapt(parameter: Parameter) -> Parameter:
        if parameter.name not in narrowing:
            return parameter
        try:
            return _narrow(parameter, narrowing[parameter.name])
        except SpaceError:
            return parameter  # another branch's declaration of the same name, which `narrowed` has found to fit

    return adapt


def _narrow(parameter: Parameter, how: Any) -> Parameter:
    """Returns the parameter within what a sweep file says.

    Raises:
        SpaceError: that is nothing this parameter can be.
    """
    where = f"parameter {parameter.name!r}"
    if not isinstance(how, Mapping):
        value = parameter.fitted(how)
        if value is None:
            raise SpaceError(f"{where}: pinned to {how!r}, expected {parameter.described()}")
        return Fixed(
            name=parameter.name, kind=parameter.kind, default=value, conditions=parameter.conditions, pinned=True
        )
    for key in how:
        if key not in ("choice", "low", "high", "scale"):
            raise SpaceError(f"{where}: unknown key {key!r}{did_you_mean(key, ('choice', 'low', 'high', 'scale'))}")
    if not how:
        raise SpaceError(f"{where}: an empty table says nothing; expected choice, low, high or scale")
    if "choice" in how:
        if len(how) > 1:
            raise SpaceError(
                f"{where}: got choice and {', '.join(k for k in how if k != 'choice')}; expected one of them"
            )
        return _chosen(parameter, how["choice"], where)
    return _bounded(parameter, how, where)


def _chosen(parameter: Parameter, choice: Any, where: str) -> Parameter:
    if not isinstance(choice, list | tuple):
        raise SpaceError(f"{where}: choice is {choice!r}, expected a list")
    if not choice:
        raise SpaceError(f"{where}: a choice of nothing; expected at least one of {parameter.described()}")
    fitted = [parameter.fitted(value) for value in choice]
    for value, typed in zip(choice, fitted, strict=True):
        if typed is None:
            raise SpaceError(f"{where}: the choice has {value!r}, expected {parameter.described()}")
    ordered = parameter.ordered if isinstance(parameter, Options) else None
    made = options(parameter.name, fitted, ordered=ordered, conditions=parameter.conditions)
    if parameter.default in made.values:
        return dataclasses.replace(made, default=parameter.default)
    return made


def _bounded(parameter: Parameter, how: Mapping[str, Any], where: str) -> Parameter:
    numbers = isinstance(parameter, Range) or (isinstance(parameter, Options) and parameter.kind in ("int", "float"))
    if not numbers:
        raise SpaceError(f"{where}: low, high and scale are for numbers; expected {parameter.described()}")
    scale = how.get("scale", getattr(parameter, "sampling", "linear"))
    if scale not in SCALES:
        raise SpaceError(f"{where}: unknown scale {scale!r}; expected one of {', '.join(SCALES)}")
    lowest, highest = _ends(parameter)
    low, high = how.get("low", lowest), how.get("high", highest)
    typed = []
    for what, value in (("low", low), ("high", high)):
        number = parameter.number(value)
        if not isinstance(number, int | float):
            raise SpaceError(
                f"{where}: {what} is {value!r}, expected a {'whole ' if parameter.kind == 'int' else ''}number"
            )
        typed.append(number)
    if typed[0] > typed[1]:
        raise SpaceError(f"{where}: low is {low} and above high, {high}; swap them")
    if scale != "linear" and typed[0] <= 0:
        raise SpaceError(f'{where}: a log scale from {low}; expected low above 0, or scale = "linear"')
    if typed[0] < lowest or typed[1] > highest:
        raise SpaceError(f"{where}: {low} to {high} reaches out of the task's range; expected {parameter.described()}")
    if isinstance(parameter, Range):
        default = min(max(parameter.default, typed[0]), typed[1])
        return dataclasses.replace(parameter, min_value=typed[0], max_value=typed[1], sampling=scale, default=default)
    assert isinstance(parameter, Options)
    if "scale" in how:
        raise SpaceError(f"{where}: a scale for steps; expected no scale, or choice = [...] with the values wanted")
    left = [value for value in parameter.values if typed[0] <= float(value) <= typed[1]]
    if not left:
        raise SpaceError(f"{where}: nothing lies from {low} to {high}; expected some of {parameter.described()}")
    return _chosen(parameter, left, where)


def _ends(parameter: Parameter) -> tuple[Any, Any]:
    if isinstance(parameter, Range):
        return parameter.min_value, parameter.max_value
    assert isinstance(parameter, Options)
    return min(parameter.values), max(parameter.values)


def _common_kind(name: str, alike: tuple[Parameter, ...]) -> ParameterKind:
    kinds: set[ParameterKind] = {parameter.kind for parameter in alike}
    if kinds == {"int", "float"}:
        return "float"
    if len(kinds) > 1:
        ranges = " and ".join(parameter.described() for parameter in alike)
        raise SpaceError(
            f"parameter {name!r} is declared with values of different types, {ranges}; give one another name"
        )
    return kinds.pop()


def _listed(values: tuple[Any, ...]) -> str:
    return ", ".join(map(str, values))
