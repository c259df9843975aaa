"""Floors: counts by hand, no look into the future, and the figures of `docs/scoring.md` for the canonical data."""

import math

import numpy as np
import pytest

from bach.corpus import Chorale, load
from bach.encoding import encode, transpose
from bach.errors import DataError, SettingError
from bach.floors import LEVELS, CountingFloor, RepeatFloor
from bach.notes import NUM_TOKENS
from bach.scoring import score, score_chorales


def chorale(*steps, name="train/000"):
    return Chorale(id=name, pitches=np.array(steps))


def probabilities(model, piece):
    return np.exp(model.log_probabilities([encode(piece.pitches)])[0])


def scale(low, steps, name="train/000"):
    """Four voices that rise by a whole tone every other step, three semitones apart."""
    rise = np.arange(steps)[:, None] // 2 % 4 * 2
    return Chorale(id=name, pitches=low + rise + np.array([9, 6, 3, 0]))


def test_repeat_is_certain_of_the_voice_s_last_note_and_knows_nothing_of_the_first_step():
    piece = chorale([60, 55, 50, 0], [60, 57, 50, 0])
    rows = probabilities(RepeatFloor(), piece)
    np.testing.assert_allclose(rows[:4], 1 / 47)
    assert rows[4:].argmax(axis=1).tolist() == [25, 20, 15, 0]  # the tokens of 60, 55, 50 and silence
    assert set(rows[4:].ravel()) == {0.0, 1.0}
    (scored,) = score_chorales(RepeatFloor(), [piece])
    assert scored.nll[4:].tolist() == [0, math.inf, 0, 0]  # the alto moved


@pytest.mark.parametrize("length", [0, 1, 3, 4, 5])
def test_repeat_answers_sequences_of_any_length(length):
    (rows,) = RepeatFloor().log_probabilities([np.full(length, 7)])
    np.testing.assert_allclose(np.exp(rows).sum(axis=1), np.ones(length))


def test_counts_blend_by_witten_and_bell_as_worked_out_by_hand():
    # Soprano notes on beats 0 of the training piece: 60, 62, 60 (steps 0, 4, 8); one step back: none, 62, 62.
    steps = [[pitch, 55, 50, 45] for pitch in (60, 62, 62, 62, 62, 62, 62, 62, 60)]
    model = CountingFloor.fit([chorale(*steps)], transpositions=[0], levels=[[4]])
    piece = chorale(*steps[:5])
    soprano = probabilities(model, piece)[4 * 4]  # step 4, beat 0; the soprano's last note is 62
    c60, c62, other = 25, 27, 30  # tokens
    # Level 0, soprano on beat 0: 60 twice, 62 once, so C = 3 and D = 2; q = (c + 2 / 47) / 5
    q60, q62, q_other = (2 + 2 / 47) / 5, (1 + 2 / 47) / 5, (2 / 47) / 5
    # Level 1, and 62 before: 62 once (step 4), 60 once (step 8), so C = 2 and D = 2; p = (c + 2 q) / 4
    assert soprano[c60] == pytest.approx((1 + 2 * q60) / 4)
    assert soprano[c62] == pytest.approx((1 + 2 * q62) / 4)
    assert soprano[other] == pytest.approx(2 * q_other / 4)
    # A context never seen (64 before) leaves the level before as it is.
    unseen = probabilities(model, chorale(*steps[:3], [64, 55, 50, 45], [62, 55, 50, 45]))[4 * 4]
    assert unseen[c60] == pytest.approx(q60)
    assert unseen[c62] == pytest.approx(q62)


def test_the_first_note_is_uniform_and_every_row_is_a_distribution_without_zeros():
    model = CountingFloor.fit([scale(50, 40)])
    rows = probabilities(model, scale(47, 30))
    np.testing.assert_allclose(rows[0], 1 / 47)
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-12)
    assert (rows > 0).all()


def test_a_row_depends_on_earlier_notes_only():
    model = CountingFloor.fit([scale(50, 40), scale(45, 24)])
    tokens = encode(scale(47, 30).pitches)
    (whole,) = model.log_probabilities([tokens])
    rng = np.random.default_rng(0)
    for length in (0, 1, 2, 5, 8, 9, 50, 119):
        other = np.concatenate([tokens[:length], rng.integers(0, NUM_TOKENS, 120 - length)])
        np.testing.assert_array_equal(model.log_probabilities([other])[0][: length + 1], whole[: length + 1])
        np.testing.assert_array_equal(model.log_probabilities([tokens[:length]])[0], whole[:length])


def test_nothing_before_the_last_two_steps_matters():
    model = CountingFloor.fit([scale(50, 40)])
    tokens = encode(scale(50, 20).pitches)
    changed = tokens.copy()
    changed[:8] += 1
    first, second = model.log_probabilities([tokens, changed])
    np.testing.assert_array_equal(first[16:], second[16:])
    assert (first[8:16] != second[8:16]).any()


def test_transposed_copies_let_it_know_a_piece_in_another_key():
    moved = Chorale(id="test/000", pitches=transpose(scale(50, 40).pitches, 3))

    def mean_nll(transpositions):
        model = CountingFloor.fit([scale(50, 40)], transpositions=transpositions)
        return score_chorales(model, [moved])[0].nll.mean()

    assert mean_nll([0, 3]) < 0.7 * mean_nll([0])
    assert mean_nll([0, -3]) > 0.9 * mean_nll([0])


def test_copies_that_leave_the_range_are_not_counted():
    top = scale(66, 40)  # up to 66 + 6 + 9 = 81, the highest pitch
    upward, alone = (CountingFloor.fit([top], transpositions=shifts) for shifts in ([0, 1, 5], [0]))
    np.testing.assert_array_equal(probabilities(upward, top), probabilities(alone, top))
    downward = CountingFloor.fit([top], transpositions=[0, -1])
    assert (probabilities(downward, top) != probabilities(alone, top)).any()
    rests = Chorale(id="train/000", pitches=np.zeros((4, 4), int))  # nothing sung: no copy leaves the range
    assert probabilities(CountingFloor.fit([rests]), rests)[-1].argmax() == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"levels": [[4], [4]]}, "from 1 on and each once"),
        ({"levels": [[0]]}, "from 1 on"),
        ({"levels": [range(1, 11)]}, "10 notes back; at most 9"),
        ({"transpositions": [0, 0]}, "counted once each"),
    ],
)
def test_impossible_contexts_are_refused(given, message):
    with pytest.raises(SettingError, match=message):
        CountingFloor.fit([scale(50, 8)], **given)


def test_nine_notes_back_still_have_exact_keys():
    model = CountingFloor.fit([scale(50, 40)], levels=[range(1, 10)])
    assert probabilities(model, scale(50, 40))[-1].argmax() == encode(scale(50, 40).pitches)[-1]


@pytest.mark.parametrize(("pieces", "transpositions"), [([], [0]), ([scale(66, 8)], [5])])
def test_nothing_to_count_is_refused(pieces, transpositions):
    with pytest.raises(DataError, match="no notes to count"):
        CountingFloor.fit(pieces, transpositions=transpositions)


def test_all_levels_together_are_the_last_two_steps():
    assert sorted(back for level in LEVELS for back in level) == list(range(1, 9))


def test_counting_reaches_its_figures_on_the_canonical_chorales(jsb_archive):
    data = load(jsb_archive)
    model = CountingFloor.fit(data.splits["train"])
    assert score(model, data, "test").primary == {
        "test_nll": pytest.approx(0.5389, abs=5e-5),
        "test_accuracy": pytest.approx(0.8583, abs=5e-5),
        "window_nll": pytest.approx(0.5979, abs=5e-5),
        "window_accuracy": pytest.approx(0.8445, abs=5e-5),
    }
    assert score(model, data, "valid", protocols=["pieces"]).primary["val_nll"] == pytest.approx(0.5284, abs=5e-5)


def test_repeating_reaches_its_figures_on_the_canonical_chorales(jsb_archive):
    data = load(jsb_archive)
    assert score(RepeatFloor(), data, "test").primary == {
        "test_nll": math.inf,
        "test_accuracy": pytest.approx(0.7672, abs=5e-5),
        "window_nll": math.inf,
        "window_accuracy": pytest.approx(0.7475, abs=5e-5),
    }
    # Published figures leave out the first step of a sequence, where there is nothing to repeat.
    pieces, windows = (score_chorales(RepeatFloor(), data.splits["test"], each) for each in ("pieces", "windows"))
    later = np.concatenate([piece.correct[4:] for piece in pieces])
    assert later.mean() == pytest.approx(0.7704, abs=5e-5)
    later = np.concatenate([piece.correct.reshape(-1, 131)[:, 3:].ravel() for piece in windows])
    assert later.mean() == pytest.approx(0.7649, abs=5e-5)
