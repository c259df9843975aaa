"""A run in a folder: interrupted anywhere, continued to the same end."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from bach import model_files
from bach.corpus import Chorale, Dataset
from bach.errors import OutputError, SettingError
from bach.runs import Run, train
from tests.bach.small import POINT


def dataset():
    rng = np.random.default_rng(0)
    splits = {}
    for split, count in (("train", 6), ("valid", 2), ("test", 1)):
        pieces = [np.repeat(rng.integers(52, 66, (9, 4)), 4, axis=0).astype(np.int16) for _ in range(count)]
        splits[split] = tuple(Chorale(id=f"{split}/{i}", title="", pitches=p) for i, p in enumerate(pieces))
    return Dataset(name="toy", fingerprint="f" * 64, splits=splits)


def run_in(folder, **changes):
    run = Run(values=POINT, data=dataset(), folder=folder, epochs=3, seed=4, preset="toy-preset")
    return dataclasses.replace(run, **changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run without a stop: its folder and the results that it told."""
    folder = tmp_path_factory.mktemp("whole") / "made on the way" / "run"
    told = []
    path = train(run_in(folder), on_epoch=told.append)
    assert path == folder / "model.keras"
    return folder, told


def record_without_times(folder):
    record = json.loads((folder / "model.json").read_text())
    for result in record["history"]:
        del result["duration_s"], result["notes_per_s"]
    return {key: value for key, value in record.items() if key != "duration_s"}


def test_a_run_leaves_its_best_model_with_its_record_and_the_last_checkpoint(finished):
    folder, told = finished
    assert [result.epoch for result in told] == [1, 2, 3]
    names = sorted(file.name for file in folder.iterdir())
    assert names == ["checkpoint-00003.npz", "checkpoint.json", "model.json", "model.keras"]
    record = model_files.record(folder)
    best = min(told, key=lambda result: result.val_nll)
    assert (record["best_epoch"], record["val_nll"]) == (best.epoch, best.val_nll)
    assert record["data"] == "toy"
    assert record["fingerprint"] == "f" * 64
    assert record["preset"] == "toy-preset"
    assert record["family"] == "transformer"
    assert record["epochs"] == record["epochs_done"] == 3
    assert record["values"].items() >= POINT.items()
    assert record["parameters"] == model_files.load(folder).count_params()
    assert record["versions"].keys() >= {"keras", "numpy"}


def test_the_model_of_a_run_has_the_score_of_its_record(finished):
    from bach.encoding import encode
    from bach.prediction import ModelPredictor

    folder, _ = finished
    tokens = [encode(chorale.pitches) for chorale in dataset().splits["valid"]]
    logs = ModelPredictor(model_files.load(folder)).log_probabilities(tokens)
    nats = -np.concatenate([log[np.arange(len(t)), t] for log, t in zip(logs, tokens, strict=True)]).mean()
    assert model_files.record(folder)["val_nll"] == pytest.approx(nats, rel=1e-5)


class Interrupted(Exception):
    """Stands for Ctrl-C, a lost machine, a killed process."""


@pytest.mark.slow
def test_a_run_that_was_interrupted_goes_on_to_the_same_end(finished, tmp_path):
    def stop_after_the_second(result):
        if result.epoch == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(run_in(tmp_path), on_epoch=stop_after_the_second)
    assert model_files.load(tmp_path).count_params()  # usable before it is continued
    keras.utils.set_random_seed(999)  # whatever the new process has drawn before
    told = []
    train(run_in(tmp_path), resume=True, on_epoch=told.append)
    assert [result.epoch for result in told] == [3]
    for key, value in record_without_times(finished[0]).items():
        if key != "history":
            assert record_without_times(tmp_path)[key] == (pytest.approx(value) if isinstance(value, float) else value)
    one, other = (model_files.load(folder).get_weights() for folder in (tmp_path, finished[0]))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_a_finished_run_may_be_resumed_and_changes_nothing(finished):
    folder, _ = finished
    before = model_files.load(folder).get_weights()
    told = []
    assert train(run_in(folder), resume=True, on_epoch=told.append) == folder / "model.keras"
    assert told == []
    for a, b in zip(model_files.load(folder).get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_folder_that_holds_a_run_is_not_written_over(finished):
    folder, _ = finished
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(OutputError, match="holds a training run already; go on with --resume or choose another"):
        train(run_in(folder))
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_there_must_be_something_to_resume(tmp_path):
    with pytest.raises(SettingError, match="no checkpoint in"):
        train(run_in(tmp_path), resume=True)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_noticed_before_the_first_epoch(tmp_path):
    (tmp_path / "file").write_text("in the way")
    told = []
    with pytest.raises(OutputError, match="cannot write"):
        train(run_in(tmp_path / "file"), on_epoch=told.append)
    assert told == []


def test_a_mistake_in_the_configuration_leaves_nothing_behind(tmp_path):
    with pytest.raises(SettingError, match="unknown parameter"):
        train(run_in(tmp_path / "run", values={**POINT, "transformer.layer": 2}))
    assert not (tmp_path / "run").exists()
