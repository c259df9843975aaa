"""What to tell the searcher of stopped trials: their values, that they were pruned, or where they would have ended.

Sweeps in virtual time (`search.simulation`) of TPE with ASHA, on a surrogate made of recorded learning curves
(`surrogate.py`), all with the same budget in epochs. Each seed is a sweep with each way of telling, on the same noise;
so ways are compared seed by seed. *Regret* is how much worse the expected curve of the chosen configuration, the one
with the best value seen, ends than that of the best known configuration. TPE that is told of nothing but random
configurations (`random`) stands beside them.

Run: python benchmarks/bench_telling.py [--curves CSV-OR-SWEEP] [--seeds N] [--json]
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine
from surrogate import Surrogate, load

from search.scheduler import SchedulerSettings, create
from search.searcher import Searcher, Telling
from search.simulation import Curve, simulate
from search.space import Space
from search.spec import SearcherSettings

CURVES = Path(__file__).parent / "data" / "small_chorale_models.csv"
WAYS: tuple[Telling, ...] = ("complete", "pruned", "forecast")
ARMS = (*WAYS, "random")


def sweep(
    surrogate: Surrogate, space: Space, arm: str, *, seed: int, workers: int, first_rung: int, budget: int
) -> dict[str, Any]:
    """Returns the expected final loss of the chosen configuration after each quarter of the budget, and counts."""
    kind, telling = ("random", "complete") if arm == "random" else ("tpe", arm)
    searcher = Searcher(space, SearcherSettings(kind=kind), ("min",), seed, telling=telling)  # type: ignore[arg-type]
    scheduler = create(SchedulerSettings(kind="asha", first_rung=first_rung, max_epochs=surrogate.epochs))
    proposed: dict[int, dict[str, Any]] = {}

    def propose(trial: int) -> Curve:
        proposed[trial] = searcher.ask(trial)
        # The noise of trial n is the same whichever way is told.
        losses = surrogate.curve(proposed[trial], np.random.default_rng([seed, trial]))
        return Curve(losses=tuple(map(float, losses)))

    def tell(trial: int, state: str, seen: Mapping[int, float]) -> None:
        searcher.tell(trial, state, [min(seen.values())], seen)  # type: ignore[arg-type]

    done = simulate(scheduler, propose, workers=workers, max_cost=budget, tell=tell)
    ends = {t: float(surrogate.expected(values).min()) for t, values in proposed.items()}
    chosen = []
    for quarter in (1, 2, 3, 4):
        known = [step for step in done.improvements if step.cost <= budget * quarter / 4]
        chosen.append(ends[known[-1].trial])
    return {
        "chosen": chosen,
        "trials": len(done.runs),
        "completed": sum(r.state == "completed" for r in done.runs.values()),
    }


def best_known(surrogate: Surrogate, space: Space, draws: int) -> float:
    """Returns the lowest expected final loss of many configurations: at random, then near the best of those."""
    rng = np.random.default_rng(0)
    points = [space.sample(lambda parameter: parameter.at(rng.random())) for _ in range(draws)]
    ends = surrogate.expected_of(points).min(axis=1)
    best, end = points[int(ends.argmin())], float(ends.min())
    for _ in range(draws // 10):
        near = space.sample(
            lambda p: best[p.name] if p.name in best and rng.random() > 0.2 else p.at(rng.random())  # noqa: B023
        )
        if (its := float(surrogate.expected(near).min())) < end:
            best, end = near, its
    return end


def interval(values: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """Returns the 95 % bootstrap interval of the mean."""
    means = rng.choice(values, (10_000, len(values))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def compared(regrets: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Returns a row an arm: mean regrets, their interval at the end, the difference to `complete` and its interval."""
    rows = []
    for arm, table in regrets.items():
        rng = np.random.default_rng(0)
        end, over = table[:, -1], table.mean(axis=1)
        difference = end - regrets["complete"][:, -1]
        rows.append(
            {
                "arm": arm,
                "quarters": table.mean(axis=0).tolist(),
                "interval": interval(end, rng),
                "median": float(np.median(end)),
                "mean_over_budget": float(over.mean()),
                "to_complete": float(difference.mean()),
                "to_complete_interval": interval(difference, rng),
                "over_to_complete": float((over - regrets["complete"].mean(axis=1)).mean()),
                "over_to_complete_interval": interval(over - regrets["complete"].mean(axis=1), rng),
            }
        )
    return rows


def main() -> None:
    """Simulates and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--curves", default=str(CURVES), help="a CSV of curves, or the folder of a sweep")
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument("--budget", type=int, default=240, help="epochs of a sweep")
    parser.add_argument("--first-rungs", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--tiny", action="store_true", help="seconds instead of minutes; the figures mean nothing")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args()
    if options.tiny:
        options.seeds, options.budget, options.first_rungs, options.workers = 2, 60, [2], [1]
    recorded = load(options.curves)
    surrogate = Surrogate(recorded)
    space = Space.explore(surrogate.space)
    best = best_known(surrogate, space, 500 if options.tiny else 20_000)
    facts = {
        **machine(),
        "curves": recorded.source,
        "num_curves": len(recorded.points),
        "epochs": surrogate.epochs,
        "left_out": surrogate.quality(),
        "noise": surrogate.noise_of_last(),
        "best_known": best,
        "seeds": options.seeds,
        "budget": options.budget,
    }
    settings = []
    for workers in options.workers:
        for first_rung in options.first_rungs:
            regrets, counts = {}, {}
            for arm in ARMS:
                runs = [
                    sweep(surrogate, space, arm, seed=s, workers=workers, first_rung=first_rung, budget=options.budget)
                    for s in range(options.seeds)
                ]
                regrets[arm] = np.array([run["chosen"] for run in runs]) - best
                counts[arm] = {k: float(np.mean([run[k] for run in runs])) for k in ("trials", "completed")}
            rows = [{**row, **counts[row["arm"]]} for row in compared(regrets)]
            settings.append({"workers": workers, "first_rung": first_rung, "arms": rows})
            if not options.json:
                show(facts if len(settings) == 1 else None, settings[-1])
    if options.json:
        print(json.dumps({"benchmark": "telling", **facts, "settings": settings}, indent=1))


def show(facts: Mapping[str, Any] | None, setting: Mapping[str, Any]) -> None:
    """Prints the table of one setting."""
    if facts is not None:
        print(", ".join(f"{name} {value}" for name, value in facts.items()), flush=True)
    print(f"\n{setting['workers']} at a time, first rung at epoch {setting['first_rung']}; regret, lower is better\n")
    heads = ("told", "after 1/4", "1/2", "3/4", "at the end [95 %]", "against `complete`", "over the budget", "trials")
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for row in setting["arms"]:
        quarters = " | ".join(f"{value:.3f}" for value in row["quarters"][:3])
        low, high = row["interval"]
        less, more = row["to_complete_interval"]
        first, last = row["over_to_complete_interval"]
        print(
            f"| {row['arm']} | {quarters} | {row['quarters'][3]:.3f} [{low:.3f}, {high:.3f}] | "
            f"{row['to_complete']:+.3f} [{less:+.3f}, {more:+.3f}] | "
            f"{row['over_to_complete']:+.3f} [{first:+.3f}, {last:+.3f}] | {row['trials']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
