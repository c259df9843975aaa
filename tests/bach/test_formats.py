"""What is written: read back by other people's libraries and by ourselves, the same notes come out."""

import errno
import io
import json
import os
import re
import threading
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bach.errors import OutputError, SettingError
from bach.formats import (
    FORMATS,
    read_melody,
    read_pitches,
    write_all,
    write_csv,
    write_json,
    write_midi,
    write_musicxml,
)
from bach.formats.midi import TICKS_PER_STEP, render_midi
from bach.formats.musicxml import render_musicxml, spelling
from bach.held import merged_notes, runs
from bach.notes import VOICE_RANGES, VOICES

NAMES = [voice.capitalize() for voice in VOICES]


@st.composite
def chorales(draw, most_notes: int = 12) -> np.ndarray:
    """Four voices of notes and rests of any length within their ranges; never silent throughout, nor at the end."""
    voices = []
    for low, high in VOICE_RANGES:
        pitch = st.one_of(st.just(0), st.integers(low, high), st.integers(low, high))
        notes = draw(st.lists(st.tuples(pitch, st.integers(1, 21)), max_size=most_notes))
        voices.append(np.repeat([n[0] for n in notes], [n[1] for n in notes]).astype(np.int16))
    sung = np.zeros((max(1, *map(len, voices)), 4), np.int16)
    for voice, steps in enumerate(voices):
        sung[: len(steps), voice] = steps
    sounding = np.flatnonzero(sung.any(axis=1))
    if not len(sounding):
        sung[0, draw(st.integers(0, 3))] = 62
        sounding = [0]
    return sung[: sounding[-1] + 1]


def triples(voice: np.ndarray) -> list[tuple[float, float, int]]:
    return [(float(note.start), float(note.steps), note.pitch) for note in merged_notes(voice)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("formats")


EXAMPLE = np.array([[72, 67, 60, 48]] * 4 + [[74, 67, 62, 50]] * 2 + [[74, 67, 62, 0]] * 14 + [[72, 64, 67, 48]] * 10)


def test_runs_merge_held_notes_and_keep_silences_apart():
    voice = np.array([60, 60, 0, 0, 60, 62])
    assert runs(voice) == [(0, 2, 60), (2, 2, 0), (4, 1, 60), (5, 1, 62)]
    assert merged_notes(voice) == [(0, 2, 60), (4, 1, 60), (5, 1, 62)]


@given(music=chorales(), tempo=st.floats(20, 300))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_another_library_finds_the_same_notes_in_our_midi(music, tempo):
    import pretty_midi

    found = pretty_midi.PrettyMIDI(io.BytesIO(render_midi(music, tempo=tempo)))
    by_name = {track.name: track for track in found.instruments}
    for voice, name in enumerate(NAMES):
        notes = by_name[name].notes if name in by_name else []  # that library drops tracks without notes
        ticks = [(found.time_to_tick(note.start), found.time_to_tick(note.end), note.pitch) for note in notes]
        steps = [(start / TICKS_PER_STEP, (end - start) / TICKS_PER_STEP, pitch) for start, end, pitch in ticks]
        assert sorted(steps) == triples(music[:, voice])
    assert found.get_tempo_changes()[1] == pytest.approx([tempo], rel=1e-4)


@pytest.mark.slow
@given(music=chorales(most_notes=8))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_another_library_finds_the_same_notes_in_our_musicxml(folder, music):
    import partitura

    path = folder / "second.musicxml"
    path.write_bytes(render_musicxml(music))
    parts = list(partitura.load_score(str(path)).parts)
    assert [part.part_name for part in parts] == NAMES
    for voice, part in enumerate(parts):
        # A voice that never sings makes that library's table of notes fail.
        notes = part.note_array() if part.notes_tied else []
        found = [(note["onset_quarter"] * 4, note["duration_quarter"] * 4, note["pitch"]) for note in notes]
        assert sorted(found) == triples(music[:, voice])


@given(music=chorales())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_our_midi_and_csv_come_back_as_they_were(folder, music):
    for name, write in (("back.mid", write_midi), ("back.csv", write_csv)):
        found = read_pitches(write(music, folder / name))
        assert found.dtype == np.int16
        assert np.array_equal(found, music)


@given(music=chorales(most_notes=6))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_our_musicxml_comes_back_as_it_was(folder, music):
    assert np.array_equal(read_pitches(write_musicxml(music, folder / "back.musicxml")), music)


def test_real_chorales_come_back_from_every_format(jsb_archive, folder):
    import tarfile

    from bach.formats.table import parse_csv

    with tarfile.open(jsb_archive) as archive:
        files = [member for member in archive.getmembers() if re.search(r"test/.*\.csv$", member.name)]
        for member in files[::20]:
            file = archive.extractfile(member)
            assert file is not None
            music = parse_csv(file.read(), member.name)
            for path in write_all(music, folder / "real", formats=("midi", "musicxml", "csv")).values():
                assert np.array_equal(read_pitches(path), music), (member.name, path.suffix)


def test_midi_has_four_named_tracks_on_four_channels_and_one_tempo():
    import mido

    file = mido.MidiFile(file=io.BytesIO(render_midi(EXAMPLE, tempo=120, title="Ein Lied – süß")), charset="utf-8")
    assert [track.name for track in file.tracks] == NAMES
    messages = [message for track in file.tracks for message in track]
    assert [message.tempo for message in messages if message.type == "set_tempo"] == [500_000]
    assert [message.text for message in messages if message.type == "text"] == ["Ein Lied – süß"]
    for voice, track in enumerate(file.tracks):
        assert {message.channel for message in track if message.type == "note_on"} == {voice}
        assert sum(message.time for message in track) == len(EXAMPLE) * TICKS_PER_STEP
    assert len([message for message in file.tracks[0] if message.type == "note_on"]) == 3  # 72, 74, 72


def test_score_has_named_parts_clefs_and_bars_with_ties():
    root = ET.fromstring(render_musicxml(EXAMPLE, title="A & B <C>"))
    assert [name.text for name in root.iter("part-name")] == NAMES
    assert root.findtext("movement-title") == "A & B <C>"
    clefs = [tuple(child.text for child in clef) for clef in root.iter("clef")]
    assert clefs == [("G", "2"), ("G", "2"), ("G", "2", "-1"), ("F", "4")]
    assert [(time.findtext("beats"), time.findtext("beat-type")) for time in root.iter("time")] == [("4", "4")] * 4
    alto = root.findall("part")[1]
    bars = alto.findall("measure")
    assert len(bars) == 2  # 30 steps
    # 67 for 20 steps: the first bar and a tied quarter in the second, then 64 for 10 steps, then rests.
    assert [note.findtext("type") for note in bars[0].findall("note")] == ["whole"]
    assert [tie.get("type") for tie in alto.iter("tie")] == ["start", "stop", "start", "stop"]
    divisions = int(alto.findtext(".//divisions") or 0)
    lengths = [sum(int(note.findtext("duration") or 0) for note in bar.findall("note")) / divisions for bar in bars]
    assert lengths == [4, 4]
    assert bars[1].findall("note")[-1].find("rest") is not None


def test_score_carries_no_date_and_no_random_name():
    score = render_musicxml(EXAMPLE).decode()
    assert "date" not in score
    assert "Music21 Fragment" not in score
    assert "<creator" not in score
    assert re.findall(r'<part id="(\w+)"', score) == ["P1", "P2", "P3", "P4"]


@pytest.mark.parametrize(
    ("pitch", "sharps", "minor", "name"),
    [
        (60, 0, False, "C4"),
        (61, 0, False, "C#4"),
        (63, 0, False, "E-4"),  # C major borrows E flat, not D sharp
        (63, 0, True, "D#4"),  # in A minor it leads to E
        (70, 0, True, "B-4"),
        (68, 0, True, "G#4"),
        (61, -4, False, "D-4"),  # A flat major
        (66, 1, False, "F#4"),
        (60, 6, False, "B#3"),  # F sharp major: an octave name of its own
        (71, -5, True, "C-5"),  # B flat minor: the second degree, lowered
        (59, -6, False, "C-4"),
    ],
)
def test_accidentals_are_spelt_to_fit_the_key(pitch, sharps, minor, name):
    assert spelling(pitch, sharps, minor) == name


@given(st.integers(36, 81), st.integers(-5, 6), st.booleans())
def test_every_spelling_sounds_as_the_pitch(pitch, sharps, minor):
    from music21.pitch import Pitch

    assert Pitch(spelling(pitch, sharps, minor)).midi == pitch


@pytest.mark.parametrize(
    ("notes", "fifths", "mode"),
    [
        ([60, 62, 64, 65, 67, 69, 71, 72, 67, 64, 60], 0, "major"),
        ([62, 64, 66, 67, 69, 71, 73, 74, 69, 66, 62], 2, "major"),
    ],
)
def test_key_signature_is_the_one_that_is_heard(notes, fifths, mode):
    soprano = np.repeat(notes, 4)
    music = np.stack([soprano, soprano, soprano - 12, soprano - 12], axis=1)
    root = ET.fromstring(render_musicxml(music))
    assert [(key.findtext("fifths"), key.findtext("mode")) for key in root.iter("key")] == [(str(fifths), mode)] * 4


def test_a_silent_chorale_can_be_written(tmp_path):
    paths = write_all(np.zeros((8, 4), np.int16), tmp_path / "silence", synthesiser="additive")
    assert set(paths) == set(FORMATS)
    assert all(path.stat().st_size for path in paths.values())


def test_all_formats_are_written_beside_each_other_with_measures(tmp_path):
    stem = tmp_path / "new folder" / "sample.1"
    paths = write_all(EXAMPLE, stem, title="Sample", measures={"loss": float("nan"), "steps": np.int64(3)})
    assert {path.name for path in (tmp_path / "new folder").iterdir()} == {"sample.1" + end for end in FORMATS.values()}
    assert json.loads(paths["json"].read_text("utf-8")) == {"loss": None, "steps": 3}
    alone = write_all(EXAMPLE, stem, formats=["json"])
    assert json.loads(alone["json"].read_text("utf-8"))["notes"] == 3 + 2 + 3 + 3


def test_equal_chorales_give_equal_files(tmp_path):
    one = write_all(EXAMPLE, tmp_path / "one", title="T", synthesiser="additive")
    two = write_all(EXAMPLE, tmp_path / "two", title="T", synthesiser="additive")
    assert [name for name in FORMATS if one[name].read_bytes() != two[name].read_bytes()] == []


@pytest.mark.parametrize("title", ["$x$ and $", "\x00\x1b[31m", "<&\"'>", "\udcff", "a" * 5000, "  "])
def test_any_title_can_be_written(title, tmp_path):
    paths = write_all(EXAMPLE[:8], tmp_path / "t", title=title, formats=("midi", "musicxml", "png", "svg"))
    assert np.array_equal(read_pitches(paths["musicxml"]), EXAMPLE[:8])
    ET.parse(paths["svg"])


def test_an_unknown_format_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(SettingError, match="unknown format 'musicxlm'; did you mean 'musicxml'"):
        write_all(EXAMPLE, tmp_path / "x", formats=["midi", "musicxlm"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tempo", [0, -1, 5, 1e9, float("nan"), float("inf")])
def test_an_impossible_tempo_is_refused(tempo, tmp_path):
    with pytest.raises(SettingError, match=r"tempo .* is outside 10\.\.600"):
        write_midi(EXAMPLE, tmp_path / "x.mid", tempo=tempo)


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((0, 4), int), np.zeros((4, 3), int), np.full((2, 4), 60.5), np.full((2, 4), 35), np.full((2, 4), 82)],
    ids=["no steps", "three voices", "fractions", "too low", "too high"],
)
@pytest.mark.parametrize("name", ["midi", "musicxml", "wav", "png", "svg", "csv"])
def test_what_is_no_chorale_is_not_written(wrong, name, tmp_path):
    with pytest.raises(ValueError, match=r"chorale|pitch|sequence"):
        write_all(wrong, tmp_path / "x", formats=[name])
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing_behind_and_the_old_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "x.csv"
    path.write_text("old")

    def no_room(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", no_room)
    with pytest.raises(OutputError, match=r"cannot write .*x\.csv: No space left.* free some, or choose another"):
        write_csv(EXAMPLE, path)
    assert [file.name for file in tmp_path.iterdir()] == ["x.csv"]
    assert path.read_text() == "old"


def test_a_really_full_device_is_an_output_error(tmp_path):
    """A file size limit stops the write halfway, as a full disk does."""
    import resource
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        with pytest.raises(OutputError, match=r"cannot write .*x\.csv"):
            write_csv(EXAMPLE, tmp_path / "x.csv")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_folder_is_needed_is_an_output_error(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="a file stands where a folder is needed"):
        write_midi(EXAMPLE, tmp_path / "out" / "x.mid")


def test_a_folder_with_the_files_name_is_an_output_error(tmp_path):
    (tmp_path / "x.mid").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*x\.mid"):
        write_midi(EXAMPLE, tmp_path / "x.mid")
    assert [file.name for file in tmp_path.iterdir()] == ["x.mid"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_an_output_error(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="may not be written to"):
            write_midi(EXAMPLE, tmp_path / "x.mid")
    finally:
        tmp_path.chmod(0o700)


def test_many_writers_of_one_file_leave_one_whole_file(tmp_path):
    contents = [{"writer": number, "text": "x" * 10_000} for number in range(8)]
    threads = [threading.Thread(target=write_json, args=(content, tmp_path / "x.json")) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert json.loads((tmp_path / "x.json").read_text("utf-8")) in contents
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


def test_a_new_file_has_the_permissions_of_any_other(tmp_path):
    (tmp_path / "plain").write_text("")
    path = write_csv(EXAMPLE, tmp_path / "x.csv")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("name", ["midi", "musicxml", "csv"])
def test_the_melody_of_a_chorale_is_its_soprano(name, tmp_path):
    path = write_all(EXAMPLE, tmp_path / "x", formats=[name])[name]
    assert np.array_equal(read_melody(path), EXAMPLE[:, 0])
