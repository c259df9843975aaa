"""How well the final job's statistics keep their promises: simulated trainings of which the truth is known.

Four configurations, of which two are truly the best, the others 0.01 and 0.03 behind; scores are like those of chorale
models (73 pieces that differ by 0.09 nats per note; 0.01 from seed to seed). With spreads *alike*, all configurations
have that; *unlike*, they have 0.02, 0.005, 0.01 and 0.005. Columns: how often 95 % intervals of a configuration and of
its difference to the best one seen hold the truth; how often both best ones are in the tied set; how large that is.

`resampling` draws seeds with replacement as it does pieces. `own 0`, `own 2`, ... is `results.statistics` with that
`OWN_SPREAD`: the smaller, the more a configuration's own seeds say of its spread.

With --racing: eight configurations whose true means are drawn (sd 0.015 between them), or six that are fixed; two seeds
for each, and twice as many trainings again that either go to all alike (*fixed*) or where `results.racing` sends them.
Costs are dealt at random. Columns: how often the chosen one is truly within 0.005 of the best; how far behind it is on
average; trainings that were added; how often intervals hold the truth; how many are tied in the end.

Run: python benchmarks/bench_choice.py [--racing] [--runs N] [--json]
"""

import argparse
import json
from collections.abc import Sequence

import numpy as np

from results import statistics
from results.racing import next_seeds
from results.statistics import Configuration, Cost, choose, compare

MEANS = (1.0, 1.0, 1.01, 1.03)
SPREADS = {"alike": (0.01,) * 4, "unlike": (0.02, 0.005, 0.01, 0.005)}
WEIGHTS = np.random.default_rng(3).integers(100, 400, 73).astype(float)
OWN = (0, 2, 4, 1000)
SEEDS = (2, 3, 5)


def trained(rng: np.random.Generator, spreads: Sequence[float], seeds: int) -> list[Configuration]:
    """Returns the configurations as if each had been trained with so many seeds."""
    hard, made = rng.normal(0, 0.09, len(WEIGHTS)), []
    for name, (mean, spread) in enumerate(zip(MEANS, spreads, strict=True)):
        own = hard + rng.normal(0, 0.02, len(WEIGHTS))
        models = [mean + rng.normal(0, spread) + own + rng.normal(0, 0.02, len(WEIGHTS)) for _ in range(seeds)]
        scores = tuple(float(values @ WEIGHTS / WEIGHTS.sum()) for values in models)
        pieces = tuple(
            {str(i): (float(values[i]), float(weight)) for i, weight in enumerate(WEIGHTS)} for values in models
        )
        made.append(Configuration(name=name, scores=scores, pieces=pieces))
    return made


def kept(comparison: statistics.Comparison) -> tuple[float, float, float, float]:
    """Returns the shares of intervals and differences that hold the truth, whether both best are tied, how many are."""
    best = comparison.standings[0]
    means, behind = [], []
    for standing in comparison.standings:
        truth = MEANS[int(str(standing.name))]
        low, high = standing.interval or (np.nan, np.nan)
        means.append(low <= truth <= high)
        if standing is not best:
            low, high = standing.difference_interval or (np.nan, np.nan)
            behind.append(low <= truth - MEANS[int(str(best.name))] <= high)
    tied = comparison.of(0).tied and comparison.of(1).tied
    return float(np.mean(means)), float(np.mean(behind)), float(tied), float(len(comparison.tied))


def resampled(made: Sequence[Configuration], rng: np.random.Generator, draws: int) -> tuple[float, float, float, float]:
    """Returns the same for plain resampling of pieces and seeds; tied is whose difference's interval holds 0."""
    values = np.array([[[v for v, _ in model.values()] for model in each.pieces] for each in made])  # [C, S, P]
    weights = rng.multinomial(len(WEIGHTS), np.full(len(WEIGHTS), 1 / len(WEIGHTS)), draws) * WEIGHTS
    scores = values @ weights.T / weights.sum(axis=1)  # [C, S, draws]
    picked = rng.integers(0, values.shape[1], scores.shape)
    drawn = np.take_along_axis(scores, picked, axis=1).mean(axis=1)
    best = int(np.argmin([np.mean(each.scores) for each in made]))
    truth = np.array(MEANS)
    low, high = np.quantile(drawn, (0.025, 0.975), axis=1)
    means = (low <= truth) & (truth <= high)
    low, high = np.quantile(drawn - drawn[best], (0.025, 0.975), axis=1)
    behind = (low <= truth - truth[best]) & (truth - truth[best] <= high)
    tied = low <= 0
    return float(means.mean()), float(np.delete(behind, best).mean()), float(tied[0] and tied[1]), float(tied.sum())


FIXED = (1.0, 1.0, 1.005, 1.01, 1.02, 1.04)
GOOD = 0.005
FIRST, WIDTH = 2, 2
"""Seeds for all before racing, and trainings at a time."""


def raced(
    rng: np.random.Generator, means: Sequence[float], rule: statistics.Rule, draws: int, *, racing: bool
) -> tuple[float, float, float, float, float]:
    """Returns what comes of one final job: chosen well, behind the best, trainings added, intervals right, tied."""
    count = len(means)
    scores = [[rng.normal(mean, 0.01) for _ in range(FIRST)] for mean in means]
    costs = [Cost(name="cost", goal="min", values=dict(enumerate(10.0 * (1 + rng.permutation(count)))))]
    left = FIRST * count
    while True:
        found = compare(
            [Configuration(name=name, scores=tuple(each)) for name, each in enumerate(scores)], draws=draws, seed=left
        )
        wanted = next_seeds(found, min(WIDTH, left), rule=rule) if racing else list(range(count)) * (left > 0)
        if not wanted:
            break
        for name in wanted:
            scores[int(str(name))].append(rng.normal(means[int(str(name))], 0.01))
        left -= len(wanted)
    chosen = means[int(str(choose(found, rule=rule, costs=costs)))] - min(means)
    held = [
        s.interval is not None and s.interval[0] <= means[int(str(s.name))] <= s.interval[1] for s in found.standings
    ]
    return float(chosen <= GOOD), chosen, float(FIRST * count - left), float(np.mean(held)), float(len(found.tied))


def race(runs: int, draws: int, as_json: bool) -> None:
    """Prints a line for each kind of means, rule and way of giving seeds."""
    rows = []
    for name in ("fixed means", "drawn means"):
        for rule in statistics.RULES:
            for racing in (False, True):
                rng, results = np.random.default_rng(5), []
                for _ in range(runs):
                    means = FIXED if name == "fixed means" else tuple(rng.normal(1.0, 0.015, 8).tolist())
                    results.append(raced(rng, means, rule, draws, racing=racing))
                good, behind, added, held, tied = np.mean(results, axis=0).tolist()
                way = "racing" if racing else "fixed"
                rows.append(
                    {"means": name, "rule": rule, "seeds": way, "good": good, "behind": behind, "added": added,
                     "intervals": held, "tied": tied}
                )  # fmt: skip
    if as_json:
        print(json.dumps({"runs": runs, "rows": rows}, indent=1))
        return
    print(f"{'means':13}{'rule':20}{'seeds':8}{'good':>7}{'behind':>9}{'added':>7}{'intervals':>11}{'tied':>7}")
    for row in rows:
        print(
            f"{row['means']:13}{row['rule']:20}{row['seeds']:8}{row['good']:>7.3f}{row['behind']:>9.5f}"
            f"{row['added']:>7.1f}{row['intervals']:>11.3f}{row['tied']:>7.2f}"
        )


def main() -> None:
    """Prints a line for each kind of spread, number of seeds and way."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=400, help="simulated sweeps for each line")
    parser.add_argument("--draws", type=int, default=600, help="draws of each bootstrap")
    parser.add_argument("--json", action="store_true", help="a document instead of a table")
    parser.add_argument("--racing", action="store_true", help="what racing gives against seeds for all alike")
    asked = parser.parse_args()
    if asked.racing:
        race(asked.runs, asked.draws, asked.json)
        return
    rows = []
    for name, spreads in SPREADS.items():
        for seeds in SEEDS:
            found: dict[str, list[tuple[float, ...]]] = {}
            rng = np.random.default_rng(11)
            for run in range(asked.runs):
                made = trained(rng, spreads, seeds)
                found.setdefault("resampling", []).append(resampled(made, rng, asked.draws))
                for own in OWN:
                    statistics.OWN_SPREAD = own
                    found.setdefault(f"own {own}", []).append(kept(compare(made, seed=run, draws=asked.draws)))
            for way, results in found.items():
                means, behind, tied, size = np.mean(results, axis=0).tolist()
                rows.append(
                    {"spreads": name, "seeds": seeds, "way": way, "intervals": means, "differences": behind,
                     "both_best_tied": tied, "size": size}
                )  # fmt: skip
    if asked.json:
        print(json.dumps({"runs": asked.runs, "rows": rows}, indent=1))
        return
    print(f"{'spreads':8}{'seeds':>6}  {'way':12}{'intervals':>11}{'differences':>13}{'both tied':>11}{'size':>7}")
    for row in rows:
        print(
            f"{row['spreads']:8}{row['seeds']:>6}  {row['way']:12}{row['intervals']:>11.3f}{row['differences']:>13.3f}"
            f"{row['both_best_tied']:>11.3f}{row['size']:>7.2f}"
        )


if __name__ == "__main__":
    main()
