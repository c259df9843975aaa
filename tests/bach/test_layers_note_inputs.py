"""What a model derives from tokens is what `bach.encoding.note_inputs` says, all at once and note by note."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from bach.backend import compiled
from bach.encoding import MAX_ECHO, MAX_HELD, NOTE_INPUTS, START, note_inputs
from bach.layers import NoteInputs, body
from bach.notes import NUM_TOKENS

ECHO, HELD, ECHO_STEPS = (NOTE_INPUTS.index(name) for name in ("echo", "held", "echo_steps"))


def random_notes(length, kinds=NUM_TOKENS, seed=0):
    return np.random.default_rng(seed).integers(0, kinds, length).astype(np.int32)


def repeated(length, period, seed=0):
    """A passage of `period` steps again and again, with a slip now and then."""
    tokens = np.tile(random_notes(period * 4, seed=seed), length // (period * 4) + 1)[:length]
    tokens[length // 2 + 3] += 1
    return np.minimum(tokens, NUM_TOKENS - 1).astype(np.int32)


SEQUENCES = {
    "random": random_notes(301),
    "two kinds of notes": random_notes(402, kinds=2),
    "repeats after 17 steps": repeated(500, 17),
    "repeats after 32 steps": repeated(701, 32),
    "repeats too soon": repeated(260, 8),
    "one chord held": np.tile([30, 20, 10, 0], 120).astype(np.int32),
    "silence": np.zeros(300, np.int32),
    "one note": np.array([5], np.int32),
    "three notes": np.array([5, 0, 46], np.int32),
}


def step_by_step(layer, tokens):
    step = compiled(layer.step, [])
    state, rows = layer.initial_state(len(tokens), tokens.shape[1]), []
    for t in range(tokens.shape[1]):
        row, state = step(tokens[:, t], state, np.int32(t))
        rows.append(ops.convert_to_numpy(row))
    return np.stack(rows, axis=1)


@pytest.mark.parametrize("name", SEQUENCES)
def test_the_layer_gives_the_table_of_the_encoding(name):
    tokens = SEQUENCES[name]
    both = np.stack([tokens, np.flip(tokens)])
    expected = np.stack([note_inputs(row) for row in both])
    np.testing.assert_array_equal(NoteInputs()(both), expected)
    model = keras.Sequential([keras.Input((None,), dtype="int32"), NoteInputs()])
    np.testing.assert_array_equal(model.predict(both, verbose=0), expected)


@pytest.mark.parametrize("name", ["two kinds of notes", "repeats after 17 steps", "one chord held", "three notes"])
def test_note_by_note_the_layer_gives_the_same_table(name):
    both = np.stack([SEQUENCES[name], np.flip(SEQUENCES[name])])
    np.testing.assert_array_equal(step_by_step(NoteInputs(), both), NoteInputs()(both))


def test_the_sequences_of_these_tests_hold_echoes_and_held_notes_to_the_limit():
    tables = {name: note_inputs(tokens) for name, tokens in SEQUENCES.items()}
    assert (tables["random"][:, ECHO] == START).all()
    assert (tables["repeats after 17 steps"][:, ECHO] != START).sum() > 200
    assert tables["repeats after 32 steps"][:, ECHO_STEPS].max() == MAX_ECHO
    assert tables["one chord held"][:, HELD].max() == MAX_HELD


@settings(max_examples=25)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(1, 300))
def test_any_passage_repeated_is_heard_alike(passage, length):
    tokens = np.resize(np.array(passage, np.int32), length)
    np.testing.assert_array_equal(NoteInputs()(tokens[None])[0], note_inputs(tokens))


def test_without_echoes_the_columns_say_that_there_are_none():
    tokens = SEQUENCES["repeats after 17 steps"][None]
    expected = note_inputs(tokens[0])
    expected[:, ECHO], expected[:, ECHO_STEPS] = START, 0
    layer = NoteInputs(echo=False)
    np.testing.assert_array_equal(layer(tokens)[0], expected)
    np.testing.assert_array_equal(step_by_step(layer, tokens)[0], expected)
    again = NoteInputs.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert again.echo is False


def test_the_body_of_a_model_takes_the_table_and_shares_the_weights():
    model = keras.Sequential([keras.Input((None,), dtype="int32"), NoteInputs(), keras.layers.Dense(3)])
    tokens = SEQUENCES["random"][None]
    np.testing.assert_allclose(body(model)(note_inputs(tokens[0])[None]), model(tokens), rtol=1e-5)
    assert body(model).layers[-1] is model.layers[-1]
    with pytest.raises(ValueError, match="first layer is Dense, expected NoteInputs"):
        body(keras.Sequential([keras.Input((None, 3)), keras.layers.Dense(3)]))
