"""How much each parameter mattered, computed by Optuna.

PED-ANOVA asks which values the best tenth of the trials have more often than the others, so a trial that was stopped
early counts for what it is: one that is not among the best. It handles conditional parameters. fANOVA asks how much of
the spread of the values each parameter explains; stopped trials would distort that, so only completed ones count.
"""

import dataclasses
import importlib.util
import math
import warnings
from collections.abc import Sequence

from results.errors import CallerError, LedgerError, QueryError, did_you_mean
from results.filters import Condition, chosen_rows
from results.leaderboard import UNKNOWN_DATA, objective
from results.opening import Results
from results.schema import CONFIG

METHODS = ("ped-anova", "fanova")
_STATES = {"ped-anova": {"completed", "stopped"}, "fanova": {"completed"}}
LEAST = 10
"""With fewer trials any answer would be noise."""
SEED = 1685
"""fANOVA grows a random forest; the same trials give the same answer."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Importance:
    """How much a parameter mattered.

    Attributes:
        parameter: its name.
        importance: a share in [0, 1]; the shares of all parameters of a `scope` add up to 1.
        scope: the trials that were compared: "all", or for fANOVA and a conditional parameter, those that have it.
        num_trials: how many these are.
    """

    parameter: str
    importance: float
    scope: str
    num_trials: int


def importances(
    results: Results,
    *,
    method: str = "ped-anova",
    metric: str | None = None,
    goal: str | None = None,
    where: Sequence[Condition] = (),
) -> list[Importance]:
    """Returns how much each parameter mattered, the most important first.

    Args:
        results: the sweeps; their trials must have been scored on the same data.
        method: `ped-anova` or `fanova`, which needs scikit-learn.
        metric: at the best epoch; None: the first objective.
        goal: `min` or `max`; None: as declared.
        where: conditions on trials.

    Raises:
        QueryError: unknown method, metric or column.
        LedgerError: too few trials.
        CallerError: trials on different data, or scikit-learn is missing.
    """
    if method not in METHODS:
        raise QueryError(f"unknown method {method!r}{did_you_mean(method, METHODS)}")
    metric, goal = objective(results, metric, goal)
    rows = chosen_rows(results, "trials", where).to_pylist()
    rows = [r for r in rows if r["state"] in _STATES[method] and r[metric] is not None and math.isfinite(r[metric])]
    if len(rows) < LEAST:
        what = " or ".join(sorted(_STATES[method]))
        raise LedgerError(f"{len(rows)} trials are {what} with a finite {metric}; at least {LEAST} are needed")
    data = {r["data_fingerprint"]: r["data"] or UNKNOWN_DATA for r in rows}
    if len(data) > 1:
        raise CallerError(
            f"these trials were scored on different data ({', '.join(sorted(data.values()))}), so their values cannot "
            "be compared; choose one with --where data=… or --where data_fingerprint=…"
        )
    points = [{n.removeprefix(CONFIG): v for n, v in r.items() if n.startswith(CONFIG) and v is not None} for r in rows]
    values = [r[metric] for r in rows]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna's remarks on what is experimental in it
        found = _ped_anova(points, values, goal) if method == "ped-anova" else _fanova(points, values, goal)
    return sorted(found, key=lambda each: (each.scope != "all", each.scope, -each.importance, each.parameter))


def _ped_anova(points: list[dict], values: list[float], goal: str) -> list[Importance]:
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    study = _study(points, values, goal)
    # At least five good trials make the picture steady, as Optuna's documentation advises.
    share = min(max(0.1, 5 / len(points)), 0.5)
    evaluator = PedAnovaImportanceEvaluator(target_quantile=share)
    found = get_param_importances(study, evaluator=evaluator)
    return [Importance(parameter=n, importance=v, scope="all", num_trials=len(points)) for n, v in found.items()]


def _fanova(points: list[dict], values: list[float], goal: str) -> list[Importance]:
    """Returns the parameters that all trials have, then those of each condition among the trials that meet it."""
    if importlib.util.find_spec("sklearn") is None:
        raise CallerError(
            "method 'fanova' needs scikit-learn, which is not installed: pip install scikit-learn, or use ped-anova"
        )
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    scopes: dict[tuple[int, ...], list[str]] = {}
    for name in dict.fromkeys(name for point in points for name in point):
        having = tuple(i for i, point in enumerate(points) if name in point)
        scopes.setdefault(having, []).append(name)
    everywhere = scopes.get(tuple(range(len(points))), [])
    found = []
    for having, names in scopes.items():
        if len(having) < LEAST:
            continue
        own = names if names == everywhere else [*everywhere, *names]
        study = _study([{n: points[i][n] for n in own} for i in having], [values[i] for i in having], goal)
        shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=SEED))
        scope = "all" if names == everywhere else f"trials with {names[0]}"
        found += [
            Importance(parameter=n, importance=shares[n], scope=scope, num_trials=len(having))
            for n in own
            if n in shares
        ]
    return found


def _study(points: list[dict], values: list[float], goal: str):  # noqa: ANN202 - Optuna's type, imported late
    import optuna

    from results.optuna_study import distributions

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="minimize" if goal == "min" else "maximize")
    spaces = distributions(points)
    study.add_trials(
        [
            optuna.trial.create_trial(params=point, distributions={name: spaces[name] for name in point}, value=value)
            for point, value in zip(points, values, strict=True)
        ]
    )
    return study
