"""How a note is chosen, over logits whose outcome can be worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from bach.notes import NUM_TOKENS
from bach.sampling import chances, choose, most_probable, parallel_motion

EVERYTHING = np.ones((1, NUM_TOKENS), bool)
ALMOST_ONE = np.nextafter(np.float32(1), np.float32(0))


def logits(**probabilities):
    """`logits(t3=0.5, t4=0.5)`: these tokens have these probabilities, all others none."""
    row = np.full(NUM_TOKENS, -100.0, np.float32)
    for name, probability in probabilities.items():
        row[int(name[1:])] = np.log(probability)
    return row


def draws(row, count=400, *, temperature=1.0, top_p=None, allowed=EVERYTHING):
    """What `choose` makes of `count` evenly spread chances."""
    uniform = ((np.arange(count) + 0.5) / count).astype(np.float32)
    rows = np.tile(row, (count, 1)).astype(np.float32)
    return ops.convert_to_numpy(choose(rows, uniform, temperature=temperature, top_p=top_p, allowed=allowed))


def shares(tokens):
    values, counts = np.unique(tokens, return_counts=True)
    return {int(value): round(float(count) / len(tokens), 2) for value, count in zip(values, counts, strict=True)}


def test_tokens_come_as_often_as_they_are_probable():
    assert shares(draws(logits(t0=0.2, t7=0.5, t46=0.3))) == {0: 0.2, 7: 0.5, 46: 0.3}


def test_chances_are_cut_in_the_order_of_the_tokens():
    row = np.tile(logits(t3=0.25, t5=0.75), (4, 1))
    uniform = np.array([0.0, 0.24, 0.26, ALMOST_ONE], np.float32)
    np.testing.assert_array_equal(choose(row, uniform, temperature=1.0, top_p=None, allowed=EVERYTHING), [3, 3, 5, 5])


def test_a_low_temperature_takes_the_most_probable_and_a_high_one_takes_all_alike():
    row = logits(t3=0.3, t4=0.4, t5=0.3)
    assert shares(draws(row, temperature=0.01)) == {4: 1.0}
    assert shares(draws(row, temperature=0.5)) == {3: 0.27, 4: 0.47, 5: 0.27}  # squares: 9, 16, 9 of 34
    assert len(shares(draws(row, temperature=1e6, count=4700))) == NUM_TOKENS


@pytest.mark.parametrize("temperature", [1e-3, 1e-6, 1e-20, 1e-30])
def test_the_lowest_temperatures_never_draw_what_is_forbidden_or_improbable(temperature):
    row = np.linspace(-30, -5, NUM_TOKENS)
    allowed = np.ones((1, NUM_TOKENS), bool)
    allowed[0, 40:] = False
    assert set(draws(row, temperature=temperature, allowed=allowed)) == {39}


def test_top_p_keeps_the_fewest_tokens_that_sum_to_it():
    row = logits(t1=0.5, t2=0.3, t3=0.15, t4=0.05)
    assert shares(draws(row, top_p=0.45)) == {1: 1.0}
    assert shares(draws(row, top_p=0.6)) == {1: 0.62, 2: 0.38}  # 5 : 3
    assert shares(draws(row, top_p=0.9)) == {1: 0.53, 2: 0.32, 3: 0.16}  # 10 : 6 : 3 of 19
    assert set(draws(row, top_p=0.999)) == {1, 2, 3, 4}


def test_top_p_keeps_equals_together():
    assert shares(draws(logits(t1=0.4, t2=0.3, t3=0.3), top_p=0.5)) == {1: 0.4, 2: 0.3, 3: 0.3}


@pytest.mark.parametrize("top_p", [1e-3, 1e-30, 0.0])
def test_top_p_keeps_at_least_the_most_probable(top_p):
    assert shares(draws(logits(t9=0.6, t10=0.4), top_p=top_p)) == {9: 1.0}


def test_top_p_counts_what_is_allowed_only():
    allowed = EVERYTHING.copy()
    allowed[0, 1] = False
    assert shares(draws(logits(t1=0.8, t2=0.15, t3=0.05), top_p=0.7, allowed=allowed)) == {2: 1.0}


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 5), st.floats(0.01, 1))
def test_what_is_not_allowed_is_never_drawn(seed, temperature, top_p):
    rng = np.random.default_rng(seed)
    row = rng.normal(0, 20, NUM_TOKENS)
    allowed = rng.random((1, NUM_TOKENS)) < 0.1
    allowed[0, rng.integers(NUM_TOKENS)] = True
    for nucleus in (None, top_p):
        drawn = draws(row, 50, temperature=temperature, top_p=nucleus, allowed=allowed)
        assert allowed[0, drawn].all()
    assert allowed[0, np.asarray(most_probable(row[None].astype(np.float32), allowed=allowed))].all()


@pytest.mark.parametrize("chance", [0.0, 0.3, float(ALMOST_ONE)])
def test_the_only_token_allowed_is_drawn_however_improbable_it_is(chance):
    for token in (0, 20, 46):
        allowed = np.zeros((1, NUM_TOKENS), bool)
        allowed[0, token] = True
        row = logits(t5=1.0)[None]
        row[0, token] = -3e9  # as little as a first note that no range allows
        uniform = np.array([chance], np.float32)
        assert int(choose(row, uniform, temperature=0.5, top_p=0.9, allowed=allowed)[0]) == token
        assert int(most_probable(row, allowed=allowed)[0]) == token


def test_rows_are_chosen_each_by_its_own_mask_and_chance():
    rows = np.tile(logits(t1=0.5, t2=0.5), (3, 1))
    allowed = np.ones((3, NUM_TOKENS), bool)
    allowed[1, 1] = False
    uniform = np.array([0.1, 0.1, 0.9], np.float32)
    np.testing.assert_array_equal(choose(rows, uniform, temperature=1.0, top_p=None, allowed=allowed), [1, 2, 2])


def test_greedy_takes_the_most_probable_allowed_token_and_the_lowest_of_equals():
    rows = np.stack([logits(t8=0.4, t3=0.4, t20=0.2), logits(t8=0.9, t3=0.1)])
    allowed = np.ones((2, NUM_TOKENS), bool)
    allowed[1, 8] = False
    np.testing.assert_array_equal(most_probable(rows, allowed=allowed), [3, 3])


@given(st.lists(st.integers(0, 2**63), min_size=1, max_size=5), st.integers(0, 300), st.integers(0, 300))
def test_the_chances_of_a_seed_depend_on_nothing_else(seeds, notes, more):
    table = chances(seeds, notes)
    assert table.shape == (len(seeds), notes)
    assert table.dtype == np.float32
    assert ((table >= 0) & (table < 1)).all()
    for row, seed in zip(table, seeds, strict=True):
        np.testing.assert_array_equal(row, chances([seed], notes + more)[0, :notes])


def test_different_seeds_have_different_chances():
    assert len(np.unique(chances(range(100), 1))) == 100
    assert chances([], 7).shape == (0, 7)


def test_parallel_fifths_and_octaves_with_a_voice_above_are_found():
    # The last eight notes, the latest first: soprano 30 now; before it bass 5, tenor 15, alto 23, soprano 28.
    past = np.array([[30, 5, 15, 23, 28, 5, 15, 23]])
    past[0, 3] = 21  # alto sang 21: a fifth below the soprano's 28
    found = np.asarray(parallel_motion(past, np.int32(1)))[0]
    assert found[23]  # both go up a whole tone and stay a fifth apart
    assert found.sum() == 1 + 1  # and the same an octave higher (35), which is upwards too
    assert not found[21]  # the alto stays: oblique motion
    assert not found[11]  # down against the soprano's up: contrary motion


def test_no_parallels_are_found_with_voices_that_have_not_sung_in_this_step():
    past = np.array([[30, 5, 15, 21, 28, 5, 15, 21]])
    assert not np.asarray(parallel_motion(past, np.int32(0))).any()


def test_no_parallels_are_found_beside_a_rest_or_before_the_piece():
    for nothing in (0, -1, 47):
        past = np.array([[30, 5, 15, 21, nothing, 5, 15, 21]])
        assert not np.asarray(parallel_motion(past, np.int32(1))).any()
