"""`search final`."""

import sys
from typing import Any

import click

from results.cli.commands import STOPPED, Command, pass_terminal
from results.cli.options import json_option
from results.cli.terminal import Terminal
from search.cli.sending import ADDRESS_HELP, follow_option, send_known, sends
from search.errors import SweepStopped


def _length(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Checks a length of time, and leaves it as it was typed."""
    from search.quantities import seconds

    try:
        if value is not None:
            seconds(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx=context, param=parameter) from None
    return value


@click.command(
    cls=Command,
    examples=[
        "search final laptop",
        "search final runs/laptop --models 5 --seeds 3",
        "search final laptop --with second --racing 12 --wall-time '2 h'",
    ],
    short_help="Train the best anew and test one.",
)
@click.argument("sweep")
@click.option(
    "--models",
    type=click.IntRange(min=1),
    metavar="N",
    help="Configurations to train anew.  [default: as the sweep file says]",
)
@click.option("--seeds", type=click.IntRange(min=1), metavar="N", help="Fresh seeds for each of them.")
@click.option("--epochs", type=click.IntRange(min=0), metavar="N", help="Of each training; 0: as in the sweep.")
@click.option("--samples", type=click.IntRange(min=0), metavar="N", help="Pieces of each sort that models make.")
@click.option("--with", "sweeps", metavar="SWEEP", multiple=True, help="Another sweep whose trials are candidates too.")
@click.option("--racing", type=click.IntRange(min=0), metavar="N", help="More trainings, where it is not decided.")
@click.option(
    "--wall-time", metavar="TIME", callback=_length, help="Racing adds none once trainings have taken so long: '2 h'."
)
@click.option("--whole/--no-whole", default=None, help="Ship the configuration trained on train and valid.")
@click.option(
    "--ensemble",
    type=click.Choice(["none", "seeds", "tied"]),
    help="Make one model of several; shipped if it is better.",
)
@click.option("--address", metavar="ADDRESS", help=ADDRESS_HELP)
@follow_option
@json_option
@pass_terminal
def final(terminal: Terminal, sweep: str, as_json: bool, follow: bool, wall_time: str | None, **asked: Any) -> None:
    """Trains the best configurations of a sweep anew, chooses one, scores it once on test, and writes its bundle.

    SWEEP is a name below runs, a folder or an address. Run it again after an interruption: what is done stays done.
    What no option says is as the sweep file says.
    """
    if sends():
        send_known(terminal, sweep)
        return
    from search import final as job
    from search.folders import find
    from search.quantities import seconds

    try:
        summary = job.run(
            find(sweep),
            wall_time_s=None if wall_time is None else seconds(wall_time),
            command=" ".join(["search", *sys.argv[1:]]),
            **telling(terminal),
            **asked,
        )
    except SweepStopped as stopped:
        terminal.note(f"Stopped: {stopped}")
        click.get_current_context().exit(STOPPED)
    if as_json:
        terminal.json(summary.document())
    else:
        terminal.out(summary.text())


def telling(terminal: Terminal) -> dict[str, Any]:
    """Returns what the final job calls to tell how far it is: `on_epoch`, `on_training` and `say`."""

    def on_epoch(number: int, epoch: int, metrics: Any) -> None:
        told = "  ".join(f"{name} {value:.4g}" for name, value in list(metrics.items())[:3])
        terminal.status(f"final training {number}: epoch {epoch}  {told}")

    def on_training(done: Any) -> None:
        row = done.row
        what = f"epoch {row['best_epoch']} of {row['epochs']} is its best" if row["epochs"] else row["reason"]
        whose = f"{row['source']}/{row['trial']}" if row.get("source") else row["trial"]
        if row.get("kind") == "whole" and row["epochs"]:
            what = f"{row['epochs']} epochs on train and valid"
        terminal.note(
            f"Final training {row['final']} (trial {whose}): {row['state']}, {what}; {done.done}/{done.total}"
        )

    return {"on_epoch": on_epoch, "on_training": on_training, "say": terminal.note}
