"""Chorales cut into windows: nothing lost, nothing out of range, the same cuts for the same seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bach.encoding import NUM_NOTE_COLUMNS, START, encode, note_inputs, transpose, transposition_bounds
from bach.notes import NUM_VOICES, SILENCE, VOICE_RANGES
from bach.windows import Windows


def chorale(steps, seed=0, rests=True):
    rng = np.random.default_rng(seed)
    voices = [rng.integers(low + 4, high - 3, steps) for low, high in VOICE_RANGES]
    pitches = np.stack(voices, axis=1).astype(np.int16)
    if rests and steps > 4:
        pitches[2:4, 1] = SILENCE
    return pitches


def batches(windows, seed=0, batch_size=4):
    return list(windows.epoch(np.random.default_rng(seed), batch_size))


def rows_of(windows, seed=0, batch_size=4):
    """All windows of an epoch, without those that only fill up the last batch."""
    parts = [np.concatenate(part) for part in zip(*batches(windows, seed, batch_size), strict=True)]
    real = parts[2].any(axis=1)
    return [part[real] for part in parts]


def find(rows, table):
    """Where in the table `[L, 9]` the rows `[W, 9]` lie; -1 if nowhere."""
    for first in range(len(table) - len(rows) + 1):
        if (table[first : first + len(rows)] == rows).all():
            return first
    return -1


@settings(max_examples=30)
@given(st.lists(st.integers(1, 70), min_size=1, max_size=4), st.integers(1, 40), st.integers(0, 9))
def test_each_epoch_covers_every_note_but_the_first_of_each_piece(lengths, steps, seed):
    pieces = [chorale(length, seed=i) for i, length in enumerate(lengths)]
    for i, piece in enumerate(pieces):
        piece[:, 0] = 64 + i  # every row of a piece's table tells which piece it is of
    windows = Windows(pieces, steps=steps)
    inputs, targets, weights = rows_of(windows, seed)
    tables = [note_inputs(encode(piece)) for piece in pieces]
    covered = [np.zeros(len(table), bool) for table in tables]
    for row, target, weight in zip(inputs, targets, weights, strict=True):
        inside = int(weight.sum())
        assert (weight[:inside] == 1).all()
        places = [find(row[:inside], table) for table in tables]
        piece = next(i for i, place in enumerate(places) if place >= 0)
        place = places[piece]
        np.testing.assert_array_equal(target[:inside], encode(pieces[piece])[place + 1 : place + 1 + inside])
        covered[piece][place + 1 : place + 1 + inside] = True
        assert place % NUM_VOICES == 0
    for notes in covered:
        assert notes[1:].all(), f"notes {np.flatnonzero(~notes)} are not covered"
        assert not notes[0]


def test_as_few_windows_as_can_be_cover_a_piece():
    for length, steps, count in ((64, 64, 1), (65, 64, 2), (128, 64, 2), (129, 64, 3), (10, 64, 1)):
        inputs, *_ = rows_of(Windows([chorale(length)], steps=steps), batch_size=1)
        assert len(inputs) == count
        assert inputs.shape[1] == steps * NUM_VOICES


def test_what_lies_beyond_a_short_piece_has_no_weight():
    [(inputs, targets, weights)] = batches(Windows([chorale(5)], steps=8), batch_size=1)
    assert inputs.shape == (1, 32, 9)
    assert targets.shape == weights.shape == (1, 32)
    np.testing.assert_array_equal(weights[0], [1.0] * 19 + [0.0] * 13)  # 20 notes, the first is never a target


def test_a_window_never_hears_into_the_next_piece():
    pieces = [chorale(5, seed=1), chorale(50, seed=2)]
    inputs, _, weights = rows_of(Windows(pieces, steps=8))
    tables = [note_inputs(encode(piece)) for piece in pieces]
    for row, weight in zip(inputs, weights, strict=True):
        assert max(find(row[: int(weight.sum())], table) for table in tables) >= 0


def test_the_seeds_protocol_cuts_33_steps_every_16_and_drops_the_rest():
    piece = chorale(33 + 16 + 15)
    tokens = encode(piece)
    inputs, targets, weights = rows_of(Windows([piece], steps=33, shift=16))
    assert inputs.shape == (2, 131, 9)
    starts = sorted((find(row, note_inputs(tokens)), index) for index, row in enumerate(inputs))
    assert [start for start, _ in starts] == [0, 64]
    for start, index in starts:
        np.testing.assert_array_equal(targets[index], tokens[start + 1 : start + 132])
    assert (weights == 1).all()


def test_a_piece_shorter_than_the_seeds_window_is_left_out():
    assert Windows([chorale(32)], steps=33, shift=16).num_batches(4) == 0
    assert batches(Windows([chorale(32)], steps=33, shift=16)) == []
    assert Windows([chorale(32), chorale(33)], steps=33, shift=16).num_batches(4) == 1


def test_rows_in_the_middle_are_those_of_the_whole_piece():
    piece = np.tile(chorale(20, rests=False), (4, 1))  # echoes, and beats that do not begin with the window
    inputs, *_ = rows_of(Windows([piece], steps=16, shift=5))
    table = note_inputs(encode(piece))
    assert (table[:, 4] != START).any()
    assert sorted(find(row, table) // NUM_VOICES for row in inputs) == list(range(0, 65, 5))


def test_transposition_moves_whole_pieces_within_the_ranges_of_their_voices():
    piece = chorale(40)
    low, high = transposition_bounds(piece)
    assert low < -2
    assert high > 2
    windows = Windows([piece], steps=40, transposition=12)
    seen = set()
    for seed in range(60):
        inputs, targets, _ = rows_of(windows, seed)
        moved = next(k for k in range(low, high + 1) if encode(transpose(piece, k))[1] == targets[0, 0])
        expected = encode(transpose(piece, moved))
        np.testing.assert_array_equal(targets[0, :-1], expected[1:])
        np.testing.assert_array_equal(inputs[0], note_inputs(expected))
        seen.add(moved)
    assert seen == set(range(low, high + 1))


def test_transposition_goes_no_further_than_asked():
    piece = chorale(12)
    moves = set()
    for seed in range(40):
        _, targets, _ = rows_of(Windows([piece], steps=12, transposition=1), seed)
        moves.add(int(targets[0, 0]) - int(encode(piece)[1]))
    assert moves == {-1, 0, 1}


def test_silence_and_the_time_before_the_piece_are_not_transposed():
    piece = chorale(30)
    piece[:, 3] = SILENCE
    plain, *_ = rows_of(Windows([piece], steps=30))
    for seed in range(10):
        inputs, targets, _ = rows_of(Windows([piece], steps=30, transposition=12), seed)
        notes, unmoved = inputs[0, :, :NUM_NOTE_COLUMNS], plain[0, :, :NUM_NOTE_COLUMNS]
        for special in (SILENCE, START):
            np.testing.assert_array_equal(notes == special, unmoved == special)
        np.testing.assert_array_equal(targets[0, 2::4], 0)  # target 2 is note 3, the bass
        np.testing.assert_array_equal(inputs[0, :, NUM_NOTE_COLUMNS:], plain[0, :, NUM_NOTE_COLUMNS:])


def test_a_piece_that_leaves_the_ranges_of_its_voices_can_still_be_trained_on():
    piece = chorale(10)
    piece[0, 0] = VOICE_RANGES[0][0] - 3
    piece[1, 3] = VOICE_RANGES[3][1] + 2  # no transposition suits both
    assert transposition_bounds(piece) == (0, 0)
    _, targets, _ = rows_of(Windows([piece], steps=10, transposition=12))
    np.testing.assert_array_equal(targets[0, :-1], encode(piece)[1:])


def test_the_same_seed_gives_the_same_batches_and_another_seed_others():
    windows = Windows([chorale(150, seed=i) for i in range(3)], steps=32, transposition=5)
    for first, again in zip(batches(windows, 3), batches(windows, 3), strict=True):
        for one, other in zip(first, again, strict=True):
            np.testing.assert_array_equal(one, other)
    assert any((one[0] != other[0]).any() for one, other in zip(batches(windows, 3), batches(windows, 4), strict=True))


def test_the_last_batch_is_filled_with_windows_of_no_weight():
    windows = Windows([chorale(64, seed=i) for i in range(5)], steps=32)  # 10 windows
    assert windows.num_batches(4) == 3
    epoch = batches(windows, batch_size=4)
    assert [inputs.shape for inputs, _, _ in epoch] == [(4, 128, 9)] * 3
    weight = np.concatenate([weights for _, _, weights in epoch]).sum()
    assert weight == 5 * (64 * 4 - 1)
    assert (epoch[-1][2][2:] == 0).all()
    assert (epoch[-1][2][:2].sum(axis=1) > 100).all()


def test_the_last_batch_is_filled_even_from_a_single_window():
    [(inputs, _, weights)] = batches(Windows([chorale(8)], steps=8), batch_size=16)
    assert inputs.shape == (16, 32, 9)
    assert weights.sum() == 31


@pytest.mark.parametrize("shift", [0, 16])
def test_the_number_of_batches_is_that_of_every_epoch(shift):
    windows = Windows([chorale(40 + 13 * i, seed=i) for i in range(6)], steps=33, shift=shift)
    for seed in range(5):
        assert len(batches(windows, seed)) == windows.num_batches(4)


def test_batches_hold_what_a_training_step_takes():
    for inputs, targets, weights in batches(Windows([chorale(70)], steps=32, transposition=3)):
        assert (inputs.dtype, targets.dtype, weights.dtype) == (np.int32, np.int32, np.float32)


def test_content_tells_chorales_apart():
    piece = chorale(20)
    other = piece.copy()
    other[7, 2] += 1
    contents = [Windows(p, steps=8).content() for p in ([piece], [other], [piece[:-1]], [piece, piece], [piece[1:]])]
    assert len(set(contents)) == 5
    assert Windows([piece.copy()], steps=9).content() == contents[0]
