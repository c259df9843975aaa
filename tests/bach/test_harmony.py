"""Three voices to a given soprano: it stands, and the best of the attempts comes first."""

import keras
import numpy as np
import pytest

from bach.encoding import encode
from bach.errors import SettingError
from bach.generation import Generator, SamplingSettings
from bach.harmony import CRITERIA, harmonise
from bach.hypermodel import from_values
from bach.measures import measure
from bach.notes import SILENCE
from bach.prediction import ModelPredictor

MELODY = np.repeat([67, 69, 71, 72, SILENCE, 71, 69, 67], 2)


@pytest.fixture(scope="module")
def singers():
    keras.utils.set_random_seed(3)
    point = {"model.family": "transformer", "transformer.embedding_dim": 64, "transformer.layers": 1}
    model = from_values({**point, "transformer.feed_forward": 128, "transformer.window_steps": 32})
    for variable in model.weights:
        variable.assign(np.asarray(variable) * 2)
    return Generator(model), ModelPredictor(model)


def test_the_soprano_stands_in_every_attempt(singers):
    attempts = harmonise(singers[0], singers[1], MELODY, seeds=range(6))
    assert sorted(attempt.seed for attempt in attempts) == list(range(6))
    for attempt in attempts:
        np.testing.assert_array_equal(attempt.pitches[:, 0], MELODY)
        assert attempt.pitches.shape == (16, 4)
    assert len({attempt.pitches.tobytes() for attempt in attempts}) == 6


@pytest.mark.parametrize("by", CRITERIA)
def test_the_best_by_the_criterion_comes_first(singers, by):
    attempts = harmonise(singers[0], singers[1], MELODY, seeds=range(6), by=by)
    faults = [attempt.fault for attempt in attempts]
    assert faults == sorted(faults)
    assert np.isfinite(faults).all()
    for attempt in attempts:
        clean = {name: np.nan_to_num(value) for name, value in attempt.measures.items()}
        assert attempt.fault == pytest.approx(CRITERIA[by](clean, attempt.nll))
        assert attempt.measures.keys() == measure(attempt.pitches).keys()
    if by == "likelihood":
        assert [attempt.nll for attempt in attempts] == sorted(attempt.nll for attempt in attempts)


def test_the_nats_of_an_attempt_are_those_of_all_its_notes(singers):
    _, predictor = singers
    [attempt] = harmonise(singers[0], singers[1], MELODY, seeds=[9])
    tokens = encode(attempt.pitches)
    [logs] = predictor.log_probabilities([tokens])
    assert attempt.nll == pytest.approx(-logs[np.arange(len(tokens)), tokens].mean(), rel=1e-6)


def test_an_attempt_of_a_seed_is_the_same_whatever_is_tried_beside_it(singers):
    among = {attempt.seed: attempt for attempt in harmonise(singers[0], singers[1], MELODY, seeds=range(6))}
    [alone] = harmonise(singers[0], singers[1], MELODY, seeds=[4])
    np.testing.assert_array_equal(alone.pitches, among[4].pitches)


def test_settings_reach_the_generator(singers):
    one, other = harmonise(singers[0], singers[1], MELODY, seeds=[1, 2], settings=SamplingSettings(greedy=True))
    np.testing.assert_array_equal(one.pitches, other.pitches)


@pytest.mark.parametrize(
    ("melody", "by", "message"),
    [
        (MELODY, "beauty", "unknown criterion 'beauty'; known: faults, parallels, likelihood"),
        (MELODY[:0], "faults", r"melody: got shape \[0\], expected one pitch per sixteenth step, at least one"),
        (np.full((4, 4), 60), "faults", r"melody: got shape \[4, 4\]"),
        (np.array([60, 82]), "faults", "step 1, voice 0: pitch 82"),
        (np.array([60, -1]), "faults", "melody: step 1 is -1, expected a pitch, or 0 for a rest"),
    ],
)
def test_a_melody_or_criterion_that_is_none_is_refused(singers, melody, by, message):
    with pytest.raises(SettingError, match=message):
        harmonise(singers[0], singers[1], melody, seeds=[1], by=by)
