"""What a parameter of a space may be: a range, some options, or one value, and under which conditions it is there."""

import bisect
import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from search.errors import SpaceError

Value = int | float | str | bool
ParameterKind = Literal["int", "float", "str", "bool"]
Scale = Literal["linear", "log", "reverse_log"]
SCALES: tuple[Scale, ...] = ("linear", "log", "reverse_log")


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Holds where a parameter has one of some values.

    Attributes:
        name: of the parent parameter.
        values: of which it must have one.
    """

    name: str
    values: tuple[Value, ...]

    def is_active(self, values: Mapping[str, Any]) -> bool:
        """Returns whether it holds at `values`, where only active parameters stand."""
        return self.name in values and values[self.name] in self.values


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One declaration of a parameter: its name, what it may be, and when it is there at all.

    Attributes:
        name: with its name scopes, `"scope/name"`.
        kind: of its values.
        default: its value where nobody says otherwise.
        conditions: all of them hold where it is active.
    """

    name: str
    kind: ParameterKind
    default: Any
    conditions: tuple[Condition, ...] = ()

    def same_range(self, other: "Parameter") -> bool:
        """Returns whether the two differ in nothing but their conditions and defaults."""
        return self == dataclasses.replace(other, conditions=self.conditions, default=self.default)

    def number(self, value: Any) -> Value | None:
        """Returns `value` as this parameter's type, or `None` if it is of another; no truth value is a number."""
        if self.kind == "bool" or isinstance(value, bool):
            return value if self.kind == "bool" and isinstance(value, bool) else None
        if self.kind == "str":
            return value if isinstance(value, str) else None
        if not isinstance(value, int | float) or not math.isfinite(value):
            return None
        return float(value) if self.kind == "float" else int(value) if value == int(value) else None

    def fitted(self, value: Any) -> Value | None:
        """Returns the value of the range that `value` means, or `None` if it lies outside."""
        raise NotImplementedError

    def at(self, share: float) -> Value:
        """Returns the value below which about `share` of the range lies; `share` in [0, 1)."""
        raise NotImplementedError

    def described(self) -> str:
        """Returns the range in words, for messages."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Options(Parameter):
    """One of some values: a choice, yes or no, or the steps of a range.

    Attributes:
        values: all of them, each once.
        ordered: whether near ones are alike.
    """

    values: tuple[Value, ...]
    ordered: bool

    def fitted(self, value: Any) -> Value | None:
        """Returns the option that `value` means, or `None`; a step is met but for rounding."""
        typed = self.number(value)
        if typed is None:
            return None
        if typed in self.values:
            return self.values[self.values.index(typed)]
        if self.kind == "float" and isinstance(typed, float):
            return next((v for v in self.values if math.isclose(float(v), typed, rel_tol=1e-9, abs_tol=1e-12)), None)
        return None

    def at(self, share: float) -> Value:
        """Returns the option whose equal share of [0, 1) holds `share`."""
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]

    def described(self) -> str:
        """Returns the options."""
        if len(self.values) > 12 and self.ordered:
            return f"one of {self.values[0]}, {self.values[1]}, … {self.values[-1]}"
        return f"one of {', '.join(map(repr, self.values))}"


@dataclass(frozen=True, kw_only=True)
class Range(Parameter):
    """A number between two, both included.

    Attributes:
        min_value: the lowest.
        max_value: the highest.
        sampling: on which scale values are spread evenly.
    """

    min_value: int | float
    max_value: int | float
    sampling: Scale = "linear"

    def fitted(self, value: Any) -> Value | None:
        """Returns the number, typed, or `None` if it lies outside."""
        typed = self.number(value)
        return typed if typed is not None and self.min_value <= typed <= self.max_value else None  # type: ignore[operator]

    def at(self, share: float) -> Value:
        """Returns the value at `share` of the range, on its scale."""
        low, high = self.min_value, self.max_value + (1 if self.kind == "int" else 0)
        if self.sampling == "linear":
            value = low + share * (high - low)
        elif self.sampling == "log":
            value = low * math.pow(high / low, share)
        else:
            value = high + low - low * math.pow(high / low, 1 - share)
        if self.kind == "int":
            return min(max(int(value), int(self.min_value)), int(self.max_value))
        return min(max(value, self.min_value), self.max_value)

    def described(self) -> str:
        """Returns both ends."""
        return f"{'a whole number' if self.kind == 'int' else 'a number'} from {self.min_value} to {self.max_value}"


@dataclass(frozen=True, kw_only=True)
class Fixed(Parameter):
    """A value that does not vary; the default is it.

    Attributes:
        pinned: whether a sweep file says so, and not the task.
    """

    pinned: bool = False

    def fitted(self, value: Any) -> Value | None:
        """Returns the value if it is this one, else `None`."""
        typed = self.number(value)
        return self.default if typed is not None and typed == self.default else None

    def at(self, share: float) -> Value:
        """Returns the value."""
        return self.default

    def described(self) -> str:
        """Returns the value."""
        return f"{self.default!r}, which {'the sweep file pins it to' if self.pinned else 'is fixed'}"


def options(
    name: str,
    values: Sequence[Any],
    *,
    default: Any = None,
    ordered: bool | None = None,
    conditions: tuple[Condition, ...] = (),
) -> Options:
    """Returns the parameter that is one of `values`; numbers are ordered if `ordered` does not say otherwise.

    Raises:
        SpaceError: no values, values of several types, a default that is none of them.
    """
    values = list(values)
    if not values:
        raise SpaceError(f"parameter {name!r}: a choice of nothing; expected at least one value")
    kinds: set[ParameterKind] = {kind_of(name, value) for value in values}
    if kinds == {"int", "float"}:
        kinds, values = {"float"}, [float(value) for value in values]
    if len(kinds) > 1:
        raise SpaceError(f"parameter {name!r}: the choice {values!r} mixes types; expected values of one type")
    kind = kinds.pop()
    if ordered and kind in ("str", "bool"):
        raise SpaceError(f"parameter {name!r}: the choice {values!r} is called ordered; only numbers are")
    made = Options(
        name=name,
        kind=kind,
        values=tuple(dict.fromkeys(values)),
        ordered=kind in ("int", "float") if ordered is None else ordered,
        default=values[0],
        conditions=conditions,
    )
    if default is None:
        return made
    fitted = made.fitted(default)
    if fitted is None:
        raise SpaceError(f"parameter {name!r}: the default is {default!r}, expected {made.described()}")
    return dataclasses.replace(made, default=fitted)


def between(
    name: str,
    kind: Literal["int", "float"],
    low: Any,
    high: Any,
    *,
    step: Any = None,
    sampling: str | None = "linear",
    default: Any = None,
    conditions: tuple[Condition, ...] = (),
) -> Range | Options:
    """Returns the parameter between two numbers; one with a step that leaves numbers out is `Options`, in order.

    Raises:
        SpaceError: no numbers, low above high, an unknown scale, a log scale from 0 or below, a step that leads
            nowhere, or a default of another type.
    """
    scale = (sampling or "linear").lower()
    if scale not in SCALES:
        raise SpaceError(f"parameter {name!r}: unknown scale {sampling!r}; expected one of {', '.join(SCALES)}")
    made = Range(name=name, kind=kind, default=low, min_value=0, max_value=0, sampling=scale, conditions=conditions)
    bounds = [made.number(low), made.number(high)]
    expected = "a whole number" if kind == "int" else "a number"
    for what, typed, got in zip(("low", "high"), bounds, (low, high), strict=True):
        if typed is None:
            raise SpaceError(f"parameter {name!r}: {what} is {got!r}, expected {expected}")
    start, end = (typed for typed in bounds if isinstance(typed, int | float))
    if start > end:
        raise SpaceError(f"parameter {name!r}: low is {low} and above high, {high}; swap them")
    if scale != "linear" and start <= 0:
        raise SpaceError(f"parameter {name!r}: a log scale from {low}; expected low above 0, or the scale 'linear'")
    made = dataclasses.replace(made, min_value=start, max_value=end, default=start)
    if step is not None and not (kind == "int" and scale == "linear" and step == 1):
        return _steps(made, step, default)
    # KerasTuner takes any default, even one outside; a number of the right type is asked for here.
    typed = made.number(default) if default is not None else start
    if typed is None:
        raise SpaceError(f"parameter {name!r}: the default is {default!r}, expected {expected}")
    return dataclasses.replace(made, default=typed)


def _steps(span: Range, step: Any, default: Any) -> Options:
    typed = span.number(step) if span.sampling == "linear" else step
    if not isinstance(typed, int | float) or typed <= (0 if span.sampling == "linear" else 1):
        expected = "above 0" if span.sampling == "linear" else "a factor above 1"
        raise SpaceError(f"parameter {span.name!r}: step is {step!r}, expected {expected}")
    low, high, values = span.min_value, span.max_value, []
    if span.sampling == "linear":
        # Rounded: twelve steps of 0.05 are 0.6 and not 0.6000000000000001, in tables as in files.
        values = [round(low + i * typed, 12) for i in range(int((high - low) / typed + 1e-9) + 1)]
    else:
        powers = [low * typed**i for i in range(int(math.log(high / low, typed) + 1e-8) + 1)]
        values = [high + low - p if span.sampling == "reverse_log" else p for p in powers]
        values = sorted(float(f"{value:.12g}") for value in values)
    made = options(span.name, [int(v) if span.kind == "int" else float(v) for v in values], conditions=span.conditions)
    if default is None:
        return made
    number = span.number(default)
    if not isinstance(number, int | float):
        raise SpaceError(f"parameter {span.name!r}: the default is {default!r}, expected {made.described()}")
    # A default between two steps stays what it is in KerasTuner; a searcher can only propose a step.
    place = bisect.bisect_left([float(v) for v in made.values], float(number) * (1 - 1e-9))
    nearest = made.values[min(place, len(made.values) - 1)]
    return dataclasses.replace(made, default=made.fitted(number) if made.fitted(number) is not None else nearest)


def kind_of(name: str, value: Any) -> ParameterKind:
    """Returns the type of a value of the parameter `name`.

    Raises:
        SpaceError: it is of none that a table can hold.
    """
    kinds: tuple[tuple[ParameterKind, type], ...] = (("bool", bool), ("int", int), ("float", float), ("str", str))
    for kind, types in kinds:
        if isinstance(value, types):
            return kind
    raise SpaceError(f"parameter {name!r}: {value!r} is no value; expected numbers, texts, true or false")
