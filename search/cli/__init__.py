"""The command `search`: parse, call the library, print. Results go to stdout, progress and remarks to stderr.

Exit status 0: done. 1: a check or a run failed. 2: the caller's mistake. 130: stopped by Ctrl-C.
"""

import contextlib
import importlib
import logging
import sys
import warnings
from typing import Any

import click

from results.cli.commands import Program, pass_terminal
from results.cli.terminal import LogLines, Terminal
from search.errors import CallerError, SearchError

COMMANDS = {
    "plan": ("search.cli.planning:plan", "Shows what a sweep file would run, how long and for how much."),
    "doctor": ("search.cli.planning:doctor", "Checks that a sweep can run here, before it does."),
    "cluster": ("search.cli.clusters:cluster", "Checks the file of a cluster before it costs money."),
    "run": ("search.cli.sweeps:run", "Runs a sweep from its file."),
    "status": ("search.cli.status:status", "Shows how a sweep stands, running or not."),
    "monitor": ("search.cli.monitor:monitor", "Shows a cluster and its sweeps over time."),
    "resume": ("search.cli.sweeps:resume", "Goes on with a sweep that was interrupted."),
    "extend": ("search.cli.sweeps:extend", "Gives a sweep that is over more trials, epochs or time."),
    "stop": ("search.cli.sweeps:stop", "Asks a running sweep to save and end."),
    "final": ("search.cli.final:final", "Trains the best configurations anew, chooses one, scores it once on test."),
    "rerun": ("search.cli.bundles:rerun", "Trains a trial again from its row alone, and compares."),
    "bundle": ("search.cli.bundles:bundle", "Makes bundles of trials, checks bundles, exports to other forms."),
    "replay": ("search.cli.analysis:replay", "Runs another scheduler over recorded curves, without training."),
    "audit": ("search.cli.analysis:audit", "Shows why trials were stopped, and how often that was wrong."),
}
"""Commands in the order of their use: where each stands, and its help in a sentence."""


class _Lazily(dict[str, click.Command]):
    """Commands that are imported when they are asked for, so that `--help` need not wait for Ray."""

    def __getitem__(self, name: str) -> click.Command:
        module, _, function = COMMANDS[name][0].partition(":")
        return getattr(importlib.import_module(module), function)

    def get(self, name: str, default: Any = None) -> Any:
        if name not in self:
            return default
        return self[name]


class _Search(Program):
    """The program, with its commands in the order of their use."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.commands = _Lazily(dict.fromkeys(COMMANDS, click.Command(None)))

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in COMMANDS.items()])


@click.group(
    cls=_Search,
    mistakes=(CallerError,),
    failures=(SearchError,),
    context_settings={"max_content_width": 100},
    examples=["search plan sweeps/laptop.toml", "search run sweeps/laptop.toml"],
)
@click.version_option(package_name="chorale-search", prog_name="search")
@pass_terminal
def main(terminal: Terminal) -> None:
    """Many trainings at once: proposed, run, stopped early, written down, taken up where they stopped."""
    logging.getLogger("search").handlers[:] = [LogLines(terminal)]
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    with contextlib.suppress(AttributeError, ValueError):
        sys.stdout.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
