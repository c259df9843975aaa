"""Pitches and tokens: exact inverses, and what is known before a note comes from the notes before it alone."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bach.encoding import (
    MAX_ECHO,
    MAX_HELD,
    MIN_ECHO_DISTANCE,
    MIN_ECHO_NOTES,
    NOTE_INPUTS,
    NUM_NOTE_COLUMNS,
    START,
    decode,
    echoes,
    encode,
    held_steps,
    note_inputs,
    transpose,
    transposition_bounds,
)
from bach.notes import MAX_PITCH, MIN_PITCH, NUM_TOKENS, VOICE_RANGES

SUNG = st.one_of(st.just(0), st.integers(MIN_PITCH, MAX_PITCH))
CHORALES = arrays.arrays(np.int16, st.tuples(st.integers(0, 30), st.just(4)), elements=SUNG)
SEQUENCES = arrays.arrays(np.int32, st.integers(0, 400), elements=st.integers(0, NUM_TOKENS - 1))


@st.composite
def repeating_sequences(draw):
    """Sequences that are mostly copies of their own past, as chorales are, but at any distance in notes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    tokens = rng.integers(1, draw(st.integers(2, 5)), draw(st.integers(1, 100)))
    for _ in range(draw(st.integers(1, 6))):
        tokens = np.concatenate([tokens, tokens[rng.integers(len(tokens)) :][: rng.integers(1, 160)]])
    return tokens[:400].astype(np.int32)


def column(tokens, name):
    return note_inputs(np.asarray(tokens))[:, NOTE_INPUTS.index(name)].tolist()


@given(CHORALES)
def test_decoding_gives_back_what_was_encoded(pitches):
    tokens = encode(pitches)
    assert tokens.shape == (4 * len(pitches),)
    np.testing.assert_array_equal(decode(tokens), pitches)


@given(SEQUENCES)
def test_encoding_gives_back_what_was_decoded(tokens):
    tokens = tokens[: len(tokens) // 4 * 4]
    np.testing.assert_array_equal(encode(decode(tokens)), tokens)


def test_tokens_run_by_step_and_voice_from_silence_to_the_highest_pitch():
    pitches = np.array([[81, 0, 37, 36], [60, 55, 50, 45]])
    # 81 is the last token, 46; silence is 0; 36 is token 1
    assert encode(pitches).tolist() == [46, 0, 2, 1, 25, 20, 15, 10]


@pytest.mark.parametrize("pitch", [35, 82, -1, 1, 127])
def test_a_pitch_out_of_range_is_refused_with_its_place(pitch):
    pitches = np.full((3, 4), 60)
    pitches[2, 1] = pitch
    with pytest.raises(ValueError, match=f"step 2, voice 1: pitch {pitch} is neither"):
        encode(pitches)


@pytest.mark.parametrize("shape", [(4,), (3, 3), (3, 5), (2, 3, 4)])
def test_what_is_not_four_voices_is_refused(shape):
    with pytest.raises(ValueError, match=r"a chorale is \[T, 4\]"):
        encode(np.full(shape, 60))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([1, 2, 3], r"a sequence is \[4 \* T\]"),
        ([1, 2, 3, 47], r"0\.\.46, got 1\.\.47"),
        ([-1, 2, 3, 4], r"got -1\.\.4"),
    ],
)
def test_what_is_no_sequence_is_refused(tokens, message):
    with pytest.raises(ValueError, match=message):
        decode(np.array(tokens))


@given(CHORALES, st.integers(-12, 12))
def test_transposing_back_gives_the_chorale_again(pitches, semitones):
    sung = pitches[pitches != 0]
    assume(not len(sung) or (sung.min() + semitones >= MIN_PITCH and sung.max() + semitones <= MAX_PITCH))
    moved = transpose(pitches, semitones)
    np.testing.assert_array_equal(moved == 0, pitches == 0)  # rests stay where they are
    np.testing.assert_array_equal(moved[moved != 0], sung + semitones)
    np.testing.assert_array_equal(transpose(moved, -semitones), pitches)
    assert moved.dtype == pitches.dtype


def test_transposing_out_of_the_range_is_refused():
    with pytest.raises(ValueError, match=r"moved by 2 semitones the chorale spans 62\.\.82"):
        transpose(np.array([[80, 70, 65, 60]]), 2)


@given(CHORALES)
def test_within_its_bounds_a_transposition_keeps_each_voice_in_its_range(pitches):
    low, high = transposition_bounds(pitches)
    assert low <= 0 <= high
    for voice, (bottom, top) in enumerate(VOICE_RANGES):
        sung = pitches[:, voice][pitches[:, voice] != 0].astype(int)
        if len(sung):
            assert low == 0 or sung.min() + low >= bottom
            assert high == 0 or sung.max() + high <= top


def test_bounds_are_those_of_the_voice_that_has_least_room():
    # room down: 70-60, 60-52, 50-46, 38-36 -> 2; room up: 81-70, 74-60, 69-50, 66-38 -> 11
    assert transposition_bounds(np.array([[70, 60, 50, 38]])) == (-2, 11)
    assert transposition_bounds(np.array([[59, 60, 50, 38]])) == (0, 14)  # the soprano is already too low


def test_held_counts_the_steps_a_voice_has_sung_its_pitch():
    pitches = np.array([[60, 55, 0, 40], [60, 57, 0, 40], [62, 57, 0, 41], [60, 57, 48, 40]])
    assert held_steps(pitches).tolist() == [
        [1, 1, 1, 1],
        [2, 1, 2, 2],  # the alto moved; a rest is held as a note is
        [1, 2, 3, 1],
        [1, 3, 1, 1],  # 60 again, but not held
    ]


@given(CHORALES)
def test_held_grows_by_one_or_begins_anew(pitches):
    held = held_steps(pitches)
    for step, voice in np.ndindex(pitches.shape):
        goes_on = step > 0 and pitches[step, voice] == pitches[step - 1, voice]
        assert held[step, voice] == (held[step - 1, voice] + 1 if goes_on else 1)


def test_held_stops_counting_at_its_cap():
    assert held_steps(np.full((MAX_HELD + 10, 4), 60))[:, 0].tolist() == [*range(1, MAX_HELD), *[MAX_HELD] * 11]


def test_inputs_describe_the_note_that_comes_next():
    tokens = [25, 20, 15, 10, 25, 21]  # a step and a half
    # the note to come is   alto   tenor  bass   soprano alto  tenor
    assert column(tokens, "previous_1") == [25, 20, 15, 10, 25, 21]
    assert column(tokens, "previous_2") == [START, 25, 20, 15, 10, 25]
    assert column(tokens, "previous_3") == [START, START, 25, 20, 15, 10]
    assert column(tokens, "previous_4") == [START, START, START, 25, 20, 15]  # the same voice, a step before
    assert column(tokens, "voice") == [1, 2, 3, 0, 1, 2]
    assert column(tokens, "beat") == [0, 0, 0, 1, 1, 1]
    assert column(tokens, "held") == [0, 0, 0, 1, 1, 1]  # for how long `previous_4` has been sung


def test_held_inputs_are_of_the_voice_to_come_and_beats_begin_again_after_a_bar():
    tokens = [25, 20, 15, 10] * 17
    assert column(tokens, "held") == [0] * 3 + [step for step in range(1, 17) for _ in range(4)] + [17]
    assert column(tokens, "beat") == [0] * 3 + [step % 16 for step in range(1, 17) for _ in range(4)] + [1]


@given(st.one_of(SEQUENCES, repeating_sequences()), st.data())
def test_inputs_come_from_earlier_notes_alone(tokens, data):
    length = data.draw(st.integers(0, len(tokens)))
    whole = note_inputs(tokens)
    assert whole.shape == (len(tokens), len(NOTE_INPUTS))
    np.testing.assert_array_equal(note_inputs(tokens[:length]), whole[:length])
    other = np.concatenate([tokens[:length], (tokens[length:] + 1) % NUM_TOKENS])
    np.testing.assert_array_equal(note_inputs(other)[:length], whole[:length])


@given(st.one_of(SEQUENCES, repeating_sequences()))
def test_inputs_stay_within_their_bounds(tokens):
    inputs = note_inputs(tokens)
    assert inputs.dtype == np.int32
    highest = [START] * NUM_NOTE_COLUMNS + [3, 15, MAX_HELD, MAX_ECHO]
    assert (inputs >= 0).all()
    assert (inputs <= highest).all()


@given(repeating_sequences(), st.integers(1, 40))
def test_notes_in_the_inputs_move_with_a_transposition_and_nothing_else_does(tokens, semitones):
    still, moved = note_inputs(tokens), note_inputs(tokens + semitones)
    notes, rest = still[:, :NUM_NOTE_COLUMNS], still[:, NUM_NOTE_COLUMNS:]
    expected = np.where(notes == START, START, notes + semitones)
    np.testing.assert_array_equal(moved[:, :NUM_NOTE_COLUMNS], expected)
    np.testing.assert_array_equal(moved[:, NUM_NOTE_COLUMNS:], rest)


def test_an_echo_is_what_followed_the_same_passage_before():
    passage = list(range(1, 13))  # three steps that occur twice, 20 steps apart
    between = [30 + i % 7 for i in range(4 * 17)]
    notes, steps = echoes(np.array([*passage, *between, *passage, 40, 40, 40, 40]))
    second = len(passage) + len(between)
    assert set(notes[:second]) == {START}
    assert not steps[:second].any()
    # Seven notes of the passage are too few. From the eighth on the echo is its next note, at its end what followed.
    assert notes[second : second + 12].tolist() == [START] * 7 + [9, 10, 11, 12, 30]
    # 8 to 11 notes are 2 whole steps, 12 are 3
    assert steps[second : second + 12].tolist() == [0] * 7 + [2, 2, 2, 2, 3]
    assert notes[second + 12] == START  # the passage went on otherwise


@given(repeating_sequences())
def test_echoes_are_those_of_a_search_note_by_note(tokens):
    notes, steps = echoes(tokens)
    for t in range(len(tokens)):
        best, place = 0, -1
        for end in range(t % 4, t - 4 * MIN_ECHO_DISTANCE + 1, 4):
            agree = 0
            while agree <= end and agree < 4 * MAX_ECHO and tokens[end - agree] == tokens[t - agree]:
                agree += 1
            if agree >= max(best, 1):
                best, place = agree, end
        found = best >= MIN_ECHO_NOTES
        assert notes[t] == (tokens[place + 1] if found else START)
        assert steps[t] == (best // 4 if found else 0)


def test_the_inputs_of_a_piece_are_worked_out_once_and_cannot_be_changed():
    from bach.encoding import piece_inputs

    tokens = np.random.default_rng(0).integers(0, 47, 80).astype(np.int32)
    rows = piece_inputs(tokens)
    np.testing.assert_array_equal(rows, note_inputs(tokens))
    assert piece_inputs(tokens.copy()) is rows
    assert piece_inputs(tokens[:40]).shape == (40, 9)
    with pytest.raises(ValueError, match="read-only"):
        rows[0] = 0
