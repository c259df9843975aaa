"""Statistics of the final comparison: on simulated scores, of which the truth is known, they keep what they promise."""

import math
from functools import cache
from typing import Any

import numpy as np
import pytest

from results import racing as rules
from results import statistics
from results.errors import CallerError
from results.statistics import RULES, Comparison, Configuration, Cost, choose

# What cannot be told is None; here it is known where it can.
compare: Any = statistics.compare
shrunken: Any = statistics.shrunken
difference: Any = statistics.difference
next_seeds: Any = rules.next_seeds
WEIGHTS = np.random.default_rng(3).integers(100, 400, 30).astype(float)


def trained(rng, means, *, seeds, seed_sd, pieces=True) -> list[Configuration]:
    """Configurations whose true means are known, trained and scored on pieces of which some are harder than others."""
    hard = rng.normal(0, 0.1, len(WEIGHTS))
    made = []
    for name, (mean, sd) in enumerate(zip(means, np.broadcast_to(seed_sd, len(means)), strict=True)):
        own = hard + rng.normal(0, 0.03, len(WEIGHTS))
        scores, by_piece = [], []
        for _ in range(seeds):
            values = mean + rng.normal(0, sd) + (own + rng.normal(0, 0.03, len(WEIGHTS)) if pieces else 0 * own)
            scores.append(float(values @ WEIGHTS / WEIGHTS.sum()))
            by_piece.append({f"p{i}": (float(values[i]), WEIGHTS[i]) for i in range(len(WEIGHTS))})
        made.append(Configuration(name=name, scores=tuple(scores), pieces=tuple(by_piece) if pieces else ()))
    return made


@cache
def simulated(means, *, runs=200, **how):
    rng = np.random.default_rng(7)
    return [compare(trained(rng, means, **how), seed=run, draws=400) for run in range(runs)]


def within(interval, value):
    return interval[0] <= value <= interval[1]


MEANS = (1.0, 1.0, 1.02, 1.3)
CASES = {
    "two seeds": {"seeds": 2, "seed_sd": 0.02, "pieces": False},
    "two seeds and pieces": {"seeds": 2, "seed_sd": 0.02},
    "three seeds and pieces": {"seeds": 3, "seed_sd": 0.02},
    "five seeds": {"seeds": 5, "seed_sd": 0.02, "pieces": False},
}


@pytest.mark.parametrize("case", CASES)
def test_intervals_hold_the_truth_as_often_as_they_say(case):
    found = simulated(MEANS, **CASES[case])
    means = [within(s.interval, MEANS[s.name]) for f in found for s in f.standings]
    # 800 intervals that are right 95 times of 100, not quite independent of each other
    assert 0.92 <= np.mean(means) <= 0.995
    behind = [
        within(s.difference_interval, MEANS[s.name] - MEANS[f.standings[0].name]) for f in found for s in f.standings
    ]
    assert np.mean(behind) >= 0.93


@pytest.mark.parametrize("case", CASES)
def test_the_best_is_among_the_tied_and_far_worse_ones_are_not(case):
    found = simulated(MEANS, **CASES[case])
    for best in (0, 1):
        assert np.mean([f.of(best).tied for f in found]) >= 0.95
    assert np.mean([f.of(3).tied for f in found]) <= 0.05
    assert np.mean([f.of(0).chance_best + f.of(1).chance_best for f in found]) >= 0.8


def test_spreads_that_differ_cost_little_of_the_promise():
    found = simulated(MEANS, seeds=5, seed_sd=(0.04, 0.01, 0.02, 0.01), pieces=False)
    assert np.mean([within(s.interval, MEANS[s.name]) for f in found for s in f.standings]) >= 0.9
    assert np.mean([f.of(0).tied and f.of(1).tied for f in found]) >= 0.9


def test_the_chosen_one_is_truly_tied_with_the_best_and_the_cheapest_of_those():
    means = (1.0, 1.0, 1.15, 1.15)
    cost = Cost(name="size", goal="min", values={0: 40.0, 1: 20.0, 2: 10.0, 3: 1.0})
    found = simulated(means, seeds=3, seed_sd=0.02)
    chosen = [choose(f, rule="tied_cheapest", costs=[cost]) for f in found]
    assert np.mean([name in (0, 1) for name in chosen]) >= 0.95
    assert np.mean([name == 1 for name in chosen]) >= 0.9
    by_mean = [choose(f, rule="best_mean", costs=[cost]) for f in found]
    assert 0.4 <= np.mean([name == 1 for name in by_mean]) <= 0.6


def test_pairing_over_pieces_tells_apart_what_intervals_of_each_alone_do_not():
    rng = np.random.default_rng(0)
    found = compare(trained(rng, (1.0, 1.04), seeds=5, seed_sd=0.003))
    first, second = found.standings
    assert first.interval[1] > second.interval[0]
    assert not second.tied
    assert found.over == "seeds and pieces"
    assert found.num_pieces == len(WEIGHTS)


def test_the_same_seed_gives_the_same_figures():
    made = trained(np.random.default_rng(0), (1.0, 1.1), seeds=2, seed_sd=0.1)
    assert compare(made, seed=5) == compare(made, seed=5)
    assert compare(made, seed=5) != compare(made, seed=6)


def test_more_is_better_where_the_goal_is_max():
    made = [Configuration(name=n, scores=s) for n, s in (("a", (0.5, 0.52)), ("b", (0.9, 0.91)), ("c", (0.89, 0.92)))]
    found = compare(made, goal="max")
    assert [s.name for s in found.standings] == ["b", "c", "a"] or found.standings[0].mean == pytest.approx(0.905)
    worst = found.standings[-1]
    assert worst.name == "a"
    assert worst.difference == pytest.approx(0.51 - 0.905)
    assert worst.difference_interval[0] <= worst.difference <= worst.difference_interval[1] < 0
    assert not worst.tied
    assert sum(s.chance_best for s in found.standings) == pytest.approx(1)


def test_of_single_trainings_no_interval_is_invented():
    found = compare([Configuration(name=0, scores=(1.0,)), Configuration(name=1, scores=(1.1,))])
    assert found.over == "nothing"
    assert [s.tied for s in found.standings] == [True, False]
    for standing in found.standings:
        assert (standing.sd, standing.error, standing.interval, standing.chance_best) == (None, None, None, None)
        assert standing.difference_interval is None


def test_of_single_trainings_pieces_alone_can_show_a_tie():
    rng = np.random.default_rng(0)
    near = compare(trained(rng, (1.0, 1.0), seeds=1, seed_sd=0.0))
    far = compare(trained(rng, (1.0, 1.2), seeds=1, seed_sd=0.0))
    assert near.over == far.over == "pieces"
    assert [s.tied for s in near.standings] == [True, True]
    assert [s.tied for s in far.standings] == [True, False]
    assert near.standings[0].interval is None


def test_one_that_was_trained_once_borrows_the_spread_of_the_others():
    made = [Configuration(name=0, scores=(1.0, 1.1, 0.9)), Configuration(name=1, scores=(1.05,))]
    found = compare(made)
    assert found.over == "seeds"
    assert found.of(1).sd is None
    low, high = found.of(1).interval
    assert high - low > found.of(0).interval[1] - found.of(0).interval[0]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda pieces: {"other": (1.0, 1.0)},
        lambda pieces: {},
        lambda pieces: {name: (value, weight + 1) for name, (value, weight) in pieces.items()},
        lambda pieces: {name: (value + 0.5, weight) for name, (value, weight) in pieces.items()},
        lambda pieces: {name: (math.inf, weight) for name, (_, weight) in pieces.items()},
        lambda pieces: {name: (math.nan, weight) for name, (_, weight) in pieces.items()},
    ],
)
def test_pieces_that_do_not_compare_or_do_not_explain_the_score_are_left_aside(spoil):
    one, two = trained(np.random.default_rng(0), (1.0, 1.0), seeds=2, seed_sd=0.02)
    two = Configuration(name=1, scores=two.scores, pieces=(two.pieces[0], spoil(two.pieces[1])))
    assert compare([one, two]).over == "seeds"


def test_equal_scores_without_any_spread_share_the_chance():
    found = compare([Configuration(name=n, scores=(1.0, 1.0)) for n in range(2)])
    assert [s.chance_best for s in found.standings] == [0.5, 0.5]
    assert [s.tied for s in found.standings] == [True, True]
    assert found.standings[0].interval == (1.0, 1.0)


def test_one_configuration_is_tied_with_itself():
    found = compare([Configuration(name=0, scores=(1.0, 1.2))])
    assert [s.name for s in found.tied] == [0]
    assert found.standings[0].chance_best == 1


@pytest.mark.parametrize("scores", [(), (math.nan,), (1.0, math.inf)])
def test_scores_that_are_none_are_refused(scores):
    with pytest.raises(CallerError, match="expected one or more numbers"):
        compare([Configuration(name=0, scores=scores)])
    with pytest.raises(CallerError, match="nothing to compare"):
        compare([])


def close() -> Comparison:
    """0 has the best mean, 1 is within a standard error, 2 is tied, 3 is not."""
    scores = {0: (1.0, 1.02, 0.98), 1: (1.005, 1.025, 0.985), 2: (1.02, 1.04, 1.0), 3: (1.5, 1.52, 1.48)}
    found = compare([Configuration(name=name, scores=each) for name, each in scores.items()])
    assert [s.tied for s in found.standings] == [True, True, True, False]
    return found


def cost(name="speed", goal: Any = "max", **values) -> Cost:
    return Cost(name=name, goal=goal, values={int(key[1:]): value for key, value in values.items()})


@pytest.mark.parametrize(
    ("rule", "costs", "chosen"),
    [
        ("best_mean", [cost(c0=1.0, c1=9.0, c2=9.0, c3=99.0)], 0),
        ("tied_cheapest", [], 0),
        ("tied_cheapest", [cost(c0=1.0, c1=2.0, c2=9.0, c3=99.0)], 2),
        # as fast but for what measuring can tell: the second cost decides
        ("tied_cheapest", [cost(c0=100.0, c1=105.0, c2=50.0), cost("size", "min", c0=3.0, c1=3.2, c2=1.0)], 0),
        ("tied_cheapest", [cost(c0=100.0, c1=105.0, c2=50.0), cost("size", "min", c0=3.0, c1=2.0, c2=1.0)], 1),
        # what is not known of all decides nothing
        ("tied_cheapest", [cost(c0=1.0, c2=9.0), cost("size", "min", c0=3.0, c1=1.0, c2=2.0)], 1),
        ("tied_cheapest", [cost(c0=1.0, c1=math.nan, c2=9.0)], 0),
        ("one_standard_error", [cost(c0=1.0, c1=2.0, c2=9.0, c3=99.0)], 1),
    ],
)
def test_a_rule_chooses(rule, costs, chosen):
    assert choose(close(), rule=rule, costs=costs) == chosen


def test_an_unknown_rule_is_refused_with_the_nearest():
    assert len(RULES) == 3
    with pytest.raises(CallerError, match=r"unknown rule 'best_men'.*best_mean"):
        choose(close(), rule="best_men")  # pyright: ignore[reportArgumentType]


def test_shrinking_takes_away_the_luck_of_the_best():
    rng = np.random.default_rng(0)
    promised, expected, truth = [], [], []
    for _ in range(300):
        true = rng.normal(1.0, 0.03, 30)
        seen = true + rng.normal(0, 0.03, 30)
        best = int(seen.argmin())
        promised.append(seen[best])
        expected.append(shrunken(seen.tolist(), 0.03)[best])
        truth.append(true[best])
    assert np.mean(truth) - np.mean(promised) > 0.02
    assert abs(np.mean(truth) - np.mean(expected)) < 0.004


@pytest.mark.parametrize("goal", ["min", "max"])
@pytest.mark.parametrize(("bad", "far"), [(0, 0.0), (1, 1.1), (2, 1.1), (10, 0.2)])
def test_what_bad_trials_reached_says_nothing_of_the_luck_of_the_good_ones(goal, bad, far):
    rng = np.random.default_rng(1)
    sign = 1 if goal == "min" else -1
    lost, foretold = [], []
    for _ in range(400):
        true = np.concatenate([rng.normal(0.40, 0.01, 30), 0.40 + far * rng.uniform(0.9, 1.1, bad)])
        seen = true + rng.normal(0, 0.012, len(true))
        top = np.argsort(seen)[:3]
        lost.append((true - seen)[top].mean())
        foretold.append(sign * (np.array(shrunken((sign * seen).tolist(), 0.012, goal=goal)) - sign * seen)[top].mean())
    assert np.mean(lost) > 0.014
    assert np.mean(foretold) == pytest.approx(np.mean(lost), rel=0.15)


def test_what_lies_far_behind_is_hardly_drawn_to_the_middle():
    values = [0.40, 0.41, 0.42, 0.39, 1.5]
    found = shrunken(values, 0.01)
    assert 1.45 < found[-1] < 1.5
    assert shrunken([-value for value in values], 0.01, goal="max") == pytest.approx([-value for value in found])


def test_what_a_sweep_promised_cannot_be_told_without_a_spread():
    assert shrunken([1.0, 1.1, 1.2], None) is None
    assert shrunken([1.0, 1.1], 0.1) is None
    assert shrunken([1.0, 1.0, 1.0], 0.1) == [1.0, 1.0, 1.0]
    assert shrunken([1.0, 1.1, 1.2], 9.0) == pytest.approx([1.1, 1.1, 1.1])
    assert shrunken([1.0, 1.1, 1.2], 0.0) == [1.0, 1.1, 1.2]


# --- racing -----------------------------------------------------------------------------------------------------------


def raced(rng, means, *, extra, racing, rule="best_mean", draws=120) -> Comparison:
    """Trainings with two seeds each and `extra` more: where racing sends them, two at a time, or to all alike."""
    scores = [[rng.normal(mean, 0.01) for _ in range(2)] for mean in means]
    if not racing:
        for each, mean in zip(scores, means, strict=True):
            each += [rng.normal(mean, 0.01) for _ in range(extra // len(means))]
        extra = 0
    while True:
        made = [Configuration(name=name, scores=tuple(each)) for name, each in enumerate(scores)]
        found = compare(made, draws=draws, seed=extra)
        for name in next_seeds(found, min(2, extra), rule=rule):
            scores[name].append(rng.normal(means[name], 0.01))
            extra -= 1
        if sum(map(len, scores)) == sum(len(one.scores) for one in made):
            return found


@cache
def races(racing, rule="best_mean"):
    found = []
    for run in range(120):
        rng = np.random.default_rng(run)
        means = rng.normal(1.0, 0.015, 8)
        found.append((means, raced(rng, means, extra=16, racing=racing, rule=rule)))
    return found


def test_racing_chooses_better_than_as_many_seeds_given_to_all_alike():
    behind = {
        racing: np.mean([means[choose(found, rule="best_mean")] - means.min() for means, found in races(racing)])
        for racing in (False, True)
    }
    assert behind[True] < 0.8 * behind[False]


def test_racing_for_the_cheapest_of_the_tied_leaves_fewer_tied_with_fewer_trainings():
    even = [found for _, found in races(False)]
    raced = races(True, "tied_cheapest")
    trainings = [sum(standing.num_trainings for standing in found.standings) for _, found in raced]
    assert np.mean(trainings) < 32  # as many as all alike have
    assert np.mean([len(found.tied) for _, found in raced]) < np.mean([len(found.tied) for found in even])
    assert np.mean([found.of(int(means.argmin())).tied for means, found in raced]) >= 0.95


def test_one_that_is_far_behind_and_little_known_does_not_keep_others_tied():
    spread = (-0.012, -0.004, 0.0, 0.0, 0.004, 0.012)
    known = [Configuration(name=n, scores=tuple(at + e for e in spread)) for n, at in ((0, 1.0), (1, 1.02))]
    unsure = [Configuration(name=2 + n, scores=(1.08 + n / 100, 1.1 + n / 100)) for n in range(4)]
    assert {standing.name for standing in compare([*known, *unsure]).tied} == {0}


def test_intervals_hold_the_truth_after_racing():
    for racing in (False, True):
        held = [within(s.interval, means[s.name]) for means, found in races(racing) for s in found.standings]
        assert 0.93 <= np.mean(held) <= 0.995
        assert np.mean([found.of(int(means.argmin())).tied for means, found in races(racing)]) >= 0.95


def test_racing_gives_seeds_to_the_best_and_its_nearest_rival_and_none_when_it_is_decided():
    scores = {0: (1.0, 1.02), 1: (1.003, 1.023), 2: (1.02, 1.04), 3: (1.9, 1.92)}
    found = compare([Configuration(name=name, scores=each) for name, each in scores.items()])
    assert sorted(next_seeds(found, 2)) == [0, 1]
    longer = next_seeds(found, 9)
    assert longer[:2] == next_seeds(found, 2)
    assert 3 not in longer
    assert next_seeds(found, 9, rule="one_standard_error") == longer
    # Any of the tied may be taken: they are given as many each.
    assert sorted(next_seeds(found, 6, rule="tied_cheapest")) == [0, 0, 1, 1, 2, 2]
    decided = compare([Configuration(name=0, scores=(1.0, 1.01)), Configuration(name=1, scores=(2.0, 2.01))])
    assert next_seeds(decided, 5) == next_seeds(decided, 5, rule="tied_cheapest") == []
    assert next_seeds(compare([Configuration(name=n, scores=(1.0,)) for n in range(2)]), 5) == []


def test_racing_goes_to_those_whose_mean_is_least_sure():
    made = [Configuration(name=0, scores=(1.0, 1.01, 0.99, 1.0, 1.02, 0.98)), Configuration(name=1, scores=(1.0, 1.03))]
    assert next_seeds(compare(made), 3) == [1, 1, 1]


# --- two models over the same pieces ----------------------------------------------------------------------------------


def test_two_models_are_compared_over_the_same_pieces():
    rng, right = np.random.default_rng(1), []
    for run in range(200):
        hard = rng.normal(0, 0.1, len(WEIGHTS))
        both = [hard + gap + rng.normal(0, 0.02, len(WEIGHTS)) for gap in (0.01, 0.0)]
        one, other = ({f"p{i}": (float(v[i]), WEIGHTS[i]) for i in range(len(WEIGHTS))} for v in both)
        apart, interval = difference(one, other, seed=run, draws=300)
        assert apart == pytest.approx(float((both[0] - both[1]) @ WEIGHTS / WEIGHTS.sum()))
        assert interval[1] - interval[0] < 0.05
        right.append(within(interval, 0.01))
    assert 0.9 <= np.mean(right) <= 0.985


def test_of_other_pieces_or_too_few_no_interval_is_invented():
    few = {f"p{i}": (1.0 + i, 1.0) for i in range(4)}
    assert difference(few, {name: (value - 0.5, weight) for name, (value, weight) in few.items()}) == (0.5, None)
    with pytest.raises(CallerError, match="two models cannot be compared"):
        difference(few, {"other": (1.0, 1.0)})
