"""Training goes down, stops and goes on, keeps the best, and gives up with a reason."""

import dataclasses
import json
import math
import os

import keras
import numpy as np
import pytest

from bach.errors import DataError, OutputError, SettingError, TrainingFailed
from bach.hypermodel import build, parameters
from bach.notes import SILENCE
from bach.settings import TrainingSettings
from bach.training import Training

TINY = {
    "transformer": {
        "transformer.embedding_dim": 64,
        "transformer.layers": 1,
        "transformer.attention_heads": 2,
        "transformer.head_dim": 16,
        "transformer.feed_forward": 128,
        "transformer.window_steps": 32,
        "inputs.echo": False,
    },
    "conv_lstm": {
        "conv_lstm.embedding_dim": 16,
        "conv_lstm.dilation_depth": 1,
        "conv_lstm.filters": 32,
        "conv_lstm.normalization": "batch",
        "conv_lstm.lstm_width": 64,
        "conv_lstm.dropout": 0.2,
    },
}
TRAINING = {"train.learning_rate": 5e-3, "train.ema": 0.99, "train.window_steps": 32, "train.transposition": 3}


def chorales(count, seed=0):
    """Pieces that can be learnt: four voices in step round a circle of chords, each beginning elsewhere."""
    circle = np.array([[72, 64, 60, 48], [74, 65, 57, 50], [76, 67, 60, 48], [77, 69, 60, 53], [71, 67, 62, 55]])
    rng = np.random.default_rng(seed)
    pieces = []
    for _ in range(count):
        piece = np.repeat(np.roll(circle, -rng.integers(5), axis=0), 4, axis=0)
        piece = np.tile(piece, (3, 1))[: rng.integers(40, 60)].astype(np.int16)
        piece[-1, 2] = SILENCE
        pieces.append(piece)
    return pieces


TRAIN, VALID = chorales(12), chorales(3, seed=1)


def training(family="transformer", *, epochs=3, seed=5, train=TRAIN, valid=VALID, values=None, first_epoch=1):
    """A training with its model, as a new process would make it."""
    keras.utils.set_random_seed(seed)
    hp = parameters({"model.family": family, **TINY[family], **TRAINING, **(values or {})})
    model = build(hp)
    settings = TrainingSettings.from_hp(hp)
    return Training(model, settings, train, valid, epochs=epochs, seed=seed, first_epoch=first_epoch)


def outcome(run):
    """All that an epoch's result says but how long it took, and the best weights."""
    results = [(r.epoch, r.train_loss, r.val_nll, r.val_accuracy, r.learning_rate, r.best) for r in run.history]
    with run.best_weights():
        return results, run.model.get_weights()


def assert_same_outcome(one, other):
    np.testing.assert_allclose(one[0], other[0], rtol=1e-6)
    for a, b in zip(one[1], other[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


@pytest.fixture(scope="module")
def finished():
    run = training(epochs=3)
    list(run.run())
    return run


def test_one_result_comes_of_each_epoch(finished):
    assert [result.epoch for result in finished.history] == [1, 2, 3]
    for result in finished.history:
        assert 0 < result.val_nll < 5
        assert 0 <= result.val_accuracy <= 1
        assert result.duration_s > 0
        assert result.notes_per_s > 0
    assert list(finished.run()) == []


def test_a_training_may_begin_with_a_later_epoch(finished):
    run = training(epochs=3, first_epoch=3)
    [result] = list(run.run())
    assert (result.epoch, run.epochs_done) == (3, 3)
    assert result.learning_rate == finished.history[2].learning_rate
    assert run.best == result


@pytest.mark.slow
def test_what_can_be_learnt_is_learnt():
    run = training(epochs=8, train=chorales(60), values={"train.ema": 0.0, "train.transposition": 0})
    results = list(run.run())
    assert results[-1].train_loss < results[0].train_loss / 2
    assert results[-1].val_nll < results[0].val_nll / 2
    assert results[-1].val_nll < 1.5  # nats; knowing nothing would cost 3.85
    assert results[-1].val_accuracy > 0.6


def test_the_score_is_that_of_whole_pieces_note_by_note(finished):
    from bach.encoding import encode
    from bach.prediction import ModelPredictor

    best = min(finished.history, key=lambda result: result.val_nll)
    assert finished.best == best
    nats, count, right = 0.0, 0, 0
    with finished.best_weights():
        for tokens in map(encode, VALID):
            logits = finished.model.predict(tokens[None], verbose=0)[0]
            logs = np.asarray(keras.ops.log_softmax(logits))
            nats += math.log(47) - logs[np.arange(len(tokens) - 1), tokens[1:]].sum()
            right += (logs[:-1].argmax(axis=-1) == tokens[1:]).sum()
            count += len(tokens)
        [first] = ModelPredictor(finished.model).log_probabilities([encode(VALID[0])[:1]])
    assert best.val_nll == pytest.approx(nats / count, rel=1e-4)
    assert best.val_accuracy == pytest.approx(right / count)
    np.testing.assert_allclose(first, -math.log(47), rtol=1e-6)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(finished):
    again = training(epochs=3)
    list(again.run())
    assert_same_outcome(outcome(again), outcome(finished))
    other = training(epochs=3, seed=6)
    assert other.run_epoch().train_loss != finished.history[0].train_loss


@pytest.mark.slow
@pytest.mark.parametrize("family", ["transformer", "conv_lstm"])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(family, tmp_path):
    whole = training(family, epochs=3)
    list(whole.run())
    first = training(family, epochs=3)
    first.run_epoch()
    first.save(tmp_path)
    second = training(family, epochs=3, seed=5)
    second.model.set_weights([w + 1 for w in second.model.get_weights()])  # nothing of the new model may be left
    second.restore(tmp_path)
    assert second.history == first.history
    list(second.run())
    assert_same_outcome(outcome(second), outcome(whole))


def test_saving_does_not_change_what_follows(finished, tmp_path):
    run = training(epochs=3)
    run.save(tmp_path)
    for _ in run.run():
        run.save(tmp_path)
        with run.best_weights():
            pass
    assert_same_outcome(outcome(run), outcome(finished))


def test_the_best_epoch_is_kept_though_later_ones_are_worse(tmp_path):
    # A constant rate far too high for the end: the score wanders, and the best is rarely the last.
    values = {"train.schedule": "constant", "train.learning_rate": 1e-2, "train.ema": 0.0}
    run = training(epochs=6, values=values)
    scores, kept = [], []
    for result in run.run():
        scores.append(result.val_nll)
        assert result.best == (result.val_nll == min(scores))
        with run.best_weights():
            kept.append(run.model.get_weights())
    # Worse epochs for certain: the trained model is thrown off its track.
    run.epochs = 7
    for variable in run.model.trainable_variables:
        variable.assign(np.asarray(variable) * -3)
    run._step.restart()
    last = run.run_epoch()
    assert last.val_nll > min(scores)
    assert not last.best
    best = int(np.argmin(scores))
    assert run.best is not None
    assert run.best.epoch == best + 1
    with run.best_weights():
        for now, then in zip(run.model.get_weights(), kept[best], strict=True):
            np.testing.assert_array_equal(now, then)
    run.save(tmp_path)
    again = training(epochs=6, values=values)
    again.epochs = 7
    again.restore(tmp_path)
    with again.best_weights():
        for now, then in zip(again.model.get_weights(), kept[best], strict=True):
            np.testing.assert_array_equal(now, then)


def test_after_a_look_at_the_best_weights_the_model_has_its_own_again(finished):
    own = finished.model.get_weights()
    with finished.best_weights():
        best = finished.model.get_weights()
    assert any((a != b).any() for a, b in zip(own, best, strict=True))  # the average is not the weights
    for now, then in zip(finished.model.get_weights(), own, strict=True):
        np.testing.assert_array_equal(now, then)


def test_without_an_average_the_weights_themselves_are_scored():
    run = training(epochs=1, values={"train.ema": 0.0})
    run.run_epoch()
    with run.best_weights():
        best = run.model.get_weights()
    for now, then in zip(run.model.get_weights(), best, strict=True):
        np.testing.assert_array_equal(now, then)


def test_progress_within_an_epoch_is_told():
    told = []
    run = training(epochs=1, train=chorales(80))
    run.run_epoch(lambda done, of, loss: told.append((done, of, loss)))
    assert [done for done, _, _ in told] == list(range(8, run.steps_per_epoch + 1, 8))
    assert {of for _, of, _ in told} == {run.steps_per_epoch}
    assert all(0 < loss < 6 for *_, loss in told)


# --- runs that cannot go on -------------------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_ends_the_run_with_a_reason_and_the_best_weights_stand():
    run = training(epochs=3)
    run.run_epoch()
    with run.best_weights():
        best = run.model.get_weights()
    poisoned = run.model.trainable_variables[0]
    poisoned.assign(np.full(poisoned.shape, np.nan))
    run._step.restart()
    with pytest.raises(TrainingFailed, match=r"epoch 2, step .*: the loss is nan, no finite number"):
        run.run_epoch()
    assert [result.epoch for result in run.history] == [1]
    with run.best_weights():
        for now, then in zip(run.model.get_weights(), best, strict=True):
            np.testing.assert_array_equal(now, then)


def test_an_absurd_learning_rate_ends_the_run_with_a_reason():
    keras.utils.set_random_seed(1)
    hp = parameters({"model.family": "transformer", **TINY["transformer"]})
    settings = TrainingSettings(learning_rate=1e38, schedule="constant", clip_norm=0.0, window_steps=32)
    run = Training(build(hp), settings, TRAIN, VALID, epochs=2, seed=1)
    with pytest.raises(TrainingFailed, match="no finite number; lower the learning rate"):
        list(run.run())


def test_training_on_nothing_is_refused():
    with pytest.raises(SettingError, match="epochs: got 0, expected 1 or more"):
        training(epochs=0)
    with pytest.raises(SettingError, match="first_epoch: got 0, expected 1 or more"):
        training(first_epoch=0)
    with pytest.raises(DataError, match="got 0 and 3"):
        training(train=[])
    with pytest.raises(DataError, match="got 12 and 0"):
        training(valid=[])
    with pytest.raises(
        DataError, match=r"no window of 128 steps fits into the 12 training pieces \(longest: 5\d steps"
    ):
        training(values={"train.window_steps": 128, "train.window_shift": 16})


# --- checkpoints that do not fit --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(finished, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run with spaces")
    finished.save(folder)
    return folder


@pytest.fixture(scope="module")
def fresh():
    """A training that could go on from the checkpoint; a restore that is refused leaves it as it is."""
    return training(epochs=3)


@pytest.fixture
def copied(checkpoint, tmp_path):
    for file in checkpoint.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_a_checkpoint_is_one_record_with_one_file_of_arrays(checkpoint):
    assert sorted(file.name for file in checkpoint.iterdir()) == ["checkpoint-00003.npz", "checkpoint.json"]


def test_no_checkpoint_is_told(fresh, tmp_path):
    with pytest.raises(SettingError, match=r"no checkpoint in .*start without --resume"):
        fresh.restore(tmp_path)
    with pytest.raises(SettingError, match="no checkpoint in"):
        fresh.restore(tmp_path / "nowhere")


def test_a_flipped_bit_is_noticed(fresh, copied):
    arrays = copied / "checkpoint-00003.npz"
    data = bytearray(arrays.read_bytes())
    data[len(data) // 2] ^= 1
    arrays.write_bytes(data)
    with pytest.raises(SettingError, match=r"damaged \(checksum differs\); remove it to start anew"):
        fresh.restore(copied)


def test_a_truncated_file_of_arrays_is_noticed(fresh, copied):
    arrays = copied / "checkpoint-00003.npz"
    arrays.write_bytes(arrays.read_bytes()[:1000])
    with pytest.raises(SettingError, match="damaged"):
        fresh.restore(copied)


def test_missing_arrays_are_told_from_a_missing_checkpoint(fresh, copied):
    (copied / "checkpoint-00003.npz").unlink()
    with pytest.raises(SettingError, match=r"cannot be read.*remove it to start anew"):
        fresh.restore(copied)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"version": 1, "arrays": "checkpoint-00003.npz"}'])
def test_a_record_that_is_none_is_refused(fresh, copied, text):
    (copied / "checkpoint.json").write_text(text)
    with pytest.raises(SettingError, match="cannot be read"):
        fresh.restore(copied)


def test_a_record_of_another_version_is_refused(fresh, copied):
    record = json.loads((copied / "checkpoint.json").read_text())
    (copied / "checkpoint.json").write_text(json.dumps({**record, "version": 99}))
    with pytest.raises(SettingError, match="has version 99, expected 1"):
        fresh.restore(copied)


@pytest.mark.parametrize(("name", "value"), [("epochs", 4), ("seed", 6)])
def test_a_checkpoint_of_another_schedule_or_seed_is_refused(fresh, checkpoint, monkeypatch, name, value):
    monkeypatch.setattr(fresh, name, value)
    with pytest.raises(
        SettingError, match=rf"belongs to another run: {name} was \d, is {value}; use the same settings"
    ):
        fresh.restore(checkpoint)


def test_a_checkpoint_of_other_settings_is_refused(fresh, checkpoint, monkeypatch):
    monkeypatch.setattr(fresh, "settings", dataclasses.replace(fresh.settings, learning_rate=1e-3))
    with pytest.raises(SettingError, match=r"another run: settings was .*0\.005.*is .*0\.001"):
        fresh.restore(checkpoint)


@pytest.mark.parametrize("data", [{"train": chorales(12, seed=9)}, {"valid": chorales(3, seed=9)}])
def test_a_checkpoint_of_other_chorales_is_refused(checkpoint, data):
    with pytest.raises(SettingError, match="belongs to another run: data"):
        training(**data).restore(checkpoint)


@pytest.mark.parametrize("values", [{"transformer.feed_forward": 256}, {"transformer.dropout": 0.5}])
def test_a_checkpoint_of_another_model_is_refused(checkpoint, values):
    with pytest.raises(SettingError, match=r"belongs to another run: (model|layers)"):
        training(values=values).restore(checkpoint)


def test_a_place_that_cannot_be_written_is_told(finished, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"cannot write the checkpoint to .*file"):
        finished.save(tmp_path / "file")
    with pytest.raises(OutputError, match="cannot write the checkpoint to"):
        finished.save(tmp_path / "file" / "below")


def test_a_checkpoint_that_cannot_be_finished_leaves_the_one_before(finished, copied, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    before = {file.name: file.read_bytes() for file in copied.iterdir()}
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left on device"):
        finished.save(copied)
    assert {file.name: file.read_bytes() for file in copied.iterdir()} == before
