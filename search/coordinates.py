"""A space as Optuna sees it: parameters as distributions, and values to and fro.

A parameter that branches of the space declare with different ranges is a coordinate for each range, since Optuna knows
one distribution a name. Ordered options and stepped ranges are whole numbers, the places of their values; a mirrored
log scale is a log scale of the mirrored value.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from search.parameters import Options, Parameter, Range
from search.space import Space, single

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


class Coordinates:
    """The coordinates of a space, in the order of its parameters; those with a single value are left out.

    Args:
        space: whose parameters they are.
        numbers_only: whether unordered options, too, are whole numbers; some samplers know no others.

    Attributes:
        parameters: name of the coordinate -> the parameter it stands for.
    """

    def __init__(self, space: Space, *, numbers_only: bool = False):
        self._space, self._numbers_only = space, numbers_only
        self.parameters: dict[str, Parameter] = {
            self.name(parameter): parameter
            for alike in space.parameters.values()
            for parameter in alike
            if not single(parameter)
        }

    def name(self, parameter: Parameter) -> str:
        """Returns the coordinate of a declaration: its name, with the range where other branches have another."""
        alike = self._space.parameters[parameter.name]
        if len(alike) == 1:
            return parameter.name
        return f"{parameter.name} ({next(i for i, p in enumerate(alike) if p.same_range(parameter))})"

    def distribution(self, parameter: Parameter) -> "BaseDistribution":
        """Returns the distribution to draw a coordinate from."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if isinstance(parameter, Options):
            if self._by_place(parameter):
                return IntDistribution(0, len(parameter.values) - 1)
            return CategoricalDistribution(parameter.values)
        assert isinstance(parameter, Range)
        if parameter.kind == "int" and parameter.sampling != "reverse_log":
            return IntDistribution(int(parameter.min_value), int(parameter.max_value), log=parameter.sampling == "log")
        return FloatDistribution(parameter.min_value, parameter.max_value, log=parameter.sampling != "linear")

    def value(self, parameter: Parameter, drawn: Any) -> Any:
        """Returns the parameter's value where `drawn` comes from its distribution."""
        if isinstance(parameter, Options):
            return parameter.values[int(drawn)] if self._by_place(parameter) else drawn
        assert isinstance(parameter, Range)
        if parameter.sampling == "reverse_log":
            drawn = min(
                max(parameter.min_value + parameter.max_value - drawn, parameter.min_value), parameter.max_value
            )
        return round(drawn) if parameter.kind == "int" else float(drawn)

    def drawn(self, parameter: Parameter, value: Any) -> Any:
        """Returns what stands for `value` in the parameter's distribution."""
        if isinstance(parameter, Options):
            return parameter.values.index(value) if self._by_place(parameter) else value
        assert isinstance(parameter, Range)
        if parameter.sampling == "reverse_log":
            return parameter.min_value + parameter.max_value - value
        return value

    def of(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the coordinates of a whole configuration: name -> what stands for its value."""
        active = (p for p in self._space.active(values) if p.name in values and not single(p))
        return {self.name(p): self.drawn(p, values[p.name]) for p in active}

    def _by_place(self, parameter: Options) -> bool:
        return self._numbers_only or (parameter.ordered and len(parameter.values) > 2)
