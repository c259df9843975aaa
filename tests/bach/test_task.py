"""Chorale models as a task: what may vary, one epoch at a time, and what a finished model says and sings."""

import json
import shutil

import keras
import keras_tuner
import numpy as np
import pytest

from bach import model_files
from bach.corpus import load
from bach.errors import DataError, ModelError, SettingError, TrainingFailed
from bach.formats import read_pitches, write_csv
from bach.hypermodel import build
from bach.models import FAMILIES
from bach.models.presets import PRESETS
from bach.prediction import ModelPredictor
from bach.scoring import score_chorales
from bach.task import ChoraleTask
from tests.bach.small import POINT as TINY


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of small chorales in three splits."""
    folder = tmp_path_factory.mktemp("toy")
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("valid", 2), ("test", 2)):
        for number in range(count):
            chords = np.sort(rng.integers(48, 70, (10, 4)))[:, ::-1]
            write_csv(np.repeat(chords, 4, axis=0).astype(np.int16), folder / split / f"{number:03}.csv")
    return str(folder)


@pytest.fixture(scope="module")
def task(folder):
    return ChoraleTask(data=folder, sample_steps=16)


@pytest.fixture(scope="module")
def finished(task):
    """Three epochs without a stop: what they gave, and the run."""
    run = task.start(TINY, epochs=3, seed=4)
    return [run.epoch() for _ in range(3)], run


@pytest.fixture(scope="module")
def exported(task, finished, tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    task.export(finished[1], path)
    return path


def without_time(metrics):
    return {name: value for name, value in metrics.items() if not name.endswith("_per_s")}


# --- what may vary ----------------------------------------------------------------------------------------------------


def test_the_space_is_that_of_the_models_and_builds_none(task, monkeypatch):
    monkeypatch.setattr(keras, "Sequential", None)
    for family in FAMILIES:
        hp = keras_tuner.HyperParameters()
        hp.values["model.family"] = family
        task.space(hp)
        monkeypatch.undo()
        built = keras_tuner.HyperParameters()
        built.values["model.family"] = family
        build(built)
        assert hp.get_config() == built.get_config()
        monkeypatch.setattr(keras, "Sequential", None)


def test_the_presets_are_points(task):
    points = task.points()
    assert points.keys() == PRESETS.keys()
    assert points["seed-conv-lstm"]["model.family"] == "conv_lstm"


def test_what_lags_is_not_judged_early():
    first = ChoraleTask(data="music21").first_rung
    points = ChoraleTask().points()
    assert first(points["seed-conv-lstm"]) == 8
    assert first({**points["seed-conv-lstm"], "conv_lstm.batch_momentum": 0.9}) == 2
    assert first({**points["seed-conv-lstm"], "train.batch_size": 64}) == 16  # half as many steps an epoch
    assert first(points["seed-transformer"]) == 4
    assert first(points["small"]) == first(points["best"]) == first({}) == 2


def test_metrics_scores_and_measures_have_units_and_meanings_of_their_own(task):
    for group in (task.metrics, task.scores, task.measures):
        assert all(len(said) == 2 and said[1] for said in group.values())
    assert not task.metrics.keys() & task.scores.keys()
    assert "notes_per_s" not in task.metrics


# --- data and options -------------------------------------------------------------------------------------------------


def test_the_data_have_a_name_and_a_fingerprint(task, folder):
    assert task.data() == (load(folder).name, load(folder).fingerprint)
    assert ChoraleTask(data=folder).dataset is task.dataset  # loaded once a process


def test_a_limit_takes_the_first_pieces_and_gives_the_data_another_name(task, folder):
    few = ChoraleTask(data=folder, limit={"train": 3, "test": 1})
    assert [len(few.dataset.splits[split]) for split in ("train", "valid", "test")] == [3, 2, 1]
    assert few.dataset.splits["train"] == task.dataset.splits["train"][:3]
    assert few.data()[0] == f"{task.data()[0]}-3-2-1"
    assert few.data()[1] != task.data()[1]
    assert len(ChoraleTask(data=folder, limit=1).dataset.chorales()) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": ""}, "task option data: got '', expected a source"),
        ({"data": 3}, "task option data: got 3"),
        ({"limit": -1}, "task option limit: got -1, expected a whole number, 0 or more"),
        ({"limit": True}, "task option limit: got True"),
        ({"limit": {"train": 1.5}}, r"task option limit.train: got 1\.5"),
        ({"limit": {"trains": 1}}, "unknown split 'trains'; did you mean 'train'"),
        ({"measure_speed": 1}, "task option measure_speed: got 1, expected true or false"),
        ({"sample_steps": 0}, "task option sample_steps: got 0, expected a whole number, 1 or more"),
        ({"sample_seed": -1}, "task option sample_seed: got -1"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(SettingError, match=message):
        ChoraleTask(**options)


def test_data_that_are_not_there_are_refused_when_they_are_wanted(folder):
    with pytest.raises(DataError, match="neither a source nor an existing path"):
        ChoraleTask(data=f"{folder}/nowhere").data()
    with pytest.raises(SettingError, match=r"9 pieces of 'train' are asked for, but .* has 8; ask for fewer"):
        ChoraleTask(data=folder, limit={"train": 9}).data()


# --- training ---------------------------------------------------------------------------------------------------------


def test_an_epoch_returns_what_is_declared(task, finished):
    for metrics in finished[0]:
        assert metrics.keys() == task.metrics.keys()
        assert all(isinstance(value, float) for value in metrics.values())
    assert finished[0][0]["num_parameters"] == finished[1].model.count_params()
    assert finished[0][-1]["learning_rate"] == pytest.approx(0, abs=1e-5)  # the schedule spans the three epochs


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_to_the_last_bit(task, finished, tmp_path):
    first = task.start(TINY, epochs=3, seed=4)
    first.epoch()
    first.save(tmp_path)
    second = task.start(TINY, epochs=3, seed=4)
    second.restore(tmp_path)
    assert [without_time(second.epoch()) for _ in range(2)] == [without_time(metrics) for metrics in finished[0][1:]]


@pytest.mark.slow
def test_a_finished_run_may_be_extended_and_goes_on_the_longer_schedule(task, finished, tmp_path):
    finished[1].save(tmp_path)
    longer = task.start(TINY, epochs=6, seed=4)
    longer.restore(tmp_path)
    fourth = longer.epoch()
    fresh = task.start(TINY, epochs=6, seed=4)
    rates = [fresh.epoch()["learning_rate"] for _ in range(4)]
    assert fourth["learning_rate"] == rates[3] > finished[0][-1]["learning_rate"]
    assert fourth["train_loss"] < finished[0][0]["train_loss"]
    shorter = task.start(TINY, epochs=2, seed=4)
    with pytest.raises(SettingError, match="has 3 epochs behind it, expected at most 2; ask for more epochs"):
        shorter.restore(tmp_path)


def test_a_checkpoint_of_another_configuration_is_refused(task, finished, tmp_path):
    finished[1].save(tmp_path)
    other = task.start({**TINY, "train.batch_size": 32}, epochs=3, seed=4)
    with pytest.raises(SettingError, match="belongs to another run"):
        other.restore(tmp_path)


@pytest.mark.parametrize(
    ("values", "given", "message"),
    [
        ({"train.learn_rate": 1e-3}, {}, "unknown parameter 'train.learn_rate' .*did you mean"),
        ({}, {"epochs": 0}, "task epochs: got 0, expected a whole number, 1 or more"),
        ({}, {"seed": -1}, "task seed: got -1, expected a whole number, 0..4294967295"),
        ({}, {"seed": 2**32}, "task seed: got 4294967296"),
    ],
)
def test_a_run_that_cannot_be_is_refused(task, values, given, message):
    with pytest.raises(SettingError, match=message):
        task.start(TINY | values, **{"epochs": 1, "seed": 1, **given})


def test_a_training_that_fails_says_of_what_kind_that_is(task):
    run = task.start(TINY, epochs=1, seed=1)
    for variable in run.model.trainable_variables:
        variable.assign(np.full(variable.shape, np.nan))
    with pytest.raises(TrainingFailed, match="no finite number") as caught:
        run.epoch()
    assert caught.value.reason_kind == "non_finite"


@pytest.mark.slow
def test_the_speed_of_writing_is_measured_once_where_it_is_asked_for(folder, tmp_path):
    task = ChoraleTask(data=folder, measure_speed=True)
    assert "notes_per_s" in task.metrics
    run = task.start(TINY, epochs=3, seed=1)
    speed = run.epoch()["notes_per_s"]
    assert speed > 0
    assert run.epoch()["notes_per_s"] == speed
    run.save(tmp_path)
    again = task.start(TINY, epochs=3, seed=1)
    again.restore(tmp_path)
    assert again.epoch()["notes_per_s"] == speed


# --- a finished model -------------------------------------------------------------------------------------------------


def test_the_exported_model_is_that_of_the_best_epoch_with_its_record(task, finished, exported):
    record = model_files.record(exported)
    best = min(finished[0], key=lambda metrics: metrics["val_nll"])
    assert record["val_nll"] == best["val_nll"]
    assert (record["data"], record["fingerprint"]) == task.data()
    assert (record["seed"], record["epochs"], record["family"]) == (4, 3, "transformer")
    here = {}
    exec(task.how_to_load.replace("model.keras", f"{exported}/model.keras"), here)  # noqa: S102
    assert here["model"].output_shape == (None, None, 47)


def test_a_model_is_scored_by_both_protocols(task, exported):
    scores = task.score(exported, "test")
    assert scores.keys() <= task.scores.keys()
    assert {"test_nll", "test_accuracy", "test_window_nll", "test_window_accuracy"} <= scores.keys()
    assert scores["test_nll_low"] <= scores["test_nll"] <= scores["test_nll_high"]
    report = json.loads((exported / "scores-test.json").read_text())
    assert report["test_nll"] == pytest.approx(scores["test_nll"])
    assert {"val_window_nll", "val_window_accuracy"} <= task.score(exported, "valid").keys() <= task.scores.keys()
    with pytest.raises(SettingError, match="unknown split 'tset'; did you mean 'test'"):
        task.score(exported, "tset")


def test_each_piece_has_a_score_and_the_mean_by_notes_is_the_score_of_the_split(task, finished, exported, tmp_path):
    def mean(pieces):
        return sum(value * weight for value, weight in pieces.values()) / sum(weight for _, weight in pieces.values())

    told = task.score_pieces(exported, "valid")
    assert list(told) == [chorale.id for chorale in task.dataset.splits["valid"]]
    assert mean(told) == pytest.approx(min(epoch["val_nll"] for epoch in finished[0]))
    # A model that came without them is scored again, and to the same end.
    for name in ("model.keras", "model.json"):
        shutil.copy(exported / name, tmp_path)
    again = task.score_pieces(tmp_path, "valid")
    assert {name: pytest.approx(pair) for name, pair in again.items()} == told
    score = task.score(tmp_path, "test")["test_nll"]
    (tmp_path / "model.keras").unlink()
    assert mean(task.score_pieces(tmp_path, "test")) == pytest.approx(score)
    with pytest.raises(SettingError, match="tset"):
        task.score_pieces(tmp_path, "tset")


def test_there_are_floors_under_the_scores(task):
    floors = task.floors("test")
    assert 0 < floors["counting"]["test_nll"] < 3.85
    assert "test_nll" not in floors["repeat"]  # infinite
    assert floors["repeat"]["test_accuracy"] > 0.5  # most notes are held
    assert "val_nll" in task.floors("valid")["counting"]


@pytest.mark.slow
def test_a_model_shows_what_it_can_do_in_all_formats(task, exported, tmp_path):
    samples = list(task.samples(exported, tmp_path, count=1, split="valid"))
    assert len({name for name, *_ in samples}) == len(samples) == 8
    assert [about["kind"] for *_, about in samples] == ["free"] * 3 + ["continued"] * 3 + ["harmony", "original"]
    assert [measures.get("temperature") for _, _, measures, _ in samples] == [0.8, 1.0, 1.5] * 2 + [1.0, None]
    valid = {chorale.id for chorale in task.dataset.splits["valid"]}
    for name, path, measures, about in samples:
        assert path == tmp_path / f"{name}.mid"
        assert read_pitches(path).shape[0] <= 16
        assert measures.keys() <= task.measures.keys()
        assert measures["nll"] > 0
        assert about["origin"] == "" if about["kind"] == "free" else about["origin"] in valid
        assert {file.suffix for file in tmp_path.glob(f"{name}.*")} >= {".mid", ".musicxml", ".wav", ".png", ".svg"}
        told = json.loads((tmp_path / f"{name}.json").read_text())
        assert ("with_prompt" in told) == (about["kind"] == "continued")
    (tmp_path / "none").mkdir()
    assert not list(task.samples(exported, tmp_path / "none", count=0))
    with pytest.raises(SettingError, match="count: got -1"):
        next(task.samples(exported, tmp_path, count=-1))


def test_bachs_own_values_have_the_names_of_the_samples_measures(task):
    values = task.sample_references()
    assert values.keys() == {"Bach, train", "Bach, valid"}
    assert task.sample_references() is values  # worked out once a process
    for of in values.values():
        assert of.keys() <= task.measures.keys()
    assert "longest_copied_run" in values["Bach, valid"]
    assert "longest_copied_run" not in values["Bach, train"]
    assert task.sample_references(["test"]).keys() == {"Bach, test"}
    assert task.sample_limits.keys() <= task.measures.keys()
    with pytest.raises(SettingError, match="unknown split 'tset'"):
        task.sample_references(["tset"])


def test_what_a_model_costs_is_told_from_its_folder(task, exported, finished, folder):
    assert task.costs_of(exported) == {"num_parameters": finished[1].model.count_params()}
    assert ChoraleTask(data=folder, measure_speed=True).costs_of(exported)["notes_per_s"] > 0


# --- models to ship: of all data but test, and several as one ---------------------------------------------------------


@pytest.fixture(scope="module")
def whole(task, tmp_path_factory):
    run = task.start_whole(TINY, epochs=2, seed=4)
    metrics = [run.epoch() for _ in range(2)]
    path = tmp_path_factory.mktemp("whole")
    task.export(run, path)
    return path, metrics


@pytest.mark.slow
def test_a_model_to_ship_has_learnt_from_valid_and_is_that_of_the_last_epoch(task, whole):
    path, metrics = whole
    assert metrics[0].keys() == task.metrics.keys()
    record = model_files.record(path)
    assert record["trained_on"] == ["train", "valid"]
    assert (record["data"], record["fingerprint"]) == task.data()
    assert (record["best_epoch"], record["val_nll"]) == (2, None)
    pieces = score_chorales(loaded(path), task.dataset.splits["valid"])
    assert np.concatenate([piece.nll for piece in pieces]).mean() == pytest.approx(metrics[-1]["val_nll"])
    shorter = task.start(TINY, epochs=2, seed=4)
    assert metrics[0] != shorter.epoch()  # two pieces more to learn from


def test_a_model_to_ship_has_a_score_on_test_alone(task, whole):
    path = whole[0]
    assert "test_nll" in task.score(path, "test")
    assert len(task.score_pieces(path, "test")) == 2
    for ask in (task.score, task.score_pieces):
        with pytest.raises(ModelError, match=r"was trained on valid, too, .* score it on test"):
            ask(path, "valid")


@pytest.mark.slow
def test_a_run_of_a_model_to_ship_goes_on_after_a_stop(task, whole, tmp_path):
    first = task.start_whole(TINY, epochs=2, seed=4)
    first.epoch()
    first.save(tmp_path)
    again = task.start_whole(TINY, epochs=2, seed=4)
    again.restore(tmp_path)
    assert without_time(again.epoch()) == without_time(whole[1][1])
    with pytest.raises(SettingError, match="belongs to another run: data"):
        task.start(TINY, epochs=2, seed=4).restore(tmp_path)


@pytest.fixture(scope="module")
def several(task, exported, tmp_path_factory):
    run = task.start({**TINY, "transformer.layers": 2, "inputs.echo": True}, epochs=1, seed=5)
    run.epoch()
    other = tmp_path_factory.mktemp("other")
    task.export(run, other)
    both = tmp_path_factory.mktemp("both")
    task.combine([exported, other], both)
    return exported, other, both


@pytest.mark.slow
def test_several_models_as_one_give_the_mean_of_their_probabilities(task, several):
    *members, both = (
        np.exp(predictor.log_probabilities([np.arange(80) % 47])[0]) for predictor in map(loaded, several)
    )
    np.testing.assert_allclose(both, np.mean(members, axis=0), atol=1e-6)
    told = [task.score_pieces(path, "valid") for path in several]
    for piece in told[0]:
        assert told[2][piece][0] <= np.mean([of[piece][0] for of in told[:2]]) + 1e-6  # a logarithm of means
    record = model_files.record(several[2])
    assert record["family"] == "ensemble"
    assert record["fingerprint"] == task.data()[1]
    assert record["parameters"] == sum(model_files.record(path)["parameters"] for path in several[:2])
    assert [member["seed"] for member in record["members"]] == [4, 5]


@pytest.mark.slow
def test_several_models_as_one_are_scored_sampled_and_used_as_any_other(task, several, tmp_path):
    scores = task.score(several[2], "valid")
    assert {"val_nll", "val_accuracy", "val_window_nll"} <= scores.keys()  # no epoch has measured them before
    assert task.costs_of(several[2])["num_parameters"] == model_files.record(several[2])["parameters"]
    name, path, measures, _ = next(task.samples(several[2], tmp_path))
    assert (name, path.is_file()) == ("cold", True)
    assert measures["nll"] > 0
    here = {}
    exec(task.how_to_load.replace("model.keras", f"{several[2]}/model.keras"), here)  # noqa: S102
    assert here["model"].output_shape == (None, None, 47)


def test_models_that_cannot_be_one_are_refused(task, several, tmp_path):
    with pytest.raises(ModelError, match="got 1 models, expected two or more"):
        task.combine(several[:1], tmp_path)
    with pytest.raises(ModelError, match="no model at"):
        task.combine([several[0], tmp_path / "nowhere"], tmp_path)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(several[0], elsewhere)
    record = json.loads((elsewhere / "model.json").read_text())
    (elsewhere / "model.json").write_text(json.dumps({**record, "fingerprint": "0" * 64}))
    with pytest.raises(ModelError, match="learnt from different chorales"):
        task.combine([several[1], elsewhere], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def loaded(path):
    return ModelPredictor(model_files.load(path))


def test_a_folder_without_a_model_is_refused(task, tmp_path):
    with pytest.raises(ModelError, match="no model at"):
        task.score(tmp_path, "test")
    with pytest.raises(ModelError, match="no model at"):
        next(task.samples(tmp_path, tmp_path))
