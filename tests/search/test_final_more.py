"""Racing, ensembles, retraining on all data, and samples of tied models: what the final job adds, and its deaths."""

import json
from pathlib import Path

import pytest

from results.ledger import Ledger
from search import verification
from search.errors import SpecError, SweepAborted, TaskError
from search.spec import FinalSettings
from tests.search.final_sweep import Dies, Mortal, Sweep

CLOSE = [(0.24, "completed", 0.60), (0.30, "completed", 0.62), (0.9, "completed", 1.3)]


@pytest.fixture
def sweep(tmp_path):
    return Sweep(tmp_path, CLOSE, task="Pieces")


def same(one, other):
    """Whether two jobs came to the same, whatever became of them on the way."""
    drop = {"seq", "session", "time", "train_s", "job_s"}
    for table in ("finals", "samples", "openings"):
        rows = [[{k: v for k, v in row.items() if k not in drop} for row in each.table(table)] for each in (one, other)]
        assert rows[0] == rows[1], table
    assert one.card() | {"made": ""} == other.card() | {"made": "", "options": one.card()["options"]}


def killed(folder, messages, **job):
    """A job that died and was begun again, beside one that did not; returns both sweeps and the second summary."""
    made = []
    for name in ("whole", "died"):
        (folder / name).mkdir()
        made.append(Sweep(folder / name, CLOSE, task="Pieces", **job.pop("options", {}) if name == "died" else {}))
    made[0].job(**job).run()
    with pytest.raises(Dies):
        made[1].job(crew=Mortal(messages), **job).run()
    return *made, made[1].job(**job).run()


# --- samples ----------------------------------------------------------------------------------------------------------


def test_every_tied_model_makes_samples_and_only_the_chosen_one_begins_with_pieces_of_test(sweep):
    summary = sweep.job(samples=2).run()
    best, winner = summary.contenders
    assert best.tied
    assert winner.chosen
    rows = sweep.table("samples")
    tied = next(row["final"] for row in rows if row["final"] != summary.final)
    names = ["cold", "hot", "cold-2", "hot-2"]
    assert [row["name"] for row in rows if row["final"] == tied] == names
    assert [row["name"] for row in rows if row["final"] == summary.final] == names
    assert {row["origin"] for row in rows if row["final"] == tied} == {"", "valid/0", "valid/1"}
    assert {row["origin"] for row in rows if row["final"] == summary.final} == {"", "test/0", "test/1"}
    for row in rows:
        assert sweep.storage.exists(row["path"])
        folder = "bundle/samples" if row["final"] == summary.final else f"finals/samples/{tied:05d}"
        assert row["path"] == f"{folder}/{row['name']}.txt"
    opened = sweep.table("openings")[0]["seq"]
    assert all(row["seq"] > opened for row in rows if row["origin"].startswith("test"))
    # The best model of each configuration, and no other.
    losses = {row["final"]: row["loss"] for row in sweep.table("finals") if row["trial"] == best.trial}
    assert losses[tied] == min(losses.values())
    sweep.job(samples=2).run()
    assert sweep.table("samples") == rows


def test_no_samples_if_none_are_wanted(sweep):
    summary = sweep.job(samples=0).run()
    assert summary.samples == ()
    assert sweep.table("samples") == []


def test_samples_of_a_bundle_that_gave_way_to_another_are_said_to_be_gone(sweep):
    first = sweep.job(rule="best_mean").run()
    second = sweep.job().run()
    assert first.final != second.final
    rows = sweep.table("samples")
    assert all(sweep.storage.exists(row["path"]) for row in rows if row["path"])
    assert {row["path"].rpartition("/")[0] for row in rows if row["final"] == second.final} == {"bundle/samples"}
    # The former choice is tied, so it has samples again, begun with pieces of valid.
    assert {row["path"].rpartition("/")[0] for row in rows if row["final"] == first.final} == {
        f"finals/samples/{first.final:05d}"
    }


def test_another_count_of_samples_makes_them_anew_without_another_opening(sweep):
    first = sweep.job(samples=1).run()
    second = sweep.job(samples=3).run()
    assert (len(first.samples), len(second.samples), len(sweep.card()["samples"])) == (2, 6, 6)
    assert len(sweep.table("openings")) == 1
    assert sweep.marks("score test") == ["score test"]
    tied = [row for row in sweep.table("samples") if row["final"] != second.final]
    assert len(tied) == 6
    assert all(sweep.storage.exists(row["path"]) for row in tied)
    sweep.job(samples=1).run()
    there = [row for row in sweep.table("samples") if row["path"]]
    assert len(there) == 4
    assert all(sweep.storage.exists(row["path"]) for row in there)
    folder = Path(sweep.storage.uri)
    assert len([*folder.glob("finals/samples/*/*"), *folder.glob("bundle/samples/*")]) == 4


def test_a_card_has_the_comparison_of_today_although_the_model_is_the_same(tmp_path):
    sweep = Sweep(tmp_path, CLOSE, task="Pieces", noise=0.001, gain=-0.5)
    first = sweep.job(rule="best_mean").run()
    made, listed = sweep.card()["made"], sweep.storage.read("bundle/SHA256SUMS")
    second = sweep.job(rule="best_mean", models=3, ensemble="seeds").run()
    assert second.final == first.final
    card = sweep.card()
    assert [each["trial"] for each in card["compared"]] == [each.trial for each in second.contenders] == [0, 1, 2]
    assert (card["ensemble"]["better"], card["made"]) == (False, made)
    assert "| 2 |" in sweep.storage.read("bundle/card.md").decode()
    assert sweep.storage.read("bundle/SHA256SUMS") != listed
    assert verification.verify(Path(sweep.storage.uri, "bundle"), score=False).problems == ()
    sweep.job(rule="best_mean").run()
    assert "ensemble" not in sweep.card()
    assert len(sweep.table("openings")) == 1


# --- racing -----------------------------------------------------------------------------------------------------------


def test_racing_adds_seeds_until_it_is_decided_or_there_are_no_more(tmp_path):
    far = Sweep(tmp_path, [(0.2, "completed", 0.5), (0.4, "completed", 0.7)], task="Pieces", noise=0.001)
    said = []
    far.job(racing=6, say=said.append).run()
    assert len(far.table("finals")) == 4
    assert said == ["Racing added 0 trainings; only one configuration may still be the best."]
    (tmp_path / "near").mkdir()
    near = Sweep(tmp_path / "near", CLOSE, task="Pieces", noise=0.2)
    said = []
    summary = near.job(models=3, racing=5, say=said.append).run()
    rows = near.table("finals")
    assert [row["round"] for row in rows] == [0] * 6 + [1, 2, 3, 4, 5]
    assert len({(row["trial"], row["seed"]) for row in rows}) == 11
    assert sum(len(each.scores) for each in summary.contenders) == 11
    assert "Racing added 5 trainings, as many as it may ([final] racing = 5)" in said[0]
    assert [row["job_s"] for row in rows] == sorted(row["job_s"] for row in rows)
    assert min(row["job_s"] for row in rows) > 0
    # Asked again, it does nothing again; asked for more, it goes on.
    idle = Mortal(0)
    idle.width = lambda: pytest.fail("a job that is done asked for the cluster")
    near.job(models=3, racing=5, crew=idle).run()
    assert near.table("finals")[0]["seed"] == rows[0]["seed"]
    assert len(near.marks("epoch")) == 33
    near.job(models=3, racing=7).run()
    assert [row["round"] for row in near.table("finals")] == [0] * 6 + [1, 2, 3, 4, 5, 6, 7]


def test_as_many_at_a_time_as_fit(tmp_path):
    near = Sweep(tmp_path, CLOSE, task="Pieces", noise=0.2)
    near.job(models=3, racing=5, crew=Mortal(10_000, width=3)).run()
    assert [row["round"] for row in near.table("finals")] == [0] * 6 + [1, 1, 1, 2, 2]


def test_racing_ends_with_its_time(tmp_path):
    said = []
    near = Sweep(tmp_path, CLOSE, task="Pieces", noise=0.2)
    near.job(models=3, racing=5, wall_time_s=1e-9, say=said.append).run()
    assert len(near.table("finals")) == 6
    assert "the time for trainings is used up ([final] wall_time)" in said[0]


def test_racing_with_one_seed_each_says_what_it_lacks(sweep):
    said = []
    sweep.job(seeds=1, racing=5, say=said.append).run()
    assert "Racing needs the spread from seed to seed" in said[0]
    assert len(sweep.table("finals")) == 2


@pytest.mark.slow
@pytest.mark.parametrize("messages", [33, 36, 37, 41])
def test_a_job_that_died_while_racing_goes_on_as_if_it_had_not(tmp_path, messages):
    # 24 messages of first trainings, 6 of their pieces; then 5 for each training of racing.
    whole, died, _ = killed(tmp_path, messages, models=3, racing=4, seeds=2)
    same(whole, died)
    assert len(died.marks("epoch")) <= len(whole.marks("epoch")) + 1


@pytest.mark.parametrize(("trainings", "width"), [(1, 4), (2, 4), (3, 4), (1, 1)])
def test_a_round_that_died_with_its_last_seeds_done_first_asks_for_the_others(tmp_path, trainings, width):
    asked = {"racing": 4, "seeds": 2, "rule": "best_mean", "samples": 0}
    made = []
    for name in ("whole", "died"):
        (tmp_path / name).mkdir()
        made.append(Sweep(tmp_path / name, CLOSE, task="Pieces", noise=0.2))
    whole, died = made
    expected = whole.job(crew=Mortal(10_000, width=width), **asked).run()
    # 16 messages of first trainings, 4 of their pieces; then 4 for each training of a round of four.
    with pytest.raises(Dies):
        died.job(crew=Mortal(20 + 4 * trainings, width=4, backwards=True), **asked).run()
    assert [row["round"] for row in died.table("finals")] == [0] * 4 + [1] * trainings
    found = died.job(crew=Mortal(10_000, width=width, backwards=True), **asked).run()
    rows = died.table("finals")
    assert len({(row["trial"], row["seed"]) for row in rows}) == len(rows) == 8
    assert sum(len(each.scores) for each in found.contenders) == 8
    if width == 4:
        same(whole, died)
        assert found.contenders == expected.contenders


# --- an ensemble ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "members"), [("seeds", 3), ("tied", 2)])
def test_an_ensemble_that_is_better_is_taken_and_told_apart_from_the_single_model(sweep, kind, members):
    summary = sweep.job(ensemble=kind, seeds=3 if kind == "seeds" else 2).run()
    [made] = [row for row in sweep.table("finals") if row["kind"] == "ensemble"]
    numbers = [int(number) for number in made["members"].split(", ")]
    assert len(numbers) == members
    single = {row["final"]: row for row in sweep.table("finals")}[numbers[0]]
    assert summary.choice.winner.trial == single["trial"] == made["trial"]
    assert made["chosen"]
    assert not single["chosen"]
    assert made["seed"] is None
    assert (made["speed"], made["test_loss"] is not None) == (50 / members, True)
    assert single["test_loss"] is None
    assert summary.final == made["final"]
    assert summary.kind == "ensemble"
    assert summary.ensemble.better
    low, high = summary.ensemble.interval
    assert low <= summary.ensemble.difference <= high
    text = summary.text()
    assert f"{members} models as one: loss {made['loss']:.4f} against {single['loss']:.4f} of the single one" in text
    assert f"Each of the {members} is run for every prediction: speed {50 / members:.6g} against 50" in text
    [opening] = sweep.table("openings")
    assert opening["model"] == made["model"]
    card = sweep.card()
    assert (card["kind"], card["final"], len(card["ensemble"]["models"])) == ("ensemble", made["final"], members)
    assert json.loads(sweep.storage.read("bundle/model.json"))["done"] == members
    assert f"**{members} models as one**" in sweep.storage.read("bundle/card.md").decode()
    pieces = Ledger(sweep.storage).table("piece_scores").to_pylist()
    assert {row["split"] for row in pieces if row["final"] == made["final"]} == {"valid", "test"}


def test_an_ensemble_that_is_no_better_is_not_taken(tmp_path):
    sweep = Sweep(tmp_path, CLOSE, task="Pieces", gain=-0.5)
    summary = sweep.job(ensemble="seeds").run()
    rows = {row["final"]: row for row in sweep.table("finals")}
    assert rows[summary.final]["kind"] == "single"
    assert [row["chosen"] for row in rows.values() if row["kind"] == "ensemble"] == [False]
    assert "worse" in summary.text()
    assert "the single one is taken" in summary.text()
    assert [opening["model"] for opening in sweep.table("openings")] == [rows[summary.final]["model"]]
    assert sweep.card()["ensemble"]["better"] is False


def test_an_ensemble_of_one_is_none(sweep):
    said = []
    summary = sweep.job(ensemble="seeds", seeds=1, say=said.append).run()
    assert summary.ensemble is None
    assert said == ["An ensemble needs two models, and there is one; the single model is taken."]


def test_no_ensemble_is_judged_by_pieces_that_are_scores_of_something_else(tmp_path):
    sweep = Sweep(tmp_path, CLOSE, task="Accurate", objective=("accuracy", "max"))
    said = []
    summary = sweep.job(ensemble="seeds", say=said.append).run()
    assert (summary.ensemble, summary.kind) == (None, "single")
    assert sweep.marks("combine") == []
    [told] = said
    assert "do not explain its accuracy (0." in told
    assert told.endswith("They are scores of something else; the single model is taken.")


@pytest.mark.slow
@pytest.mark.parametrize("messages", [20, 21, 22, 23, 24])
def test_a_job_that_died_over_its_ensemble_makes_it_once(tmp_path, messages):
    whole, died, _ = killed(tmp_path, messages, ensemble="seeds")
    same(whole, died)
    assert len(died.marks("combine")) <= 1 + (messages == 20)
    assert len(died.table("openings")) == 1


# --- all data but test ------------------------------------------------------------------------------------------------


def test_the_chosen_configuration_is_trained_on_all_data_and_shipped_and_its_scores_are_told_apart(sweep):
    said = []
    summary = sweep.job(whole=True, say=said.append).run()
    rows = {row["kind"]: row for row in sweep.table("finals") if row["kind"] == "whole" or row["chosen"]}
    whole, chosen = rows["whole"], rows["single"]
    assert sweep.marks("whole") == ["whole"]
    assert (whole["trial"], whole["chosen"], whole["loss"]) == (chosen["trial"], False, None)
    assert whole["epochs"] == whole["best_epoch"] == chosen["best_epoch"]
    openings = sweep.table("openings")
    assert [opening["model"] for opening in openings] == [chosen["model"], whole["model"]]
    assert said == [
        f"The test split is opened once more, for {whole['model']}: the chosen configuration trained on train and "
        "valid. Nothing is chosen by its score."
    ]
    card = sweep.card()
    assert (card["kind"], card["final"], card["shipped"]) == ("whole", chosen["final"], whole["final"])
    assert card["metrics"] == {}
    assert card["chosen"]["metrics"]["loss"] == chosen["loss"]
    assert card["scores"] == {"test_loss": whole["test_loss"]}
    assert card["chosen"]["scores"] == {"test_loss": chosen["test_loss"]}
    assert "**trained on train and valid**" in sweep.storage.read("bundle/card.md").decode()
    text = summary.text()
    assert "the model trained on train alone" in text
    assert "The bundle holds the same configuration, trained on train and valid" in text
    assert "flatters more" not in text
    assert (summary.openings, summary.openings_to_ship) == (2, 1)
    assert summary.scores == card["chosen"]["scores"]
    assert {row["final"] for row in sweep.table("samples") if row["path"].startswith("bundle/")} == {whole["final"]}
    sweep.job(whole=True).run()
    assert len(sweep.table("openings")) == 2
    # Without it, the model that was chosen is shipped again, and nothing is opened for that.
    sweep.job().run()
    assert sweep.card()["kind"] == "single"
    assert len(sweep.table("openings")) == 2


@pytest.mark.slow
@pytest.mark.parametrize("messages", [21, 23, 24, 25, 26, 27, 28, 30])
def test_a_job_that_died_over_the_whole_model_trains_it_once(tmp_path, messages):
    whole, died, _ = killed(tmp_path, messages, whole=True)
    same(whole, died)
    assert len(died.marks("epoch")) <= len(whole.marks("epoch")) + 1
    assert len(died.table("openings")) == 2


def test_a_whole_model_that_cannot_be_trained_is_said_and_tried_again(tmp_path):
    sweep = Sweep(tmp_path, CLOSE, task="Pieces", fails="whole")
    with pytest.raises(SweepAborted, match=r"could not be trained on train and valid: ValueError: not that much"):
        sweep.job(whole=True).run()
    assert [row["state"] for row in sweep.table("finals")].count("failed") == 1
    assert sweep.table("openings") == []
    assert sweep.job().run().bundle


# --- what cannot be ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "asked", "told"),
    [
        ("Bare", {"whole": True}, r"whole = true: task .* has no method export.* and no start_whole"),
        ("Bare", {"ensemble": "tied"}, r'ensemble = "tied": task .* has no method export.* and no combine.* and no sc'),
        ("Numbers", {"ensemble": "seeds"}, r"has no method combine\(folders, out\) and no score_pieces"),
    ],
)
def test_a_task_that_cannot_do_what_is_asked_is_refused_before_any_training(tmp_path, task, asked, told):
    sweep = Sweep(tmp_path, CLOSE, task=task)
    with pytest.raises(TaskError, match=told):
        sweep.job(**asked).run()
    assert sweep.marks("epoch") == []
    assert sweep.table("finals") == []


def test_whole_and_ensemble_together_are_refused_with_the_reason(sweep):
    with pytest.raises(SpecError, match=r"\[final\] whole: .*expected one of them; whether an ensemble is better"):
        sweep.job(whole=True, ensemble="seeds")
    assert FinalSettings().ensemble == "none"


def test_two_samples_of_one_name_are_no_samples(tmp_path):
    sweep = Sweep(tmp_path, CLOSE, task="Pieces", fails="names")
    with pytest.raises(SweepAborted, match="samples: two are called 'cold'"):
        sweep.job().run()
    assert not Path(sweep.storage.uri, "bundle/SHA256SUMS").exists()
