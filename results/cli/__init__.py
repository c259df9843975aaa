"""The command `results`: parse, call the library, print. Results go to stdout, remarks to stderr.

Exit status 0: done. 1: a check or a run failed. 2: the caller's mistake. 130: stopped by Ctrl-C.
"""

import contextlib
import logging
import sys
import warnings

import click

from results.cli.commands import Program, pass_terminal
from results.cli.keeping import check, compact, export
from results.cli.page import report
from results.cli.ranking import curves, importance, top
from results.cli.showing import compare, failures, show
from results.cli.terminal import LogLines, Terminal


@click.group(
    cls=Program, context_settings={"max_content_width": 100}, examples=["results top", "results show laptop/17"]
)
@click.version_option(package_name="chorale-search", prog_name="results")
@pass_terminal
def main(terminal: Terminal) -> None:
    """What sweeps have found: the best trials, how they learned, what mattered, what failed.

    A sweep is given by its name in --storage, or by its place: runs/laptop, s3://bucket/runs/laptop. Without one, all
    sweeps of the storage are read together.
    """
    logging.getLogger("results").handlers[:] = [LogLines(terminal)]
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells of its font cache
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    with contextlib.suppress(AttributeError, ValueError):
        sys.stdout.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]


for _command in (top, show, curves, compare, importance, failures, report, export, check, compact):
    main.add_command(_command)
