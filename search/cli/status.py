"""`search status`."""

import sys
import time
from typing import TYPE_CHECKING

import click

from results.cli.commands import Command, pass_terminal
from results.cli.options import json_option
from results.cli.terminal import Terminal
from search.cli.sending import ask, asked_there_option, sends

if TYPE_CHECKING:
    from results.storage import Storage
    from search.snapshot import Limits
    from search.status import Status

LEAST_WAIT_S = 2.0
READING_SHARE = 0.1
"""Watching reads the ledger for at most this share of the time."""
LINES = 40
"""Lines of the answer; fewer where there is less to say."""


@click.command(
    cls=Command,
    examples=["search status laptop", "search status s3://bucket/sweeps/gpu --watch"],
    short_help="Show how a sweep stands, running or not.",
)
@click.argument("sweep")
@click.option("--watch", is_flag=True, help="Go on showing it until it ends; Ctrl-C leaves the sweep alone.")
@asked_there_option
@json_option
@pass_terminal
def status(terminal: Terminal, sweep: str, watch: bool, address: str | None, as_json: bool) -> None:
    """Shows how a SWEEP (name, folder or URI) stands: while it runs, when it is over, and if its driver died."""
    if sends():
        ask(terminal, sweep)
        return
    from search.folders import find, read_spec
    from search.snapshot import Limits
    from search.status import read

    storage = find(sweep)
    limits = Limits.of(read_spec(storage))
    now = _watch(terminal, storage, limits) if watch else read(storage, limits, on_wait=terminal.note)
    if as_json:
        terminal.json(now.document())
        return
    _show(terminal, now)


def _show(terminal: Terminal, now: "Status") -> None:
    from rich.console import Console

    from search.screen import Screen, glyphs_for

    glyphs = glyphs_for(sys.stdout.encoding)
    console = Console(
        file=sys.stdout, width=terminal.width, height=LINES, highlight=False, markup=False, emoji=False, soft_wrap=True
    )
    console.print(Screen(snapshot=now.snapshot, glyphs=glyphs, height=LINES))
    terminal.out(f"\n{glyphs.fit(now.advice)}")


def _watch(terminal: Terminal, storage: "Storage", limits: "Limits") -> "Status":
    """Shows the sweep on stderr until it does not run; returns how it stands then."""
    from results.ledger import Ledger
    from search.state import SweepState
    from search.status import read
    from search.view import PlainView, shown, view_of

    now = read(storage, limits, on_wait=terminal.note)
    view = view_of(SweepState(Ledger(storage).schema), lambda: now.snapshot)
    is_first = True
    with shown(view):
        while now.snapshot.condition == "running":
            view.tick(now=is_first or not isinstance(view, PlainView))
            is_first = False
            began = time.monotonic()
            time.sleep(LEAST_WAIT_S)
            now = read(storage, limits)
            time.sleep(max(0.0, (time.monotonic() - began - LEAST_WAIT_S) / READING_SHARE))
    return now
