"""Sound and pictures, checked by what can be measured in them."""

import io
import re
import shutil
import wave
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from bach.errors import OutputError
from bach.formats import pictures, sound
from bach.formats.pictures import COLOURS, engrave, render_png, render_svg
from bach.formats.sound import PEAK, RELEASE, SAMPLE_RATE, additive, render_wav
from bach.notes import VOICES

MUSIC = np.array([[72, 67, 60, 48]] * 4 + [[74, 67, 62, 50]] * 2 + [[74, 67, 62, 0]] * 14 + [[72, 64, 67, 48]] * 10)
TEMPO = 90.0
STEP = 60 / TEMPO / 4
"""Seconds of a step."""


def alone(*notes: tuple[int, int]) -> np.ndarray:
    """A soprano that sings (pitch, steps) one after the other; the others rest."""
    steps = sum(length for _, length in notes)
    music = np.zeros((steps, 4), np.int16)
    music[:, 0] = np.repeat([pitch for pitch, _ in notes], [length for _, length in notes])
    return music


def samples(content: bytes) -> np.ndarray:
    with wave.open(io.BytesIO(content)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, SAMPLE_RATE)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)


def strongest_frequency(signal: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(signal * np.hanning(len(signal)), 8 * len(signal)))
    return float(np.argmax(spectrum)) * SAMPLE_RATE / (8 * len(signal))


def test_wav_lasts_as_long_as_the_chorale_and_stays_below_full_scale():
    found = samples(render_wav(MUSIC, tempo=TEMPO, synthesiser="additive"))
    assert len(found) / SAMPLE_RATE == pytest.approx(len(MUSIC) * STEP + RELEASE, abs=0.001)
    assert abs(found).max() == pytest.approx(PEAK * 32767, abs=2)


def test_a_faster_tempo_is_shorter():
    slow, fast = (len(samples(render_wav(MUSIC, tempo=t, synthesiser="additive"))) for t in (60, 120))
    assert (slow - RELEASE * SAMPLE_RATE) / (fast - RELEASE * SAMPLE_RATE) == pytest.approx(2, rel=1e-3)


@pytest.mark.parametrize("pitch", [36, 60, 69, 81])
def test_a_note_sounds_at_its_frequency_even_at_its_end(pitch):
    found = additive(alone((pitch, 64)), TEMPO)[:, 0]
    expected = 440 * 2 ** ((pitch - 69) / 12)
    for second in (0.5, 9.5):
        part = found[round(second * SAMPLE_RATE) :][: SAMPLE_RATE // 2]
        assert strongest_frequency(part) == pytest.approx(expected, abs=0.5)


def test_each_note_begins_on_its_step():
    found = additive(alone((69, 8), (0, 4), (76, 4)), TEMPO)[:, 0]
    first, second = found[: round(8 * STEP * SAMPLE_RATE)], found[round(12 * STEP * SAMPLE_RATE) :]
    assert strongest_frequency(first) == pytest.approx(440, abs=1)
    assert strongest_frequency(second) == pytest.approx(659.26, abs=1)
    rest = found[round((8 * STEP + RELEASE) * SAMPLE_RATE) + 1 : round(12 * STEP * SAMPLE_RATE)]
    assert len(rest) > 0.5 * SAMPLE_RATE
    assert not rest.any()


def roughness_at_joins() -> float:
    """Returns the sharpest bend of the waveform where notes begin, join or end, in units of that inside held notes."""
    bends = abs(np.diff(additive(alone((69, 4), (71, 4), (0, 4), (69, 4), (57, 4)), TEMPO)[:, 0].astype(float), n=2))
    joins = np.zeros(len(bends), bool)
    for step in (0, 4, 8, 12, 16, 20):
        at = round(step * STEP * SAMPLE_RATE)
        joins[max(0, at - 2000) : at + round(0.12 * SAMPLE_RATE) + 2000] = True
    return bends[joins].max() / bends[~joins].max()


def test_nothing_clicks_where_notes_begin_join_or_end(monkeypatch):
    assert roughness_at_joins() < 2  # two notes overlap at a join
    monkeypatch.setattr(sound, "RELEASE", 1e-5)
    assert roughness_at_joins() > 4  # a note cut off is heard as a click


def test_sound_begins_and_ends_in_silence():
    found = additive(MUSIC, TEMPO)
    assert abs(found[[0, -1]]).max() < 1e-3


def test_sopranos_stand_left_of_altos():
    soprano, alto = alone((69, 8)), np.roll(alone((69, 8)), 1, axis=1)
    left, right = abs(additive(soprano)).sum(axis=0)
    assert left > right
    left, right = abs(additive(alto)).sum(axis=0)
    assert left < right


def test_fluidsynth_is_asked_for_by_name_and_missing(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(OutputError, match="the program `fluidsynth` is not installed; use synthesiser='additive'"):
        render_wav(MUSIC, synthesiser="fluidsynth")
    assert render_wav(MUSIC) == render_wav(MUSIC, synthesiser="additive")


def test_fluidsynth_without_a_soundfont_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/true")
    monkeypatch.setenv("BACH_SOUNDFONT", str(tmp_path / "none.sf2"))
    with pytest.raises(OutputError, match="no soundfont was found"):
        render_wav(MUSIC, synthesiser="fluidsynth")


def test_a_fluidsynth_that_fails_is_replaced_by_sines(monkeypatch, tmp_path, caplog):
    program = tmp_path / "fluidsynth"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    (tmp_path / "font.sf2").write_bytes(b"x")
    monkeypatch.setattr(shutil, "which", lambda name: str(program))
    monkeypatch.setenv("BACH_SOUNDFONT", str(tmp_path / "font.sf2"))
    assert render_wav(MUSIC) == render_wav(MUSIC, synthesiser="additive")
    assert "FluidSynth failed with font.sf2" in caplog.text
    assert "using sines instead" in caplog.text


@pytest.mark.skipif(not (shutil.which("fluidsynth") and sound.soundfont()), reason="needs FluidSynth and a soundfont")
def test_fluidsynth_sings_the_chorale():
    found = samples(render_wav(alone((69, 32)), tempo=TEMPO, synthesiser="fluidsynth"))
    assert len(found) / SAMPLE_RATE >= 32 * STEP
    assert abs(found.astype(int)).max() == pytest.approx(PEAK * 32768, rel=0.01)
    middle = found[2 * SAMPLE_RATE : 4 * SAMPLE_RATE].mean(axis=1)
    cents = 1200 * np.log2(strongest_frequency(middle) / 440)
    assert abs((cents + 600) % 1200 - 600) < 40  # an A in some octave; choirs waver


def pixels(content: bytes) -> np.ndarray:
    from matplotlib.image import imread

    return imread(io.BytesIO(content))[:, :, :3]


def area(picture: np.ndarray, colour: str) -> int:
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return int((abs(picture - rgb).max(axis=2) < 0.01).sum())


def test_each_voice_has_its_colour_and_takes_room_as_long_as_it_sings():
    music = np.array([[76, 67, 60, 48]] * 16 + [[77, 67, 0, 0]] * 16)
    legend = [area(pixels(render_png(np.zeros((32, 4), int))), colour) for colour in COLOURS]
    assert min(legend) > 0
    soprano, alto, tenor, bass = (area(pixels(render_png(music)), c) - n for c, n in zip(COLOURS, legend, strict=True))
    assert soprano == pytest.approx(alto, rel=0.15)
    assert tenor == pytest.approx(alto / 2, rel=0.15)
    assert bass == pytest.approx(tenor, rel=0.15)


def test_a_long_piano_roll_has_more_rows_of_the_same_width():
    short, long = pixels(render_png(MUSIC)), pixels(render_png(np.tile(MUSIC, (14, 1))))
    assert short.shape[1] == long.shape[1]
    assert 3 < long.shape[0] / short.shape[0] < 4


def texts(svg: bytes) -> list[str]:
    return [
        "".join(element.itertext()).strip() for element in ET.fromstring(svg).iter() if element.tag.endswith("}text")
    ]


def test_the_engraved_score_has_four_named_staves_with_clefs_and_all_notes():
    svg = render_svg(MUSIC, title="A & B").decode()
    assert [text for text in texts(svg.encode()) if text.lower() in VOICES] == [voice.capitalize() for voice in VOICES]
    assert any("A & B" in text for text in texts(svg.encode()))
    assert len(re.findall(r'class="clef"', svg)) == 4
    # Tied notes count one by one, and each voice ends with ten steps, a half tied to an eighth. S 72, 74 over the bar
    # line, 72; A 67 over the bar line, 64; T 60, 62 over the bar line, 67; B 48, 50, a rest, 48.
    assert len(re.findall(r'class="note"', svg)) == (1 + 2 + 2) + (2 + 2) + (1 + 2 + 2) + (1 + 1 + 2)


def test_a_longer_score_is_higher_and_no_wider():
    def size(svg: bytes) -> tuple[int, int]:
        found = re.search(rb'<svg width="(\d+)px" height="(\d+)px"', svg)
        assert found
        return int(found[1]), int(found[2])

    short, long = size(render_svg(MUSIC)), size(render_svg(np.tile(MUSIC, (12, 1))))
    assert short[0] == long[0]
    assert long[1] > 2 * short[1]


def test_a_score_of_several_pages_is_put_together(monkeypatch):
    music = np.tile(MUSIC, (12, 1))
    whole = render_svg(music)
    monkeypatch.setattr(pictures, "MAX_PAGE_HEIGHT", 2000)
    stacked = render_svg(music)
    ET.fromstring(stacked)
    assert stacked.count(b'class="page-margin"') > 1
    assert stacked.count(b'class="note"') == whole.count(b'class="note"')


def test_what_cannot_be_engraved_is_an_output_error():
    with pytest.raises(OutputError, match="could not engrave"):
        engrave(b"no score")
