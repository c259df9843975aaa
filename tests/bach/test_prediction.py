"""What a model says of whole sequences, whatever else is asked with them."""

import math

import keras
import numpy as np
import pytest

from bach.hypermodel import from_values
from bach.notes import NUM_TOKENS
from bach.prediction import ModelPredictor


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    point = {"model.family": "transformer", "transformer.embedding_dim": 64, "transformer.layers": 1}
    return from_values({**point, "transformer.feed_forward": 128, "transformer.window_steps": 32})


def sequences(*lengths):
    rng = np.random.default_rng(1)
    return [rng.integers(0, NUM_TOKENS, length) for length in lengths]


def test_each_note_has_the_probabilities_that_the_model_gives_after_the_notes_before(model):
    batch = sequences(300, 1, 2, 41, 300)
    for tokens, logs in zip(batch, ModelPredictor(model).log_probabilities(batch), strict=True):
        assert logs.shape == (len(tokens), NUM_TOKENS)
        np.testing.assert_allclose(logs[0], -math.log(NUM_TOKENS), rtol=1e-6)
        np.testing.assert_allclose(np.exp(logs).sum(axis=-1), 1, rtol=1e-4)
        if len(tokens) > 1:
            expected = keras.ops.log_softmax(model.predict(tokens[None], verbose=0)[0])
            np.testing.assert_allclose(logs[1:], np.asarray(expected)[:-1], atol=1e-4)


def test_a_sequence_is_scored_the_same_alone_and_among_many(model):
    predictor = ModelPredictor(model)
    batch = sequences(*([131] * 130), 131)
    together = predictor.log_probabilities(batch)
    for index in (0, 129, 130):
        np.testing.assert_allclose(predictor.log_probabilities([batch[index]])[0], together[index], atol=1e-5)


def test_nothing_is_said_of_nothing(model):
    predictor = ModelPredictor(model)
    assert predictor.log_probabilities([]) == []
    empty, one = predictor.log_probabilities([np.zeros(0, int), np.array([5])])
    assert empty.shape == (0, NUM_TOKENS)
    assert one.shape == (1, NUM_TOKENS)


def test_the_weights_of_the_moment_are_read(model):
    predictor = ModelPredictor(model)
    [tokens] = sequences(12)
    [before] = predictor.log_probabilities([tokens])
    own = model.get_weights()
    model.set_weights([weight * 2 for weight in own])
    [after] = predictor.log_probabilities([tokens])
    model.set_weights(own)
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(predictor.log_probabilities([tokens])[0], before, atol=1e-6)
