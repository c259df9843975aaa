"""How a sweep that runs is shown: a live screen on a terminal, plain lines elsewhere. All of it goes to stderr.

A view never ends a sweep: if nobody can be shown anything any more, it goes quiet.
"""

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, TextIO

from rich.console import Console
from rich.live import Live

from search.screen import Glyphs, Screen, glyphs_for, number, summary
from search.snapshot import Snapshot, ending_text
from search.state import ENDED, SweepState

REDRAW_S = 0.25
"""A screen is drawn anew after this many seconds at the earliest."""
DRAWING_SHARE = 0.05
"""Drawing takes at most this share of the driver's time; a big sweep is drawn less often."""
SUMMARY_S = 30.0
"""Plain lines: seconds from one summary to the next."""
BURST = 20
"""Plain lines: events that are told between two summaries; of more, only their number."""


class View(Protocol):
    """What the driver tells a view."""

    def event(self, table: str, row: Mapping[str, Any]) -> None:
        """Takes in an event after the state has."""
        ...

    def tick(self, *, now: bool = False) -> None:
        """Shows what is new if it is time for it; called often.

        Args:
            now: even if it is not time.
        """
        ...

    def note(self, text: str) -> None:
        """Says something that is not an event of the sweep, such as what Ctrl-C has done."""
        ...

    def close(self) -> None:
        """Shows how things stand, and lets go of the terminal."""
        ...


def view_of(
    state: SweepState,
    snapshot: Callable[[], Snapshot],
    *,
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> "LiveView | PlainView":
    """Returns the view that suits a stream.

    Args:
        state: of the sweep, as events change it.
        snapshot: takes one of it.
        stream: None is stderr.
        clock: seconds.
    """
    out: TextIO = sys.stderr if stream is None else stream
    if out.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown"):
        return LiveView(snapshot, stream=out, clock=clock)
    return PlainView(state, snapshot, stream=out, clock=clock)


class _Screenful(Console):
    """A console that leaves the program alone when nobody reads it any more; Rich's own would end it."""

    def on_broken_pipe(self) -> None:
        """Goes quiet."""
        self.quiet = True


class LiveView:
    """A screen that is drawn over itself; what others write to stderr appears above it."""

    def __init__(
        self, snapshot: Callable[[], Snapshot], *, stream: TextIO, clock: Callable[[], float] = time.monotonic
    ):
        """Takes what to show where; nothing is drawn yet."""
        self._snapshot, self._clock = snapshot, clock
        self._console = _Screenful(file=stream, highlight=False, markup=False, emoji=False)
        self._live = Live(
            console=self._console, auto_refresh=False, redirect_stdout=False, vertical_overflow="crop", transient=False
        )
        self._glyphs = glyphs_for(getattr(stream, "encoding", None))
        self._next = -math.inf
        self._remark = ""

    def event(self, table: str, row: Mapping[str, Any]) -> None:
        """Does nothing: the screen shows the state."""

    def tick(self, *, now: bool = False) -> None:
        """Draws the screen if it is time."""
        began = self._clock()
        if not now and began < self._next:
            return
        with _unheard():
            if not self._live.is_started:
                self._live.start()
            screen = Screen(snapshot=self._snapshot(), glyphs=self._glyphs, remark=self._remark)
            self._live.update(screen, refresh=True)
        took = self._clock() - began
        self._next = began + max(REDRAW_S, took / DRAWING_SHARE)

    def note(self, text: str) -> None:
        """Shows a text on the screen until the next one comes."""
        self._remark = text
        self.tick(now=True)

    def close(self) -> None:
        """Leaves the last screen standing."""
        with _unheard():
            if self._live.is_started:
                self.tick(now=True)
        with _unheard():
            self._live.stop()


class PlainView:
    """Lines: one for each trial that ended and each new best, and now and then one for the whole sweep."""

    def __init__(
        self,
        state: SweepState,
        snapshot: Callable[[], Snapshot],
        *,
        stream: TextIO,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Takes what to show where."""
        self._state, self._snapshot, self._stream, self._clock = state, snapshot, stream, clock
        self._glyphs: Glyphs = glyphs_for(getattr(stream, "encoding", None))
        best = state.best_trial()
        known = state.loss(best.trial, best.best_epoch) if best and best.best_epoch is not None else None
        self._best = math.inf if known is None else known
        self._told = self._untold = 0
        self._next = clock() + SUMMARY_S

    def event(self, table: str, row: Mapping[str, Any]) -> None:
        """Tells of an event if it is worth a line."""
        text = self._text(table, row)
        if not text:
            return
        if self._told >= BURST:
            self._untold += 1
            return
        self._told += 1
        self._line(text)

    def tick(self, *, now: bool = False) -> None:
        """Writes the summary if it is time."""
        if not now and self._clock() < self._next:
            return
        self._next = self._clock() + SUMMARY_S
        untold = f"; {self._untold} more events not shown" if self._untold else ""
        self._told = self._untold = 0
        shot = self._snapshot()
        self._line(summary(shot, self._glyphs) + untold, shot.elapsed_s)

    def note(self, text: str) -> None:
        """Writes a line."""
        self._line(text)

    def close(self) -> None:
        """Writes the last summary."""
        self.tick(now=True)

    def _text(self, table: str, row: Mapping[str, Any]) -> str:
        state = self._state
        if table == "trials" and row["state"] in ENDED:
            return ending_text(state, state.trials[row["trial"]])
        if table == "epochs":
            loss = state.loss(row["trial"], row["epoch"])
            if loss is None or not math.isfinite(loss) or loss >= self._best:
                return ""
            self._best = loss
            value = state.trials[row["trial"]].epochs[row["epoch"]].metrics[state.objective]
            return f"new best: {state.objective} {number(value)}, trial {row['trial']} at epoch {row['epoch']}"
        if table == "attempt_ends" and row.get("outcome") in ("failed", "lost"):
            why = row.get("reason") or row.get("reason_kind") or "no reason given"
            return f"trial {row['trial']}, attempt {row['attempt']} {row['outcome']}: {why}"
        if table == "finals":
            return f"final training {row['final']} of trial {row['trial']}: {row.get('state') or 'done'}"
        return ""

    def _line(self, text: str, elapsed_s: float | None = None) -> None:
        elapsed = int(self._state.elapsed_s() if elapsed_s is None else elapsed_s)
        stamp = f"{elapsed // 3600}:{elapsed // 60 % 60:02}:{elapsed % 60:02}"
        with _unheard():
            self._stream.write(f"{stamp} {self._glyphs.fit(text)}\n")
            self._stream.flush()


@contextlib.contextmanager
def shown(view: View) -> Iterator[View]:
    """Closes a view at the end of a `with`, whatever ends it."""
    try:
        yield view
    finally:
        view.close()


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Goes on after a block that could not write to its terminal: it is of no interest to the sweep."""
    try:
        yield
    except OSError:
        return
    except ValueError as error:
        if "closed file" not in str(error):
            raise
