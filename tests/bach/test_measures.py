"""Each measure on a few steps that can be counted by hand, and Bach's own values on the canonical corpus."""

import itertools
import json
import math
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bach.formats.table import parse_csv, render_json
from bach.measures import (
    DISTANCES,
    RATIOS,
    CopyIndex,
    Reference,
    durations,
    longest_stuck,
    measure,
    measure_many,
    melodic_intervals,
)

SMALL = hnp.arrays(np.int16, st.tuples(st.integers(0, 12), st.just(4)), elements=st.integers(60, 61))
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "measures.md"


def chorale(*steps: str) -> np.ndarray:
    """One step per string, e.g. "72 67 60 48"; soprano to bass."""
    return np.array([[int(pitch) for pitch in step.split()] for step in steps], np.int16)


def random_chorale(seed: int, steps: int = 120) -> np.ndarray:
    """Four voices that wander within their ranges, in notes of one to six steps."""
    draw = np.random.default_rng(seed)
    voices = []
    for low, high in ((62, 79), (55, 71), (50, 67), (40, 60)):
        notes = draw.integers(low, high, steps)
        voices.append(np.repeat(notes, draw.integers(1, 7, steps))[:steps])
    return np.stack(voices, axis=1).astype(np.int16)


def test_parallel_fifths_are_two_voices_a_fifth_apart_that_move_the_same_way_to_another_fifth():
    music = chorale(
        "72 67 60 48",  # S-T is an octave, A-T a fifth
        "74 69 62 43",  # A-T moves up to a fifth: a parallel fifth; S-T moves up to an octave: a parallel octave
        "74 69 62 43",  # nothing moves
        "76 67 60 48",  # A-T moves down to a fifth: another
    )
    # Notes: S 72 74 76, A 67 69 67, T 60 62 60, B 48 43 48.
    assert measure(music)["notes"] == 12
    assert measure(music)["parallel_fifths"] == pytest.approx(1000 * 2 / 12)
    assert measure(music)["parallel_octaves"] == pytest.approx(1000 * 1 / 12)


def test_contrary_motion_between_fifths_is_no_parallel():
    music = chorale(
        "74 65 58 55",  # S-B 19 semitones: a fifth and an octave
        "67 65 58 60",  # S falls, B rises, 7 semitones: a fifth again, but not in the same direction
    )
    assert measure(music)["parallel_fifths"] == 0


def test_held_fifths_and_fifths_with_one_voice_held_are_no_parallels():
    music = chorale(
        "74 67 60 41",  # A-T and S-A are fifths
        "74 67 60 43",  # only the bass moves
    )
    assert measure(music)["parallel_fifths"] == 0


def test_parallels_do_not_count_where_a_voice_rests():
    music = chorale(
        "72 67 60 48",  # A-T a fifth
        "74 69 62 0",  # A-T moves in fifths, but the bass rests
        "76 71 64 47",  # and again from a step on which the bass rests
        "77 72 65 45",  # only here all four sing, before and after
    )
    # Notes: 4 of each upper voice, bass 48 47 45.
    assert measure(music)["parallel_fifths"] == pytest.approx(1000 * 1 / 15)
    assert measure(music)["parallel_octaves"] == pytest.approx(1000 * 1 / 15)  # S-T, on the same step


def test_crossing_is_a_voice_below_its_lower_neighbour():
    music = chorale(
        "72 67 60 48",  # in order
        "67 67 60 48",  # a unison is no crossing
        "66 67 60 48",  # soprano below alto
        "66 67 60 62",  # two crossings, one step
        "0 60 62 48",  # a step with a rest is left out
    )
    assert measure(music)["voice_crossings"] == pytest.approx(2 / 4)


def test_spacing_is_wide_above_an_octave_between_the_upper_three_voices():
    music = chorale(
        "72 60 48 36",  # octaves everywhere: not wider
        "73 60 48 36",  # S-A 13
        "72 62 49 36",  # A-T 13
        "72 67 60 40",  # T-B 20 does not count
        "75 60 0 48",  # a step with a rest is left out
    )
    assert measure(music)["wide_spacings"] == pytest.approx(2 / 4)


def test_overlap_is_a_voice_that_moves_past_where_its_neighbour_just_was():
    music = chorale(
        "72 67 60 48",
        "74 73 60 48",  # the alto rises above the soprano's last 72, though it stays below its 74: one
        "74 73 66 48",  # the tenor rises, not above 73: none
        "74 76 66 48",  # the alto rises above the soprano's 74: two
        "74 65 66 48",  # the alto falls below the tenor's 66: three
    )
    # Notes: S 72 74, A 67 73 76 65, T 60 66, B 48.
    assert measure(music)["voice_overlaps"] == pytest.approx(1000 * 3 / 9)


def test_overlap_looks_at_what_a_resting_neighbour_sang_last():
    music = chorale(
        "0 72 60 48",  # a soprano that has not sung yet is in nobody's way
        "72 67 60 48",
        "0 67 60 48",  # the soprano rests after its 72
        "0 74 60 48",  # the alto rises past 72: one
        "72 74 60 48",  # the soprano takes up its own last note: it has not moved
    )
    # Notes: S 72 72, A 72 67 74, T 60, B 48.
    assert measure(music)["voice_overlaps"] == pytest.approx(1000 * 1 / 7)


def test_durations_are_those_of_merged_notes_and_leave_silences_out():
    music = chorale("72 67 60 48", "72 67 60 0", "72 65 60 0", "74 65 0 48")
    # S 72 for 3, 74 for 1; A 67 for 2, 65 for 2; T 60 for 3; B 48 for 1, 48 for 1 after two rests.
    assert durations(music).tolist() == [3, 1, 2, 2, 3, 1, 1]
    found = measure(music)
    assert found["duration_1"] == pytest.approx(3 / 7)
    assert found["duration_2"] == pytest.approx(2 / 7)
    assert found["duration_3"] == pytest.approx(2 / 7)
    assert found["duration_4"] == 0


def test_a_pitch_that_two_voices_share_is_two_notes():
    # The last note of a voice and the first of the next one are the same pitch.
    assert durations(chorale("60 60 60 60", "60 60 60 60")).tolist() == [2, 2, 2, 2]


def test_stepwise_motion_is_two_semitones_at_most_and_does_not_reach_over_rests():
    music = chorale(
        "72 67 60 48",
        "74 67 60 48",  # S +2: a step
        "71 67 60 0",  # S -3: a leap
        "71 67 60 50",  # the bass comes back after a rest: no interval
        "70 67 60 51",  # S -1: a step; B +1: a step
    )
    assert melodic_intervals(music[:, 0]).tolist() == [2, -3, -1]
    found = measure(music)
    assert found["stepwise_soprano"] == pytest.approx(2 / 3)
    assert found["stepwise_bass"] == 1
    assert math.isnan(found["stepwise_alto"])  # it never moves


@pytest.mark.parametrize(
    ("last", "major"),
    [
        ("72 67 64 48", 1),  # C major, root below
        ("72 67 63 48", 0),  # C minor
        ("72 67 64 52", 0),  # C major over E
        ("72 60 64 48", 0),  # no fifth
        ("70 67 64 48", 0),  # a seventh
        ("72 67 64 0", 0),  # lowest sung is E
        ("0 67 64 48", 1),  # three voices are enough
        ("72 67 48 64", 1),  # the tenor sings the root, below the bass
        ("0 0 0 0", 0),  # silence
    ],
)
def test_last_chord_is_major_with_all_its_tones_and_the_root_below(last, major):
    assert measure(chorale("60 60 60 60", last))["ends_major"] == major


def test_range_violations_are_notes_outside_the_range_of_their_voice():
    music = chorale(
        "81 74 69 66",  # each voice's highest note
        "60 52 46 36",  # each voice's lowest
        "59 52 46 36",  # the soprano one lower
        "59 52 46 67",  # the bass one higher
    )
    # Notes: S 3, A 2, T 2, B 3; two of them out of range, the held 59 counted once.
    assert measure(music)["range_violations"] == pytest.approx(1000 * 2 / 10)


def test_longest_stuck_counts_the_steps_of_the_longest_chord():
    music = chorale("72 67 60 48", "72 67 60 48", "72 67 60 50", "72 67 60 50", "72 67 60 50", "74 67 60 50")
    # 2 steps, 3 steps, 1 step.
    assert measure(music)["longest_stuck"] == 3


def test_a_copy_in_another_key_is_found_with_its_length():
    music = random_chorale(1)
    index = CopyIndex([random_chorale(2), music])
    # 30 steps of it, 5 semitones higher, between other music. The first has no move, so 29 are compared; a neighbour
    # may happen to agree with the step beside the copy, which these do not.
    copy = np.concatenate([random_chorale(3)[:20], music[40:70] + 5, random_chorale(4)[:20]])
    assert index.longest_run(copy) == 29
    assert index.longest_run(music) == len(music) - 1


def test_a_run_does_not_cross_from_one_training_piece_into_the_next():
    one, two = random_chorale(1, 20), random_chorale(2, 20)
    index = CopyIndex([one, two])
    assert index.longest_run(np.concatenate([one, two])) == 19


def test_rests_are_compared_too():
    music = random_chorale(1, 20)
    silent = music.copy()
    silent[9, 2] = 0
    assert CopyIndex([music]).longest_run(silent) == 10  # the steps 10..19 after the rest
    assert CopyIndex([silent]).longest_run(silent + np.where(silent, 3, 0).astype(np.int16)) == 19


def test_soprano_rests_do_not_hide_a_transposed_copy():
    music = random_chorale(5, 20)
    music[0:3, 0] = 0
    music[9:11, 0] = 0
    assert CopyIndex([music]).longest_run(music + np.where(music, 4, 0).astype(np.int16)) == 19


@given(
    st.lists(SMALL, max_size=4),
    SMALL,
)
def test_longest_run_is_what_a_search_through_all_stretches_finds(training, music):
    def stretches(piece):
        shape = [(b[0] - a[0], b[1] - b[0], b[2] - b[0], b[3] - b[0]) for a, b in itertools.pairwise(piece.tolist())]
        return {tuple(shape[i:j]) for i in range(len(shape)) for j in range(i + 1, len(shape) + 1)}

    shared = set().union(*map(stretches, training)) & stretches(music)
    assert CopyIndex(training).longest_run(music) == max(map(len, shared), default=0)


def test_copied_flags_a_run_above_24_steps():
    training = random_chorale(1)
    reference = Reference([training])
    for steps, flag in ((25, 0.0), (26, 1.0)):
        found = measure(training[:steps], reference)
        assert (found["longest_copied_run"], found["copied"]) == (steps - 1, flag)


def test_distance_to_itself_is_zero_and_an_octave_shift_of_one_voice_is_its_size_in_deviations():
    music = random_chorale(1, 400)
    reference = Reference([music])
    assert measure(music, reference)["distance"] == pytest.approx(0, abs=1e-12)
    moved = music.copy()
    moved[:, 3] -= 2
    found = measure(moved, reference)
    # Tenor minus bass grows by 2 everywhere: the distance is 2 semitones, in units of the reference's deviation.
    assert found["distance_harmony_tenor_bass"] == pytest.approx(2 / np.std(music[:, 2] - music[:, 3]))
    assert found["distance_harmony_soprano_alto"] == pytest.approx(0, abs=1e-12)
    assert found["distance_melody_bass"] == pytest.approx(0, abs=1e-12)
    assert found["distance"] == pytest.approx(np.mean([found[f"distance_{name}"] for name in DISTANCES]))


def test_a_reference_without_variety_is_refused():
    with pytest.raises(ValueError, match="no variety of 'melody_soprano'"):
        Reference([chorale("72 67 60 48", "72 67 60 48")])


def test_a_set_is_pooled_so_that_long_pieces_weigh_more():
    crossed, fine = chorale("60 62 50 40"), chorale("72 67 60 48", "72 67 60 48", "72 67 60 48")
    assert measure_many([crossed, fine])["voice_crossings"] == pytest.approx(1 / 4)
    assert measure_many([fine])["voice_crossings"] == measure(fine)["voice_crossings"] == 0
    assert measure_many([crossed, fine])["longest_stuck_median"] == 2
    assert measure_many([crossed, fine])["longest_stuck_max"] == 3


@pytest.mark.parametrize("music", [np.zeros((0, 4), np.int16), np.zeros((5, 4), np.int16)], ids=["no steps", "silence"])
def test_what_has_nothing_to_count_is_nan_and_null_in_json(music):
    reference = Reference([random_chorale(1)])
    found = measure(music, reference)
    assert math.isnan(found["parallel_fifths"])
    assert math.isnan(found["distance"])
    assert found["longest_copied_run"] == 0
    written = json.loads(render_json(found))
    assert written["parallel_fifths"] is None
    assert all(value is None or isinstance(value, float) for value in written.values())


def test_an_empty_set_is_nan_throughout():
    found = measure_many([], Reference([random_chorale(1)]))
    assert found["chorales"] == 0
    assert math.isnan(found["longest_stuck_max"])
    assert math.isnan(found["copied"])


def test_a_table_of_three_voices_is_refused():
    with pytest.raises(ValueError, match=r"\[T, 4\], got \[7, 3\]"):
        measure(np.zeros((7, 3), np.int16))


@given(
    hnp.arrays(np.int16, st.tuples(st.integers(1, 40), st.just(4)), elements=st.sampled_from([0, 55, 60, 62, 67, 74]))
)
def test_measures_are_numbers_that_do_not_depend_on_the_key_or_change_the_music(music):
    before = music.copy()
    found = measure(music)
    assert (music == before).all()
    assert all(isinstance(value, float) for value in found.values())
    moved = measure(music + np.where(music, 1, 0).astype(np.int16))
    for name in set(found) - {"range_violations"}:
        assert found[name] == pytest.approx(moved[name], nan_ok=True), name
    assert longest_stuck(music) <= len(music)


def test_every_measure_is_documented():
    text = DOCUMENT.read_text("utf-8")
    reference = Reference([random_chorale(1)])
    names = {*measure(random_chorale(2), reference), *measure_many([random_chorale(2)], reference)}
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []


@pytest.fixture(scope="module")
def bach(jsb_archive) -> dict[str, list[np.ndarray]]:
    found: dict[str, list[np.ndarray]] = {"train": [], "valid": [], "test": []}
    with tarfile.open(jsb_archive) as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            file = archive.extractfile(member)
            if file and member.name.endswith(".csv"):
                found[Path(member.name).parent.name].append(parse_csv(file.read(), member.name))
    return found


@pytest.fixture(scope="module")
def values(bach) -> dict[str, dict[str, float]]:
    reference = Reference(bach["train"])
    return {split: measure_many(chorales, reference) for split, chorales in bach.items()}


@pytest.mark.parametrize(
    ("name", "scale", "digits", "expected"),
    [
        ("parallel_fifths", 1, 2, {"train": 0.77, "valid": 0.88, "test": 0.91}),
        ("parallel_octaves", 1, 2, {"train": 0.59, "valid": 0.38, "test": 0.34}),
        ("voice_crossings", 100, 1, {"train": 2.4, "valid": 3.0, "test": 2.0}),
        ("wide_spacings", 100, 1, {"train": 1.3, "valid": 1.1, "test": 1.6}),
        ("voice_overlaps", 1, 0, {"train": 28, "valid": 31, "test": 25}),
        ("duration_4", 100, 0, {"test": 40}),
        ("duration_2", 100, 0, {"test": 36}),
        ("duration_8", 100, 0, {"test": 10}),
        ("duration_1", 100, 1, {"test": 3.3}),
        ("stepwise_soprano", 1, 2, {"test": 0.84}),
        ("stepwise_alto", 1, 2, {"test": 0.80}),
        ("stepwise_tenor", 1, 2, {"test": 0.77}),
        ("stepwise_bass", 1, 2, {"test": 0.67}),
        ("ends_major", 100, 0, {"train": 92, "valid": 91, "test": 96}),
        ("longest_copied_run_median", 1, 0, {"valid": 18, "test": 16}),
        ("longest_copied_run_p90", 1, 0, {"valid": 24, "test": 24}),
        ("longest_copied_run_max", 1, 0, {"valid": 163, "test": 63}),
        ("range_violations", 1, 2, {"train": 0, "valid": 0, "test": 0}),
    ],
)
def test_bachs_own_values_are_found(values, name, scale, digits, expected):
    assert {split: round(values[split][name] * scale, digits) for split in expected} == expected


def test_the_values_in_the_document_are_the_measured_ones(values):
    """Rows `| name | train | valid | test |`; a dash stands where a value says nothing."""
    rows = re.findall(r"^\| `(\w+)` \| ([-–\d.]+) \| ([-–\d.]+) \| ([-–\d.]+) \|$", DOCUMENT.read_text("utf-8"), re.M)
    assert {name for name, *_ in rows} >= {ratio.name for ratio in RATIOS} | {"distance", "copied"}
    for name, *cells in rows:
        for split, cell in zip(("train", "valid", "test"), cells, strict=True):
            if cell != "–":
                digits = len(cell.partition(".")[2])
                assert float(cell) == pytest.approx(values[split][name], abs=0.5001 * 10**-digits), (name, split)


def test_a_set_of_random_notes_is_much_farther_from_bach_than_bach_is(bach, values):
    reference = Reference(bach["train"])
    noise = [random_chorale(seed, 200) for seed in range(20)]
    assert measure_many(noise, reference)["distance"] > 5 * values["test"]["distance"]
    assert measure_many(noise, reference)["longest_copied_run_max"] <= 6
