"""KerasTuner's own tuners on our search space, and what a tuner may ask of `ChoraleHyperModel.fit`."""

from pathlib import Path

import keras
import keras_tuner
import numpy as np
import pytest
from keras import ops

from bach import space
from bach.corpus import Chorale, Dataset
from bach.encoding import encode
from bach.hypermodel import ChoraleHyperModel, parameters
from bach.notes import NUM_TOKENS, Split
from bach.settings import TrainingSettings
from bach.training import Training

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "model.family": "conv_lstm",
    "inputs.echo": False,
    "conv_lstm.embedding_dim": 8,
    "conv_lstm.dilation_depth": 0,
    "conv_lstm.lstm_width": 64,
    "train.window_steps": 32,
    "train.transposition": 0,
    "train.learning_rate": 1e-2,
}
VAL_NLL = keras_tuner.Objective("val_nll", "min")


def chorales(split, count, seed, steps=32):
    """Short pieces that repeat a bar of random chords: something to learn, and different in each piece."""
    rng = np.random.default_rng(seed)
    low = np.array([64, 57, 50, 41])
    for i in range(count):
        bar = np.repeat(low + rng.integers(0, 8, (4, 4)), 4, axis=0)
        yield Chorale(id=f"{split}/{i}", pitches=np.tile(bar, (-(-steps // 16), 1))[:steps])


@pytest.fixture(scope="module")
def data():
    splits: dict[Split, list[Chorale]] = {
        "train": list(chorales("train", 6, seed=0)),
        "valid": list(chorales("valid", 2, seed=1)),
        "test": list(chorales("test", 1, seed=2)),
    }
    return Dataset.of("tiny", splits)


def narrow_space():
    """The space with all but two of its parameters fixed at small values."""
    hp = keras_tuner.HyperParameters()
    for name, value in TINY.items():
        hp.Fixed(name, value)
    hp.Choice("train.batch_size", [16, 32])
    hp.Float("train.weight_decay", 1e-4, 1e-2, sampling="log")
    return hp


def built(**changes):
    hp = parameters(TINY | changes)
    keras.utils.set_random_seed(1)
    return hp, ChoraleHyperModel().build(hp)


def scored(model, data):
    """`val_nll` of the model as it is."""
    total = count = 0
    for chorale in data.splits["valid"]:
        tokens = encode(chorale.pitches)
        logs = np.asarray(ops.convert_to_numpy(ops.log_softmax(model(tokens[None]))))[0, :-1]
        total += np.log(NUM_TOKENS) - logs[np.arange(len(tokens) - 1), tokens[1:]].sum()
        count += len(tokens)
    return total / count


class Recorder(keras.callbacks.Callback):
    """Keeps what callbacks are told."""

    def __init__(self, data, stop_after=None):
        super().__init__()
        self.data, self.stop_after, self.heard, self.scores = data, stop_after, [], []

    def on_train_begin(self, logs=None):
        self.heard.append("begin")

    def on_train_end(self, logs=None):
        self.heard.append("end")

    def on_epoch_begin(self, epoch, logs=None):
        self.heard.append(epoch)

    def on_epoch_end(self, epoch, logs=None):
        assert logs is not None
        self.scores.append((logs["val_nll"], scored(self.model, self.data)))
        if epoch + 1 == self.stop_after:
            self.model.stop_training = True


@pytest.mark.slow
def test_hyperband_runs_on_the_space_unchanged_and_continues_its_trials(data, tmp_path):
    tuner = keras_tuner.Hyperband(
        ChoraleHyperModel(),
        objective=VAL_NLL,
        max_epochs=3,
        factor=3,
        seed=1,
        hyperparameters=narrow_space(),
        tune_new_entries=False,
        directory=tmp_path,
        project_name="hyperband",
    )
    tuner.search(data, seed=1, verbose=0)
    trials = list(tuner.oracle.trials.values())
    assert {trial.status for trial in trials} == {"COMPLETED"}
    continued = [t for t in trials if t.hyperparameters.values["tuner/initial_epoch"]]
    assert continued
    for trial in continued:
        former = tuner.oracle.get_trial(trial.hyperparameters.values["tuner/trial_id"])
        assert trial.score < former.score
    # The weights that the tuner kept are those that the score was made with.
    best = tuner.oracle.get_best_trials(1)[0]
    assert scored(tuner.load_model(best), data) == pytest.approx(best.score, abs=1e-4)


def test_a_fit_gives_what_training_gives(data):
    hp, model = built()
    history = ChoraleHyperModel().fit(hp, model, data, epochs=2, seed=5).history
    _, other = built()
    splits = [[c.pitches for c in data.splits[split]] for split in ("train", "valid")]
    training = Training(other, TrainingSettings.from_hp(hp), splits[0], splits[1], epochs=2, seed=5)
    expected = list(training.run())
    assert history["val_nll"] == pytest.approx([result.val_nll for result in expected], abs=1e-5)
    assert history["loss"] == pytest.approx([result.train_loss for result in expected], abs=1e-5)
    assert history["val_accuracy"] == pytest.approx([result.val_accuracy for result in expected], abs=0.01)


@pytest.mark.slow
def test_callbacks_see_the_weights_that_were_scored(data):
    hp, model = built()
    recorder = Recorder(data)
    ChoraleHyperModel().fit(hp, model, data, epochs=3, callbacks=[recorder])
    assert recorder.heard == ["begin", 0, 1, 2, "end"]
    for told, own in recorder.scores:
        assert own == pytest.approx(told, abs=1e-4)


def test_the_model_is_left_with_its_best_weights(data):
    hp, model = built()
    history = ChoraleHyperModel().fit(hp, model, data, epochs=2)
    assert scored(model, data) == pytest.approx(min(history.history["val_nll"]), abs=1e-4)


@pytest.mark.slow
def test_a_callback_may_stop_training(data):
    hp, model = built()
    history = ChoraleHyperModel().fit(hp, model, data, epochs=5, callbacks=[Recorder(data, stop_after=2)])
    assert len(history.history["val_nll"]) == 2


@pytest.mark.slow
def test_a_continued_trial_runs_the_epochs_that_are_left_from_its_own_weights(data):
    hp, model = built()
    first = ChoraleHyperModel().fit(hp, model, data, epochs=2)
    recorder = Recorder(data)
    second = ChoraleHyperModel().fit(hp, model, data, epochs=5, initial_epoch=2, callbacks=[recorder])
    assert recorder.heard == ["begin", 2, 3, 4, "end"]
    assert second.epoch == [2, 3, 4]
    assert second.history["val_nll"][-1] < first.history["val_nll"][-1]
    # It begins with what it has learnt, not anew.
    _, fresh = built()
    third = ChoraleHyperModel().fit(hp, fresh, data, epochs=5)
    assert third.history["loss"][0] > second.history["loss"][0]


def test_a_point_that_cannot_be_trained_fails_its_trial_only(data):
    hp, model = built(**{"train.window_steps": 64, "train.window_shift": 16})
    with pytest.raises(keras_tuner.errors.FailedTrialError, match="no window of 64 steps fits"):
        ChoraleHyperModel().fit(hp, model, data, epochs=1)


def test_arguments_that_training_does_not_know_end_the_search(data):
    hp, model = built()
    with pytest.raises(keras_tuner.errors.FatalTypeError, match="got batch_size, expected no more than epochs"):
        ChoraleHyperModel().fit(hp, model, data, epochs=1, batch_size=4)
    with pytest.raises(keras_tuner.errors.FatalTypeError, match="a second Dataset"):
        ChoraleHyperModel().fit(hp, model, data, data)


@pytest.mark.slow
def test_arrays_are_trained_on_in_the_way_of_keras(data):
    hp, model = built(**{"train.batch_size": 32})
    tokens = np.stack([encode(c.pitches) for c in data.splits["train"]])
    x, y = tokens[:, :-1], tokens[:, 1:]
    history = ChoraleHyperModel().fit(hp, model, x, y, epochs=2, validation_data=(x, y), verbose=0)
    assert set(history.history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert history.history["loss"][1] < history.history["loss"][0]
    by_name = ChoraleHyperModel().fit(hp, model, x=x, y=y, epochs=1, verbose=0)
    assert by_name.params["steps"] == 1  # six windows, 32 to a batch


def test_the_table_of_the_space_in_the_documents_is_current():
    document = (ROOT / "docs" / "space.md").read_text("utf-8")
    assert document == space.with_table(document), "write it anew: python -m bach.space docs/space.md"


def test_the_table_shows_what_keras_tuner_finds_and_explains_nothing_else(tmp_path):
    tuner = keras_tuner.RandomSearch(
        ChoraleHyperModel(), objective=VAL_NLL, max_trials=1, directory=tmp_path, project_name="space"
    )
    found = {p.name for p in tuner.oracle.get_space().space}
    assert {p.name for p, _ in space.parameters_of_all_families()} == found == set(space.MEANINGS)


def test_a_document_without_a_place_for_the_table_is_refused():
    with pytest.raises(ValueError, match="has 0 places for the table"):
        space.with_table("# The search space\n")
