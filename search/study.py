"""The trials that a searcher knows of, as an Optuna study in memory."""

import bisect
import functools
import heapq
import math
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from search.extrapolation import ends

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

Told = Literal["complete", "pruned", "forecast", "worst", "failed"]
"""How an end is told: with values; as pruned where its curve ends; with the value that it would have ended with, as far
as is known by the time of the next proposal; as worse than all others; or as nothing to learn from."""
Goal = Literal["min", "max"]

BEST = 100
"""Of the trials that a sampler sees, so many are the best: four times as many as TPE ever calls good."""


class Study:
    """An Optuna study whose trials are entered and ended by the sweep's own numbers.

    Args:
        goals: of each objective.
        keep_attributes: whether samplers may note things with a trial. TPE notes what it has drawn, for processes
            that would see a trial while it is being proposed; here none does, and a rebuilt study has no such notes.
        seen: samplers see no more than so many of the trials that have ended: the best, and of the others some that
            are spread evenly over the sweep, so that a proposal does not take ever longer. For one objective, with
            ends told as `complete` or `worst`. None: they see all.

    Attributes:
        optuna: the study itself. Trials learnt from other sweeps come first in it.
    """

    def __init__(self, goals: Sequence[Goal], *, keep_attributes: bool, seen: int | None = None):
        import optuna

        self._storage: Any = optuna.storages.InMemoryStorage() if keep_attributes else _forgetful()()
        with _quiet():
            self.optuna = optuna.create_study(
                storage=self._storage, directions=["minimize" if goal == "min" else "maximize" for goal in goals]
            )
        self._id = self._storage.get_study_id_from_name(self.optuna.study_name)
        self._sign = 1.0 if goals[0] == "min" else -1.0
        self._ids: dict[int, int] = {}
        self._ended: dict[int, tuple[Told, Mapping[int, float]]] = {}
        self._due = False
        self._seen = seen
        self._running: dict[int, None] = {}
        self._over: list[int] = []
        self._losses: dict[int, float] = {}
        self._best: list[tuple[float, int]] | None = []

    def __contains__(self, trial: int) -> bool:
        return trial in self._ids

    def ask(self, trial: int, sampler: "optuna.samplers.BaseSampler") -> "optuna.Trial":
        """Returns a new running trial, to be suggested values by `sampler`."""
        self._forecast()
        self.optuna.sampler = sampler
        if self._seen is not None:
            self._storage.shown = self._chosen(self._seen)
        asked = self.optuna.ask()
        self._ids[trial] = self._storage.get_trial_id_from_study_id_trial_number(self._id, asked.number)
        self._running[self._ids[trial]] = None
        return asked

    def add(self, trial: int) -> None:
        """Enters a running trial, as yet without coordinates."""
        self._ids[trial] = self._storage.create_new_trial(self._id)
        self._running[self._ids[trial]] = None

    def set(self, trial: int, coordinates: Mapping[str, Any], distributions: Mapping[str, "BaseDistribution"]) -> None:
        """Gives a running trial these coordinates; those not named stay."""
        for name, drawn in coordinates.items():
            distribution = distributions[name]
            self._storage.set_trial_param(self._ids[trial], name, distribution.to_internal_repr(drawn), distribution)

    def tell(self, trial: int, how: Told, values: Sequence[float], curve: Mapping[int, float]) -> None:
        """Ends a trial; one that had ended has gone on since, and this end takes the place of the former.

        Args:
            trial: its number.
            how: see `Told`.
            values: of each objective; only `complete` and `forecast` have any.
            curve: epoch -> the first objective.
        """
        from optuna.trial import TrialState

        trial_id = self._ids[trial]
        is_later = trial_id not in self._running
        if is_later:
            self._reopen(trial)
        if how == "pruned":
            for epoch, value in curve.items():
                self._storage.set_trial_intermediate_value(trial_id, epoch, value)
        states = {"complete": TrialState.COMPLETE, "forecast": TrialState.COMPLETE, "failed": TrialState.FAIL}
        state = states.get(how, TrialState.PRUNED)
        self._storage.set_trial_state_values(trial_id, state, list(values) if state == TrialState.COMPLETE else None)
        del self._running[trial_id]
        if self._seen is not None:
            if not is_later:
                self._over.append(trial_id)
            if state == TrialState.COMPLETE:
                self._losses[trial_id] = self._sign * values[0]
                if self._best is not None:
                    bisect.insort(self._best, (self._losses[trial_id], trial_id))
                    del self._best[BEST:]
            return
        if how in ("complete", "forecast"):
            losses = {epoch: self._sign * value for epoch, value in curve.items() if math.isfinite(value)}
            self._ended[trial] = how, losses
            self._due = True

    def _reopen(self, trial: int) -> None:
        """Makes a trial that has ended a running one without values."""
        from optuna.trial import TrialState

        trial_id = self._ids[trial]
        # Optuna has no call that changes a trial that has ended; its record in memory is ours alone.
        frozen = self._storage.get_trial(trial_id)
        frozen.state, frozen.values, frozen.intermediate_values = TrialState.RUNNING, None, {}
        self._running[trial_id] = None
        if self._ended.pop(trial, None) is not None:
            self._due = True
        if self._losses.pop(trial_id, None) is not None:
            self._best = None

    def rows(self) -> list[dict[str, Any]]:
        """Returns every trial of the study, in order, as plain values."""
        self._forecast()
        return [
            {
                "state": frozen.state.name,
                "values": frozen.values,
                "params": dict(sorted(frozen.params.items())),
                "intermediate": {str(k): v for k, v in frozen.intermediate_values.items()},
                # CMA-ES notes a whole optimizer, made anew from the other trials and partly of memory never written to.
                "attributes": {k: v for k, v in frozen.system_attrs.items() if "optimizer" not in k},
            }
            for frozen in self._frozen()
        ]

    def _chosen(self, seen: int) -> "list[FrozenTrial] | None":
        """Returns the trials that a sampler is to see, in order; None for all."""
        num = len(self._over)
        if num <= seen:
            return None
        if self._best is None:
            self._best = heapq.nsmallest(BEST, ((loss, trial_id) for trial_id, loss in self._losses.items()))
        ids = {trial_id for _, trial_id in self._best}
        others = seen - len(ids)
        ids.update(self._over[place * num // others] for place in range(others))
        ids.update(self._running)
        return [self._storage.get_trial(trial_id) for trial_id in sorted(ids)]

    def _frozen(self) -> "list[FrozenTrial]":
        if self._seen is not None:
            self._storage.shown = None
        return self._storage.get_all_trials(self._id, deepcopy=False)

    def _forecast(self) -> None:
        """Brings the values of stopped trials up to date with what has been seen since."""
        stopped = {trial: curve for trial, (how, curve) in self._ended.items() if how == "forecast" and curve}
        if not (self._due and stopped):
            return
        self._due = False
        completed = [curve for how, curve in self._ended.values() if how == "complete" and curve]
        frozen = {each._trial_id: each for each in self._frozen()}
        for trial, end in zip(stopped, ends(completed, list(stopped.values())), strict=True):
            # As in `_reopen`.
            frozen[self._ids[trial]].values = [self._sign * end]


def quiet_sampler(make: Any) -> "optuna.samplers.BaseSampler":
    """Returns what `make` returns, without Optuna's warnings that some of its options are new."""
    with _quiet():
        return make()


@contextmanager
def _quiet() -> Iterator[None]:
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


@functools.cache
def _forgetful() -> "type[optuna.storages.InMemoryStorage]":
    import optuna

    class Forgetful(optuna.storages.InMemoryStorage):
        """Keeps no notes of samplers, and shows them no more trials than they are to see.

        Attributes:
            shown: these alone; None: all.
        """

        def __init__(self) -> None:
            super().__init__()
            self.shown: list[FrozenTrial] | None = None

        def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
            """Does nothing."""

        def get_all_trials(
            self,
            study_id: int,
            deepcopy: bool = True,
            states: Collection[Any] | None = None,
        ) -> "list[FrozenTrial]":
            if self.shown is None:
                return super().get_all_trials(study_id, deepcopy, states)
            return [trial for trial in self.shown if states is None or trial.state in states]

    return Forgetful
