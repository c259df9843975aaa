"""New chorales from models whose next note can be worked out by hand, and from small random ones."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from bach.errors import SettingError
from bach.generation import FIRST_SOPRANO, FREE, Generator, SamplingSettings
from bach.hypermodel import from_values
from bach.layers import NoteEmbedding, NoteInputs
from bach.notes import MIN_PITCH, NUM_TOKENS, SILENCE, VOICE_RANGES

ROOT = Path(__file__).resolve().parents[2]
ANY_NOTE = SamplingSettings(ranges=None, max_still_steps=0)


def table_model(table):
    """A model whose logits are the row of `table` `[47, 47]` for the same voice's last note: no weights but these."""
    embedding = NoteEmbedding(NUM_TOKENS, notes=4)
    model = keras.Sequential([keras.Input((None,), dtype="int32"), NoteInputs(echo=False), embedding])
    for name, weight in embedding.tables.items():
        values = np.zeros(weight.shape, np.float32)
        if name == "previous_4":
            values[:NUM_TOKENS] = table
        weight.assign(values)
    return model


def holding():
    """Each voice would hold its note for ever."""
    return table_model(30 * np.eye(NUM_TOKENS))


def climbing():
    """Each voice goes up by one token a step; the highest goes to silence, silence to the lowest."""
    return table_model(30 * np.roll(np.eye(NUM_TOKENS), 1, axis=1))


@pytest.fixture(scope="module")
def generator():
    keras.utils.set_random_seed(1)
    model = from_values(
        {"model.family": "conv_lstm", "conv_lstm.filters": 32, "conv_lstm.lstm_width": 64, "conv_lstm.dropout": 0.0}
    )
    for variable in model.weights:
        variable.assign(np.asarray(variable) * 3)  # far from even, so that choices follow the notes before
    return Generator(model)


def test_chorales_are_as_long_as_asked_and_hold_nothing_but_notes_and_rests(generator):
    for steps in (1, 31, 32, 33, 70):  # 32 steps are one call of the compiled loop
        chorales = generator.generate(seeds=[1, 2], steps=steps)
        assert chorales.shape == (2, steps, 4)
        assert chorales.dtype == np.int16
        for voice, (low, high) in enumerate(VOICE_RANGES):
            sung = chorales[:, :, voice]
            assert ((sung == SILENCE) | ((sung >= low) & (sung <= high))).all()


def test_a_chorale_may_be_longer_than_the_room_first_made_for_it():
    [chorale] = Generator(climbing()).generate(seeds=[0], steps=300, settings=ANY_NOTE)
    tokens = np.where(chorale == SILENCE, 0, chorale.astype(int) - MIN_PITCH + 1)
    np.testing.assert_array_equal(tokens[1:], (tokens[:-1] + 1) % NUM_TOKENS)


def test_a_seed_gives_the_same_chorale_alone_and_in_a_batch(generator):
    together = generator.generate(seeds=range(64), steps=33)
    for seed in (0, 17, 63):
        [alone] = generator.generate(seeds=[seed], steps=33)
        np.testing.assert_array_equal(alone, together[seed])
    assert len({chorale.tobytes() for chorale in together}) == 64


def test_a_longer_chorale_begins_with_the_shorter_one_of_the_same_seed(generator):
    [short], [long] = (generator.generate(seeds=[5], steps=steps) for steps in (21, 50))
    np.testing.assert_array_equal(long[:21], short)


def test_a_second_generator_of_the_same_model_sings_the_same(generator):
    again = Generator(keras.Sequential(generator._layers))
    np.testing.assert_array_equal(again.generate(seeds=[3], steps=20), generator.generate(seeds=[3], steps=20))


def test_greedy_chorales_do_not_depend_on_the_seed(generator):
    one, other = generator.generate(seeds=[1, 2], steps=20, settings=SamplingSettings(greedy=True))
    np.testing.assert_array_equal(one, other)


def test_the_present_weights_sing():
    model = climbing()
    generator = Generator(model)
    given = np.full((1, 4), 60)
    assert generator.generate(seeds=[0], steps=3, given=given, settings=ANY_NOTE)[0, :, 0].tolist() == [60, 61, 62]
    model.set_weights(holding().get_weights())
    assert generator.generate(seeds=[0], steps=3, given=given, settings=ANY_NOTE)[0, :, 0].tolist() == [60, 60, 60]


# --- what is given ----------------------------------------------------------------------------------------------------


def test_a_prompt_stands_and_the_model_goes_on_from_it():
    prompt = np.array([[70, 60, 55, 40], [71, SILENCE, 50, 36]])
    [chorale] = Generator(climbing()).generate(seeds=[0], steps=4, given=prompt, settings=ANY_NOTE)
    assert chorale.tolist() == [[70, 60, 55, 40], [71, SILENCE, 50, 36], [72, 36, 51, 37], [73, 37, 52, 38]]


def test_voices_that_are_given_stand_outside_their_ranges_too(generator):
    given = np.full((30, 4), FREE)
    given[:, 1] = 81  # no alto sings that
    given[::2, 3] = SILENCE
    for chorale in generator.generate(seeds=[1, 2, 3], steps=30, given=given):
        np.testing.assert_array_equal(chorale[given != FREE], given[given != FREE])
        assert len(np.unique(chorale[:, 0])) > 3


def test_each_chorale_may_be_given_notes_of_its_own(generator):
    given = np.full((2, 10, 4), FREE)
    given[0, :, 0], given[1, :, 2] = 72, 50
    chorales = generator.generate(seeds=[1, 2], steps=12, given=given)
    np.testing.assert_array_equal(chorales[0, :10, 0], 72)
    np.testing.assert_array_equal(chorales[1, :10, 2], 50)
    assert (chorales[0, :10, 2] != 50).any()


def test_given_notes_beyond_the_end_are_ignored(generator):
    given = np.full((40, 4), 60)
    [chorale] = generator.generate(seeds=[1], steps=7, given=given)
    np.testing.assert_array_equal(chorale, np.full((7, 4), 60))


def test_given_notes_change_what_follows(generator):
    first = [generator.generate(seeds=[1], steps=8, given=np.full((4, 4), pitch))[0, 4:] for pitch in (60, 62)]
    assert (first[0] != first[1]).any()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.full((3, 5), 60), r"given notes: got shape \[3, 5\], expected \[T, 4\] or \[2, T, 4\]"),
        (np.full((3, 4, 4), 60), r"given notes: got shape \[3, 4, 4\], expected \[T, 4\] or \[2, T, 4\]"),
        (np.full(4, 60), r"given notes: got shape \[4\]"),
        (np.full((3, 4), 82), r"given notes: step 0, voice 0: pitch 82 is neither 0 \(silence\) nor within 36\.\.81"),
        (np.full((3, 4), -2), r"given notes: step 0, voice 0: pitch -2"),
        (np.full((3, 4), 60.5), r"given notes: .*60\.5"),
        (np.full((3, 4), np.nan), r"given notes: .*nan"),
    ],
)
def test_given_notes_that_cannot_be_sung_are_refused(generator, given, message):
    with pytest.raises(SettingError, match=message):
        generator.generate(seeds=[1, 2], steps=5, given=given)


# --- ranges, the first note, stuck notes ------------------------------------------------------------------------------


def test_voices_keep_within_the_ranges_asked_for(generator):
    ranges = ((60, 62), (55, 55), (50, 60), (40, 41))
    chorales = generator.generate(seeds=range(8), steps=40, settings=SamplingSettings(ranges=ranges, temperature=2.0))
    for voice, (low, high) in enumerate(ranges):
        sung = chorales[:, :, voice]
        assert set(np.unique(sung)) <= {SILENCE, *range(low, high + 1)}
    assert {60, 61, 62} <= set(np.unique(chorales[:, :, 0]))


def test_without_ranges_all_pitches_may_be_sung(generator):
    chorales = generator.generate(seeds=range(20), steps=40, settings=SamplingSettings(ranges=None, temperature=50.0))
    assert len(np.unique(chorales[:, :, 3])) > 40


def test_a_chorale_begins_with_any_note_of_the_middle_soprano(generator):
    first = generator.generate(seeds=range(64), steps=1)[:, 0, 0]
    low, high = FIRST_SOPRANO
    assert ((first >= low) & (first <= high)).all()
    assert len(np.unique(first)) > 6


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.5}, {"temperature": 1e-3}, {"greedy": True}])
def test_a_soprano_whose_range_lies_elsewhere_begins_within_it(generator, settings):
    ranges = ((76, 79), *VOICE_RANGES[1:])
    first = generator.generate(seeds=range(8), steps=1, settings=SamplingSettings(ranges=ranges, **settings))[:, 0, 0]
    assert ((first >= 76) & (first <= 79)).all()


def longest_hold(chorale):
    """The most steps that nothing but one chord was sung."""
    longest = run = 1
    for before, now in itertools.pairwise(chorale):
        run = run + 1 if (before == now).all() else 1
        longest = max(longest, run)
    return longest


@pytest.mark.parametrize("greedy", [True, False])
@pytest.mark.parametrize("max_still_steps", [1, 4])
def test_a_model_that_would_hold_for_ever_is_made_to_move(greedy, max_still_steps):
    settings = SamplingSettings(greedy=greedy, max_still_steps=max_still_steps)
    for chorale in Generator(holding()).generate(seeds=[1, 2], steps=60, settings=settings):
        assert max_still_steps <= longest_hold(chorale) <= max_still_steps + 1


def test_without_the_guard_a_model_may_hold_for_ever():
    [chorale] = Generator(holding()).generate(seeds=[1], steps=60, settings=SamplingSettings(max_still_steps=0))
    assert longest_hold(chorale) == 60


def test_a_given_chord_may_be_held_for_longer_than_the_guard_allows():
    given = np.full((60, 4), 60)
    [chorale] = Generator(holding()).generate(
        seeds=[1], steps=62, given=given, settings=SamplingSettings(max_still_steps=4)
    )
    np.testing.assert_array_equal(chorale[:60], given)
    assert chorale[60, 0] != 60


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0, -1, float("nan"), float("inf")])
def test_a_temperature_that_is_none_is_refused(temperature):
    with pytest.raises(SettingError, match=f"temperature: got {temperature}, expected a finite number above 0"):
        SamplingSettings(temperature=temperature)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"top_p": 0}, "top_p: got 0, expected more than 0 and at most 1"),
        ({"top_p": 1.1}, "top_p: got 1.1"),
        ({"top_p": float("nan")}, "top_p: got nan"),
        ({"max_still_steps": -1}, "max_still_steps: got -1, expected 0 or more"),
        ({"ranges": ((60, 70),) * 3}, "ranges: got 3, expected one for each of the 4 voices"),
        ({"ranges": ((70, 60),) * 4}, r"ranges: got 70\.\.60, expected lowest and highest pitch within 36\.\.81"),
        ({"ranges": ((60, 82),) * 4}, r"ranges: got 60\.\.82"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        SamplingSettings(**settings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": [], "steps": 4}, r"seeds: got \[\], expected one or more numbers of 0 or more"),
        ({"seeds": [1, -1], "steps": 4}, r"seeds: got \[1, -1\]"),
        ({"seeds": [1], "steps": 0}, "steps: got 0, expected 1 or more"),
    ],
)
def test_no_seed_and_no_step_are_refused(generator, arguments, message):
    with pytest.raises(SettingError, match=message):
        generator.generate(**arguments)


def test_progress_is_told_up_to_the_last_step(generator):
    told = []
    generator.generate(seeds=[1], steps=70, on_notes=lambda done, of: told.append((done, of)))
    assert told == [(32, 70), (64, 70), (70, 70)]


def test_a_layer_without_a_rule_for_one_note_is_named():
    model = keras.Sequential([*holding().layers, keras.layers.Conv1D(NUM_TOKENS, 2, padding="causal")])
    model(np.zeros((1, 3), np.int32))
    with pytest.raises(TypeError, match="no rule for one note through a layer of type Conv1D"):
        Generator(model).generate(seeds=[1], steps=2)


# --- the other backend ------------------------------------------------------------------------------------------------

SING = """
import sys
import keras
import numpy as np
from bach.generation import Generator, SamplingSettings
from bach.model_files import load

generator = Generator(load(sys.argv[1]))
greedy = generator.generate(seeds=[1], steps=80, settings=SamplingSettings(greedy=True))
drawn = generator.generate(seeds=[1, 2, 3], steps=80, settings=SamplingSettings(top_p=0.95))
np.savez(sys.argv[2], greedy=greedy, drawn=drawn)
"""


@pytest.mark.slow
@pytest.mark.parametrize("family", ["conv_lstm", "transformer", "relative_transformer"])
def test_both_backends_sing_the_same_chorale_for_the_same_seed(tmp_path, family):
    point = {"transformer": {"transformer.layers": 2, "transformer.window_steps": 32}}.get(family, {})
    keras.utils.set_random_seed(2)
    model = from_values({"model.family": family, **point})
    model.save(tmp_path / "model.keras")
    sung = []
    for backend in ("tensorflow", "jax"):
        environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", SING, str(tmp_path / "model.keras"), str(tmp_path / f"{backend}.npz")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        sung.append(np.load(tmp_path / f"{backend}.npz"))
    # Rounding differs between the two, so that once in a very long time a draw falls on the other side of a border;
    # from there on that chorale is another. Two of four must not meet such a border.
    same = [
        (one == other).all() for key in ("greedy", "drawn") for one, other in zip(*(s[key] for s in sung), strict=True)
    ]
    assert sum(same) >= 3, same


def test_each_chorale_of_a_batch_may_have_a_temperature_of_its_own(generator):
    together = generator.generate(seeds=[3, 3, 4], steps=12, temperatures=[0.5, 1.5, 1.5])
    for row, (seed, temperature) in enumerate(((3, 0.5), (3, 1.5), (4, 1.5))):
        [alone] = generator.generate(seeds=[seed], steps=12, settings=SamplingSettings(temperature=temperature))
        np.testing.assert_array_equal(together[row], alone)
    with pytest.raises(SettingError, match="temperatures: got 1, expected one for each of the 2 chorales"):
        generator.generate(seeds=[1, 2], steps=4, temperatures=[1.0])
    with pytest.raises(SettingError, match="temperature: got 0"):
        generator.generate(seeds=[1], steps=4, temperatures=[0])
