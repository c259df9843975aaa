"""MIDI files: four named tracks on four channels out; tracks or channels as voices in."""

import io
import logging
from collections import defaultdict

import mido

from bach.errors import FormatError
from bach.formats.grid import MAX_STEPS, Line, TimedNote, printable, writable
from bach.held import merged_notes
from bach.notes import STEPS_PER_QUARTER, VOICES, Pitches

log = logging.getLogger(__name__)

TICKS_PER_STEP = 120
TICKS_PER_QUARTER = TICKS_PER_STEP * STEPS_PER_QUARTER
CHOIR = 52
"""The General MIDI program "Choir Aahs", counted from 0."""
VELOCITY = 80
DRUMS = 9
"""The General MIDI channel of percussion, counted from 0; its notes are no pitches."""


def render_midi(pitches: Pitches, *, tempo: float = 90.0, title: str = "") -> bytes:
    """Returns a chorale `[T, 4]` as a MIDI file of type 1.

    Four tracks named Soprano, Alto, Tenor and Bass, on channels 1 to 4; the first one also carries tempo, metre and
    title. Held notes are one note. All tracks end after `T` steps. Equal input gives equal bytes.

    Args:
        pitches: `[T, 4]`, `T >= 1`.
        tempo: quarters per minute.
        title: stored as a text of the first track; empty for none.
    """
    pitches = writable(pitches)
    file = mido.MidiFile(type=1, ticks_per_beat=TICKS_PER_QUARTER, charset="utf-8")
    for voice, name in enumerate(VOICES):
        track = file.add_track(name.capitalize())
        if voice == 0:
            if title:
                track.append(mido.MetaMessage("text", text=printable(title)))
            track.append(mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(tempo)))
            track.append(mido.MetaMessage("time_signature", numerator=4, denominator=4))
        track.append(mido.Message("program_change", channel=voice, program=CHOIR))
        now = 0
        for note in merged_notes(pitches[:, voice]):
            for kind, at in (("note_on", note.start), ("note_off", note.start + note.steps)):
                wait = at * TICKS_PER_STEP - now
                track.append(mido.Message(kind, channel=voice, note=note.pitch, velocity=VELOCITY, time=wait))
                now += wait
        track.append(mido.MetaMessage("end_of_track", time=len(pitches) * TICKS_PER_STEP - now))
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()


def parse_midi(content: bytes, where: str) -> list[Line]:
    """Returns the voices of a MIDI file in its own order: each channel of each track that has a name or notes.

    Percussion (channel 10) is left out. Notes that are never ended, end at the end of their track.

    Args:
        content: the bytes of the file.
        where: the file, for messages.

    Raises:
        FormatError: not a MIDI file, a broken one, one of type 2, one timed by SMPTE frames, or one that lasts too
        long.
    """
    if not content.startswith(b"MThd"):
        raise FormatError(f"{where} is not a MIDI file: it does not begin with 'MThd'")
    try:
        file = mido.MidiFile(file=io.BytesIO(content), clip=True)
    except Exception as error:  # mido raises whatever a broken file leads to
        raise FormatError(f"{where} is a broken MIDI file: {error or type(error).__name__}") from error
    if file.type == 2:
        raise FormatError(f"{where} is a MIDI file of type 2 (independent songs); save it as type 0 or 1")
    if not 0 < file.ticks_per_beat < 0x8000:
        raise FormatError(f"{where} counts time in film frames or not at all; save it with ticks per quarter note")
    ticks_per_step = file.ticks_per_beat / STEPS_PER_QUARTER
    return [line for track in file.tracks for line in _voices(track, ticks_per_step, where)]


def _voices(track: mido.MidiTrack, ticks_per_step: float, where: str) -> list[Line]:
    """Returns the voices of one track, by channel; a named track without notes is one empty voice."""
    notes: dict[int, list[TimedNote]] = defaultdict(list)
    open_notes: dict[tuple[int, int], float] = {}
    now = 0.0

    def end(channel: int, pitch: int) -> None:
        start = open_notes.pop((channel, pitch), None)
        if start is not None and channel != DRUMS:
            notes[channel].append(TimedNote(start, now, pitch))

    for message in track:
        now += message.time / ticks_per_step
        if now > MAX_STEPS:
            raise FormatError(f"{where} lasts more than {MAX_STEPS:,} sixteenths; that is too long to be read")
        if message.type in ("note_on", "note_off"):
            end(message.channel, message.note)
        if message.type == "note_on" and message.velocity > 0:
            open_notes[message.channel, message.note] = now
    for channel, pitch in list(open_notes):
        log.warning("%s: note %d is never ended; it lasts to the end of its track", where, pitch)
        end(channel, pitch)
    name = track.name.strip()
    if not notes and name:
        return [Line(name, [])]
    return [Line(name, notes[channel]) for channel in sorted(notes)]
