"""The final job takes the trials of several sweeps into account, and refuses those that cannot be ranked together."""

import dataclasses
import json

import pytest

from results.ledger import Ledger
from search import sweep, sweep_file
from search.checkpoints import SPEC_FILE
from search.errors import SweepError
from search.final_candidates import Key, Source, fresh_seed, other_sources
from search.final_job import FinalJob
from tests.search.final_sweep import Dies, Mortal, Sweep

OWN = [(0.3, "completed", 0.6), (0.2, "completed", 0.5)]
OTHER = [(0.9, "failed", 0.1), (0.1, "completed", 0.4), (0.21, "completed", 0.45)]


def pair(folder, *, task="Numbers", **other):
    """Two sweeps of one task, beside each other."""
    return Sweep(folder, OWN, task=task), Sweep(folder, OTHER, task=task, name="other", **other)


def sources(own, *others, spec=None):
    """What `[final] sweeps` would give, each sweep found by its name."""
    there = {each.name: each for each in others}

    def locate(where):
        found = there.get(where, own)
        return found.storage, found.spec()

    asked = spec or own.spec(sweeps=tuple(there))
    return other_sources(asked, own.made(), ("loss", "min"), locate)


def test_trials_of_both_are_ranked_together_and_rows_say_whose_they_are(tmp_path):
    own, other = pair(tmp_path)
    summary = own.job(sources=sources(own, other), models=4, seeds=1).run()
    # 0.21 of the other sweep is better than, and too much like, 0.2 of this one.
    assert [each.key for each in summary.contenders] == [Key("other", 1), Key("other", 2), Key("", 0)]
    rows = own.table("finals")
    assert [(row["trial"], row["source"], row["kind"]) for row in rows] == [
        (1, "other", "single"),
        (2, "other", "single"),
        (0, "", "single"),
    ]
    assert rows[0]["config.rate"] == 0.1
    assert [row["seed"] for row in rows] == [
        fresh_seed(own.spec().seed, key, 3, 0) for key in (Key("other", 1), Key("other", 2), Key("", 0))
    ]
    text = summary.text()
    assert "Trial 1 of sweep other won" in text
    assert "better than trial other/2" in text
    assert own.card()["source"] == "other"
    assert "of trial 1 of sweep other" in (tmp_path / "toy/bundle/card.md").read_text()
    assert Ledger(other.storage).table("finals").num_rows == 0


def test_one_number_of_two_sweeps_is_two_configurations(tmp_path):
    own, other = pair(tmp_path)
    found = own.job(sources=[Source("other", other.state())], models=9, seeds=1, apart=0.0).run()
    assert {each.key for each in found.contenders} == {Key("", 0), Key("", 1), Key("other", 1), Key("other", 2)}
    assert len({row["seed"] for row in own.table("finals")}) == 4
    assert {each.key: each.in_sweep for each in found.contenders} == {
        Key("", 0): 0.6, Key("", 1): 0.5, Key("other", 1): 0.4, Key("other", 2): 0.45,
    }  # fmt: skip


@pytest.mark.parametrize("messages", [5, 9])
def test_a_job_over_two_sweeps_that_died_does_nothing_twice(tmp_path, messages):
    own, other = pair(tmp_path)
    with pytest.raises(Dies):
        own.job(sources=sources(own, other), models=3, seeds=1, crew=Mortal(messages)).run()
    own.job(sources=sources(own, other), models=3, seeds=1).run()
    assert len(own.marks("epoch")) <= 9 + 1
    assert [row["final"] for row in own.table("finals")] == [0, 1, 2]


def test_other_data_another_task_and_objective_are_refused_with_their_names(tmp_path):
    own, other = pair(tmp_path, data="letters", fingerprint="a" * 64)
    with pytest.raises(SweepError) as refused:
        sources(own, other)
    assert "'other' was trained on letters (aaaaaaaaaaaa), this sweep on numbers (ffffffffffff)" in str(refused.value)
    assert "nothing was started" in str(refused.value)
    (tmp_path / "second").mkdir()
    other = Sweep(tmp_path / "second", OTHER, task="Bare", name="other")
    with pytest.raises(SweepError, match=r"'other' is of another task: .*:Bare, this one is of .*:Numbers"):
        sources(own, other)
    (tmp_path / "third").mkdir()
    other = Sweep(tmp_path / "third", OTHER, name="other", objective=("loss", "max"))
    with pytest.raises(SweepError, match="'other' looks for loss max, this sweep for loss min"):
        sources(own, other)


LETTERS = {"data": "letters", "fingerprint": "a" * 64}


def test_a_sweep_whose_trials_have_other_data_than_the_task_now_is_refused_with_both_names(tmp_path):
    own = Sweep(tmp_path, OWN)
    with pytest.raises(SweepError) as refused:
        own.job(options=LETTERS).run()
    assert (
        "all trials of sweep 'toy' were scored on numbers (ffffffffffff), and the task now has letters (aaaaaaaaaaaa)"
        in str(refused.value)
    )
    assert (own.table("finals"), own.marks("epoch")) == ([], [])


def test_trials_that_were_scored_on_other_data_are_left_out_and_that_is_said(tmp_path):
    own = Sweep(tmp_path, OWN)
    own.resumed([(0.7, "completed", 0.9)], data="letters", data_fingerprint="a" * 64)
    said = []
    summary = own.job(options=LETTERS, models=3, seeds=1, say=said.append).run()
    assert [each.trial for each in summary.contenders] == [2]
    assert said[0] == (
        "2 trials of sweep 'toy' were scored on numbers (ffffffffffff), and the task now has letters (aaaaaaaaaaaa); "
        "they are left out, for scores on different data are never ranked together."
    )
    assert [each.trial for each in own.job(models=3, seeds=1).run().contenders] == [1, 0]


def test_of_another_sweep_the_trials_on_the_same_data_count(tmp_path):
    own, other = pair(tmp_path)
    other.resumed([(0.7, "completed", 0.1)], data="letters", data_fingerprint="a" * 64)
    said = []
    summary = own.job(sources=sources(own, other), models=9, seeds=1, apart=0.0, say=said.append).run()
    assert {each.key for each in summary.contenders} == {Key("", 0), Key("", 1), Key("other", 1), Key("other", 2)}
    assert said[0].startswith("1 trial of sweep 'other' was scored on letters (aaaaaaaaaaaa)")


def test_a_sweep_with_such_others_is_refused_before_it_begins(tmp_path):
    own, other = pair(tmp_path, data="letters", fingerprint="a" * 64)
    other.storage.write(SPEC_FILE, json.dumps(sweep_file.document(other.spec())).encode())
    begun = dataclasses.replace(own.spec(sweeps=(other.storage.uri,)), name="fresh")
    with pytest.raises(SweepError, match=r"letters \(a+\), this sweep on numbers"):
        sweep.run(begun)
    assert not (tmp_path / "fresh").exists()
    with pytest.raises(SweepError, match="no sweep at 'nowhere'"):
        sweep.run(dataclasses.replace(begun, final=dataclasses.replace(begun.final, sweeps=("nowhere",))))


def test_a_parameter_that_the_task_does_not_have_is_refused_and_a_value_outside_of_the_narrowed_range_is_not(tmp_path):
    own = Sweep(tmp_path, OWN)
    other = Sweep(tmp_path, OTHER, name="other", parameter="speed")
    with pytest.raises(SweepError, match="'other' has a parameter 'speed' that the task no longer has"):
        sources(own, other)
    other = Sweep(tmp_path, OTHER, name="wider")
    narrow = dataclasses.replace(own.spec(models=3, seeds=1, sweeps=("wider",)), space={"rate": {"low": 0.2}})
    found = sources(own, other, spec=narrow)
    job = own.job(sources=found, models=3, seeds=1)
    assert isinstance(job, FinalJob)
    assert job.run().contenders[0].key == Key("wider", 1)


def test_a_sweep_named_twice_or_itself_or_without_ledger_is_refused(tmp_path):
    own, other = pair(tmp_path)
    empty = Sweep(tmp_path, [], name="empty")
    for part in empty.storage.names("ledger"):
        empty.storage.remove(f"ledger/{part}")
    with pytest.raises(SweepError) as refused:
        sources(own, other, empty, spec=own.spec(sweeps=("other", "other", "toy", "empty")))
    assert "'other' is named twice" in str(refused.value)
    assert "'toy' is this sweep itself" in str(refused.value)
    assert f"'empty' has no ledger yet; `search resume {empty.storage.uri}` runs it" in str(refused.value)
