"""`search final`."""

import sys
from typing import Any

import click

from results.cli.commands import Command, pass_terminal
from results.cli.options import json_option
from results.cli.terminal import Terminal


@click.command(
    cls=Command,
    examples=["search final laptop", "search final runs/laptop --models 5 --seeds 3"],
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
@click.option("--samples", type=click.IntRange(min=0), metavar="N", help="Samples of the chosen model, at most.")
@click.option("--address", metavar="ADDRESS", help="Of a Ray cluster that runs; without, this machine alone.")
@json_option
@pass_terminal
def final(terminal: Terminal, sweep: str, as_json: bool, **asked: Any) -> None:
    """Trains the best configurations of a sweep anew, chooses one, scores it once on test, and writes its bundle.

    SWEEP is a name below runs, a folder or an address. Run it again after an interruption: what is done stays done.
    """
    from search import final as job
    from search.sweep import find

    summary = job.run(
        find(sweep),
        command=" ".join(["search", *sys.argv[1:]]),
        **telling(terminal),
        **asked,
    )
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
        terminal.note(
            f"Final training {row['final']} (trial {row['trial']}): {row['state']}, {what}; {done.done}/{done.total}"
        )

    return {"on_epoch": on_epoch, "on_training": on_training, "say": terminal.note}
