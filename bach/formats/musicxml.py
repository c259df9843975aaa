"""MusicXML: a score of four named parts out, the parts of anybody's score in.

Both ways go through music21, which takes about two seconds to import; nothing here is imported before it is needed.
"""

import io
import logging
import re
import warnings
import zipfile
import zlib
from typing import TYPE_CHECKING, cast
from xml.etree.ElementTree import ParseError

import numpy as np

from bach.errors import FormatError
from bach.formats.grid import MAX_STEPS, Line, TimedNote, printable, writable
from bach.formats.midi import CHOIR
from bach.held import runs
from bach.notes import NUM_VOICES, SILENCE, STEPS_PER_BAR, STEPS_PER_QUARTER, VOICES, Pitches

if TYPE_CHECKING:
    from music21.key import Key
    from music21.note import GeneralNote
    from music21.stream.base import Part, Score

log = logging.getLogger(__name__)

MAX_XML = 32 * 2**20
"""The largest MusicXML text, in bytes (inclusive), that is taken out of a compressed file."""
UNWANTED = ("encoding-date>[^<]*", 'creator type="composer">Music21', "(?:work|movement)-title>Music21 Fragment")
"""What music21 writes of its own accord: a date, and names for the nameless."""
MAX_BARS = MAX_STEPS // STEPS_PER_BAR
MAX_NOTES = NUM_VOICES * MAX_STEPS
"""The longest score that is read (inclusive), by what is written in it."""
LETTERS = "FCGDAEB"
"""The natural notes in fifths, from F."""
CLEFS = ("TrebleClef", "TrebleClef", "Treble8vbClef", "BassClef")
"""music21's names, soprano to bass; the tenor reads an octave-treble clef."""


def render_musicxml(pitches: Pitches, *, tempo: float = 90.0, title: str = "") -> bytes:
    """Returns a chorale `[T, 4]` as uncompressed MusicXML 4.0.

    Four parts named Soprano, Alto, Tenor and Bass in bars of 4/4 from the first step; a note that crosses a bar line
    is tied. The last bar is filled up with rests. The key signature is music21's estimate (Krumhansl and others; C
    major where there is nothing to estimate from), and accidentals are spelt to fit it. There is no date and no
    random name in the text: equal input and an equal version of music21 give equal bytes.

    Args:
        pitches: `[T, 4]`, `T >= 1`.
        tempo: quarters per minute.
        title: stands above the score; empty for none.
    """
    from music21.musicxml.m21ToXml import GeneralObjectExporter

    text = GeneralObjectExporter(_score(writable(pitches), tempo, title)).parse().decode()
    for unwanted in UNWANTED:
        text = re.sub(rf"\n *<{unwanted}</[a-z-]+>", "", text)
    return text.encode()


def _score(pitches: Pitches, tempo: float, title: str) -> "Score":
    from music21 import bar, clef, instrument, layout, metadata, meter, stream
    from music21.tempo import MetronomeMark

    signature = _estimated_key(pitches)
    bars = stream.Score()
    bars.metadata = metadata.Metadata(title=printable(title))
    parts = []
    for voice, name in enumerate(VOICES):
        part = stream.Part(id=name.capitalize())
        part.partName = name.capitalize()
        part.partAbbreviation = name[0].upper()
        sung_by = instrument.Vocalist()
        sung_by.partId, sung_by.instrumentId = f"P{voice + 1}", f"P{voice + 1}-I1"
        sung_by.partName, sung_by.partAbbreviation = part.partName, part.partAbbreviation
        sung_by.midiProgram, sung_by.midiChannel = CHOIR, voice
        part.insert(0, sung_by)
        part.insert(0, getattr(clef, CLEFS[voice])())
        part.insert(0, signature)
        part.insert(0, meter.TimeSignature("4/4"))
        if voice == 0:
            part.insert(0, MetronomeMark(number=tempo))
        for note in _notes(pitches[:, voice], signature):
            part.append(note)
        measured = cast("stream.Part", part.makeNotation())
        measured.getElementsByClass(stream.Measure)[-1].rightBarline = bar.Barline("final")
        bars.insert(0, measured)
        parts.append(measured)
    bars.insert(0, layout.StaffGroup(parts, symbol="bracket", barTogether=True))
    return bars


def _notes(voice: np.ndarray, signature: "Key") -> "list[GeneralNote]":
    """Returns the notes and rests of one voice `[T]` in music21's terms, the last bar filled up."""
    from music21 import note as music21_note

    found = []
    for run in runs(voice):
        note = music21_note.Rest()
        if run.pitch != SILENCE:
            note = music21_note.Note(spelling(run.pitch, signature.sharps, signature.mode == "minor"))
        note.quarterLength = run.steps / STEPS_PER_QUARTER
        found.append(note)
    missing = -len(voice) % STEPS_PER_BAR
    if missing:
        found.append(music21_note.Rest(quarterLength=missing / STEPS_PER_QUARTER))
    return found


def _estimated_key(pitches: Pitches) -> "Key":
    """Returns the key that music21 hears, with at most six sharps or flats."""
    from music21 import key, note, stream

    heard = stream.Stream()
    for voice in pitches.T:
        for run in runs(voice):
            if run.pitch != SILENCE:
                heard.insert(
                    run.start / STEPS_PER_QUARTER, note.Note(run.pitch, quarterLength=run.steps / STEPS_PER_QUARTER)
                )
    if not len(heard):
        return key.Key("C")
    found = cast("key.Key", heard.analyze("key"))
    sharps = (found.sharps + 5) % 12 - 5
    return key.KeySignature(sharps).asKey(found.mode)


def spelling(pitch: int, sharps: int, minor: bool) -> str:
    """Returns a MIDI pitch as a key spells it, in music21's notation: letter, `#` or `-` for sharps and flats, octave.

    Of all names of a pitch the one is taken that lies, on the line of fifths, at most two fifths below the key's own
    notes or three above them, in minor one below or four above: C major has B-, E-, F#, C#, G#, A minor has D# for E-.
    """
    lowest = sharps - (1 if minor else 2)  # F is 0 on the line, and the lowest note of C major
    fifths = (pitch * 7 + 1) % 12
    fifths += -(-(lowest - fifths) // 12) * 12
    letter, accidentals = LETTERS[fifths % 7], fifths // 7
    octave = (pitch - accidentals) // 12 - 1
    return letter + ("#" * accidentals if accidentals >= 0 else "-" * -accidentals) + str(octave)


def parse_musicxml(content: bytes, where: str) -> list[Line]:
    """Returns the voices of a MusicXML score, plain or compressed (.mxl), in its order.

    Each part with notes is a voice; where several voices share a staff, each is one of its own. Grace notes are left
    out, repeats are not unfolded, transposing instruments are read at sounding pitch. A pickup bar is not filled up.

    Args:
        content: the bytes of the file.
        where: the file, for messages.

    Raises:
        FormatError: not MusicXML, broken, with entities of its own (which can grow without bound), or too large.
    """
    text = _unpacked(content, where) if content.startswith(b"PK") else content
    _check_xml(text, where)
    from music21 import converter
    from music21.stream.base import Score

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of each exception that it then raises
            # From text, not by path: music21 keeps pickles of the files that it has parsed.
            score = converter.parseData(_decoded(text, where), format="musicxml")
        if not isinstance(score, Score):
            raise FormatError(f"{where} holds several scores; save the one you mean on its own")
        score.toSoundingPitch(inPlace=True)
        return [line for part in score.parts for line in _lines(part, where)]
    except FormatError:
        raise
    except Exception as error:  # music21 raises whatever a broken file leads to
        raise FormatError(f"{where} cannot be read as MusicXML: {error or type(error).__name__}") from error


def _check_xml(text: bytes, where: str) -> None:
    """Refuses what is not well-formed, no score, defines entities, or would keep music21 busy for minutes."""
    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        root = fromstring(text)
    except DefusedXmlException as error:
        raise FormatError(f"{where} defines XML entities or refers to other files, which no score needs") from error
    except (ParseError, ValueError, LookupError) as error:
        raise FormatError(f"{where} is not well-formed XML: {error}") from error
    if root.tag not in ("score-partwise", "score-timewise"):
        raise FormatError(f"{where} is XML but no score: its root is <{root.tag}>, expected <score-partwise>")
    bars = max(len(holder.findall("measure")) for holder in (root, *root.findall("part")))
    notes = sum(1 for _ in root.iter("note"))
    if bars > MAX_BARS or notes > MAX_NOTES:
        raise FormatError(
            f"{where} has {bars:,} bars and {notes:,} notes; at most {MAX_BARS:,} and {MAX_NOTES:,} are read"
        )


def _decoded(text: bytes, where: str) -> str:
    """Returns the text of an XML file in UTF-8 or UTF-16, the encodings that MusicXML programs write."""
    try:
        return text.decode("utf-16" if text[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(f"{where} is not UTF-8 text: {error}; save it as UTF-8") from error


def _unpacked(content: bytes, where: str) -> bytes:
    """Returns the score inside a compressed MusicXML file; nothing is written anywhere."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = [name for name in archive.namelist() if not name.startswith("META-INF/")]
            scores = [name for name in names if name.lower().endswith((".xml", ".musicxml"))]
            if "META-INF/container.xml" in archive.namelist():
                container = _member(archive, "META-INF/container.xml", where).decode("utf-8", "replace")
                scores = re.findall(r"<rootfile\b[^>]*?full-path\s*=\s*[\"']([^\"']+)", container) or scores
            if not scores:
                raise FormatError(f"{where} is a zip file without a score in it")
            return _member(archive, scores[0], where)
    except (zipfile.BadZipFile, zlib.error, KeyError, RuntimeError, NotImplementedError, EOFError, OSError) as error:
        raise FormatError(f"{where} is a broken or protected .mxl file: {error}") from error


def _member(archive: zipfile.ZipFile, name: str, where: str) -> bytes:
    """Returns one member of an archive; what it claims to unpack to is not believed, only what it does."""
    with archive.open(name) as member:
        text = member.read(MAX_XML + 1)
    if len(text) > MAX_XML:
        raise FormatError(f"{where}: {name} unpacks to more than {MAX_XML // 2**20} MiB, which no chorale does")
    return text


def _lines(part: "Part", where: str) -> list[Line]:
    """Returns the voices of one part: the first voice of every bar, the second of every bar, and so on."""
    from music21.harmony import Harmony

    found: dict[int, list[TimedNote]] = {}
    for measure in part.getElementsByClass("Measure"):
        offset = float(measure.offset)
        voices = list(measure.voices) or [measure]
        for number, voice in enumerate(voices):
            for element in voice.notes:
                if element.duration.isGrace or isinstance(element, Harmony):
                    continue
                start = (offset + float(element.offset)) * STEPS_PER_QUARTER
                end = start + float(element.quarterLength) * STEPS_PER_QUARTER
                if end > MAX_STEPS:
                    raise FormatError(f"{where} lasts more than {MAX_STEPS:,} sixteenths; that is too long to be read")
                found.setdefault(number, []).extend(TimedNote(start, end, pitch.midi) for pitch in element.pitches)
    name = (part.partName or "").strip()
    if len(found) > 1:
        return [Line(f"{name} voice {number + 1}".strip(), notes) for number, notes in sorted(found.items())]
    return [Line(name, found.get(0) or next(iter(found.values()), []))]
