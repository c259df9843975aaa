"""The space, and points of it: what is in it, what is refused, and that a point is one model."""

import subprocess
import sys

import keras
import keras_tuner
import numpy as np
import pytest

from bach.errors import SettingError
from bach.hypermodel import build, from_values, parameters
from bach.models import FAMILIES

SMALL = {
    "model.family": "conv_lstm",
    "conv_lstm.embedding_dim": 8,
    "conv_lstm.filters": 32,
    "conv_lstm.lstm_width": 64,
}


def space(family):
    hp = keras_tuner.HyperParameters()
    hp.values["model.family"] = family
    build(hp)
    return {parameter.name: parameter for parameter in hp.space}


@pytest.fixture(scope="module")
def spaces():
    return {family: space(family) for family in FAMILIES}


def test_the_space_holds_what_may_vary(spaces):
    assert spaces["conv_lstm"]["model.family"].values == ["conv_lstm", "transformer", "relative_transformer"]
    wanted = {
        "conv_lstm": {"embedding_dim", "dilation_depth", "filters", "kernel_size", "lstm_width", "cell", "dropout"}
        | {"recurrent_layers", "normalization", "residual", "first_dilation"},
        "transformer": {"embedding_dim", "layers", "attention_heads", "feed_forward", "dropout", "norm_first"},
        "relative_transformer": {"embedding_dim", "layers", "attention_heads", "feed_forward", "positions", "dropout"},
    }
    training = {"optimizer", "learning_rate", "schedule", "weight_decay", "clip_norm", "batch_size", "ema"}
    training |= {"label_smoothing", "window_steps", "transposition"}
    inputs = {"notes", "voice", "beat", "held"}
    for family, names in wanted.items():
        assert {f"{family}.{name}" for name in names} <= spaces[family].keys()
        assert {f"train.{name}" for name in training} <= spaces[family].keys()
        assert {f"inputs.{name}" for name in inputs} <= spaces[family].keys()
    positions = spaces["relative_transformer"]["relative_transformer.positions"].values
    assert {"skew", "rotary"} <= set(positions)
    assert spaces["conv_lstm"]["train.learning_rate"].sampling == "log"


def test_what_belongs_to_one_family_hangs_on_it(spaces):
    for family, found in spaces.items():
        for name, parameter in found.items():
            prefix = name.split(".")[0]
            if prefix in FAMILIES:
                assert prefix == family
                [condition] = [c for c in parameter.conditions if c.name == "model.family"]
                assert condition.values == [family]


def test_a_value_that_is_not_given_has_its_default(spaces):
    hp = parameters(SMALL)
    assert hp.get("conv_lstm.lstm_width") == 64
    for name, parameter in spaces["conv_lstm"].items():
        assert hp.get(name) == SMALL.get(name, parameter.default)


def test_a_point_is_one_model_whatever_the_seed_and_one_seed_is_one_set_of_weights():
    models = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        models.append(from_values(SMALL))
    one, same, other = models
    assert one.get_config() == same.get_config() == other.get_config()
    for a, b in zip(one.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(one.get_weights(), other.get_weights(), strict=True))
    assert one.name == "conv_lstm"
    assert one.output_shape == (None, None, 47)


def test_a_model_comes_compiled_with_the_optimizer_of_its_point():
    model = from_values({**SMALL, "train.optimizer": "nadam", "train.learning_rate": 5e-3})
    assert isinstance(model.optimizer, keras.optimizers.Nadam)
    assert float(model.optimizer.learning_rate) == pytest.approx(5e-3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train.learn_rate": 1e-3}, "unknown parameter 'train.learn_rate' .*did you mean 'train.learning_rate'"),
        ({"conv_lstm.lstm_wdth": 64}, "unknown parameter .*did you mean 'conv_lstm.lstm_width'"),
        ({"transformer.layers": 2}, "unknown parameter 'transformer.layers' of family 'conv_lstm'"),
        ({"model.family": "conv_lsm"}, "'model.family': got 'conv_lsm', expected one of .*conv_lstm"),
        ({"train.learning_rate": 0.5}, r"'train.learning_rate': got 0\.5, expected 0\.0001\.\.0\.01"),
        ({"train.learning_rate": -1.0}, r"'train.learning_rate': got -1\.0, expected 0\.0001\.\.0\.01"),
        ({"train.learning_rate": float("nan")}, "'train.learning_rate': got nan"),
        ({"train.learning_rate": "fast"}, "'train.learning_rate': got 'fast'"),
        ({"train.batch_size": 17}, r"'train.batch_size': got 17, expected one of \[16, 32, 64\]"),
        ({"train.batch_size": "16"}, r"'train.batch_size': got '16', expected one of \[16, 32, 64\]"),
        ({"train.batch_size": 16.0}, r"'train.batch_size': got 16\.0"),
        ({"train.schedule": "linear"}, "'train.schedule': got 'linear', expected one of .*cosine"),
        ({"conv_lstm.embedding_dim": 10**9}, r"'conv_lstm.embedding_dim': got 1000000000, expected 5\.\.256"),
        ({"conv_lstm.embedding_dim": 8.5}, r"'conv_lstm.embedding_dim': got 8\.5"),
        ({"conv_lstm.dilation_depth": 7}, r"'conv_lstm.dilation_depth': got 7, expected 0\.\.6"),
        ({"conv_lstm.dilation_depth": True}, "'conv_lstm.dilation_depth': got True"),
        ({"conv_lstm.widening": 1}, r"'conv_lstm.widening': got 1, expected .*True"),
        ({"inputs.notes": True}, "'inputs.notes': got True"),
        ({"inputs.notes": [1]}, r"'inputs.notes': got \[1\]"),
        ({"inputs.beat": None}, "'inputs.beat': got None"),
    ],
)
def test_what_the_space_does_not_hold_is_refused(values, message):
    with pytest.raises(SettingError, match=message):
        parameters({**SMALL, **values})


def test_a_whole_number_will_do_for_a_choice_of_decimals():
    assert parameters({**SMALL, "train.clip_norm": 5}).get("train.clip_norm") == 5


def test_the_values_of_a_built_point_make_the_same_point():
    hp = parameters(SMALL)
    assert parameters(hp.values).values == hp.values
    assert keras_tuner.HyperParameters.from_config(hp.get_config()).values == hp.values


@pytest.mark.slow
def test_points_drawn_by_a_tuner_are_points_of_ours():
    oracle = keras_tuner.oracles.RandomSearchOracle(max_trials=4, seed=1)
    hp = keras_tuner.HyperParameters()
    hp.Fixed("model.family", "conv_lstm")
    build(hp)
    oracle.update_space(hp)
    for _ in range(4):
        values = oracle.populate_space("0")["values"]
        assert from_values(values).output_shape == (None, None, 47)


def test_the_space_is_told_without_keras():
    code = (
        "import sys; from search.space import Space; from bach.task import ChoraleTask; "
        "found = Space.explore(ChoraleTask().space); "
        "print(len(found.parameters), {'keras', 'keras_tuner', 'tensorflow', 'jax'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    number, _, loaded = done.stdout.partition(" ")
    assert int(number) > 40
    assert loaded.strip() == "set()"
