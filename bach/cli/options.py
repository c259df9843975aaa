"""The options that several commands share."""

import dataclasses
import functools
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bach.cli.terminal import Terminal
from bach.errors import OutputError, SettingError, did_you_mean
from bach.notes import SPLITS

if TYPE_CHECKING:
    from bach.corpus import Dataset
    from bach.generation import SamplingSettings

Command = Callable[..., Any]

DEFAULT_DATA = "music21"
MOODS = {"cold": 0.8, "medium": 1.0, "hot": 1.5}
"""Temperatures with a name."""
LARGEST_SEED = 2**32 - 1

pass_terminal = click.make_pass_decorator(Terminal, ensure=True)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines to read.")
data_option = click.option(
    "--data",
    "source",
    metavar="SOURCE",
    default=DEFAULT_DATA,
    show_default=True,
    help="The chorales: music21, jsb, or the path of an archive or of a folder of CSV, MIDI or MusicXML files.",
)
model_option = click.option(
    "--model",
    metavar="MODEL",
    default="shipped",
    show_default=True,
    help="A folder that bach train made, a .keras file, or the model that comes with the package.",
)
out_option = click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="The folder to write to; made if it is not there."
)


def seed_option(text: str) -> Callable[[Command], Command]:
    """Returns the option `--seed` with its help."""
    return click.option(
        "--seed", type=click.IntRange(0, LARGEST_SEED), metavar="N", default=1685, show_default=True, help=text
    )


def split_option(default: str) -> Callable[[Command], Command]:
    """Returns the option `--split`."""
    return click.option(
        "--split", type=click.Choice(SPLITS), default=default, show_default=True, help="Which chorales of the data."
    )


class AboveZero(click.ParamType):
    """A finite number above 0."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Returns the number that `value` reads as."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not (number > 0 and math.isfinite(number)):
            self.fail(f"got {value}, expected a finite number above 0", param, ctx)
        return number


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """How notes are chosen, as it was typed; see `bach.generation.SamplingSettings`."""

    temperature: float
    top_p: float
    greedy: bool
    any_range: bool
    max_still_steps: int
    parallels: bool

    def settings(self) -> "SamplingSettings":
        """Returns the settings; loads Keras."""
        from bach.generation import SamplingSettings

        options = {"ranges": None} if self.any_range else {}
        return SamplingSettings(
            temperature=self.temperature,
            top_p=self.top_p,
            greedy=self.greedy,
            max_still_steps=self.max_still_steps,
            forbid_parallels=not self.parallels,
            **options,
        )


def sampling_options(command: Command) -> Command:
    """Gives a command the options of how notes are chosen, as one argument `sampling`."""

    @functools.wraps(command)
    def collected(*args: Any, temperature: float | None, mood: str | None, **kwargs: Any) -> Any:
        if mood and temperature is not None:
            raise click.UsageError(f"--{mood} is a temperature; give it or --temperature, not both")
        if temperature is None:
            temperature = MOODS[mood] if mood else 1.0
        own = {name: kwargs.pop(name) for name in ("top_p", "greedy", "any_range", "max_still_steps", "parallels")}
        return command(*args, sampling=Sampling(temperature=temperature, **own), **kwargs)

    options = [
        click.option(
            "--temperature",
            type=AboveZero(),
            help="Below 1 notes are safer than the model finds them, above 1 bolder; 1 if not given.",
        ),
        *(click.option(f"--{mood}", "mood", flag_value=mood, help=f"Temperature {MOODS[mood]}.") for mood in MOODS),
        click.option(
            "--top-p",
            type=click.FloatRange(0, 1, min_open=True),
            default=0.95,
            show_default=True,
            help="Choose among the most probable notes that together have this probability.",
        ),
        click.option("--greedy", is_flag=True, help="Always take the most probable note."),
        click.option(
            "--any-range/--ranges",
            default=False,
            help="Let voices leave the range that they have in Bach, or keep them within it (the default).",
        ),
        click.option(
            "--max-still-steps",
            type=click.IntRange(min=0),
            metavar="N",
            default=32,
            show_default=True,
            help="After so many sixteenths without any change the next note must change; 0 never minds.",
        ),
        click.option(
            "--parallels/--no-parallels",
            default=False,
            help="Let voices move in parallel fifths and octaves where the model does, or forbid it (the default).",
        ),
    ]
    return functools.reduce(lambda decorated, option: option(decorated), reversed(options), collected)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Files:
    """What is written of a chorale.

    Attributes:
        formats: names of `bach.formats.FORMATS`; the measures (`json`) are always among them.
        tempo: quarters per minute.
    """

    formats: tuple[str, ...]
    tempo: float


def file_options(command: Command) -> Command:
    """Gives a command the options of what is written, as one argument `files`."""

    @functools.wraps(command)
    def collected(*args: Any, formats: str | None, tempo: float, **kwargs: Any) -> Any:
        return command(*args, files=_files(formats, tempo), **kwargs)

    options = [
        click.option(
            "--formats",
            metavar="NAMES",
            help="What to write, with commas between: midi, musicxml, wav, png, svg, csv; all if not given. "
            "The measures come along as JSON.",
        ),
        click.option("--tempo", type=float, default=90.0, show_default=True, help="Quarters per minute."),
    ]
    return functools.reduce(lambda decorated, option: option(decorated), reversed(options), collected)


def _files(formats: str | None, tempo: float) -> Files:
    from bach.formats.writing import FASTEST, FORMATS, SLOWEST

    if not SLOWEST <= tempo <= FASTEST:
        raise SettingError(f"tempo: got {tempo}, expected {SLOWEST:g}..{FASTEST:g} quarters per minute")
    if formats is None:
        return Files(formats=tuple(FORMATS), tempo=tempo)
    names = [name.strip().lower() for name in formats.split(",") if name.strip()]
    for name in names:
        if name not in FORMATS:
            raise SettingError(f"unknown format {name!r}{did_you_mean(name, FORMATS)}")
    return Files(formats=tuple(dict.fromkeys([*names, "json"])), tempo=tempo)


def load_data(terminal: Terminal, source: str, *, silent: bool = False) -> "Dataset":
    """Returns the data that `--data` names, and shows how far it has come unless it is to be `silent`."""
    from bach.corpus import load

    try:
        return load(source, progress=None if silent else terminal.progress)
    finally:
        terminal.clear()


def check_place(folder: Path) -> None:
    """Returns if a file can be written to `folder`, which is made; long work should not end in an error.

    Raises:
        OutputError: it cannot.
    """
    from bach.formats.files import write_whole

    probe = folder / f".bach-{os.getpid()}.probe"
    try:
        write_whole(probe, b"?").unlink(missing_ok=True)
    except OutputError as error:
        raise OutputError(str(error).replace(str(probe), str(folder))) from error
