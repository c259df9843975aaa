"""What the final job chooses from: the best configurations of one sweep or of several, far enough apart."""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from results.choices import Key, key_of
from results.ledger import Ledger
from results.opening import typed
from results.storage import Storage
from search.distance import apart
from search.errors import SweepError, did_you_mean
from search.origins import Data, other_data
from search.space import Space
from search.spec import SweepSpec
from search.state import SweepState
from search.task import located

__all__ = ["Candidate", "Key", "Source", "candidates", "fresh_seed", "key_of", "other_sources"]
from search.trial_state import TrialState


@dataclasses.dataclass(frozen=True)
class Source:
    """A sweep whose trials may be trained anew.

    Attributes:
        name: "" for the final job's own sweep.
        state: what it has come to.
        left_out: trials that were scored on other data than the final job's, with these data.
    """

    name: str
    state: SweepState
    left_out: Mapping[int, Data] = dataclasses.field(default_factory=dict)

    def ranked(self) -> list[TrialState]:
        """Returns the trials whose scores compare, the best first."""
        return [trial for trial in self.state.ranked() if trial.trial not in self.left_out]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """A trial whose configuration may be trained anew.

    Attributes:
        key: which one.
        values: the configuration.
        state: of the trial.
        in_sweep: the first objective that it reached there.
    """

    key: Key
    values: Mapping[str, Any]
    state: str
    in_sweep: float


def candidates(sources: Sequence[Source], space: Space, count: int, *, least: float) -> list[Candidate]:
    """Returns the trials with the best configurations that are far enough apart, at most `count`, the best first.

    Trials that were stopped come last, for somebody has found them worse. One that a budget cut short does not: if it
    is among the best with fewer epochs, so much the better.

    Args:
        sources: the sweeps; they have one objective.
        space: where configurations are compared.
        count: so many at most.
        least: how far apart they have to be, see `search.distance`; so copies of one point do not fill the list.
    """
    found = [_candidate(source, trial) for source in sources for trial in source.ranked()]
    sign = -1.0 if sources[0].state.goal == "max" else 1.0
    found.sort(key=lambda each: (each.state == "stopped", sign * each.in_sweep))  # stable: own ones first
    return apart(space, ((each, each.values) for each in found), count=count, least=least)


def check_data(sweep: str, sources: Sequence[Source], data: Data, say: Callable[[str], None]) -> None:
    """Says how many trials are left out because their scores are of other data.

    Args:
        sweep: name of the final job's own.
        sources: the sweeps.
        data: what the task has now.
        say: told what a person at the terminal should know.

    Raises:
        SweepError: none is left.
    """
    left = any(source.ranked() for source in sources)
    for source in sources:
        if not source.left_out:
            continue
        count, name = len(source.left_out), source.name or sweep
        told = f"{_told(source.left_out.values())}, and the task now has {data}"
        if not left:
            raise SweepError(
                f"all trials of sweep {name!r} were scored on {told}; scores on different data are never ranked "
                "together. Bring back the data that it had, or begin a new sweep"
            )
        say(
            f"{count} trial{'s' * (count > 1)} of sweep {name!r} {'were' if count > 1 else 'was'} scored on {told}; "
            f"{'they are' if count > 1 else 'it is'} left out, for scores on different data are never ranked together."
        )


def _candidate(source: Source, trial: Any) -> Candidate:
    value = source.state.best_value(trial.trial)
    return Candidate(
        key=Key(source.name, trial.trial),
        values=dict(trial.values),
        state=trial.state,
        in_sweep=math.nan if value is None else value,
    )


def fresh_seed(seed: int, key: Key, epochs: int, index: int) -> int:
    """Returns the seed of a final training: one for each sweep, trial, length and repetition."""
    whose = f"{key.source} {key.trial}" if key.source else str(key.trial)
    digest = hashlib.sha256(f"final {seed} {whose} {epochs} {index}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


# --- other sweeps -----------------------------------------------------------------------------------------------------

Locate = Callable[[str], tuple[Storage, SweepSpec]]
"""Finds the sweep that a user means: its folder, and what it was asked to do."""


def other_sources(spec: SweepSpec, task: Any, objective: tuple[str, str], locate: Locate) -> list[Source]:
    """Returns the other sweeps of `[final] sweeps`, once it is certain that they may be ranked with this one.

    Args:
        spec: of the final job's own sweep.
        task: of it.
        objective: its first one, with its goal.
        locate: see `Locate`.

    Raises:
        SweepError: one is not there, or has another task, other data, another objective, or parameters that the task
            does not have; the message has every mistake.
    """
    if not spec.final.sweeps:
        return []
    problems: list[str] = []
    found: list[Source] = []
    own = Storage(spec.storage).child(spec.name).uri
    data = Data.of_task(task)
    space = Space.explore(task.space)
    places = set[str]()
    for where in spec.final.sweeps:
        storage, other = locate(where)
        if storage.uri == own or storage.uri in places:
            what = "this sweep itself" if storage.uri == own else "named twice"
            problems.append(f"{where!r} is {what}; leave it out")
            continue
        places.add(storage.uri)
        ledger = Ledger(storage)
        if not ledger.exists:
            problems.append(f"{where!r} has no ledger yet; `search resume {typed(storage)}` runs it")
            continue
        state = SweepState(ledger.schema).replay(ledger.events())
        taken = {spec.name, *(source.name for source in found)}
        name = storage.uri if other.name in taken else other.name
        found.append(Source(name, state, other_data(ledger, state, data.fingerprint)))
        problems += [f"{where!r} {mistake}" for mistake in _mistakes(spec, other, found[-1], data, objective, space)]
    if problems:
        raise SweepError(
            f"[final] sweeps: not all of them can be ranked together with {spec.name!r}; nothing was started:\n"
            + "\n".join(f"  - {problem}" for problem in problems)
        )
    return found


def _mistakes(
    spec: SweepSpec,
    other: SweepSpec,
    source: Source,
    data: Data,
    objective: tuple[str, str],
    space: Space,
) -> Iterable[str]:
    if located(other.task, other.folder) != located(spec.task, spec.folder):
        yield f"is of another task: {other.task}, this one is of {spec.task}"
        return
    state = source.state
    if source.left_out and not source.ranked():
        yield (
            f"was trained on {_told(source.left_out.values())}, this sweep on {data}; scores on different data are "
            "never ranked together"
        )
    if (state.objective, state.goal) != objective:
        yield f"looks for {state.objective} {state.goal}, this sweep for {' '.join(objective)}"
    used = dict.fromkeys(name for trial in source.ranked() for name in trial.values)
    for name in used:
        if name not in space.parameters:
            yield f"has a parameter {name!r} that the task no longer has{did_you_mean(name, space.parameters)}"


def _told(data: Iterable[Data]) -> str:
    return " and ".join(dict.fromkeys(map(str, data)))
