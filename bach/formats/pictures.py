"""Pictures of a chorale: a piano roll as PNG, an engraved score as SVG."""

import io
import re
from typing import TYPE_CHECKING

import numpy as np

from bach.errors import OutputError
from bach.formats.grid import printable, writable
from bach.formats.musicxml import render_musicxml
from bach.held import merged_notes
from bach.notes import STEPS_PER_BAR, STEPS_PER_QUARTER, VOICES, Pitches

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#d1495b", "#edae49", "#2a9d8f", "#30638e")
"""Soprano to bass; they differ in lightness too, so that they can be told apart without seeing colours."""
BARS_PER_ROW = 8
MAX_PIXELS = 60_000
"""The height of a piano roll at most; matplotlib draws no more than 65,535 pixels. Longer rolls are drawn smaller."""
WHITE_KEYS = frozenset({0, 2, 4, 5, 7, 9, 11})
PAGE_WIDTH = 2400
PAPER = '<rect width="100%" height="100%" style="fill:white;stroke:none"/>'
MARGIN = 100
MAX_PAGE_HEIGHT = 60_000
"""In verovio's units. The engraver takes no higher page, so a longer score is put together from several."""


def render_png(pitches: Pitches, *, title: str = "") -> bytes:
    """Returns a chorale `[T, 4]` as a piano roll: time in bars to the right, pitch upwards, one colour per voice.

    Rows of eight bars. A note that shares its pitch with a higher voice is drawn as a thin line on that voice's bar.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    pitches = writable(pitches)
    per_row = BARS_PER_ROW * STEPS_PER_BAR
    rows = -(-len(pitches) // per_row)
    width_in_steps = min(per_row, max(len(pitches), 2 * STEPS_PER_BAR))
    sung = pitches[pitches > 0]
    low, high = (int(sung.min()) - 2, int(sung.max()) + 2) if len(sung) else (58, 74)
    inches = 0.9 + 3.6 * rows
    figure = Figure(figsize=(12.0, inches), dpi=min(110.0, MAX_PIXELS / inches), layout="constrained")
    FigureCanvasAgg(figure)
    for row, axes in enumerate(figure.subplots(rows, squeeze=False)[:, 0]):
        _roll(axes, pitches, row * per_row, width_in_steps, (low, high))
    axes.set_xlabel("bar")
    legend = [Patch(color=colour, label=voice) for voice, colour in zip(VOICES, COLOURS, strict=True)]
    figure.legend(handles=legend, loc="outside upper right", ncols=4, frameon=False, fontsize=11)
    if title:
        figure.suptitle(printable(title), x=0.01, ha="left", fontsize=14, parse_math=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _roll(axes: "Axes", pitches: Pitches, first: int, width: int, limits: tuple[int, int]) -> None:
    """Draws the steps from `first` on, `width` of them, into one row."""
    low, high = limits
    for pitch in range(low, high + 1):
        if pitch % 12 not in WHITE_KEYS:
            axes.axhspan(pitch - 0.5, pitch + 0.5, color="#f1f1f4", linewidth=0, zorder=0)
    last = min(first + width, len(pitches))
    for voice in range(len(VOICES)):
        for note in merged_notes(pitches[first:last, voice]):
            start = first + note.start
            shared = (pitches[start : start + note.steps, :voice] == note.pitch).any()
            axes.barh(
                note.pitch,
                note.steps - 0.14,
                left=start + 0.07,
                height=0.4 if shared else 0.96,
                color=COLOURS[voice],
                zorder=3 + voice,
            )
    bars = np.arange(first, first + width + 1, STEPS_PER_BAR)
    axes.set_xticks(bars, [str(step // STEPS_PER_BAR + 1) for step in bars])
    axes.set_xticks(np.arange(first, first + width + 1, STEPS_PER_QUARTER), minor=True)
    octaves = [pitch for pitch in range(low, high + 1) if pitch % 12 == 0]
    axes.set_yticks(octaves, [f"C{pitch // 12 - 1}" for pitch in octaves])
    axes.grid(axis="x", which="major", color="#77777f", linewidth=1.0, zorder=1)
    axes.grid(axis="x", which="minor", color="#d9d9df", linewidth=0.6, zorder=1)
    axes.grid(axis="y", which="major", color="#b5b5bd", linewidth=0.6, zorder=1)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.set_xlim(first - 0.5, first + width + 0.5)
    axes.set_ylim(low - 0.5, high + 0.5)


def render_svg(pitches: Pitches, *, title: str = "") -> bytes:
    """Returns a chorale `[T, 4]` as an engraved score: four named staves, as many systems as needed, one tall page.

    Engraved by verovio from what `render_musicxml` writes. Equal input and equal versions give equal bytes.
    """
    return engrave(render_musicxml(pitches, title=title))


def engrave(musicxml: bytes) -> bytes:
    """Returns a MusicXML score as one SVG page, without its directions (the tempo).

    Raises:
        OutputError: verovio cannot engrave it.
    """
    import verovio

    verovio.enableLog(verovio.LOG_OFF)
    engraver = verovio.toolkit()
    engraver.setOptions(
        {
            "adjustPageHeight": True,
            "breaks": "auto",
            "condense": "none",
            "footer": "none",
            "mnumInterval": 0,
            "pageHeight": MAX_PAGE_HEIGHT,
            "pageMarginLeft": MARGIN,
            "pageMarginRight": MARGIN,
            "pageMarginTop": MARGIN,
            "pageMarginBottom": MARGIN,
            "pageWidth": PAGE_WIDTH,
            "scale": 45,
            "spacingSystem": 10,
            "svgViewBox": False,
            "xmlIdSeed": 1685,
        }
    )
    # verovio sets the note in "quarter = 90" in a font of its own, which few viewers of SVG load.
    if not engraver.loadData(re.sub(r"<direction>.*?</direction>", "", musicxml.decode(), flags=re.DOTALL)):
        raise OutputError("verovio could not engrave the score; MusicXML and the other formats are not affected")
    pages = [engraver.renderToSVG(number) for number in range(1, engraver.getPageCount() + 1)]
    svg = pages[0] if len(pages) == 1 else _stacked(pages)
    # Black notes on a dark page cannot be read: the page brings its own paper.
    return re.sub(r"(<svg [^>]*>)", rf"\1{PAPER}", svg, count=1).encode()


def _stacked(pages: list[str]) -> str:
    """Returns several SVG pages as one, each below the one before."""
    sizes = [re.search(r'<svg width="(\d+)px" height="(\d+)px"', page) for page in pages]
    widths, heights = zip(*((int(size[1]), int(size[2])) for size in sizes if size), strict=True)
    inner = "".join(
        page[page.index("<svg") :].replace("<svg ", f'<svg y="{sum(heights[:number])}" ', 1)
        for number, page in enumerate(pages)
    )
    return (
        f'<svg width="{max(widths)}px" height="{sum(heights)}px" version="1.1" xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink">{inner}</svg>\n'
    )
