"""`hp` as a task's space sees it: KerasTuner's `HyperParameters`, without Keras.

A task declares its space by asking: `hp.Int("layers", 1, 6)`, `hp.Choice(...)`, `with hp.conditional_scope(...)`.
Names, arguments and answers follow KerasTuner 1.4, so that a function written for it is swept unchanged; a contract
test holds the two side by side. Three differences, all on purpose: a range that is none raises a `SpaceError`; a
`Choice` may mix whole and decimal numbers and is then decimal; and a stepped range keeps its last value, which
KerasTuner may lose to rounding (0 to 0.5 by 0.05 has eleven values).
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from search.errors import SpaceError
from search.parameters import Condition, Fixed, Parameter, between, kind_of, options


class HyperParameters:
    """Answers a task's questions, and remembers what was asked.

    `hp.Int(...)` and its siblings return the value, or `None` where the parameter is not active. What is asked for
    again under the same name and conditions has the same answer.

    Args:
        values: answers by name; the rest is left to `answer`.
        answer: called for each active parameter that has no value yet.
        adapt: called for each declaration; what it returns stands in its place.

    Attributes:
        space: every declaration, in order, the inactive ones too.
        values: name -> value of what is active.
        scopes: the conditions of every conditional scope that was entered.
    """

    def __init__(
        self,
        values: Mapping[str, Any] | None = None,
        *,
        answer: Callable[[Parameter], Any] = lambda parameter: parameter.default,
        adapt: Callable[[Any], Parameter] = lambda parameter: parameter,
    ):
        self._given, self._answer, self._adapt = dict(values or {}), answer, adapt
        self._names: list[str] = []
        self._conditions: list[Condition] = []
        self._declared: dict[tuple[str, tuple[Condition, ...]], Parameter] = {}
        self.space: list[Parameter] = []
        self.values: dict[str, Any] = {}
        self.scopes: list[tuple[Condition, ...]] = []

    @contextlib.contextmanager
    def name_scope(self, name: str) -> Iterator[None]:
        """Puts `name/` before the names of all parameters inside."""
        self._names.append(str(name))
        try:
            yield
        finally:
            self._names.pop()

    @contextlib.contextmanager
    def conditional_scope(self, parent_name: str, parent_values: Any) -> Iterator[None]:
        """Makes all parameters inside active only where the parent has one of the values.

        Raises:
            SpaceError: no parameter of the parent's name has been declared.
        """
        parent = self._name(parent_name)
        if not any(name == parent for name, _ in self._declared):
            raise SpaceError(f"conditional scope on {parent!r}: no such parameter so far; declare it before the scope")
        wanted = tuple(parent_values) if isinstance(parent_values, list | tuple | set) else (parent_values,)
        self._conditions.append(Condition(name=parent, values=wanted))
        self.scopes.append(tuple(self._conditions))
        try:
            yield
        finally:
            self._conditions.pop()

    def Choice(  # noqa: N802 - KerasTuner's name
        self,
        name: str,
        values: Sequence[Any],
        ordered: bool | None = None,
        default: Any = None,
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> Any:
        """Returns one of `values`; the default is the first of them."""
        return self._ask(
            parent_name,
            parent_values,
            lambda within: options(self._name(name), values, default=default, ordered=ordered, conditions=within),
        )

    def Int(  # noqa: N802
        self,
        name: str,
        min_value: int,
        max_value: int,
        step: int | None = None,
        sampling: str | None = "linear",
        default: int | None = None,
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> Any:
        """Returns a whole number between two, both included; on a log scale `step` is a factor."""
        named: dict[str, Any] = {"step": step, "sampling": sampling, "default": default}
        return self._ask(
            parent_name,
            parent_values,
            lambda within: between(self._name(name), "int", min_value, max_value, **named, conditions=within),
        )

    def Float(  # noqa: N802
        self,
        name: str,
        min_value: float,
        max_value: float,
        step: float | None = None,
        sampling: str | None = "linear",
        default: float | None = None,
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> Any:
        """Returns a number between two, both included; on a log scale `step` is a factor."""
        named: dict[str, Any] = {"step": step, "sampling": sampling, "default": default}
        return self._ask(
            parent_name,
            parent_values,
            lambda within: between(self._name(name), "float", min_value, max_value, **named, conditions=within),
        )

    def Boolean(  # noqa: N802
        self, name: str, default: bool = False, parent_name: str | None = None, parent_values: Any = None
    ) -> Any:
        """Returns `True` or `False`."""
        return self._ask(
            parent_name,
            parent_values,
            lambda within: options(self._name(name), [True, False], default=default, conditions=within),
        )

    def Fixed(self, name: str, value: Any, parent_name: str | None = None, parent_values: Any = None) -> Any:  # noqa: N802
        """Returns `value`, which does not vary."""
        return self._ask(
            parent_name,
            parent_values,
            lambda within: Fixed(
                name=self._name(name), kind=kind_of(self._name(name), value), default=value, conditions=within
            ),
        )

    def get(self, name: str) -> Any:
        """Returns the value of an active parameter.

        Raises:
            ValueError: it is not active.
            KeyError: it has not been declared.
        """
        name = self._name(name)
        if name in self.values:
            return self.values[name]
        if any(declared == name for declared, _ in self._declared):
            raise ValueError(f"parameter {name!r} is not active here")
        raise KeyError(f"there is no parameter {name!r}")

    def __getitem__(self, name: str) -> Any:
        return self.get(name)

    def __contains__(self, name: str) -> bool:
        return self._name(name) in self.values

    def is_active(self, parameter: "str | Parameter") -> bool:
        """Returns whether a parameter's conditions hold; of a name, whether those of one of its declarations do."""
        if isinstance(parameter, Parameter):
            return all(condition.is_active(self.values) for condition in parameter.conditions)
        return any(self.is_active(declared) for (name, _), declared in self._declared.items() if name == parameter)

    def _name(self, name: str) -> str:
        return "/".join([*self._names, str(name)])

    def _ask(self, parent_name: str | None, parent_values: Any, make: Callable[..., Parameter]) -> Any:
        if parent_name is not None:
            with self.conditional_scope(parent_name, parent_values):
                return self._ask(None, None, make)
        conditions = tuple(self._conditions)
        parameter = make(conditions)
        if any(condition.name == parameter.name for condition in conditions):
            raise SpaceError(f"parameter {parameter.name!r}: its own parent; give it another name")
        known = self._declared.get((parameter.name, conditions))
        return self.declare(self._adapt(parameter) if known is None else known)

    def declare(self, parameter: Parameter) -> Any:
        """Returns the answer to a declaration as another `hp` has kept it, conditions and all; see `space`."""
        key = parameter.name, parameter.conditions
        if key not in self._declared:
            self._declared[key] = parameter
            self.space.append(parameter)
        if not self.is_active(parameter):
            return None
        if parameter.name not in self.values:
            self.values[parameter.name] = self._value(parameter)
        return self.values[parameter.name]

    def _value(self, parameter: Parameter) -> Any:
        if parameter.name not in self._given:
            return self._answer(parameter)
        value = parameter.fitted(self._given[parameter.name])
        if value is None:
            raise SpaceError(
                f"parameter {parameter.name!r}: got {self._given[parameter.name]!r}, expected {parameter.described()}"
            )
        return value
