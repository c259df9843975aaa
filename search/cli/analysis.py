"""`search replay` and `search audit`: what stopping early did, and what other ways of it would have done."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, get_args

import click

from results.cli.commands import Command, pass_terminal
from results.cli.options import json_option, storage_option
from results.cli.terminal import Terminal
from search.scheduler import Kind

if TYPE_CHECKING:
    from results.ledger import Ledger

sweep_argument = click.argument("sweep", metavar="SWEEP")
top_option = click.option(
    "--top",
    "top_share",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.1,
    show_default=True,
    help="A trial is a good one if its final value is among so many of all that are known.",
)


@click.command(
    cls=Command,
    examples=[
        "search replay laptop --scheduler hyperband",
        "search replay laptop --scheduler asha --reduction 4 --order random --orders 50",
    ],
)
@sweep_argument
@storage_option
@click.option(
    "--scheduler",
    "kind",
    type=click.Choice(get_args(Kind)),
    default="asha",
    show_default=True,
    help="What stops trials.",
)
@click.option("--reduction", type=float, default=3.0, show_default=True, help="One trial in so many goes on.")
@click.option("--first-rung", type=int, metavar="EPOCH", help="As the sweep's own if not given.")
@click.option("--brackets", type=int, default=1, show_default=True, help="Of asha.")
@click.option("--epochs", "max_epochs", type=click.IntRange(min=1), help="Of a trial; as recorded if not given.")
@click.option("--min-trials", type=int, default=5, show_default=True, help="Of median: others before it stops any.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Trials at a time.")
@click.option(
    "--order",
    type=click.Choice(["recorded", "random"]),
    default="recorded",
    show_default=True,
    help="In which order the configurations are tried: as they were, or as a random searcher would.",
)
@click.option(
    "--orders", "num_orders", type=click.IntRange(min=1), default=20, show_default=True, help="How many random orders."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the first random order.")
@top_option
@json_option
@pass_terminal
def replay(terminal: Terminal, sweep: str, storage: str, *, as_json: bool, **asked: Any) -> None:
    """Runs another scheduler over recorded curves, without training anything."""
    from search.whatif import Question, what_if

    answer = what_if(_ledger(sweep, storage), Question(**asked))
    if as_json:
        terminal.json(answer.document())
        return
    _table(terminal, *answer.table())
    terminal.note(answer.summary())


@click.command(cls=Command, examples=["search audit laptop", "search audit runs/laptop --json"])
@sweep_argument
@storage_option
@top_option
@json_option
@pass_terminal
def audit(terminal: Terminal, sweep: str, storage: str, *, top_share: float, as_json: bool) -> None:
    """Shows why trials were stopped, and how often that was wrong."""
    from search.audit import audit as made

    found = made(_ledger(sweep, storage), top_share=top_share)
    if as_json:
        terminal.json(found.document())
        return
    for header, rows in (found.stop_table(), found.audited_table(), found.correlation_table()):
        if rows:
            _table(terminal, header, rows)
            terminal.out("")
    terminal.out(found.summary())


def _ledger(sweep: str, storage: str) -> "Ledger":
    """Returns the ledger of a sweep given by its name in the storage, or by its place."""
    from results.errors import LedgerError
    from results.ledger import Ledger
    from results.opening import locate
    from results.storage import Storage

    place = Storage(locate(sweep, storage))
    found = Ledger(place)
    if not found.exists:
        raise LedgerError(f"there is no sweep at {place.uri}; give a sweep's name or folder, such as runs/laptop")
    return found


def _table(terminal: Terminal, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    terminal.table(header, rows, keep=len(header))
