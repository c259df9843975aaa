"""What proposes configurations: Optuna's samplers, so used that a searcher is rebuilt exactly from what it was told.

A searcher has no random state: each proposal is drawn from a generator seeded by the sweep's seed and the trial's
number. All else it knows are the trials, in a study in memory, so that a new searcher which is told the same (`add` for
each proposal, `tell` for each end, in the order of the ledger) makes the same proposals from then on. Nothing of it is
ever written to disk.
"""

import importlib.util
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from search.coordinates import Coordinates
from search.errors import SpaceError, SpecError
from search.parameters import Parameter
from search.space import Space, single
from search.spec import SearcherSettings
from search.study import Goal, Study, Told, quiet_sampler

if TYPE_CHECKING:
    import optuna

Telling = Literal["complete", "pruned", "forecast"]
"""What TPE is told of a stopped trial: its best value, that it was pruned there, or where it would have ended."""
State = Literal["completed", "stopped", "failed"]

NEEDS: Mapping[str, Mapping[str, str]] = {
    "tpe": {"optuna": "optuna"},
    "random": {"optuna": "optuna"},
    "qmc": {"optuna": "optuna", "scipy": "scipy"},
    "cmaes": {"optuna": "optuna", "cmaes": "cmaes"},
    "nsga2": {"optuna": "optuna"},
}
"""Kind of searcher -> what it imports -> the package that has it."""

DEFAULT_TELLING: Telling = "complete"
SEEN = 500
"""TPE goes by so many of the trials that have ended, see `search.study.Study`; docs/scale.md has what that costs."""


def missing_packages(kind: str) -> list[str]:
    """Returns the packages that a kind of searcher needs and that are not installed."""
    return [package for name, package in NEEDS[kind].items() if importlib.util.find_spec(name) is None]


class Searcher:
    """Proposes configurations and learns from what became of them.

    Args:
        space: to propose from.
        settings: `[searcher]` of the sweep file.
        goals: of each objective, in order.
        seed: of all draws.
        telling: what TPE is told of stopped trials; see docs/decisions/0004-how-stopped-trials-are-told.md. With
            several objectives, and for other kinds, a stopped trial counts with the values that it had.

    Raises:
        SpecError: a kind that lacks a package, or cannot have so many objectives.
    """

    def __init__(
        self,
        space: Space,
        settings: SearcherSettings,
        goals: Sequence[Goal] = ("min",),
        seed: int = 0,
        *,
        telling: Telling = DEFAULT_TELLING,
    ):
        kind = settings.kind
        if missing := missing_packages(kind):
            raise SpecError(
                f"searcher {kind!r} needs the package {' and '.join(map(repr, missing))}, which is not installed; "
                f"install it (pip install {' '.join(missing)}) or choose another kind"
            )
        if kind == "cmaes" and len(goals) != 1:
            raise SpecError(f"searcher 'cmaes' has one objective, got {len(goals)}; expected kind 'nsga2' or 'tpe'")
        self._space, self._settings, self._goals, self._seed = space, settings, tuple(goals), seed
        self._telling: Telling = telling if kind == "tpe" and len(goals) == 1 else "complete"
        self._coordinates = Coordinates(space, numbers_only=kind == "cmaes")
        self._distributions = {n: self._coordinates.distribution(p) for n, p in self._coordinates.parameters.items()}
        self._num_learnt = 0
        told_plainly = len(goals) == 1 and self._telling == "complete"
        self._study = Study(
            self._goals, keep_attributes=kind != "tpe", seen=SEEN if kind == "tpe" and told_plainly else None
        )

    def ask(self, trial: int) -> dict[str, Any]:
        """Returns a new configuration, which counts as running until its end is told.

        Args:
            trial: its number; together with the seed and what has been told so far it decides on the proposal.
        """
        self._refuse_known(trial)
        if self._settings.kind in ("random", "qmc"):
            shares = self._shares(trial)
            values = self._space.sample(
                lambda parameter: parameter.at(shares.get(self._coordinates.name(parameter), 0.0))
            )
            self._study.add(trial)
        elif self._settings.kind == "tpe":
            asked = self._study.ask(trial, self._sampler(trial))
            values = self._space.sample(lambda parameter: self._suggested(parameter, asked))
        else:
            drawn = self._all_coordinates(trial)
            values = self._space.sample(lambda parameter: self._value(parameter, drawn))
        # As a replay will: a drawn number may differ in its last digit from the one that its value leads back to.
        self._study.set(trial, *self._inner(values))
        return values

    def add(self, trial: int, values: Mapping[str, Any]) -> None:
        """Takes in a configuration as running: one that others chose, or one that was proposed before a restart.

        Raises:
            SpaceError: it is no configuration of the space.
        """
        self._refuse_known(trial)
        inner = self._inner(self._checked(values))
        if self._settings.kind in ("cmaes", "nsga2"):
            # These note with each trial which generation it is of, and go on from there; so they are asked again.
            self._all_coordinates(trial)
        else:
            self._study.add(trial)
        self._study.set(trial, *inner)

    def tell(self, trial: int, state: State, values: Sequence[float] | None, curve: Mapping[int, float]) -> None:
        """Takes in how a trial ended; told again, of a trial that was extended, the later end takes the former's place.

        Args:
            trial: asked for or added before.
            state: `failed` also stands for what has no finite values.
            values: of each objective at its best epoch, or `None`.
            curve: epoch -> first objective, as far as it ran.
        """
        finite = values is not None and len(values) == len(self._goals) and all(map(_finite, values))
        self._study.tell(trial, self._how(state if finite else "failed"), values if finite and values else (), curve)

    def learn(
        self, values: Mapping[str, Any], state: State, results: Sequence[float] | None, curve: Mapping[int, float]
    ) -> bool:
        """Takes in a trial of another sweep; to be called before any `ask` or `add`, in the same order each time.

        Args:
            values: its configuration.
            state: how it ended.
            results: the objectives at its best epoch.
            curve: epoch -> first objective.

        Returns:
            False if it was left out: it is no configuration of this space, or has nothing finite to learn from.
        """
        finite = results is not None and len(results) == len(self._goals) and all(map(_finite, results))
        if state == "failed" or not finite or not self._space.contains(values):
            return False
        self._num_learnt += 1
        self.add(-self._num_learnt, values)
        self.tell(-self._num_learnt, state, results, curve)
        return True

    def state(self) -> dict[str, Any]:
        """Returns all that proposals depend on, as plain values that JSON can hold."""
        return {
            "kind": self._settings.kind,
            "startup_trials": self._settings.startup_trials,
            "goals": list(self._goals),
            "seed": self._seed,
            "telling": self._telling,
            "trials": self._study.rows(),
        }

    def _how(self, state: State) -> Told:
        if state == "completed":
            return "complete"
        if state == "stopped":
            return self._telling
        # A failure is mostly a bad place, such as a learning rate at which training diverges: TPE ranks it last and
        # turns away. Samplers that must have values of each trial leave it out.
        return "worst" if self._settings.kind == "tpe" and len(self._goals) == 1 else "failed"

    def _refuse_known(self, trial: int) -> None:
        if trial in self._study:
            raise ValueError(f"trial {trial} is known already")

    def _checked(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns a whole configuration as it is.

        Raises:
            SpaceError: it is none.
        """
        if not self._space.contains(values):
            missing = self._space.point(values).keys() - values.keys()
            raise SpaceError(f"this is no whole configuration: {', '.join(sorted(missing))} missing")
        return values

    def _inner(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns coordinates and their distributions of a configuration."""
        return self._coordinates.of(values), self._distributions

    def _rng(self, trial: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, trial % 2**63])

    def _shares(self, trial: int) -> dict[str, float]:
        """Returns a place in [0, 1) on each coordinate: at random, or the trial's point of Sobol's sequence."""
        names = list(self._coordinates.parameters)
        if self._settings.kind == "random":
            drawn = self._rng(trial).random(len(names))
        else:
            from scipy.stats import qmc

            points = qmc.Sobol(max(1, len(names)), rng=np.random.default_rng(self._seed))
            drawn = points.fast_forward(trial).random(1)[0] if trial else points.random(1)[0]
        return dict(zip(names, map(float, drawn), strict=False))

    def _value(self, parameter: Parameter, drawn: Mapping[str, Any]) -> Any:
        if single(parameter):
            return parameter.at(0.0)
        return self._coordinates.value(parameter, drawn[self._coordinates.name(parameter)])

    def _suggested(self, parameter: Parameter, asked: "optuna.Trial") -> Any:
        if single(parameter):
            return parameter.at(0.0)
        name = self._coordinates.name(parameter)
        return self._coordinates.value(parameter, _suggest(asked, name, self._distributions[name]))

    def _all_coordinates(self, trial: int) -> dict[str, Any]:
        """Asks the sampler for every coordinate, the inactive ones too, so that all trials have the same.

        Samplers that join trials need coordinates that all of them have; those that are inactive are carried along.
        """
        asked = self._study.ask(trial, self._sampler(trial))
        return {name: _suggest(asked, name, self._distributions[name]) for name in self._coordinates.parameters}

    def _sampler(self, trial: int) -> "optuna.samplers.BaseSampler":
        """Returns a sampler that knows nothing but its seed; what it needs to know it reads from the study."""
        from optuna import samplers

        seed = int(self._rng(trial).integers(2**32))
        startup = self._settings.startup_trials
        if self._settings.kind == "tpe":
            return quiet_sampler(
                lambda: samplers.TPESampler(n_startup_trials=startup, multivariate=True, group=True, seed=seed)
            )
        if self._settings.kind == "nsga2":
            return samplers.NSGAIISampler(population_size=max(startup, 10), seed=seed)
        return samplers.CmaEsSampler(n_startup_trials=max(startup, 1), warn_independent_sampling=False, seed=seed)


def _suggest(asked: "optuna.Trial", name: str, distribution: Any) -> Any:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return asked.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return asked.suggest_int(name, distribution.low, distribution.high, log=distribution.log)
    return asked.suggest_float(name, distribution.low, distribution.high, log=distribution.log)


def _finite(value: Any) -> bool:
    return value is not None and math.isfinite(value)
