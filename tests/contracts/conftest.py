"""The models that every contract is checked on: small ones of each family, all presets, and random points of the space.

Nothing is built before a test asks for it, so that collecting the tests imports no Keras.
"""

import numpy as np
import pytest

from bach.models.presets import PRESETS

SMALL = {
    "small-conv_lstm": {
        "model.family": "conv_lstm",
        "conv_lstm.filters": 32,
        "conv_lstm.lstm_width": 64,
        "conv_lstm.embedding_dim": 32,
    },
    "small-transformer": {
        "model.family": "transformer",
        "transformer.embedding_dim": 64,
        "transformer.layers": 1,
        "transformer.attention_heads": 2,
        "transformer.head_dim": 16,
        "transformer.feed_forward": 128,
        "transformer.window_steps": 32,
    },
    "small-relative_transformer": {
        "model.family": "relative_transformer",
        "relative_transformer.embedding_dim": 64,
        "relative_transformer.layers": 2,
        "relative_transformer.attention_heads": 2,
        "relative_transformer.feed_forward": 2,
        "relative_transformer.span_steps": 32,
    },
}
"""One quick model of each family, its window or span shorter than the sequences of the tests."""
ENSEMBLE = "small-ensemble"
"""Models of two families as one, of which one is told everything and the other the last note only."""
OF_ENSEMBLE = {
    "conv_lstm": SMALL["small-conv_lstm"],
    "transformer": SMALL["small-transformer"]
    | {"inputs.echo": False, "inputs.notes": 1, "inputs.voice": False, "inputs.beat": 0, "inputs.held": False},
}
FAMILY_NAMES = ("conv_lstm", "transformer", "relative_transformer")
RANDOM = tuple(f"random-{family}-{i}" for i in range(2) for family in FAMILY_NAMES)

SIZES = ("embedding_dim", "filters", "lstm_width", "layers", "feed_forward", "window_steps", "span_steps")
"""Parameters whose small values are drawn more often: the lower of two draws counts."""


def _values(name):
    """The values of the point called `name`; of a random one, the values that its seed draws."""
    import keras_tuner

    from bach.hypermodel import build

    if name in SMALL:
        return SMALL[name]
    if name in PRESETS:
        return PRESETS[name].point()
    _, family, number = name.split("-")

    class Drawn(keras_tuner.HyperParameters):
        """Answers with a value drawn evenly from what is declared."""

        def _retrieve(self, parameter):
            if parameter.name not in self.values:
                seed = [ord(letter) for letter in f"{number}{parameter.name}"]
                first, second = np.random.default_rng(seed).integers(0, 2**31, 2)
                value = parameter.random_sample(int(first))
                if parameter.name.endswith(SIZES):
                    value = min(value, parameter.random_sample(int(second)))
                self.values[parameter.name] = value
            return super()._retrieve(parameter)

    hp = Drawn()
    hp.values["model.family"] = family
    build(hp)
    return dict(hp.values)


def _model(name):
    """The model at the point, with weights that leave nothing at zero or one, as after some training."""
    if name == ENSEMBLE:
        from bach.ensemble import combined

        return combined([_trained(values, seed) for seed, values in enumerate(OF_ENSEMBLE.values())])
    return _trained(_values(name), len(name))


def _trained(values, seed):
    import keras

    from bach.hypermodel import from_values

    keras.utils.set_random_seed(seed)
    model = from_values(values)
    rng = np.random.default_rng(1685)
    for variable in model.weights:
        # Embeddings grow in training: with those of the beginning a single note would hardly be heard.
        noise = rng.normal(0, 0.5 if "embedding" in variable.path else 0.05, variable.shape)
        if "variance" in variable.path:
            noise = np.abs(noise) * 5
        variable.assign(np.asarray(variable) + noise)
    return model


@pytest.fixture(scope="module")
def build_point():
    return _model


@pytest.fixture(scope="module")
def point_values():
    return _values


def pytest_generate_tests(metafunc):
    if "model" in metafunc.fixturenames:
        quick = [*SMALL, ENSEMBLE]
        slow = [*PRESETS, *RANDOM]
        names = [*quick, *(pytest.param(name, marks=pytest.mark.slow) for name in slow)]
        metafunc.parametrize("model", names, indirect=True, scope="module")


@pytest.fixture(scope="module")
def model(request):
    return _model(request.param)


@pytest.fixture(scope="module")
def run(model):
    """The model as a compiled function of tokens."""
    import keras

    from bach.backend import compiled

    forward = compiled(lambda tokens: model(tokens, training=False), model.variables)
    return lambda tokens: keras.ops.convert_to_numpy(forward(np.asarray(tokens, np.int32)))
