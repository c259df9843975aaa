"""What every model promises to whoever gives it tokens: design, contract 6.5."""

import numpy as np
import pytest

from bach.notes import NUM_TOKENS, SILENCE

LONG = 640  # notes; more than any window or span of the quick models, and than a half window and a span of all


def sequences(rows, length, seed=7):
    """Random tokens in which passages come back after 20 and more steps, so that there are echoes to hear."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, NUM_TOKENS, (rows, length))
    half = length // 2 // 4 * 4
    tokens[:, half : 2 * half] = tokens[:, :half]
    return tokens.astype(np.int32)


def test_tokens_of_either_width_give_one_row_of_47_logits_a_note(model):
    tokens = sequences(3, 70)
    predicted = model.predict(tokens, verbose=0)
    assert predicted.shape == (3, 70, NUM_TOKENS)
    assert np.isfinite(predicted).all()
    assert np.std(predicted, axis=-1).min() > 0
    for dtype in (np.int32, np.int64):
        np.testing.assert_allclose(np.asarray(model(tokens.astype(dtype))), predicted, atol=1e-4)
        np.testing.assert_allclose(model.predict(tokens.astype(dtype), verbose=0), predicted, atol=1e-4)


def test_no_output_depends_on_later_notes(run):
    base = sequences(1, LONG)
    places = [0, 1, 2, 3, 5, 127, 128, 129, 255, 256, 320, 511, 512, 600, LONG - 1]
    changed = np.repeat(base, len(places), axis=0)
    for row, place in enumerate(places):
        changed[row, place:] = (changed[row, place:] + 1 + row) % NUM_TOKENS
    before, after = run(base)[0], run(changed)
    for row, place in enumerate(places):
        np.testing.assert_allclose(after[row, :place], before[:place], atol=2e-4, err_msg=f"notes from {place} on")
        # The change is heard at once: a test that changed nothing would show nothing.
        assert np.abs(after[row, place] - before[place]).max() > 1e-3


def test_silence_is_a_token_like_any_other(run):
    sung = sequences(1, 40)
    sung[sung == SILENCE] = 5
    rests = sung.copy()
    rests[0, 30] = SILENCE
    assert np.abs(run(rests)[0, 30] - run(sung)[0, 30]).max() > 1e-3
    # Nor is a rest skipped: what follows it hears that there was one, and for which of two places.
    elsewhere = sung.copy()
    elsewhere[0, 26] = SILENCE
    assert np.abs(run(rests)[0, 31] - run(elsewhere)[0, 31]).max() > 1e-4


def test_a_silent_piece_is_predicted_too(run):
    silent = run(np.zeros((1, 64), np.int32))
    assert np.isfinite(silent).all()
    assert np.abs(silent[0, 0] - run(np.full((1, 1), 26))[0, 0]).max() > 1e-3


@pytest.mark.parametrize("length", [1, 3, 131])
def test_a_shorter_sequence_gives_the_beginning_of_a_longer_one(run, length):
    tokens = sequences(2, LONG)
    np.testing.assert_allclose(run(tokens[:, :length]), run(tokens)[:, :length], atol=2e-4)


@pytest.mark.slow
def test_640_steps_are_read_in_one_go(run):
    tokens = sequences(1, 2560)
    outputs = run(tokens)
    assert outputs.shape == (1, 2560, NUM_TOKENS)
    assert np.isfinite(outputs).all()
    np.testing.assert_allclose(outputs[:, :LONG], run(tokens[:, :LONG]), atol=2e-4)
