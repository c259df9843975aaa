"""The command `bach`: parse, call the library, print. Results go to stdout, progress and remarks to stderr.

Exit status 0: done. 1: a check or a run failed. 2: the caller's mistake. 130: stopped by Ctrl-C.
"""

import contextlib
import logging
import sys
import warnings

import click

from bach.cli.commands import Program
from bach.cli.data import data
from bach.cli.evaluation import measure, score
from bach.cli.music import generate, harmonise
from bach.cli.options import pass_terminal
from bach.cli.terminal import LogLines, Terminal
from bach.cli.training import presets, train


@click.group(cls=Program, context_settings={"max_content_width": 100}, examples=["bach generate --out first"])
@click.version_option(package_name="chorale-search", prog_name="bach")
@pass_terminal
def main(terminal: Terminal) -> None:
    """Four-part chorales in the manner of J. S. Bach: data, training, scores, new chorales."""
    logging.getLogger("bach").handlers[:] = [LogLines(terminal)]
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells of its font cache
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    with contextlib.suppress(AttributeError, ValueError):
        sys.stdout.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]


for _command in (data, presets, train, score, generate, harmonise, measure):
    main.add_command(_command)
