"""Searchers: what they propose, what they take in, and that one told the same goes on the same."""

import functools
import importlib.util
import json
import math
import random
import time
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.coordinates import Coordinates
from search.errors import SpaceError, SpecError
from search.extrapolation import ends
from search.searcher import Searcher, Telling
from search.space import Space
from search.spec import SearcherKind, SearcherSettings

KINDS = get_args(SearcherKind)


def declare(hp):
    family = hp.Choice("family", ["a", "b", "c"])
    for name in "abc":
        with hp.conditional_scope("family", [name]):
            if family == name:
                hp.Int(f"{name}.units", 1, 64, sampling="log", default=8)
                hp.Int("layers", 1, 2 if name == "a" else 6)
                hp.Float(f"{name}.dropout", 0.0, 0.5, step=0.1)
    hp.Float("rate", 1e-4, 1e-2, sampling="log", default=1e-3)
    hp.Float("momentum", 0.1, 0.9, sampling="reverse_log")
    hp.Choice("batch", [16, 32, 64])
    hp.Boolean("smooth")
    hp.Fixed("version", 3)


@functools.cache
def space():
    return Space.explore(declare)


def searcher(kind, *, seed=7, startup=4, goals=("min",), telling: Telling = "pruned"):
    return Searcher(space(), SearcherSettings(kind=kind, startup_trials=startup), goals, seed, telling=telling)


def goodness(values):
    """Lowest, 0, at family b and a rate of 1e-3."""
    return abs(math.log10(values["rate"] / 1e-3)) + (values["family"] != "b")


def history(live, num_trials, at_a_time, seed, *, goals=1):
    """Runs a sweep of made-up trials, several at a time; returns what was done to the searcher."""
    rng, log, running = random.Random(seed), [], {}
    for trial in range(num_trials):
        if rng.random() < 0.1:
            values = space().point({"family": rng.choice("abc")})
            live.add(trial, values)
        else:
            values = live.ask(trial)
        log.append(("add", trial, values))
        running[trial] = values
        while len(running) > at_a_time:
            ended = rng.choice(sorted(running))
            state = rng.choice(["completed", "stopped", "stopped", "failed"])
            good = goodness(running.pop(ended))
            curve = {epoch: good + 1 / epoch for epoch in range(1, 4 if state == "completed" else rng.choice([2, 3]))}
            results = (
                rng.choice([None, [math.nan] * goals]) if state == "failed" else [min(curve.values()), good][:goals]
            )
            log.append(("tell", ended, state, results, curve))
            live.tell(ended, state, results, curve)
    return log


def replay(made, log):
    for what, *arguments in log:
        getattr(made, what)(*arguments)
    return made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("telling", ["complete", "pruned", "forecast"])
@settings(max_examples=3)
@given(num_trials=st.integers(0, 40), at_a_time=st.integers(1, 6), seed=st.integers(0, 2**32 - 1))
def test_a_searcher_told_the_same_proposes_the_same(kind, telling, num_trials, at_a_time, seed):
    goals = ("min", "max") if kind == "nsga2" else ("min",)
    live = searcher(kind, seed=seed, goals=goals, telling=telling)
    log = history(live, num_trials, at_a_time, seed, goals=len(goals))
    again = replay(searcher(kind, seed=seed, goals=goals, telling=telling), log)
    assert json.dumps(again.state()) == json.dumps(live.state())
    # Asked for several at once, while others are running.
    assert [again.ask(num_trials + i) for i in range(3)] == [live.ask(num_trials + i) for i in range(3)]
    assert again.state() == live.state()


@pytest.mark.parametrize("kind", ["tpe", "nsga2"])
def test_with_several_goals_a_searcher_told_the_same_proposes_the_same(kind):
    live = searcher(kind, goals=("min", "max"))
    log = history(live, 40, 4, 5, goals=2)
    again = replay(searcher(kind, goals=("min", "max")), log)
    assert [again.ask(40 + i) for i in range(4)] == [live.ask(40 + i) for i in range(4)]


@pytest.mark.parametrize("kind", KINDS)
def test_proposals_are_configurations_of_the_space_and_differ_by_seed(kind):
    first, second = searcher(kind, seed=1), searcher(kind, seed=2)
    proposals = []
    for trial in range(15):
        values = first.ask(trial)
        assert space().contains(values)
        assert values["version"] == 3
        first.tell(trial, "completed", [goodness(values)], {1: goodness(values)})
        proposals.append(values)
    assert len({json.dumps(values) for values in proposals}) == 15
    assert [second.ask(trial) for trial in range(3)] != proposals[:3]


def test_of_many_trials_tpe_sees_the_best_what_runs_and_some_of_the_rest(monkeypatch):
    monkeypatch.setattr("search.searcher.SEEN", 30)
    monkeypatch.setattr("search.study.BEST", 10)
    live = searcher("tpe", telling="complete", startup=5)
    log = history(live, 120, 4, 5)
    again = replay(searcher("tpe", telling="complete", startup=5), log)
    assert [again.ask(120 + i) for i in range(4)] == [live.ask(120 + i) for i in range(4)]
    assert len(live.state()["trials"]) == 124
    live.ask(124)
    seen = live._study.optuna.get_trials(deepcopy=False)
    ended = [trial for trial in seen if trial.state.is_finished()]
    values = sorted(
        min(curve.values()) for _, _, state, _, curve in (e for e in log if e[0] == "tell") if state != "failed"
    )
    assert 20 < len(ended) <= 30
    assert sorted(trial.value for trial in ended if trial.value is not None)[:10] == values[:10]
    assert [trial.number for trial in seen if not trial.state.is_finished()][-4:] == [120, 121, 122, 123]
    assert max(trial.number for trial in ended) > 100
    assert min(trial.number for trial in ended) < 10
    # Few trials are all seen, so a sweep of usual size goes as it did.
    monkeypatch.setattr("search.searcher.SEEN", 500)
    usual = replay(searcher("tpe", telling="complete", startup=5), log[:60])
    monkeypatch.setattr("search.searcher.SEEN", None)
    unlimited = replay(searcher("tpe", telling="complete", startup=5), log[:60])
    assert [usual.ask(200 + i) for i in range(3)] == [unlimited.ask(200 + i) for i in range(3)]


@pytest.mark.parametrize(("kind", "at_most"), [("tpe", 0.35), ("cmaes", 0.6), ("nsga2", 0.6)])
def test_what_learns_comes_nearer_than_chance(kind, at_most):
    found = searcher(kind, startup=8)
    late = []
    for trial in range(80):
        values = found.ask(trial)
        found.tell(trial, "completed", [goodness(values)], {1: goodness(values)})
        late += [goodness(values)] * (trial >= 60)
    assert sum(late) / len(late) < at_most  # at random: 2/3 for the family, 1/2 for the rate


def test_points_of_qmc_fill_the_space_evenly():
    even = searcher("qmc")
    rates = [math.log10(even.ask(trial)["rate"]) for trial in range(32)]
    assert all(sum(-4 + i / 8 <= rate < -4 + (i + 1) / 8 for rate in rates) == 2 for i in range(16))


def test_a_pinned_space_leaves_only_what_varies():
    narrow = space().narrowed({"family": "b", "rate": 1e-3, "smooth": {"choice": [True]}})
    for kind in KINDS:
        made = Searcher(narrow, SearcherSettings(kind=kind, startup_trials=2), ("min",), 1)
        for trial in range(6):
            values = made.ask(trial)
            assert (values["family"], values["rate"], values["smooth"]) == ("b", 1e-3, True)
            made.tell(trial, "completed", [1.0 * trial], {1: 1.0 * trial})
    nothing = Space.explore(lambda hp: hp.Fixed("x", 1))
    for kind in KINDS:
        made = Searcher(nothing, SearcherSettings(kind=kind, startup_trials=0), ("min",), 1)
        assert [made.ask(trial) for trial in range(3)] == [{"x": 1}] * 3


@pytest.mark.parametrize(
    ("state", "values", "becomes"),
    [
        ("completed", [0.5], ("COMPLETE", [0.5])),
        ("completed", [math.nan], ("PRUNED", None)),
        ("completed", [math.inf], ("PRUNED", None)),
        ("completed", None, ("PRUNED", None)),
        ("completed", [], ("PRUNED", None)),
        ("stopped", [0.5], ("PRUNED", None)),
        ("stopped", [math.nan], ("PRUNED", None)),
        ("failed", None, ("PRUNED", None)),
        ("failed", [0.5], ("PRUNED", None)),
    ],
)
def test_no_end_leaves_a_trial_running(state, values, becomes):
    for kind in ("tpe", "random"):
        made = searcher(kind)
        made.ask(0)
        made.tell(0, state, values, {1: 0.5, 2: math.nan})
        [row] = made.state()["trials"]
        assert row["state"] != "RUNNING"
        if kind == "tpe":
            assert (row["state"], row["values"]) == becomes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("telling", ["complete", "pruned", "forecast"])
def test_of_a_trial_that_was_extended_the_later_end_counts(kind, telling, monkeypatch):
    monkeypatch.setattr("search.searcher.SEEN", 12)
    monkeypatch.setattr("search.study.BEST", 4)
    live = searcher(kind, telling=telling)
    log = history(live, 30, 2, 1)
    ends = [("completed", [0.1], {1: 0.5, 2: 0.1}), ("completed", [9.0], {1: 9.0}), ("stopped", [0.2], {1: 0.2})]
    extended = [entry[1] for entry in log if entry[0] == "tell" and entry[2] == "completed"][:4]
    for trial, end in zip(extended, [*ends, ("failed", None, {})], strict=True):
        before = live.state()
        replay(live, [("tell", trial, *end)])
        log.append(("tell", trial, *end))
        assert live.state() != before
    rows = live.state()["trials"]
    assert [rows[trial]["values"] for trial in extended[:2]] == [[0.1], [9.0]]
    assert rows[extended[3]]["values"] is None
    assert sum(row["state"] == "RUNNING" for row in rows) == 2
    again = replay(searcher(kind, telling=telling), log)
    assert [again.ask(30 + i) for i in range(3)] == [live.ask(30 + i) for i in range(3)]
    assert again.state() == live.state()
    if live._study._seen is not None:
        shown = live._study.optuna.get_trials(deepcopy=False)
        finite = sorted(row["values"][0] for row in rows if row["values"])
        assert sorted(trial.values[0] for trial in shown if trial.values)[:4] == finite[:4]


def test_tpe_turns_away_from_what_fails():
    made = searcher("tpe", startup=10)
    late = []
    for trial in range(60):
        values = made.ask(trial)
        if values["rate"] > 1e-3:  # diverges
            made.tell(trial, "failed", None, {})
        else:
            made.tell(trial, "completed", [random.Random(trial).random()], {1: 0.5})
        late += [values["rate"] > 1e-3] * (trial >= 30)
    assert sum(late) / len(late) < 0.25


def test_a_maximised_goal_is_told_with_its_sign():
    made = searcher("tpe", goals=("max",), startup=5)
    late = []
    for trial in range(60):
        values = made.ask(trial)
        made.tell(trial, "completed", [-goodness(values)], {1: -goodness(values)})
        late += [goodness(values)] * (trial >= 40)
    assert sum(late) / len(late) < 0.5


def test_trials_of_other_sweeps_are_learnt_where_they_fit():
    made = searcher("tpe", startup=1)
    fitting = space().point({"family": "b", "rate": 2e-3})
    assert made.learn(fitting, "completed", [0.3], {1: 0.3})
    assert not made.learn({**fitting, "rate": 5.0}, "completed", [0.3], {1: 0.3})
    assert not made.learn({k: v for k, v in fitting.items() if k != "rate"}, "completed", [0.3], {1: 0.3})
    assert not made.learn(fitting, "failed", None, {})
    assert not made.learn(fitting, "completed", [math.nan], {1: math.nan})
    assert not made.learn(fitting, "completed", [0.1, 0.2], {1: 0.1})
    assert len(made.state()["trials"]) == 1
    assert space().contains(made.ask(0))


@pytest.mark.parametrize("kind", KINDS)
def test_learning_from_others_is_replayed_too(kind):
    log = history(searcher(kind, seed=3), 12, 2, 3)
    pair = []
    for _ in range(2):
        made = searcher(kind)
        ended = {entry[1]: entry for entry in log if entry[0] == "tell"}
        for what, trial, *rest in log:
            if what == "add" and trial in ended:
                made.learn(rest[0], *ended[trial][2:])
        pair.append([made.ask(trial) for trial in range(4)])
    assert pair[0] == pair[1]


def test_what_the_caller_gets_wrong_is_refused(monkeypatch):
    with pytest.raises(SpecError, match="'cmaes' has one objective, got 2"):
        searcher("cmaes", goals=("min", "max"))
    made = searcher("tpe")
    with pytest.raises(SpaceError, match=r"got 5.0, expected a number from 0.0001 to 0.01"):
        made.add(0, {**space().defaults(), "rate": 5.0})
    with pytest.raises(SpaceError, match="rate missing"):
        made.add(0, {k: v for k, v in space().defaults().items() if k != "rate"})
    made.add(0, space().defaults())
    with pytest.raises(ValueError, match="trial 0 is known already"):
        made.ask(0)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "cmaes" else found(name))
    with pytest.raises(SpecError, match="needs the package 'cmaes', which is not installed"):
        searcher("cmaes")


def test_coordinates_lead_back_to_the_values():
    for numbers_only in (False, True):
        coordinates = Coordinates(space(), numbers_only=numbers_only)
        some = searcher("random")
        for trial in range(50):
            values = some.ask(trial)
            drawn = coordinates.of(values)
            for parameter in space().active(values):
                if (name := coordinates.name(parameter)) in drawn:
                    back = coordinates.value(parameter, drawn[name])
                    assert back == pytest.approx(values[parameter.name])
                    assert coordinates.distribution(parameter)._contains(
                        coordinates.distribution(parameter).to_internal_repr(drawn[name])
                    )
    # Family a has other layers than b and c, which share theirs.
    assert {"layers (0)", "layers (1)"} < coordinates.parameters.keys()


def test_ends_are_carried_along_what_others_did():
    # From epoch 1 to the end all completed trials came down by 1; so does what was stopped at 1.
    assert ends([{1: 3.0, 2: 2.0}, {1: 2.5, 2: 1.5}], [{1: 4.0}, {1: 3.5}]) == pytest.approx([3.0, 2.5])
    # Nobody has been completed: at epoch 2 it would be one less, as it was for the other.
    assert ends([], [{1: 4.0}, {1: 3.0, 2: 2.0}]) == pytest.approx([3.0, 2.0])
    # A curve that went up again counts with its best.
    assert ends([], [{1: 1.0, 2: 5.0}]) == [1.0]
    assert ends([{1: 1.0}], []) == []


@settings(max_examples=50)
@given(st.lists(st.lists(st.floats(-10, 10), min_size=1, max_size=5), min_size=1, max_size=8), st.integers(0, 4))
def test_ends_are_numbers_and_keep_the_order_of_what_was_stopped_together(curves, num_completed):
    told = [dict(enumerate(curve, start=1)) for curve in curves]
    completed, stopped = told[:num_completed], told[num_completed:]
    carried = ends(completed, stopped)
    assert all(map(math.isfinite, carried))
    for one, its in zip(stopped, carried, strict=True):
        for other, others in zip(stopped, carried, strict=True):
            if max(one) == max(other) and min(one.values()) <= min(other.values()):
                assert its <= others + 1e-9


@pytest.mark.slow
def test_ten_thousand_trials_are_replayed_in_seconds():
    rng = random.Random(1)
    points = [space().sample(lambda parameter: parameter.at(rng.random())) for _ in range(10_000)]
    made = searcher("tpe")
    began = time.process_time()
    for trial, values in enumerate(points):
        made.add(trial, values)
        state = "completed" if trial % 3 else "stopped"
        made.tell(trial, state, [rng.random()], {epoch: rng.random() for epoch in range(1, 28 if trial % 3 else 4)})
    assert time.process_time() - began < 10
    assert space().contains(made.ask(10_000))
