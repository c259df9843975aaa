"""The chorales rebuilt from music21's scores: the real ones, and small scores written here."""

import hashlib
import io
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bach.corpus import EXPECTED_COUNTS, MUSIC21_FINGERPRINT, load
from bach.corpus.cache import read_dataset, sealed, write_dataset
from bach.corpus.music21_scores import (
    Recipe,
    corpus_folder,
    cut,
    fill_rests,
    read_manifest,
    rebuild,
    score_parts,
)
from bach.errors import DataError
from bach.notes import SPLITS, VOICE_RANGES

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def rebuilt(cache):
    return load("music21", cache=cache)


# The real scores


def test_375_chorales_are_rebuilt_in_the_canonical_split(rebuilt):
    assert (rebuilt.name, rebuilt.fingerprint) == ("music21", MUSIC21_FINGERPRINT)
    assert {split: len(chorales) for split, chorales in rebuilt.splits.items()} == EXPECTED_COUNTS["music21"]
    assert {split: len(chorales) for split, chorales in rebuilt.splits.items()} == {
        "train": 225,
        "valid": 73,
        "test": 77,
    }


def test_rebuilt_chorales_keep_their_canonical_numbers_and_titles(rebuilt):
    numbers = [int(chorale.id.partition("/")[2]) for chorale in rebuilt.chorales()]
    assert sorted(set(range(382)) - set(numbers)) == [25, 67, 113, 170, 264, 268, 285]
    assert numbers == sorted(numbers)
    assert (rebuilt.chorales()[0].id, rebuilt.chorales()[0].title) == ("train/000", "bwv360")


def test_rebuilt_voices_sing_in_their_ranges(rebuilt):
    steps = np.concatenate([chorale.pitches for chorale in rebuilt.chorales()])
    for voice, (low, high) in enumerate(VOICE_RANGES):
        sung = steps[:, voice][steps[:, voice] > 0]
        # One soprano goes down to 57 in music21's edition and not in the canonical one.
        assert low - 3 * (voice == 0) <= sung.min()
        assert sung.max() <= high


def test_rebuilt_chorales_equal_the_canonical_ones_as_far_as_the_manifest_says(rebuilt, jsb_archive):
    canonical = {chorale.id: chorale.pitches for chorale in load(jsb_archive).chorales()}
    recipes = {f"{recipe.split}/{recipe.index:03}": recipe for recipe in read_manifest()}
    exact, cells, steps, total = 0, 0, 0, 0
    for chorale in rebuilt.chorales():
        equal = chorale.pitches == canonical[chorale.id]
        recipe = recipes[chorale.id]
        assert equal.mean() == pytest.approx(recipe.cell_share, abs=1e-5), chorale.id
        assert equal.all(axis=1).mean() == pytest.approx(recipe.step_share, abs=1e-5), chorale.id
        exact += bool(equal.all())
        cells, steps, total = cells + equal.sum() / 4, steps + equal.all(axis=1).sum(), total + len(equal)
    assert exact == 110
    assert cells / total == pytest.approx(0.9894, abs=1e-4)
    assert steps / total == pytest.approx(0.962, abs=1e-3)


def test_music21_itself_is_not_imported_to_rebuild():
    program = (
        "import sys; from bach.corpus.music21_scores import rebuild, read_manifest;"
        "rebuild(recipes=[recipe for recipe in read_manifest() if recipe.index % 60 == 1]);"
        "assert 'music21' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


# The cache


def test_the_second_load_comes_from_the_cache_and_is_the_same(rebuilt, cache, monkeypatch):
    monkeypatch.setattr("bach.corpus.loading.rebuild", lambda **_: pytest.fail("rebuilt again"))
    again = load("music21", cache=cache)
    assert again.fingerprint == rebuilt.fingerprint
    assert [(c.id, c.title) for c in again.chorales()] == [(c.id, c.title) for c in rebuilt.chorales()]
    assert all(
        np.array_equal(ours.pitches, theirs.pitches)
        for ours, theirs in zip(again.chorales(), rebuilt.chorales(), strict=True)
    )
    assert not again.chorales()[0].pitches.flags.writeable


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"not at all " * 100,
        lambda data: data[:20_000] + bytes(64) + data[20_064:],
        lambda data: data[:-40] + bytes(40),
    ],
    ids=["cut", "empty", "text", "holed", "end lost"],
)
def test_a_damaged_cache_is_noticed_and_built_again(rebuilt, tmp_path, monkeypatch, caplog, damage):
    monkeypatch.setattr("bach.corpus.loading.rebuild", lambda **_: rebuilt)  # the real one is tested above
    load("music21", cache=tmp_path / "cache")
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_bytes(damage(kept.read_bytes()))
    assert load("music21", cache=tmp_path / "cache").fingerprint == MUSIC21_FINGERPRINT
    assert "damaged" in caplog.text
    dataset = read_dataset(kept, name="music21")
    assert dataset is not None
    assert dataset.fingerprint == MUSIC21_FINGERPRINT


@given(at=st.integers(0, 2**20), bit=st.integers(0, 7))
def test_one_flipped_bit_in_the_cache_is_noticed(rebuilt, cache, at, bit):
    (path,) = cache.glob("*.npz")
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1 << bit
    (cache / "flipped").write_bytes(data)
    assert read_dataset(cache / "flipped", name="music21") is None


def with_changed_arrays(dataset, path, change):
    """Keeps `dataset` in `path` with its arrays changed, as somebody might who knows how the file is made."""
    write_dataset(path, dataset)
    with np.load(io.BytesIO(path.read_bytes()[:-32])) as kept:
        arrays = dict(kept)
    change(arrays)
    data = io.BytesIO()
    np.savez(data, **arrays)
    path.write_bytes(sealed(data.getvalue()))


def test_a_cache_with_other_pitches_under_the_right_fingerprint_is_noticed(rebuilt, tmp_path, caplog):
    def change(arrays):
        arrays["pitches"][0, 0] ^= 1

    with_changed_arrays(rebuilt, tmp_path / "kept.npz", change)
    assert read_dataset(tmp_path / "kept.npz", name="music21") is None
    assert "fingerprint" in caplog.text


def test_a_cache_with_pickles_in_it_is_never_unpickled(rebuilt, tmp_path, caplog):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "sprung"),))

    def change(arrays):
        arrays["titles"] = np.array([Trap()], object)

    with_changed_arrays(rebuilt, tmp_path / "kept.npz", change)
    assert read_dataset(tmp_path / "kept.npz", name="music21") is None
    assert "allow_pickle" in caplog.text
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("missing", ["titles", "counts"])
def test_a_cache_of_another_make_is_built_again(rebuilt, tmp_path, missing):
    with_changed_arrays(rebuilt, tmp_path / "kept.npz", lambda arrays: arrays.pop(missing))
    assert read_dataset(tmp_path / "kept.npz", name="music21") is None


def test_a_cache_that_cannot_be_written_costs_time_but_nothing_else(rebuilt, tmp_path, monkeypatch, caplog):
    (tmp_path / "cache").write_text("a file where a folder should be")
    monkeypatch.setattr("bach.corpus.loading.rebuild", lambda **_: rebuilt)
    assert load("music21", cache=tmp_path / "cache").name == "music21"
    assert "not cached" in caplog.text


@pytest.mark.slow
def test_two_processes_may_build_the_cache_at_once(tmp_path):
    program = (
        "import sys; from pathlib import Path; from bach.corpus import load;"
        "print('ready', flush=True); sys.stdin.readline();"
        "print(load('music21', cache=Path(sys.argv[1])).fingerprint)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "cache")]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)
    ]
    for process in processes:  # both have imported what they need before either starts
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate()[0].strip() for process in processes] == [MUSIC21_FINGERPRINT] * 2
    (kept,) = (tmp_path / "cache").iterdir()  # and no temporary files
    dataset = read_dataset(kept, name="music21")
    assert dataset is not None
    assert dataset.fingerprint == MUSIC21_FINGERPRINT


# Scores that are not there, or others


def test_scores_that_differ_are_all_named_with_their_hashes(tmp_path):
    recipes = [recipe for recipe in read_manifest() if recipe.index in (0, 1, 2)]
    (tmp_path / "bach").mkdir()
    for recipe in recipes:
        (tmp_path / recipe.path).write_bytes((corpus_folder() / recipe.path).read_bytes())
    (tmp_path / recipes[0].path).write_bytes(b"changed")
    (tmp_path / recipes[1].path).unlink()
    found = hashlib.sha256(b"changed").hexdigest()[:16]
    with pytest.raises(DataError, match="2 of 3 scores") as caught:
        rebuild(tmp_path, recipes)
    message = str(caught.value)
    assert f"{recipes[0].path} has SHA-256 {found}…, expected {recipes[0].sha256_16}…" in message
    assert f"{recipes[1].path} cannot be read" in message
    assert recipes[2].path not in message
    assert "--data jsb" in message


def test_without_music21_one_sentence_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"music21.*is not installed; install it .* or use .*--data jsb"):
        load("music21", cache=tmp_path)


# What a recipe means, on small scores


def score(*parts: str) -> bytes:
    body = "".join(f"<part id='P{i}'><measure>{part}</measure></part>" for i, part in enumerate(parts))
    return f"<score-partwise>{body}</score-partwise>".encode()


def note(step: str = "", octave: int = 4, duration: int = 1, alter: int = 0, more: str = "") -> str:
    pitch = f"<pitch><step>{step}</step><alter>{alter}</alter><octave>{octave}</octave></pitch>" if step else "<rest/>"
    return f"<note>{more}{pitch}<duration>{duration}</duration></note>"


def divisions(per_quarter: int) -> str:
    return f"<attributes><divisions>{per_quarter}</divisions></attributes>"


def test_notes_become_steps_of_a_sixteenth():
    # a quarter C4, an eighth C#4, a sixteenth rest, a sixteenth B3
    part = divisions(4) + note("C", 4, 4) + note("C", 4, 2, alter=1) + note() + note("B", 3)
    (steps,) = score_parts(score(part), where="x")
    assert steps.tolist() == [60, 60, 60, 60, 61, 61, 0, 59]


def test_a_step_has_the_note_that_sounds_when_it_begins():
    # thirty-seconds: C4 begins on a step, D4 between two, E4 on the next
    part = divisions(8) + note("C") + note("D") + note("E", duration=2)
    (steps,) = score_parts(score(part), where="x")
    assert steps.tolist() == [60, 64]


def test_divisions_may_change_and_gaps_are_silent():
    part = divisions(1) + note("C") + divisions(4) + "<forward><duration>2</duration></forward>" + note("D")
    (steps,) = score_parts(score(part), where="x")
    assert steps.tolist() == [60, 60, 60, 60, 0, 0, 62]


def test_grace_notes_are_skipped():
    part = divisions(4) + "<note><grace/><pitch><step>G</step><octave>5</octave></pitch></note>" + note("C")
    (steps,) = score_parts(score(part), where="x")
    assert steps.tolist() == [60]


def test_a_compressed_score_reads_like_a_plain_one():
    plain = score(divisions(4) + note("C", duration=3))
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as package:
        package.writestr(
            "META-INF/container.xml", "<c xmlns='u'><rootfiles><rootfile full-path='s.xml'/></rootfiles></c>"
        )
        package.writestr("s.xml", plain)
    assert score_parts(data.getvalue(), where="x")[0].tolist() == [60, 60, 60]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<score-partwise>",
        b"PK not a zip",
        score(note("C")),  # no divisions: a note of no length is no chorale, and cutting it says so
        score(divisions(4) + note("H")),
        score(divisions(0) + note("C")),
        score(divisions(4) + note("C") + note("E", more="<chord/>")),
        score(divisions(4) + note("C") + "<backup><duration>1</duration></backup>" + note("E")),
    ],
)
def test_a_score_of_another_kind_is_refused(data):
    with pytest.raises(DataError, match=r"x\.xml"):
        cut(score_parts(data, where="x.xml"), RECIPE)


RECIPE = Recipe(
    index=0,
    split="train",
    path="x.xml",
    parts=(1, 2, 3, 4),
    transposition=0,
    rests="none",
    segments=((0, 2),),
    end_hold=0,
    length=2,
    cell_share=None,
    step_share=None,
    status="near",
    sha256_16="",
)
PARTS = [np.array([36, 36, 36, 36]), *[np.array([p, p + 1, 0, p + 2]) for p in (70, 65, 60)], np.array([50, 51])]


def test_a_recipe_chooses_parts_and_plays_segments_in_order():
    pitches = cut(PARTS, replace(RECIPE, segments=((3, 4), (0, 2), (0, 1)), length=4))
    # the bass's part is shorter: silent at step 3
    assert pitches.tolist() == [[72, 67, 62, 0], [70, 65, 60, 50], [71, 66, 61, 51], [70, 65, 60, 50]]


def test_a_recipe_transposes_what_sounds_and_holds_the_end():
    pitches = cut(PARTS, replace(RECIPE, transposition=-2, segments=((2, 4),), end_hold=2, length=4))
    assert pitches.tolist() == [[0, 0, 0, 0], [70, 65, 60, 0], [70, 65, 60, 0], [70, 65, 60, 0]]


def test_rests_are_kept_or_filled_where_all_rest_or_voice_by_voice():
    grid = np.array([[0, 60], [70, 61], [0, 62], [0, 0], [72, 0]])
    assert fill_rests(grid, "none").tolist() == grid.tolist()
    assert fill_rests(grid, "all").tolist() == [[0, 60], [70, 61], [0, 62], [0, 62], [72, 0]]
    assert fill_rests(grid, "voice").tolist() == [[0, 60], [70, 61], [70, 62], [70, 62], [72, 62]]


def test_rests_are_filled_before_cutting():
    pitches = cut(PARTS[1:] + PARTS[3:4], replace(RECIPE, parts=(0, 1, 2, 4), rests="voice", segments=((2, 4),)))
    assert pitches[0].tolist() == [71, 66, 61, 61]  # step 2 rests; what is held was before the cut


@pytest.mark.parametrize(
    ("change", "told"),
    [({"parts": (1, 2, 3, 9)}, "got 5 parts, expected part 9"), ({"length": 3}, "cut to 2 steps, expected 3")],
)
def test_a_recipe_that_does_not_fit_its_score_is_refused(change, told):
    with pytest.raises(DataError, match=told):
        cut(PARTS, replace(RECIPE, **change))


def test_the_manifest_has_a_row_for_each_canonical_chorale():
    recipes = read_manifest()
    assert [recipe.index for recipe in recipes] == list(range(382))
    assert [sum(recipe.split == split for recipe in recipes) for split in SPLITS] == [229, 76, 77]
    assert sum(recipe.usable for recipe in recipes) == 375
    assert sum(recipe.length for recipe in recipes) == 92_536
