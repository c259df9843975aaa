"""What is told about a corpus: figures, near-duplicates, faults, pictures."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bach.corpus import Chorale, Dataset, load
from bach.duplicates import MIN_RUN, near_duplicates, seen_in_train, sopranos_seen
from bach.encoding import transpose
from bach.errors import OutputError
from bach.inspection import check, describe, plot
from bach.notes import SPLITS


def walk(seed: int, steps: int = 80) -> np.ndarray:
    """A piece in which every voice moves at random, a step at a time; two seeds share nothing but by chance."""
    moves = np.random.default_rng(seed).integers(-1, 2, (steps, 4))
    return np.clip(np.cumsum(moves, axis=0), -3, 3) + np.array([70, 64, 57, 50])


def corpus(name: str = "mine", **pieces: np.ndarray) -> Dataset:
    """A dataset of these pieces, `valid_a` being piece `valid/a`, and of one random piece for each split."""
    splits: Any = {split: [Chorale(id=f"{split}/random", pitches=walk(90 + i))] for i, split in enumerate(SPLITS)}
    for key, pitches in pieces.items():
        split, _, stem = key.partition("_")
        splits[split].append(Chorale(id=f"{split}/{stem}", pitches=pitches))
    return Dataset.of(name, splits)


# Figures


def test_a_description_has_the_figures_of_each_split():
    pitches = np.array([[72, 67, 64, 48], [72, 0, 66, 50], [60, 67, 64, 0], [61, 67, 70, 0]])
    dataset = Dataset.of(
        "x", {split: [Chorale(id=f"{split}/a", pitches=pitches[: i + 2])] for i, split in enumerate(SPLITS)}
    )
    described = describe(dataset)
    test = described.splits["test"]
    assert (test.num_chorales, test.num_steps, test.shortest, test.median, test.longest) == (1, 4, 4, 4.0, 4)
    assert [(voice.voice, voice.lowest, voice.highest, voice.silence) for voice in test.voices] == [
        ("soprano", 60, 72, 0.0),
        ("alto", 67, 67, 0.25),
        ("tenor", 64, 70, 0.0),
        ("bass", 48, 50, 0.5),
    ]
    assert test.crossings == 0.5  # soprano under alto in steps 2 and 3; a resting voice crosses nobody
    assert described.splits["all"].num_steps == 2 + 3 + 4
    assert described.splits["all"].median == 3.0


def test_a_description_goes_through_json():
    described = describe(corpus(train_low=np.tile([0, 60, 50, 40], (16, 1))))
    read = json.loads(json.dumps(described.as_json(), allow_nan=False))
    assert read["fingerprint"] == described.fingerprint
    assert read["splits"]["train"]["num_chorales"] == 2


def test_a_voice_that_never_sings_has_no_range():
    silent = np.zeros((16, 4), int)
    dataset = Dataset.of("x", {split: [Chorale(id=f"{split}/a", pitches=silent)] for split in SPLITS})
    assert [(voice.lowest, voice.highest, voice.silence) for voice in describe(dataset).splits["all"].voices] == [
        (None, None, 1.0)
    ] * 4


def test_the_canonical_chorales_have_the_known_figures(jsb_archive):
    described = describe(load(jsb_archive)).splits
    assert [described[split].num_steps for split in SPLITS] == [55_228, 18_408, 18_900]
    everything = described["all"]
    assert (everything.shortest, everything.median, everything.longest) == (100, 228.0, 640)
    assert [(voice.lowest, voice.highest) for voice in everything.voices] == [(60, 81), (52, 74), (46, 69), (36, 66)]
    assert all(0.003 <= voice.silence < 0.004 for voice in everything.voices)
    assert [round(100 * described[split].crossings, 1) for split in SPLITS] == [2.4, 2.9, 2.0]


# Near-duplicates


@pytest.mark.parametrize("semitones", [-5, -1, 0, 2, 7])
def test_a_piece_in_another_key_is_found(semitones):
    (pair,) = near_duplicates(corpus(train_a=walk(1), test_b=transpose(walk(1), semitones)))
    assert (pair.first, pair.second, pair.transposition) == ("train/a", "test/b", semitones)
    assert (pair.longest_run, pair.kind, pair.crosses) == (79, "piece", True)  # nothing moved into the first step
    assert pair.share == 79 / 80


def test_a_shared_passage_is_found_where_it_lies():
    shared = walk(1, 40)
    first, second = np.concatenate([walk(2, 100), shared]), np.concatenate([walk(3, 60), shared, walk(4, 90)])
    (pair,) = near_duplicates(corpus(train_a=first, train_b=transpose(second, 3)))
    assert (pair.transposition, pair.kind, pair.crosses) == (3, "passage", False)
    assert 39 <= pair.longest_run <= 42  # one more at each end by chance
    assert pair.share == pytest.approx(pair.shared_steps / 140)


def test_shared_steps_count_all_passages_of_a_pair_and_each_step_once():
    a, b = walk(1, 40), walk(2, 40)
    (pair,) = near_duplicates(corpus(train_a=np.concatenate([a, b]), test_b=np.concatenate([b, a, a])))
    assert 39 <= pair.longest_run <= 41
    assert 78 <= pair.shared_steps <= 80  # of the 80 steps of the shorter piece
    assert pair.kind == "piece"


def test_one_different_voice_is_another_passage():
    other = walk(1)
    other[::10, 2] += 1
    assert near_duplicates(corpus(train_a=walk(1), test_b=other)) == []


def test_a_silence_is_not_a_note():
    other = walk(1)
    other[::10, 3] = 0
    assert near_duplicates(corpus(train_a=walk(1), test_b=other)) == []


def test_silences_in_the_same_places_are_equal_in_any_key():
    piece = walk(1)
    piece[5:9] = 0
    piece[20:22, 0] = 0
    (pair,) = near_duplicates(corpus(train_a=piece, test_b=transpose(piece, 2)))
    assert (pair.longest_run, pair.transposition) == (79, 2)


def test_held_chords_and_long_silences_are_no_shared_passages():
    held, silent = np.tile([72, 67, 64, 48], (100, 1)), np.zeros((100, 4), int)
    pieces: Any = {f"train_h{i}": held for i in range(5)} | {f"test_s{i}": silent for i in range(5)}
    assert near_duplicates(corpus(**pieces)) == []


def test_pieces_shorter_than_a_passage_are_compared_without_fuss():
    assert near_duplicates(corpus(train_a=walk(1, 1), test_b=walk(1, 1), valid_c=walk(2, MIN_RUN - 1))) == []
    tiny = Dataset.of("x", {split: [Chorale(id=f"{split}/a", pitches=walk(1, 1))] for split in SPLITS})
    assert near_duplicates(tiny) == []
    assert sopranos_seen(tiny, "test").share == 0.0


@given(st.integers(0, 10_000), st.integers(0, 30), st.integers(0, 30), st.integers(-4, 4))
def test_a_planted_passage_is_always_found_with_its_length(seed, before, after, semitones):
    planted = walk(seed, 48)
    first = np.concatenate([walk(seed + 1, before + 1), planted, walk(seed + 2, after + 1)])
    pairs = near_duplicates(corpus(train_a=first, valid_b=transpose(planted, semitones)))
    assert [(pair.first, pair.second, pair.transposition) for pair in pairs] == [("train/a", "valid/b", semitones)]
    assert pairs[0].longest_run == 47


def test_what_was_seen_in_train_can_be_left_out():
    dataset = corpus(
        train_a=walk(1),
        test_b=transpose(walk(1), 2),
        test_c=np.concatenate([walk(1)[:36], walk(3, 100)]),
        valid_d=walk(1),
    )
    assert seen_in_train(dataset, "test") == {"test/b"}
    assert seen_in_train(dataset, "test", min_share=0) == {"test/b", "test/c"}
    assert seen_in_train(dataset, "valid") == {"valid/d"}
    assert seen_in_train(dataset, "train") == frozenset()


def test_a_soprano_in_another_key_over_other_voices_is_seen():
    other = walk(2)
    other[:, 0] = walk(1)[:, 0] + 2
    mostly = walk(3)
    mostly[:, 0] = walk(1)[:, 0]
    mostly[-10:, 0] = 60  # 70 of 80 steps are less than nine tenths
    seen = sopranos_seen(corpus(train_a=walk(1), test_b=other, test_c=mostly), "test")
    assert (seen.seen, seen.num_chorales) == (("test/b",), 3)
    assert seen.share == 1 / 3


def check_known_leaks(dataset: Dataset) -> None:
    pairs = {(pair.first, pair.second): pair for pair in near_duplicates(dataset)}
    longest = pairs["train/224", "valid/303"]
    assert (longest.transposition, longest.longest_run, longest.kind) == (2, 163, "piece")
    assert pairs["train/142", "valid/287"].kind == "piece"
    assert [pair for pair in pairs if pairs[pair].kind == "piece"] == [
        ("train/224", "valid/303"),
        ("train/142", "valid/287"),
        ("train/056", "train/222"),
        ("train/055", "test/313"),
    ]
    assert seen_in_train(dataset, "valid") == {"valid/287", "valid/303"}
    assert seen_in_train(dataset, "test") == {"test/313"}
    assert len(sopranos_seen(dataset, "test").seen) == 28


def test_the_known_leaks_of_the_canonical_split_are_found(jsb_archive):
    dataset = load(jsb_archive)
    check_known_leaks(dataset)
    pairs = {(pair.first, pair.second): pair for pair in near_duplicates(dataset)}
    assert pairs["train/142", "valid/287"].longest_run == 128
    titles = {chorale.id: chorale.title for chorale in dataset.chorales()}
    assert titles["train/224"] == titles["valid/303"] == "bwv414"


def test_the_known_leaks_are_in_the_rebuilt_chorales_too():
    check_known_leaks(load("music21"))


# Faults


def test_good_data_have_no_findings():
    assert check(corpus()) == []
    assert check(load("music21")) == []


def test_the_canonical_chorales_have_no_findings(jsb_archive):
    assert check(load(jsb_archive)) == []


@pytest.mark.parametrize(
    ("pieces", "kind", "told"),
    [
        ({"train_a": walk(1, 15)}, "short", "train/a: 15 steps"),
        ({"train_a": walk(1) * [1, 1, 0, 1]}, "silent_voice", "train/a: the tenor never sings"),
        ({"train_a": walk(1)[:, ::-1]}, "voice_order", "train/a: the voices are not soprano, alto, tenor, bass"),
        ({"train_a": walk(1), "test_b": walk(1)}, "copy", "train/a and test/b are the same"),
    ],
)
def test_a_fault_is_found_and_named(pieces, kind, told):
    (finding,) = check(corpus(**pieces))
    assert finding.kind == kind
    assert told in finding.message


def test_a_named_source_with_other_counts_is_found():
    dataset = Dataset(name="jsb", fingerprint="", splits=corpus().splits)
    findings = check(dataset)
    assert [(finding.kind, finding.where) for finding in findings] == [("counts", split) for split in SPLITS]
    assert "1 chorales, 'jsb' has 229" in findings[0].message


# Pictures


def test_a_plot_is_a_picture_of_some_size(tmp_path):
    plot(corpus(), tmp_path / "new folder" / "corpus.png")
    data = (tmp_path / "new folder" / "corpus.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    width, height = (int.from_bytes(data[at : at + 4]) for at in (16, 20))
    assert width > 800
    assert height > 800
    assert len(list((tmp_path / "new folder").iterdir())) == 1


def test_a_plot_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"corpus\.png"):
        plot(corpus(), tmp_path / "file" / "corpus.png")
