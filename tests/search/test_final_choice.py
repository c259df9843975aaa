"""The final job chooses by seeds and pieces, opens the test split for its choice alone, and says how sure it is."""

import dataclasses
from typing import Any, get_args

import pytest

import results
from results.checking import check
from results.choices import last
from results.choosing import Promise, earlier
from results.ledger import Ledger
from results.report.facts import gather
from results.statistics import RULES
from search.errors import TaskError
from search.final_candidates import Source
from search.final_choice import Way, choose
from search.spec import FinalRule, Objective
from search.task import costs, declared, load_task
from tests.search.final_sweep import Dies, Mortal, Sweep

CLOSE = [(0.24, "completed", 0.60), (0.30, "completed", 0.62), (0.9, "completed", 1.3), (0.301, "completed", 0.63)]


@pytest.fixture
def sweep(tmp_path):
    return Sweep(tmp_path, CLOSE, task="Pieces")


def test_a_sweep_file_knows_the_rules_that_there_are():
    assert get_args(FinalRule) == RULES


def test_among_the_tied_the_cheapest_is_chosen_or_the_best_mean_if_the_file_says_so(sweep):
    summary = sweep.job().run()
    best, winner = summary.contenders
    assert (best.trial, winner.trial) == (0, 1)
    assert winner.tied
    assert (winner.chosen, best.chosen) == (True, False)
    assert winner.costs == {"speed": 50.0, "size": pytest.approx(1 / 0.3)}
    [chosen] = [row for row in sweep.table("finals") if row["chosen"]]
    assert chosen["trial"] == 1
    assert chosen["loss"] == min(row["loss"] for row in sweep.table("finals") if row["trial"] == 1)
    text = summary.text()
    assert "Trial 1 of sweep toy won" in text
    assert "Trial 0 has the best mean" in text
    assert "the rule tied_cheapest takes the cheapest of those that are tied with the best: speed 50 against 50" in text
    assert "trials 0, 1 are tied" in text
    by_mean = sweep.job(rule="best_mean").run()
    assert by_mean.choice.winner.trial == 0
    assert sweep.job(costs=(Objective(metric="size", goal="max"),)).run().choice.winner.trial == 0


def test_models_are_compared_over_pieces_and_only_the_chosen_one_sees_those_of_test(sweep):
    summary = sweep.job().run()
    sweep.job().run()
    assert sweep.marks("pieces") == ["pieces test"] + ["pieces valid"] * 5
    assert summary.choice.over == "seeds and pieces"
    assert summary.choice.num_pieces == 10
    rows = Ledger(sweep.storage).table("piece_scores").to_pylist()
    assert {(row["final"], row["split"]) for row in rows} == {
        *((final, "valid") for final in range(4)),
        (summary.final, "test"),
    }
    assert len(rows) == 50
    [opening] = sweep.table("openings")
    assert all(row["seq"] > opening["seq"] for row in rows if row["split"] == "test")
    losses = {row["final"]: row["loss"] for row in sweep.table("finals")}
    for final, loss in losses.items():
        mine = [row for row in rows if (row["final"], row["split"]) == (final, "valid")]
        assert sum(row["value"] * row["weight"] for row in mine) / sum(r["weight"] for r in mine) == pytest.approx(loss)


def test_the_summary_shows_intervals_chances_and_what_the_sweep_had_promised(sweep):
    summary = sweep.job(seeds=3).run()
    text = summary.text()
    assert "95 % interval" in text
    assert f"seeds (sd {summary.choice.seed_sd:.4f} from one to the next) and 10 pieces" in text
    assert sum(each.chance_best for each in summary.contenders) == pytest.approx(1)
    for each in summary.contenders:
        low, high = each.interval
        assert low < each.mean < high
        assert f"{low:.4f} to {high:.4f}" in text
        assert each.expected > each.in_sweep
    assert "The sweep promised 0.6100 (mean of these configurations), training anew gave" in text
    assert "worse was to be expected" in text
    document = summary.document()
    assert document["choice"]["rule"] == "tied_cheapest"
    assert document["choice"]["contenders"][0]["interval"] == summary.contenders[0].interval


def test_of_one_seed_no_interval_is_given_and_that_is_said(sweep):
    text = sweep.job(seeds=1).run().text()
    assert "an interval is not possible" in text
    assert "95 % interval" not in text
    assert "Over 10 pieces of the validation split alone" in text


def test_pieces_that_cannot_be_scored_leave_the_seeds(tmp_path):
    sweep = Sweep(tmp_path, CLOSE, task="Pieces", fails="pieces")
    said = []
    # The chosen one's pieces of the test split are wanted, too, so the job does not get to its end.
    with pytest.raises(Exception, match="score_pieces returned no mapping of pieces"):
        sweep.job(say=said.append).run()
    assert len(said) == 4
    assert "compared by their seeds alone" in said[0]
    assert Ledger(sweep.storage).table("piece_scores").num_rows == 0


@pytest.mark.parametrize("messages", [17, 18, 20, 21])
def test_a_job_that_died_while_it_scored_pieces_goes_on(tmp_path, messages):
    whole = Sweep(tmp_path, CLOSE, task="Pieces")
    with pytest.raises(Dies):
        whole.job(crew=Mortal(messages)).run()
    said = []
    summary = whole.job(say=said.append).run()
    (tmp_path / "other").mkdir()
    expected = Sweep(tmp_path / "other", CLOSE, task="Pieces").job().run()
    assert summary.contenders == expected.contenders
    assert len(whole.table("openings")) == 1
    # What the model had scored was lost with the driver: it is scored again, and not in silence.
    assert [text for text in said if "opened" in text] == [text for text in said if "scored again" in text]
    assert bool(said) == (messages == 21)


def test_a_second_opening_is_said_aloud(sweep):
    said = []
    sweep.job(models=1, seeds=1, say=said.append).run()
    assert said == []
    sweep.job(rule="best_mean", seeds=2, say=said.append).run()
    summary = sweep.job(rule="tied_cheapest", seeds=2, say=said.append).run()
    openings = sweep.table("openings")
    assert len(openings) == summary.openings == 1 + len(said)
    assert said
    assert f"it was opened for {openings[0]['model']}, and now it is for {openings[1]['model']}" in said[0]
    assert f"opened {len(openings)} times" in summary.text()


def test_copies_are_left_out_and_fewer_than_asked_for_is_said(sweep):
    said = []
    summary = sweep.job(models=4, seeds=1, say=said.append).run()
    assert [each.trial for each in summary.contenders] == [0, 1, 2]
    assert said == [
        "4 configurations were asked for; the sweep has 3 with a finite loss that are far enough apart "
        "(apart = 0.05 of [final])."
    ]


def test_what_was_cut_short_and_good_is_taken_before_what_was_stopped(tmp_path):
    rows = [(0.1, "stopped", 0.1), (0.5, "unfinished", 0.2), (0.9, "completed", 0.3)]
    summary = Sweep(tmp_path, rows).job(models=2, seeds=1).run()
    assert {each.trial for each in summary.contenders} == {1, 2}
    # Only the one that ran to its end has promised anything.
    assert summary.choice.promised == 0.3


def test_more_epochs_than_in_the_sweep_are_not_held_against_its_promise(sweep):
    summary = sweep.job(epochs=5).run()
    assert summary.choice.promised is None
    assert "promised" not in summary.text()


def test_a_choice_is_an_event_that_is_written_once(sweep):
    summary = sweep.job().run()
    sweep.job().run()
    rows = Ledger(sweep.storage).table("choices").to_pylist()
    assert [(row["choice"], row["rank"], row["trial"], row["source"]) for row in rows] == [(0, 1, 0, ""), (0, 2, 1, "")]
    assert [row["final"] for row in rows] == [None, summary.final]
    for row, each in zip(rows, summary.contenders, strict=True):
        assert (row["mean"], row["sd"], row["chance_best"], row["expected"]) == (
            each.mean, each.sd, each.chance_best, each.expected
        )  # fmt: skip
        assert (row["interval_low"], row["interval_high"]) == each.interval
        assert (row["in_sweep"], row["fair"], row["tied"], row["chosen"]) == (each.in_sweep, True, True, each.chosen)
        assert (row["rule"], row["costs"], row["num_pieces"]) == ("tied_cheapest", "speed max, size min", 10)
        losses = [final["loss"] for final in sweep.table("finals") if f"{final['final']}" in row["finals"].split(", ")]
        assert tuple(losses) == each.scores
    assert last(rows, sweep.table("finals"), "loss") == summary.choice
    sweep.job(rule="best_mean").run()
    rows = Ledger(sweep.storage).table("choices").to_pylist()
    assert [(row["choice"], row["chosen"]) for row in rows] == [(0, False), (0, True), (1, True), (1, False)]
    assert [problem for problem in check(Ledger(sweep.storage)) if problem.table == "choices"] == []


def test_only_trainings_of_one_length_are_compared(sweep):
    short = sweep.job(epochs=1).run()
    long = sweep.job(epochs=6).run()
    assert long.contenders[0].mean < short.contenders[0].mean - 0.5
    rows = sweep.table("choices")
    assert [row["choice"] for row in rows] == [0, 0, 1, 1]
    assert last(rows, sweep.table("finals"), "loss") == long.choice
    [compared] = gather(results.open(sweep.storage.uri)).compared
    assert compared.choice == long.choice
    # A ledger from before the table of choices comes to the same, but for the costs, which it does not know.
    earlier_one = earlier(
        sweep.table("finals"), {each.key: Promise(each.in_sweep or 0.0, fair=False) for each in long.contenders},
        objective="loss", goal="min", rule="tied_cheapest", seed=sweep.spec().seed,
        pieces={row["final"]: sweep.state().piece_scores(row["final"], "valid") for row in sweep.table("finals")},
    )  # fmt: skip
    assert earlier_one == dataclasses.replace(
        long.choice, costs=(), contenders=tuple(dataclasses.replace(each, costs={}) for each in long.contenders)
    )


def test_the_page_keeps_sweeps_of_one_name_apart_as_the_job_does(tmp_path):
    (tmp_path / "old").mkdir()
    own = Sweep(tmp_path, [(0.24, "completed", 0.60)], task="Pieces")
    other = Sweep(tmp_path / "old", [(0.60, "completed", 0.95)], task="Pieces")
    summary = own.job(sources=[Source(other.storage.uri, other.state())], apart=0.0, samples=0).run()
    found = gather(results.open(own.storage.uri)).contenders
    assert [(each.id, each.mean) for each in found] == [
        (name, each.mean) for name, each in zip(("toy/0", "old/toy/0"), summary.contenders, strict=True)
    ]


def test_what_was_promised_expected_and_found_is_told_of_the_same_trials(tmp_path):
    three = [(0.24, "completed", 0.60), (0.30, "completed", 0.62), (0.9, "completed", 1.3)]
    own = Sweep(tmp_path, three, task="Pieces")
    other = Sweep(tmp_path, [(0.6, "completed", 0.95), (0.7, "completed", 1.0)], task="Pieces", name="other")
    summary = own.job(models=4, sources=[Source("other", other.state())], apart=0.0, samples=0).run()
    known: Any = [dataclasses.replace(each, chosen=True) for each in summary.contenders if not each.source]
    assert [each.expected is None for each in summary.contenders if each.source] == [True, True]
    choice = summary.choice
    assert choice.promised == pytest.approx(sum(each.in_sweep for each in known) / 2)
    assert choice.expected == pytest.approx(sum(each.expected for each in known) / 2)
    assert choice.found == pytest.approx(sum(each.mean for each in known) / 2)
    assert "(mean of 2 of these configurations)" in summary.text()
    unlucky = tuple(dataclasses.replace(each, expected=each.in_sweep - 0.5) for each in known)
    text = dataclasses.replace(summary, choice=dataclasses.replace(choice, contenders=unlucky)).text()
    assert "0.5000 better was to be expected" in text


def test_nothing_is_chosen_of_nothing(sweep):
    state = sweep.state()
    way = Way(split="valid", rule="best_mean", costs=(), as_in_sweep=True, seed=0)
    assert choose(state, [], way, sources=[]) is None


def test_costs_are_metrics_of_the_task(tmp_path):
    path = "tests/search/final_task.py:Pieces"
    task = load_task(path, {"log": str(tmp_path)})
    metrics = declared(path, task)
    assert costs(path, task, metrics, ()) == (("speed", "max"), ("size", "min"))
    assert costs(path, task, metrics, [Objective(metric="size", goal="max")]) == (("size", "max"),)
    with pytest.raises(TaskError, match=r"\[final\] costs: objective 'sized'.*did you mean 'size'"):
        costs(path, task, metrics, [Objective(metric="sized", goal="min")])
    with pytest.raises(TaskError, match=r"costs: .*neither the sweep file nor task"):
        costs(path, task, metrics, [Objective(metric="size")])
    task.costs = ("size",)
    with pytest.raises(TaskError, match="costs: got 'size', expected a metric and min or max"):
        costs(path, task, metrics, ())
