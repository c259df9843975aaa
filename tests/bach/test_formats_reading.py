"""What is read: other people's files, and files that are broken, huge, or meant to do harm."""

import contextlib
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import mido
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bach.errors import FormatError
from bach.formats import read_melody, read_pitches
from bach.formats.files import MAX_BYTES
from bach.formats.grid import MAX_STEPS
from bach.formats.midi import render_midi
from bach.formats.musicxml import MAX_BARS, MAX_NOTES, MAX_XML, render_musicxml

ROOT = Path(__file__).resolve().parents[2]
MUSIC = np.array([[72, 67, 60, 48]] * 4 + [[74, 67, 62, 50]] * 2 + [[74, 67, 62, 0]] * 3 + [[72, 64, 60, 48]] * 7)


def midi(path: Path, *tracks: Sequence[tuple[float, float, int]], names=(), channel=None, kind=1) -> Path:
    """A MIDI file with these notes (start and end in steps, pitch), a track each, 96 ticks per quarter."""
    file = mido.MidiFile(type=kind, ticks_per_beat=96)
    for number, notes in enumerate(tracks):
        track = file.add_track(names[number] if names else None)
        on = number if channel is None else channel
        events = [(start, "note_on", pitch) for start, _, pitch in notes] + [
            (end, "note_off", p) for _, end, p in notes
        ]
        now = 0
        for at, what, pitch in sorted(events, key=lambda event: (event[0], event[1] == "note_on")):
            ticks = round(at * 24)
            track.append(mido.Message(what, channel=on, note=pitch, time=ticks - now))
            now = ticks
    file.save(path)
    return path


def note(pitch: str, duration: int, voice: int = 1, extra: str = "") -> str:
    return (
        f"<note>{extra}<pitch><step>{pitch[0]}</step><octave>{pitch[1]}</octave></pitch>"
        f"<duration>{duration}</duration><voice>{voice}</voice></note>"
    )


def score(*parts: str, head: str = "", names=("", "", "", "", "", "")) -> str:
    """MusicXML of one bar of 4/4 per part, four divisions to the quarter (so a duration is a number of steps)."""
    names = "".join(f'<score-part id="P{i}"><part-name>{names[i]}</part-name></score-part>' for i in range(len(parts)))
    attributes = (
        "<attributes><divisions>4</divisions><time><beats>4</beats><beat-type>4</beat-type></time></attributes>"
    )
    bodies = "".join(
        f'<part id="P{i}"><measure number="1">{attributes}{body}</measure></part>' for i, body in enumerate(parts)
    )
    whole = f'<score-partwise version="4.0"><part-list>{names}</part-list>{bodies}</score-partwise>'
    return f'<?xml version="1.0"?>{head}{whole}'


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), content)
    return path


class TestMidi:
    def test_four_tracks_without_names_are_voices_from_high_to_low(self, tmp_path):
        path = midi(tmp_path / "x.mid", [(0, 4, 48)], [(0, 4, 72)], [(0, 4, 60)], [(0, 2, 67), (2, 4, 65)])
        assert read_pitches(path).tolist() == [[72, 67, 60, 48]] * 2 + [[72, 65, 60, 48]] * 2

    def test_names_decide_even_where_voices_cross_and_others_play_along(self, tmp_path):
        tracks = [[(0, 4, 50)], [(0, 4, 60)], [(0, 4, 62)], [(0, 4, 40)], [(0, 4, 70), (0, 4, 72)]]
        path = midi(tmp_path / "x.midi", *tracks, names=["Tenor", "S.", "Altus", "BASS", "Organ"])
        assert read_pitches(path).tolist() == [[60, 62, 50, 40]] * 4

    def test_four_channels_of_one_track_are_four_voices(self, tmp_path):
        file = mido.MidiFile(type=0, ticks_per_beat=96)
        track = file.add_track("chorale")
        for what in ("note_on", "note_off"):
            for channel, pitch in enumerate((72, 67, 60, 48)):
                track.append(
                    mido.Message(what, channel=channel, note=pitch, time=96 * (what == "note_off" and channel == 0))
                )
        file.save(tmp_path / "x.mid")
        assert read_pitches(tmp_path / "x.mid").tolist() == [[72, 67, 60, 48]] * 4

    def test_drums_are_no_voice(self, tmp_path):
        path = midi(tmp_path / "x.mid", [(0, 4, 60)], channel=9)
        with pytest.raises(FormatError, match=r"x\.mid has 0 voices, expected 4"):
            read_pitches(path)

    @pytest.mark.parametrize("count", [1, 2, 3, 5])
    def test_any_other_number_of_voices_is_named(self, count, tmp_path):
        path = midi(tmp_path / "x.mid", *[[(0, 4, 60 + number)] for number in range(count)])
        with pytest.raises(FormatError, match=f"x.mid has {count} voices?, expected 4: soprano, alto, tenor and bass"):
            read_pitches(path)

    def test_slightly_late_notes_are_put_on_the_grid(self, tmp_path):
        tracks = [[(0.1, 3.9, pitch), (4.2, 7.8, pitch + 2)] for pitch in (72, 67, 60, 48)]
        assert (
            read_pitches(midi(tmp_path / "x.mid", *tracks)).tolist() == [[72, 67, 60, 48]] * 4 + [[74, 69, 62, 50]] * 4
        )

    def test_legato_notes_are_cut_by_the_next(self, tmp_path):
        tracks = [[(0, 4.4, pitch), (4, 8, pitch + 2)] for pitch in (72, 67, 60)] + [[(0, 6, 48), (4, 8, 50)]]
        assert (
            read_pitches(midi(tmp_path / "x.mid", *tracks)).tolist() == [[72, 67, 60, 48]] * 4 + [[74, 69, 62, 50]] * 4
        )

    def test_triplets_are_refused_with_their_place(self, tmp_path):
        triplets = [(20 + third * 4 / 3, 20 + (third + 1) * 4 / 3, 72) for third in range(3)]
        path = midi(tmp_path / "x.mid", triplets, *[[(0, 24, pitch)] for pitch in (67, 60, 48)])
        with pytest.raises(
            FormatError, match=r"2 of 6 notes begin between the sixteenths.*bar 2, sixteenth 6.*quantise"
        ):
            read_pitches(path)

    def test_a_chord_in_a_voice_is_refused_with_its_place(self, tmp_path):
        path = midi(tmp_path / "x.mid", [(0, 4, 72), (17, 20, 72), (17, 20, 76)], *[[(0, 4, p)] for p in (67, 60, 48)])
        with pytest.raises(FormatError, match=r"bar 2, sixteenth 2 \(step 17\): two notes at once \(72 and 76\)"):
            read_pitches(path)

    @pytest.mark.parametrize("pitch", [35, 82, 0, 127])
    def test_a_pitch_outside_the_range_is_named_with_its_place(self, pitch, tmp_path):
        path = midi(tmp_path / "x.mid", *[[(0, 4, p)] for p in (72, 67, 60)], [(0, 4, 48), (4, 8, pitch)], names="SATB")
        with pytest.raises(FormatError, match=rf"B, bar 1, sixteenth 5 \(step 4\): pitch {pitch} is outside 36\.\.81"):
            read_pitches(path)

    def test_a_note_that_is_never_ended_lasts_to_the_end_of_its_track(self, tmp_path):
        file = mido.MidiFile(ticks_per_beat=96)
        track = file.add_track("melody")
        track.append(mido.Message("note_on", note=72, time=0))
        track.append(mido.MetaMessage("end_of_track", time=48))
        file.save(tmp_path / "x.mid")
        assert read_melody(tmp_path / "x.mid").tolist() == [72, 72]

    def test_a_very_long_piece_is_refused(self, tmp_path):
        path = midi(tmp_path / "x.mid", [(0, 1, 72), (MAX_STEPS, MAX_STEPS + 1, 72)])
        with pytest.raises(FormatError, match="lasts more than 16,000 sixteenths"):
            read_melody(path)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "is empty"),
            (b"RIFF....WAVE", "does not begin with 'MThd'"),
            (b"MThd\0\0\0\6\0\1\0\4", "is a broken MIDI file"),
            (render_midi(MUSIC)[:60], "is a broken MIDI file"),
            (render_midi(MUSIC).replace(b"\0\1\0\4", b"\0\2\0\4", 1), "type 2"),
            (render_midi(MUSIC).replace(b"\0\4\1\xe0", b"\0\4\0\0", 1), "ticks per quarter"),
            (render_midi(MUSIC).replace(b"\0\4\1\xe0", b"\0\4\xe7\x28", 1), "ticks per quarter"),
        ],
    )
    def test_what_is_no_midi_file_is_refused(self, content, message, tmp_path):
        (tmp_path / "x.mid").write_bytes(content)
        with pytest.raises(FormatError, match=message):
            read_pitches(tmp_path / "x.mid")

    @given(st.data())
    @settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_damaged_bytes_give_music_or_a_format_error(self, tmp_path, data):
        content = bytearray(render_midi(MUSIC))
        for _ in range(data.draw(st.integers(1, 8))):
            content[data.draw(st.integers(4, len(content) - 1))] = data.draw(st.integers(0, 255))
        (tmp_path / "x.mid").write_bytes(content)
        with contextlib.suppress(FormatError):
            assert read_pitches(tmp_path / "x.mid").shape[1] == 4


class TestMusicXml:
    def test_parts_may_be_packed_in_an_mxl_file(self, tmp_path):
        container = b'<container><rootfiles><rootfile full-path="a.musicxml"/></rootfiles></container>'
        path = tmp_path / "x.mxl"
        zipped(path, **{"META-INF__container_dot_xml": container, "a_dot_musicxml": render_musicxml(MUSIC)})
        assert np.array_equal(read_pitches(path), MUSIC)

    def test_two_staves_with_two_voices_each_are_four_voices(self, tmp_path):
        backup = "<backup><duration>16</duration></backup>"
        treble = note("C5", 16) + backup + note("G4", 8, 2) + note("F4", 8, 2)
        bass = note("C4", 16) + backup + note("C3", 16, 2)
        (tmp_path / "x.xml").write_text(score(treble, bass))
        assert read_pitches(tmp_path / "x.xml").tolist() == [[72, 67, 60, 48]] * 8 + [[72, 65, 60, 48]] * 8

    def test_grace_notes_and_chord_symbols_are_left_out(self, tmp_path):
        grace = "<note><grace/><pitch><step>D</step><octave>5</octave></pitch><voice>1</voice></note>"
        symbol = "<harmony><root><root-step>C</root-step></root><kind>major</kind></harmony>"
        (tmp_path / "x.xml").write_text(score(symbol + grace + note("C5", 16)))
        assert read_melody(tmp_path / "x.xml").tolist() == [72] * 16

    def test_transposing_instruments_are_read_as_they_sound(self, tmp_path):
        transpose = "<attributes><transpose><diatonic>-1</diatonic><chromatic>-2</chromatic></transpose></attributes>"
        (tmp_path / "x.xml").write_text(score(transpose + note("D5", 16)))
        assert read_melody(tmp_path / "x.xml").tolist() == [72] * 16

    def test_named_voices_are_found_among_other_parts(self, tmp_path):
        piano = note("C4", 16) + note("E4", 16).replace("<note>", "<note><chord/>")
        parts = [piano, note("C3", 16), note("C4", 16), note("G4", 16), note("C5", 16)]
        names = ["Piano", "Bass", "Tenor", "Alto", "Soprano"]
        (tmp_path / "x.xml").write_text(score(*parts, names=names))
        assert read_pitches(tmp_path / "x.xml").tolist() == [[72, 67, 60, 48]] * 16

    @pytest.mark.parametrize("count", [1, 2, 3, 5])
    def test_any_other_number_of_parts_is_named(self, count, tmp_path):
        (tmp_path / "x.musicxml").write_text(score(*[note(f"C{number + 2}", 16) for number in range(count)]))
        with pytest.raises(FormatError, match=rf"x\.musicxml has {count} voices?.*, expected 4"):
            read_pitches(tmp_path / "x.musicxml")

    def test_utf_16_is_read(self, tmp_path):
        text = score(note("C5", 16)).replace('version="1.0"', 'version="1.0" encoding="UTF-16"')
        (tmp_path / "x.xml").write_text(text, encoding="utf-16")
        assert read_melody(tmp_path / "x.xml").tolist() == [72] * 16

    def test_entities_that_grow_are_refused_at_once(self, tmp_path):
        bomb = '<!DOCTYPE lolz [<!ENTITY a "lol">' + "".join(
            f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in zip("abcdefgh", "bcdefghi", strict=True)
        )
        (tmp_path / "x.xml").write_text(score(note("C5", 16), head=bomb + "]>").replace("C</step>", "&i;</step>"))
        with pytest.raises(FormatError, match="defines XML entities"):
            read_melody(tmp_path / "x.xml")

    def test_entities_that_read_other_files_are_refused(self, tmp_path):
        (tmp_path / "secret").write_text("72")
        head = f'<!DOCTYPE x [<!ENTITY s SYSTEM "{(tmp_path / "secret").as_uri()}">]>'
        (tmp_path / "x.xml").write_text(score(note("C5", 16), head=head))
        with pytest.raises(FormatError, match="defines XML entities or refers to other files"):
            read_melody(tmp_path / "x.xml")

    def test_the_usual_document_type_is_no_reason_to_refuse(self, tmp_path):
        head = '<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 4.0 Partwise//EN" "partwise.dtd">'
        (tmp_path / "x.xml").write_text(score(note("C5", 16), head=head))
        assert len(read_melody(tmp_path / "x.xml")) == 16

    @pytest.mark.parametrize(("bars", "notes"), [(MAX_BARS + 1, 0), (1, MAX_NOTES + 1)])
    def test_a_score_that_would_take_minutes_is_refused_at_once(self, bars, notes, tmp_path):
        more = "<note/>" * notes + '</measure><measure number="2">' * (bars - 1)
        (tmp_path / "x.xml").write_text(score(more))
        with pytest.raises(FormatError, match=f"has {bars:,} bars and {notes:,} notes; at most 1,000 and 64,000"):
            read_melody(tmp_path / "x.xml")

    def test_a_zip_that_grows_is_refused(self, tmp_path):
        path = zipped(tmp_path / "x.mxl", a_dot_xml=b" " * (MAX_XML + 1))
        assert path.stat().st_size < 100_000
        with pytest.raises(FormatError, match="unpacks to more than 32 MiB"):
            read_pitches(path)

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("x.xml", b"no xml", "is not well-formed XML"),
            ("x.xml", render_musicxml(MUSIC)[:2000], "is not well-formed XML"),
            ("x.xml", b"<html><body/></html>", "no score: its root is <html>"),
            ("x.xml", b"<score-partwise/>", "x.xml"),
            ("x.xml", score("").encode(), "has 0 voices"),
            ("x.xml", b"\xff\xfe\xff", "x.xml"),
            ("x.mxl", b"PK\x03\x04 broken", "is a broken or protected .mxl file"),
            ("x.mxl", b"no zip", "is not well-formed XML"),
        ],
    )
    def test_what_is_no_score_is_refused(self, name, content, message, tmp_path):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FormatError, match=message):
            read_pitches(tmp_path / name)

    def test_an_mxl_file_without_a_score_is_refused(self, tmp_path):
        with pytest.raises(FormatError, match="a zip file without a score"):
            read_pitches(zipped(tmp_path / "x.mxl", a_dot_txt=b"hello"))
        missing = b'<container><rootfiles><rootfile full-path="a.xml"/></rootfiles></container>'
        with pytest.raises(FormatError, match="is a broken or protected"):
            read_pitches(zipped(tmp_path / "x.mxl", **{"META-INF__container_dot_xml": missing}))

    @given(st.data())
    @settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_a_score_with_wrong_values_gives_music_or_a_format_error(self, tmp_path, data):
        content = render_musicxml(MUSIC[:6]).decode()
        old = data.draw(
            st.sampled_from([">10080<", "<step>C</step>", "<octave>4<", "quarter", "<beats>4<", 'number="1"'])
        )
        new = data.draw(st.sampled_from([">-1<", ">1e9<", ">x<", "><", "<step>H</step>", "<octave>99<", "<beats>0<"]))
        (tmp_path / "x.xml").write_text(content.replace(old, new))
        with contextlib.suppress(FormatError):
            assert read_pitches(tmp_path / "x.xml").shape[1] == 4


class TestCsv:
    @pytest.mark.parametrize(
        "text",
        [
            "note0,note1,note2,note3\n72,67,60,48\n0,67,60,48\n",
            "72,67,60,48\n0,67,60,48",
            "S,A,T,B\r\n72,67,60,48\r\n0,67,60,48\r\n\r\n",
            "\ufeffnote0,note1,note2,note3\n72.0, 67,60,48\n0,67,60,48\n",
        ],
    )
    def test_tables_with_and_without_names_are_read(self, text, tmp_path):
        (tmp_path / "x.csv").write_text(text, encoding="utf-8", newline="")
        assert read_pitches(tmp_path / "x.csv").tolist() == [[72, 67, 60, 48], [0, 67, 60, 48]]

    def test_a_melody_is_one_column_or_the_first_of_four(self, tmp_path):
        (tmp_path / "x.csv").write_text("72\n0\n74\n")
        assert read_melody(tmp_path / "x.csv").tolist() == [72, 0, 74]
        with pytest.raises(FormatError, match=r"x\.csv has 1 voice"):
            read_pitches(tmp_path / "x.csv")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("72,67,60\n", r"x\.csv, line 1: 3 columns, expected 4"),
            ("72,67,60,48,36\n", "line 1: 5 columns, expected 4"),
            ("note0,note1,note2,note3\n72,67,60,48\n72,67,60\n", "line 3: 3 columns, expected 4"),
            ("72,67,60,48\n72,67,sixty,48\n", "line 2, column 3: 'sixty' is no pitch"),
            (
                "72,67,60,48\n72,67,60,35\n",
                r"line 2, column 4: '35' is no pitch; expected 0 \(silence\) or .* 36\.\.81",
            ),
            ("82,67,60,48\n", "line 1, column 1: '82'"),
            ("72,-1,60,48\n", "line 1, column 2: '-1'"),
            ("72,67,60.5,48\n", "line 1, column 3: '60.5'"),
            ("72,nan,60,48\n", "line 1, column 2: 'nan'"),
            ("72,inf,60,48\n", "line 1, column 2: 'inf'"),
            ("72,,60,48\n", "line 1, column 2: ''"),
            ("72,67,60,48\n\n72,67,60,48\n", "line 2: 0 columns"),
            ("note0,note1,note2,note3\n", "has no steps"),
            ("", "is empty"),
            ("72;67;60;48\n", r"x\.csv"),
            ('72,"67,60,48\n', "is not a CSV text file"),
            ("0,67,60,48\n" * (MAX_STEPS + 1), "has 16,001 steps; at most 16,000"),
        ],
    )
    def test_bad_tables_are_refused_with_line_and_cell(self, text, message, tmp_path):
        (tmp_path / "x.csv").write_text(text)
        with pytest.raises(FormatError, match=message):
            read_pitches(tmp_path / "x.csv")

    def test_bytes_that_are_no_text_are_refused(self, tmp_path):
        (tmp_path / "x.csv").write_bytes(b"\x89PNG\xff\xfe")
        with pytest.raises(FormatError, match="is not a CSV text file"):
            read_pitches(tmp_path / "x.csv")

    def test_a_melody_of_silence_is_refused(self, tmp_path):
        (tmp_path / "x.csv").write_text("0\n0\n")
        with pytest.raises(FormatError, match="has no notes"):
            read_melody(tmp_path / "x.csv")


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_melody_is_not_guessed_from_several_voices(count, tmp_path):
    path = midi(tmp_path / "x.mid", *[[(0, 4, 60 + number)] for number in range(count)])
    with pytest.raises(FormatError, match=f"has {count} voices; a melody is one voice, or the soprano"):
        read_melody(path)


def test_a_missing_file_a_folder_and_an_unknown_suffix_are_refused(tmp_path):
    with pytest.raises(FormatError, match=r"cannot read .*none\.mid: No such file"):
        read_pitches(tmp_path / "none.mid")
    (tmp_path / "x.csv").mkdir()
    with pytest.raises(FormatError, match="is a folder, expected a file"):
        read_pitches(tmp_path / "x.csv")
    with pytest.raises(FormatError, match=r"'\.musicxm'; did you mean '\.musicxml'"):
        read_pitches(tmp_path / "x.musicxm")


def test_a_huge_file_is_not_read(tmp_path):
    with (tmp_path / "x.mid").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(FormatError, match="is larger than 16 MiB"):
        read_pitches(tmp_path / "x.mid")


def test_capital_suffixes_are_known(tmp_path):
    (tmp_path / "X.MID").write_bytes(render_midi(MUSIC))
    assert np.array_equal(read_pitches(tmp_path / "X.MID"), MUSIC)


def test_importing_the_formats_does_not_load_the_slow_libraries():
    slow = {"music21", "matplotlib", "verovio", "scipy", "keras"}
    code = f"import sys, bach.formats, bach.measures; print(sorted({slow} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_reading_a_score_leaves_no_pickle_behind(tmp_path, monkeypatch):
    from music21 import environment

    monkeypatch.setattr(environment.Environment, "getRootTempDir", lambda self: tmp_path)
    (tmp_path / "x.xml").write_text(score(note("C5", 16)))
    read_melody(tmp_path / "x.xml")
    assert [path.name for path in tmp_path.iterdir()] == ["x.xml"]
