"""The final job trains the best anew, opens the test split once, and can be interrupted anywhere."""

import hashlib
import json
import math
import subprocess
from pathlib import Path

import pytest

from results.ledger import Ledger
from search.errors import SweepAborted, SweepError
from search.final_candidates import Source, candidates
from search.space import Space
from tests.search.final_sweep import Dies, Mortal, Sweep

RATES = Space.explore(lambda hp: hp.Float("rate", 0.0, 1.0))


THREE = [(0.3, "completed", 0.6), (0.1, "completed", 0.5), (0.2, "completed", 0.4), (0.2, "completed", 0.45)]


@pytest.fixture
def sweep(tmp_path):
    return Sweep(tmp_path, THREE)


def test_the_best_distinct_configurations_are_taken_completed_ones_first(tmp_path):
    rows = [*THREE, (0.9, "stopped", 0.1), (0.8, "failed", 0.01), (0.7, "completed", math.nan)]
    source = Source("", Sweep(tmp_path, rows).state())
    assert [each.key.trial for each in candidates([source], RATES, 2, least=0.05)] == [2, 1]
    assert [each.key.trial for each in candidates([source], RATES, 9, least=0.05)] == [2, 1, 0, 4]


def test_a_final_job_trains_anew_chooses_by_the_mean_and_tells_what_came_of_it(sweep):
    summary = sweep.job().run()
    rows = sweep.table("finals")
    assert [(row["final"], row["trial"], row["state"]) for row in rows] == [
        (0, 2, "completed"),
        (1, 2, "completed"),
        (2, 1, "completed"),
        (3, 1, "completed"),
    ]
    assert len({row["seed"] for row in rows} | {7}) == 5
    # Trial 2 was the best of the sweep; trained anew, 0.1 + 1/3 beats 0.2 + 1/3.
    assert summary.contenders[0].trial == 1
    assert summary.contenders[0].mean == pytest.approx(0.1 + 1 / 3)
    [chosen] = [row for row in rows if row["chosen"]]
    assert (chosen["trial"], chosen["epochs"], chosen["best_epoch"]) == (1, 3, 3)
    assert (chosen["config.rate"], chosen["data"], chosen["test_loss"]) == (0.1, "numbers", 0.6)
    assert all(row["test_loss"] is None for row in rows if not row["chosen"])
    text = summary.text()
    assert "Trial 1 of sweep toy won: loss 0.4333 (the mean of 2 trainings; in the sweep 0.5000)" in text
    assert "0.1000 better than trial 2" in text
    assert "test_loss  0.6000 nats  (guess 9.0000)" in text
    assert f"look at {sweep.storage.uri}/bundle" in text
    assert json.dumps(summary.document())


def test_the_test_split_is_opened_once_and_for_the_chosen_model_alone(sweep):
    sweep.job().run()
    sweep.job().run()
    assert sweep.marks("score") == ["score test", "score valid"]
    [opening] = sweep.table("openings")
    assert (opening["split"], opening["model"]) == ("test", "finals/models/00002")
    [scored] = [row["seq"] for row in sweep.table("finals") if row["test_loss"] is not None]
    assert opening["seq"] < scored


def test_the_bundle_holds_model_card_samples_and_checksums_that_are_right(sweep):
    sweep.job().run()
    folder = Path(sweep.storage.uri) / "bundle"
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    wanted = ["SHA256SUMS", "card.json", "card.md", "model.json", "samples/cold.txt", "samples/hot.txt"]
    assert names == [*wanted, "scores-test.json"]
    assert subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True).returncode == 0
    card = json.loads((folder / "card.json").read_text())
    assert card["configuration"] == {"rate": 0.1}
    assert card["data"] == {"name": "numbers", "fingerprint": "f" * 64}
    assert card["scores"] == {"test_loss": 0.6}
    assert card["environment"] == {"python": "3.11"}
    assert "json.load(open('model.json'))" in (folder / "card.md").read_text()
    columns = ("name", "kind", "origin", "path", "size", "final")
    assert [tuple(row[name] for name in columns) for row in sweep.table("samples")] == [
        ("cold", "free", "", "bundle/samples/cold.txt", 4.0, 2),
        ("hot", "continued", "test/0", "bundle/samples/hot.txt", 3.0, 2),
    ]
    assert [(each["name"], each["kind"], each["origin"]) for each in card["samples"]] == [
        ("cold", "free", ""),
        ("hot", "continued", "test/0"),
    ]
    assert card["sample_references"] == {"people": {"size": 3.0}}
    assert card["sample_limits"] == {"size": {"low": None, "high": 3.5, "text": "too long"}}
    assert "`cold` is marked: too long (size 4)" in (folder / "card.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("messages", [1, 4, 15, 16, 17, 18, 19])
def test_a_job_that_died_goes_on_without_doing_anything_twice(tmp_path, messages):
    whole = Sweep(tmp_path, THREE)
    with pytest.raises(Dies):
        whole.job(crew=Mortal(messages)).run()
    summary = whole.job().run()
    (tmp_path / "other").mkdir()
    other = Sweep(tmp_path / "other", THREE)
    expected = other.job().run()
    assert (summary.contenders, summary.final, summary.scores) == (
        expected.contenders,
        expected.final,
        expected.scores,
    )
    assert len(whole.table("openings")) == 1
    # What an interruption may cost: the epoch that was trained and not yet told.
    assert len(whole.marks("epoch")) <= 12 + 3 * (messages < 16)
    digests = [
        hashlib.sha256((Path(s.storage.uri) / "bundle/model.json").read_bytes()).digest() for s in (whole, other)
    ]
    assert digests[0] == digests[1]


def test_the_card_names_what_trained_the_model_and_what_packaged_it(sweep):
    with pytest.raises(Dies):
        sweep.job(crew=Mortal(17), environment={"commit": "old", "python": "3.11"}).run()
    sweep.job(environment={"commit": "new", "python": "3.11"}).run()
    Ledger(sweep.storage).compact()
    sweep.job(environment={"commit": "newest", "python": "3.12"}, samples=2).run()
    card = sweep.card()
    assert card["environment"] == {"commit": "old", "python": "3.11"}
    assert card["packaged"] == {"commit": "newest", "python": "3.12"}
    text = sweep.storage.read("bundle/card.md").decode()
    assert "- commit: old\n- python: 3.11\n" in text
    assert "made later, with others:\n\n- commit: newest\n- python: 3.12\n" in text


def test_a_training_goes_on_from_its_checkpoint(sweep):
    with pytest.raises(Dies):
        sweep.job(crew=Mortal(2), models=1, seeds=1).run()
    before = len(sweep.marks("epoch"))
    sweep.job(models=1, seeds=1).run()
    assert len(sweep.marks("epoch")) < before + 3
    assert not sweep.storage.exists("finals/checkpoints/00000")


def test_a_training_that_fails_is_a_row_and_the_others_count(tmp_path):
    sweep = Sweep(tmp_path, THREE, fails="0.2 2")
    summary = sweep.job(seeds=1).run()
    failed, fine = sweep.table("finals")
    assert (failed["state"], failed["reason"], failed["trial"]) == ("failed", "ValueError: cannot train", 2)
    assert (fine["state"], fine["chosen"]) == ("completed", True)
    assert summary.failed == 1
    assert "1 final training failed" in summary.text()
    # Of another length it does not come as far as its failure, and former trainings do not count.
    summary = sweep.job(seeds=1, epochs=1).run()
    assert summary.failed == 0
    assert "failed" not in summary.text()


def test_a_job_in_which_nothing_could_be_trained_says_why(tmp_path):
    sweep = Sweep(tmp_path, THREE, fails="0.2 1")
    with pytest.raises(SweepAborted, match=r"none of the 1 final trainings .*cannot train; the same command"):
        sweep.job(models=1, seeds=1).run()
    assert not sweep.storage.exists("bundle")


def test_a_model_that_cannot_be_scored_is_no_bundle_and_its_opening_stays(tmp_path):
    sweep = Sweep(tmp_path, THREE, fails="score test")
    with pytest.raises(SweepAborted, match="could not be scored or heard: ValueError: cannot score"):
        sweep.job(models=1, seeds=1).run()
    assert len(sweep.table("openings")) == 1
    assert not sweep.storage.exists("bundle")


@pytest.mark.parametrize(
    ("fails", "said"),
    [
        ("score", "ValueError: cannot score"),
        ("scores", "task Numbers: score returned extra, and declares the scores and metrics test_loss, loss"),
    ],
)
def test_a_task_that_cannot_score_is_found_out_while_the_test_split_is_closed(tmp_path, fails, said):
    sweep = Sweep(tmp_path, THREE, fails=fails)
    with pytest.raises(SweepAborted, match=f"could not be scored or heard: {said}"):
        sweep.job(models=1, seeds=1).run()
    assert sweep.table("openings") == []
    assert sweep.marks("score") == ["score valid"]


@pytest.mark.parametrize(
    ("fails", "said"),
    [
        ("measure", "the measures of sample 'cold' returned length, and declares the measures size"),
        ("kind", "samples returned 'cold' of the kind 'weird', expected one of free, continued, harmony, original"),
    ],
)
def test_samples_that_are_not_what_the_task_declares_are_none_and_test_is_opened_once(tmp_path, fails, said):
    sweep = Sweep(tmp_path, THREE, fails=fails)
    for _ in range(2):
        with pytest.raises(SweepAborted, match=f"task Numbers: {said}"):
            sweep.job(models=1, seeds=1).run()
    assert sweep.marks("score test") == ["score test"]
    assert (len(sweep.table("openings")), sweep.table("samples")) == (1, [])


def test_more_models_asked_for_later_are_added_and_another_winner_is_another_opening(sweep):
    first = sweep.job(models=1, seeds=1).run()
    second = sweep.job(models=2, seeds=1).run()
    assert [contender.trial for contender in first.contenders] == [2]
    assert [contender.trial for contender in second.contenders] == [1, 2]
    rows = sweep.table("finals")
    assert [(row["trial"], row["chosen"]) for row in rows] == [
        (2, False),
        (1, True),
    ]
    assert len(sweep.marks("epoch")) == 6
    assert second.openings == 2
    assert "opened 2 times" in second.text()


def test_a_task_that_can_only_train_gets_a_winner_without_a_bundle(tmp_path):
    sweep = Sweep(tmp_path, THREE, task="Bare")
    summary = sweep.job(seeds=1).run()
    assert summary.contenders[0].trial == 1
    assert not summary.bundle
    assert sweep.table("openings") == []
    assert [row["chosen"] for row in sweep.table("finals")].count(True) == 1


def test_a_sweep_without_scores_or_without_a_final_job_is_refused(tmp_path):
    sweep = Sweep(tmp_path, [(0.1, "failed", math.nan)])
    with pytest.raises(SweepError, match="has no trial with a finite loss"):
        sweep.job().run()
    with pytest.raises(SweepError, match="asks for no final job"):
        sweep.job(models=0).run()
