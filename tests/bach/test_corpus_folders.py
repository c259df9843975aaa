"""Folders of the user's own chorales, good and bad."""

import os
from pathlib import Path

import mido
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bach.corpus import load
from bach.corpus.folders import split_by_name
from bach.errors import DataError, SettingError
from bach.formats import write_midi, write_musicxml
from bach.notes import SPLITS

HEADINGS = "note0,note1,note2,note3"
GOOD = f"{HEADINGS}\n" + "72,67,64,48\n" * 16


def write(folder: Path, name: str, text: str | bytes = GOOD) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.fixture
def folder(tmp_path):
    """A good folder of four chorales, with a space and a letter that is not ASCII in its name."""
    folder = tmp_path / "meine Choräle"
    for name in ("train/chorale_007.csv", "train/other.csv", "valid/chorale_1.csv", "test/x.csv"):
        write(folder, name)
    return folder


def test_split_folders_are_the_splits(folder):
    dataset = load(folder)
    assert dataset.name == "meine Choräle"
    ids = {split: [chorale.id for chorale in chorales] for split, chorales in dataset.splits.items()}
    assert ids == {"train": ["train/007", "train/other"], "valid": ["valid/1"], "test": ["test/x"]}
    assert dataset.splits["test"][0].pitches.tolist() == [[72, 67, 64, 48]] * 16


def test_files_are_in_the_order_of_their_numbers(folder):
    for number in (10, 9, 100):
        write(folder, f"train/p{number}.csv")
    assert [chorale.id for chorale in load(folder).splits["train"]][2:] == ["train/p9", "train/p10", "train/p100"]


def test_hidden_and_other_files_are_left_alone(folder):
    write(folder, "train/.hidden.csv", "nonsense")
    write(folder, "train/readme.txt", "nonsense")
    write(folder, ".git/train/a.csv", "nonsense")
    assert len(load(folder).splits["train"]) == 2


def test_a_folder_that_links_to_itself_is_read_once(folder):
    (folder / "train" / "again").symlink_to(folder / "train", target_is_directory=True)
    assert len(load(folder).splits["train"]) == 2


def test_reading_tells_its_progress(folder):
    seen = []
    load(folder, progress=lambda *told: seen.append(told))
    assert seen == [("read", done, 4) for done in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    "text", [GOOD.replace("\n", "\r\n"), "\ufeff" + GOOD, GOOD + "\n\n"], ids=["crlf", "bom", "end"]
)
def test_tables_as_other_programs_write_them_are_the_same(folder, text):
    plain = load(folder).fingerprint
    write(folder, "test/x.csv", text)
    assert load(folder).fingerprint == plain


# Bad files: each message names the file, and the line and cell where there is one.

BAD_FILES = {
    "three columns": ("note0,note1,note2\n60,60,60\n", r"line 2: .*3.*expected 4"),
    "five columns": ("note0,note1,note2,note3,note4\n60,60,60,60,60\n", r"line 2: .*5.*expected 4"),
    "a longer line": (GOOD + "60,60,60,60,60\n", r"line 18: .*5.*expected 4"),
    "a shorter line": (GOOD + "60,60\n", r"line 18: .*2.*expected 4"),
    "one column": ("note0\n60\n60\n", r"1 voice.*expected 4"),
    "text": (GOOD + "60,60,sixty,60\n", r"line 18, column 3: 'sixty'"),
    "no cell": (GOOD + "60,,60,60\n", r"line 18, column 2: ''"),
    "below the range": (GOOD + "60,35,60,60\n", r"line 18, column 2: '35'.*36..81"),
    "above the range": (GOOD + "82,60,60,60\n", r"line 18, column 1: '82'.*36..81"),
    "negative": (GOOD + "60,60,60,-1\n", r"line 18, column 4: '-1'"),
    "a half": (GOOD + "60,60,60.5,60\n", r"line 18, column 3: '60.5'.*whole number"),
    "NaN": (GOOD + "nan,60,60,60\n", r"line 18, column 1: 'nan'"),
    "infinite": (GOOD + "inf,60,60,60\n", r"line 18, column 1: 'inf'"),
    "huge": (GOOD + "60,1e300,60,60\n", r"line 18, column 2: '1e300'"),
    "empty": ("", "empty"),
    "only empty lines": ("\n\n", "no steps"),
    "only headings": (HEADINGS + "\n", "no steps"),
    "not text": (b"\xff\xfe\x00\x01" * 9, "not a CSV text file"),
    "a zero byte": (GOOD + "60,6\x000,60,60\n", "line 18|not a CSV"),
}


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(("text", "told"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_table_is_refused_with_file_line_and_cell(folder, split, text, told):
    bad = write(folder, f"{split}/bad.csv", text)
    with pytest.raises(DataError, match=told) as caught:
        load(folder)
    assert str(bad) in str(caught.value)


@given(st.text(max_size=60) | st.binary(max_size=60))
def test_a_file_of_anything_is_a_chorale_or_a_data_error(tmp_path_factory, contents):
    folder = tmp_path_factory.mktemp("any")
    for split in SPLITS:
        write(folder, f"{split}/a.csv", contents.encode("utf-8", "replace") if isinstance(contents, str) else contents)
    try:
        assert load(folder).splits["train"][0].pitches.shape[1] == 4
    except DataError as error:
        assert "a.csv" in str(error)  # noqa: PT017 - either outcome is right


def test_an_empty_split_is_refused(folder):
    (folder / "valid" / "chorale_1.csv").unlink()
    with pytest.raises(DataError, match="split 'valid' is empty"):
        load(folder)


def test_a_missing_split_is_refused(folder):
    (folder / "valid").rename(folder / "val")
    with pytest.raises(DataError, match=r"no folder valid; got .*val"):
        load(folder)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no chorales in it; expected folders train, valid, test, or files .*\.csv"):
        load(tmp_path)


def test_a_split_that_is_a_file_is_refused(folder):
    (folder / "valid" / "chorale_1.csv").unlink()
    (folder / "valid").rmdir()
    write(folder, "valid", "x")
    with pytest.raises(DataError, match=r"valid: cannot read the folder \(Not a directory"):
        load(folder)


def test_an_unreadable_folder_is_refused(folder, monkeypatch):
    scandir = os.scandir

    def without_permission(path):
        if str(path).endswith("test"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", without_permission)  # not by mode: the tests may run as root
    with pytest.raises(DataError, match=r"test: cannot read the folder \(Permission denied\)"):
        load(folder)


def test_a_file_that_cannot_be_read_is_refused(folder):
    (folder / "train" / "gone.csv").symlink_to(folder / "nowhere")
    with pytest.raises(DataError, match=r"gone.csv"):
        load(folder)


def test_two_files_of_one_name_are_refused(folder):
    write_midi(np.full((16, 4), [72, 67, 64, 48]), folder / "test" / "x.mid")
    with pytest.raises(DataError, match="two chorales are called 'test/x'"):
        load(folder)


# MIDI and MusicXML


def test_midi_musicxml_and_csv_may_stand_side_by_side(tmp_path):
    pitches = np.repeat([[72, 67, 64, 48], [71, 67, 62, 55], [72, 67, 64, 48]], 4, axis=0)
    for split in SPLITS:
        (tmp_path / split).mkdir()
        write_midi(pitches, tmp_path / split / "a.mid")
        write_musicxml(pitches, tmp_path / split / "b.musicxml")
        write(tmp_path, f"{split}/c.csv", "\n".join([HEADINGS, *(",".join(map(str, row)) for row in pitches)]))
    dataset = load(tmp_path)
    assert [chorale.id for chorale in dataset.splits["valid"]] == ["valid/a", "valid/b", "valid/c"]
    for chorale in dataset.chorales():
        assert chorale.pitches.tolist() == pitches.tolist()


def test_a_midi_file_with_one_voice_is_refused(folder):
    song = mido.MidiFile()
    song.tracks.append(
        mido.MidiTrack([mido.Message("note_on", note=60, time=0), mido.Message("note_off", note=60, time=480)])
    )
    song.save(folder / "test" / "melody.mid")
    with pytest.raises(DataError, match=r"melody.mid.* 1 voice.*4"):
        load(folder)


def test_a_broken_midi_file_is_refused(folder):
    write(folder, "test/broken.mid", b"MThd\x00\x00")
    with pytest.raises(DataError, match=r"broken.mid"):
        load(folder)


# The split rule


def test_files_without_split_folders_are_split_by_their_names(tmp_path):
    for number in range(20):
        write(tmp_path, f"book {number % 3}/{number}.csv")
    dataset = load(tmp_path)
    assert {split: len(chorales) for split, chorales in dataset.splits.items()} == {"train": 12, "valid": 4, "test": 4}
    assert all(chorale.id.startswith(f"{split}/book ") for split in SPLITS for chorale in dataset.splits[split])
    assert [c.id for c in load(tmp_path).chorales()] == [c.id for c in dataset.chorales()]


def test_shares_can_be_chosen(tmp_path):
    for number in range(20):
        write(tmp_path, f"{number}.csv")
    dataset = load(tmp_path, shares=(0.8, 0.1, 0.1))
    assert {split: len(chorales) for split, chorales in dataset.splits.items()} == {"train": 16, "valid": 2, "test": 2}


file_names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=9)


@given(
    st.sets(file_names.filter(lambda name: name not in {".", ".."}), min_size=3),
    st.lists(st.integers(1, 100), min_size=3, max_size=3),
    st.randoms(),
)
def test_the_rule_uses_each_file_once_fills_each_split_and_ignores_order_and_place(names, weights, random):
    shares = [weight / sum(weights) for weight in weights]
    shuffled = list(names)
    random.shuffle(shuffled)
    one = split_by_name([Path("here") / name for name in sorted(names)], Path("here"), shares)
    other = split_by_name([Path("there") / name for name in shuffled], Path("there"), shares)
    assert sorted(path.name for files in one.values() for path in files) == sorted(names)
    for split, share in zip(SPLITS, shares, strict=True):
        assert {path.name for path in one[split]} == {path.name for path in other[split]}
        assert len(one[split]) >= 1
        assert abs(len(one[split]) - share * len(names)) <= 2


def test_two_files_cannot_be_split(tmp_path):
    write(tmp_path, "a.csv")
    write(tmp_path, "b.csv")
    with pytest.raises(DataError, match="2 chorales, expected at least 3"):
        load(tmp_path)


@pytest.mark.parametrize(
    "shares", [(0.6, 0.4), (0.6, 0.2, 0.3), (1.0, 0.0, 0.0), (1.2, -0.1, -0.1), (float("nan"), 0.5, 0.5)]
)
def test_impossible_shares_are_refused(tmp_path, shares):
    for name in "abc":
        write(tmp_path, f"{name}.csv")
    with pytest.raises(SettingError, match="three positive numbers of sum 1"):
        load(tmp_path, shares=shares)
