"""How to train, as one record: impossible values are refused, schedules have their shapes."""

import numpy as np
import pytest

from bach.errors import SettingError
from bach.settings import OPTIMIZERS, SCHEDULES, TrainingSettings


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("optimizer_name", "sgd", "one of .*adamw.*nadam"),
        ("learning_rate", 0.0, "a finite number above 0"),
        ("learning_rate", float("inf"), "a finite number above 0"),
        ("learning_rate", float("nan"), "a finite number above 0"),
        ("schedule", "linear", "one of .*cosine"),
        ("weight_decay", -1e-3, "0 or more"),
        ("clip_norm", -1.0, "0 or more"),
        ("batch_size", 0, "1 or more"),
        ("label_smoothing", 1.0, "0 or more, below 1"),
        ("ema", 1.0, "0 or more, below 1"),
        ("ema", -0.1, "0 or more, below 1"),
        ("window_steps", 0, "1 or more"),
        ("window_shift", -1, "0 or more"),
        ("transposition", -1, "0 or more"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_with_what_was_expected(field, value, expected):
    with pytest.raises(SettingError, match=rf"training setting {field}: got {value!r}, expected {expected}"):
        TrainingSettings(**{field: value})


def test_a_constant_rate_is_constant():
    rates = TrainingSettings(schedule="constant", learning_rate=3e-3).rates(7)
    np.testing.assert_array_equal(rates, np.full(7, 3e-3, np.float32))


@pytest.mark.parametrize(("schedule", "warm"), [("cosine", 5), ("one_cycle", 30)])
def test_a_rate_rises_in_a_line_to_its_highest_and_falls_to_nothing(schedule, warm):
    rates = TrainingSettings(schedule=schedule, learning_rate=2e-3).rates(100)
    assert rates.shape == (100,)
    assert rates.dtype == np.float32
    np.testing.assert_allclose(rates[:warm], 2e-3 * np.arange(1, warm + 1) / warm, rtol=1e-6)
    assert rates.argmax() == warm - 1
    assert (np.diff(rates[warm - 1 :]) < 0).all()
    middle = warm + (100 - warm) // 2 - 1
    assert rates[middle] == pytest.approx(1e-3, rel=0.05)  # half of the way down, half of the height
    assert rates[-1] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 19])
def test_the_shortest_schedules_have_a_rate_for_each_step(schedule, steps):
    rates = TrainingSettings(schedule=schedule, learning_rate=1e-3).rates(steps)
    assert rates.shape == (steps,)
    assert (rates >= 0).all()
    assert rates.max() == pytest.approx(1e-3)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_is_made_new_each_time_with_its_clipping(name):
    settings = TrainingSettings(optimizer_name=name, learning_rate=4e-3, clip_norm=0.5)
    one, other = settings.optimizer(), settings.optimizer()
    assert one is not other
    assert float(one.learning_rate) == pytest.approx(4e-3)
    assert one.global_clipnorm == 0.5
    assert TrainingSettings(optimizer_name=name, clip_norm=0.0).optimizer().global_clipnorm is None


def test_weight_decay_draws_kernels_down_and_leaves_the_rest():
    import keras

    settings = TrainingSettings(weight_decay=0.1, learning_rate=0.1, clip_norm=0.0)
    dense = keras.layers.Dense(2, name="dense")
    norm = keras.layers.LayerNormalization(name="norm")
    for layer in (dense, norm):
        layer.build((None, 2))
        layer.set_weights([np.ones_like(weight) for weight in layer.get_weights()])
    weights = [*dense.trainable_weights, *norm.trainable_weights]
    optimizer = settings.optimizer()
    optimizer.build(weights)
    optimizer.apply([keras.ops.zeros(weight.shape) for weight in weights], weights)
    kernel, *others = (np.asarray(weight) for weight in weights)
    np.testing.assert_allclose(kernel, 1 - 0.1 * 0.1, rtol=1e-5)
    for other in others:
        np.testing.assert_allclose(other, 1.0)
