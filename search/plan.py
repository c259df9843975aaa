"""What a sweep file would do, before it does: the space as narrowed, the first configurations, rungs, epochs, time."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from search.forecast import FinalForecast, Forecast, Measured, final_forecast, forecast, measured, workers
from search.parameters import Fixed, Options, Parameter, Range
from search.preparation import make_conductor, make_scheduler, prepare
from search.space import Space, single
from search.spec import SweepSpec
from search.sweep_file import document

SHOWN_PROPOSALS = 5
MOST_PARENTS = 10_000
"""Above so many combinations of those parameters that others depend on, configurations are not counted."""


@dataclass(frozen=True, kw_only=True)
class ParameterRow:
    """A parameter as it will vary.

    Attributes:
        name: of the parameter.
        range: in words.
        default: where nobody says otherwise.
        condition: when it is there; "" for always.
        state: `varies`, `fixed` (by the task) or `pinned` (by the sweep file, which may also narrow it to one value).
    """

    name: str
    range: str
    default: Any
    condition: str
    state: str


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A trial that will be begun.

    Attributes:
        trial: its number.
        origin: `searcher`, `point`, or `point:` and its name.
        bracket: of the scheduler.
        milestones: epochs after which the scheduler will judge it.
        values: the configuration.
    """

    trial: int
    origin: str
    bracket: int
    milestones: tuple[int, ...]
    values: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a sweep will do.

    Attributes:
        spec: what it is asked to do.
        objectives: metrics with what is better.
        parameters: of the space, as narrowed.
        configurations: how many there are; infinite if a number is continuous, `None` if too many to count.
        proposals: the first. A run at one trial a time makes them just so up to the searcher's `startup_trials`; those
            after them are what it would propose while all before them run, for nobody knows how they end.
        workers: trials at a time on this machine.
        measured: what earlier sweeps took, or `None`.
        forecast: what it will come to.
        final: what its final job will come to; `None` without one.
    """

    spec: SweepSpec
    objectives: tuple[tuple[str, str], ...]
    parameters: tuple[ParameterRow, ...]
    configurations: float | None
    proposals: tuple[Proposal, ...]
    workers: int
    measured: Measured | None
    forecast: Forecast
    final: FinalForecast | None

    def to_dict(self) -> dict[str, Any]:
        """Returns the plan as a document; `configurations` that are infinite are infinite here too."""
        plain = asdict(self)
        return plain | {
            "spec": document(self.spec),
            "proposals": [asdict(proposal) | {"values": dict(proposal.values)} for proposal in self.proposals],
        }


def plan(spec: SweepSpec, *, proposals: int = SHOWN_PROPOSALS) -> Plan:
    """Returns what a sweep would do; starts nothing and writes nothing.

    Args:
        spec: the sweep.
        proposals: how many first configurations to show, beside the points.

    Raises:
        CallerError: it cannot be run as it is.
    """
    prepared = prepare(spec)
    conductor = make_conductor(prepared, _Nowhere(), session=1, concurrency=spec.trials or len(spec.points) + proposals)
    shown = []
    while len(shown) < len(spec.points) + proposals and (attempt := conductor.next_attempt()) is not None:
        trial = conductor.state.trials[attempt.trial]
        shown.append(
            Proposal(
                trial=attempt.trial,
                origin=trial.origin,
                bracket=trial.bracket,
                milestones=attempt.milestones,
                values=attempt.values,
            )
        )
    known = measured(spec)
    return Plan(
        spec=spec,
        objectives=prepared.schema.objectives,
        parameters=tuple(_rows(prepared.space, spec)),
        configurations=configurations(prepared.space),
        proposals=tuple(shown),
        workers=workers(spec),
        measured=known,
        forecast=forecast(spec, lambda: make_scheduler(prepared), known),
        final=final_forecast(spec, known),
    )


class _Nowhere:
    """Takes rows as a ledger's writer does, and keeps none."""

    def __init__(self):
        self._seq = -1

    def append(self, table: str, row: Mapping[str, Any]) -> int:
        self._seq += 1
        return self._seq

    def flush(self) -> None:
        pass


def _rows(space: Space, spec: SweepSpec) -> Sequence[ParameterRow]:
    return [
        ParameterRow(
            name=parameter.name,
            range=described(parameter),
            default=parameter.default,
            condition=" and ".join(
                f"{condition.name} is {' or '.join(map(str, condition.values))}" for condition in parameter.conditions
            ),
            state="varies" if not single(parameter) else "pinned" if parameter.name in spec.space else "fixed",
        )
        for parameter in space.declarations
    ]


def described(parameter: Parameter) -> str:
    """Returns a parameter's range as a table shows it."""
    if isinstance(parameter, Range):
        scale = "" if parameter.sampling == "linear" else f", {parameter.sampling}"
        return f"{_number(parameter.min_value)} to {_number(parameter.max_value)}{scale}"
    if isinstance(parameter, Options):
        values = [_number(value) for value in parameter.values]
        return ", ".join(values if len(values) <= 7 else [*values[:3], "…", values[-1]])
    return _number(parameter.default)


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def configurations(space: Space) -> float | None:
    """Returns how many configurations a space has; infinite with a continuous number; None if too many to count."""
    parents = {condition.name for parameter in space.declarations for condition in parameter.conditions}
    choices = []
    for name in parents:
        values = {value for parameter in space.parameters[name] for value in _values(parameter)}
        choices.append([(name, value) for value in values])
    if not math.prod(map(len, choices)) <= MOST_PARENTS:
        return None
    seen, total = set(), 0.0
    for combination in itertools.product(*choices):
        assigned = dict(combination)
        active: dict[str, Parameter] = {}
        while True:
            # A parent may itself be there only under a condition.
            there = {name: value for name, value in assigned.items() if name in active}
            more = {
                parameter.name: parameter
                for parameter in space.declarations
                if parameter.name not in active and all(c.is_active(there) for c in parameter.conditions)
            }
            if not more:
                break
            active |= more
        key = tuple(sorted((name, str(assigned[name])) for name in active if name in parents))
        if key not in seen:
            seen.add(key)
            total += math.prod(_count(parameter) for name, parameter in active.items() if name not in parents)
    return total


def _values(parameter: Parameter) -> Sequence[Any]:
    if isinstance(parameter, Options):
        return parameter.values
    if isinstance(parameter, Range) and parameter.kind == "int":
        return range(int(parameter.min_value), int(parameter.max_value) + 1)
    return [parameter.default] if isinstance(parameter, Fixed) else []


def _count(parameter: Parameter) -> float:
    if isinstance(parameter, Range) and parameter.kind == "float" and not single(parameter):
        return math.inf
    return len(_values(parameter)) or 1
