"""`search run`, `resume`, `extend` and `stop`."""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from results.cli.commands import STOPPED, Command, pass_terminal
from results.cli.terminal import Terminal
from search.cli.final import telling
from search.cli.sending import ADDRESS_HELP, ask, asked_there_option, follow_option, send_known, send_sweep, sends
from search.errors import SpecError

if TYPE_CHECKING:
    from search.conductor import Conductor
    from search.spec import SweepSpec
    from search.sweep import Ending, Watcher


def _running_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds what `run`, `resume` and `extend` have in common."""
    for option in (
        click.option("--address", metavar="ADDRESS", help=ADDRESS_HELP),
        follow_option,
        click.option("--dashboard/--no-dashboard", default=True, show_default=True, help="Start Ray's dashboard."),
        click.option("--final/--no-final", default=True, show_default=True, help="Run the final job at the end."),
        click.option("--concurrency", type=click.IntRange(0), help="Trials at a time; 0: as many as fit."),
        click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON."),
    ):
        command = option(command)
    return command


@click.command(
    cls=Command,
    examples=["search run sweeps/laptop.toml", "search run sweeps/smoke.toml --name first-try --trials 4"],
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="Another name than the file's; so the same file can be run again.")
@click.option("--storage", metavar="URI", help="Where the sweep's folder is put: a folder, s3://… or gs://…")
@click.option("--trials", type=click.IntRange(1), help="Another number of trials.")
@click.option("--epochs", type=click.IntRange(1), help="Another number of epochs.")
@click.option("--wall-time", metavar="TIME", help="Another limit of time, such as '12 min'.")
@click.option("--seed", type=click.IntRange(0), help="Another seed.")
@click.option("--go-on", is_flag=True, help="If the sweep has begun already, go on with it.")
@_running_options
@pass_terminal
def run(terminal: Terminal, file: Path, go_on: bool, **options: Any) -> None:
    """Runs a sweep from its FILE, and then its final job.

    Everything goes to `runs/<name>/`. Ctrl-C once finishes the epochs that run and saves; `search resume` goes on.
    With --address http://… it is sent to a cluster together with the current folder, and goes on there after Ctrl-C.
    """
    from search import sweep_file

    spec = _changed(sweep_file.load(file), options, ("name", "storage", "trials", "epochs", "seed", "concurrency"))
    if sends():
        send_sweep(terminal, spec, file)
        return
    _conduct(terminal, spec, options, go_on=go_on)


@click.command(cls=Command, examples=["search resume laptop", "search resume runs/laptop --file sweeps/laptop.toml"])
@click.argument("sweep")
@click.option("--file", type=click.Path(path_type=Path), help="Its sweep file, if that has changed since.")
@_running_options
@pass_terminal
def resume(terminal: Terminal, sweep: str, file: Path | None, **options: Any) -> None:
    """Goes on with a SWEEP (name, folder or URI) that was interrupted or has died."""
    if sends():
        send_known(terminal, sweep, file)
        return
    spec = _changed(_spec_of(sweep, file), options, ("concurrency",))
    _conduct(terminal, spec, options, go_on=True)


@click.command(cls=Command, examples=["search extend laptop --trials 40", "search extend laptop --epochs 24"])
@click.argument("sweep")
@click.option("--trials", type=click.IntRange(1), help="Trials in all, the former ones counted.")
@click.option("--epochs", type=click.IntRange(1), help="Epochs of a trial; completed ones go on.")
@click.option("--wall-time", metavar="TIME", help="Time in all, the former sessions counted.")
@click.option("--gpu-hours", type=float, help="GPU hours in all.")
@click.option("--money", type=float, help="Money in all.")
@_running_options
@pass_terminal
def extend(terminal: Terminal, sweep: str, **options: Any) -> None:
    """Gives a SWEEP (name, folder or URI) more trials, epochs, time, GPU hours or money, and goes on with it."""
    wanted = ("trials", "epochs", "gpu_hours", "money")
    if all(options.get(name) is None for name in (*wanted, "wall_time")):
        raise SpecError("extend by what? Give --trials, --epochs, --wall-time, --gpu-hours or --money, the new total")
    if sends():
        send_known(terminal, sweep)
        return
    spec = _changed(_spec_of(sweep, None), options, (*wanted, "concurrency"))
    _conduct(terminal, spec, options, go_on=True, extend=True)


@click.command(cls=Command, examples=["search stop laptop"])
@click.argument("sweep")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until it has ended.")
@asked_there_option
@pass_terminal
def stop(terminal: Terminal, sweep: str, wait: bool, address: str | None) -> None:
    """Asks a running SWEEP (name, folder or URI) to finish its epochs, save and end."""
    if sends():
        ask(terminal, sweep)
        return
    from search import stopping
    from search.folders import find
    from search.lock import holder, is_alive

    storage = find(sweep)

    def runs() -> bool:
        held = holder(storage)
        return held is not None and is_alive(storage, held)

    if not runs():
        terminal.out(f"{sweep} does not run.")
        return
    stopping.request(storage)
    while wait and runs():
        if not stopping.is_requested(storage, "user"):  # a budget's request has taken its place at the same moment
            stopping.request(storage)
        terminal.status(f"{sweep} finishes its epochs and saves")
        time.sleep(0.5)
    terminal.out(
        f"{sweep} has ended; `search resume {sweep}` goes on with it." if wait else f"{sweep} was asked to end."
    )


def _changed(spec: "SweepSpec", options: dict[str, Any], names: tuple[str, ...]) -> "SweepSpec":
    """Returns the spec with what the command line says instead; checked as the file is."""
    from search import sweep_file
    from search.quantities import seconds

    changes = {name: options[name] for name in names if options.get(name) is not None}
    if options.get("wall_time") is not None:
        try:
            changes["wall_time_s"] = seconds(options["wall_time"])
        except ValueError as error:
            raise SpecError(f"--wall-time: {error}") from error
    changed = dataclasses.replace(spec, **changes)
    return sweep_file.read(sweep_file.document(changed), source="the command line", folder=spec.folder)


def _spec_of(sweep: str, file: Path | None) -> "SweepSpec":
    """Returns what a sweep was last asked to do, or what its file asks for now."""
    from search import sweep_file
    from search.folders import find, read_spec

    kept = read_spec(find(sweep))
    if file is None:
        return kept
    return dataclasses.replace(sweep_file.load(file), storage=kept.storage, name=kept.name)


def _conduct(terminal: Terminal, spec: "SweepSpec", options: dict[str, Any], **how: bool) -> None:
    from search.sweep import run as run_sweep

    ending = run_sweep(
        spec,
        command=" ".join(["search", *sys.argv[1:]]),
        address=options["address"],
        dashboard=options["dashboard"],
        final=options["final"],
        watch=_watch(terminal, spec),
        tell_final=telling(terminal),
        **how,
    )
    if options["as_json"]:
        terminal.json(_document(ending))
    else:
        terminal.out(_summary(spec, ending))
    if not ending.finished:
        click.get_current_context().exit(STOPPED)


def _watch(terminal: Terminal, spec: "SweepSpec") -> Any:
    from search.metrics import Metrics
    from search.snapshot import Limits, take
    from search.view import view_of

    @contextlib.contextmanager
    def watch(conductor: "Conductor") -> Iterator["Watcher"]:
        limits = Limits.of(spec)
        storage = f"{spec.storage}/{spec.name}"

        def snapshot() -> Any:
            return take(conductor.state, limits, now=time.time(), storage=storage, condition="running")

        view = view_of(conductor.state, snapshot)
        try:
            yield _Both(view, Metrics(), snapshot)
        finally:
            view.close()

    return watch


class _Both:
    """A view and the metrics of Ray's dashboard, told the same."""

    def __init__(self, view: Any, metrics: Any, snapshot: Callable[[], Any]):
        self._view, self._metrics, self._snapshot = view, metrics, snapshot
        self._measured = 0.0

    def event(self, table: str, row: Any) -> None:
        self._view.event(table, row)

    def tick(self) -> None:
        self._view.tick()
        now = time.monotonic()
        if now - self._measured >= METRICS_S:
            self._measured = now
            self._metrics.update(self._snapshot())

    def note(self, text: str) -> None:
        self._view.note(text)


METRICS_S = 5.0
"""How often the figures of Ray's dashboard are renewed."""


def _document(ending: "Ending") -> dict[str, Any]:
    state = ending.state
    best = state.best_trial()
    return {
        "sweep": state.schema.sweep,
        "storage": ending.storage.uri,
        "finished": ending.finished,
        "why": ending.why,
        "trials": state.counts(),
        "objective": state.objective,
        "best": None
        if best is None
        else {
            "trial": best.trial,
            "epoch": best.best_epoch,
            "value": state.best_value(best.trial),
            "config": best.values,
        },
        "final": None if ending.final is None else ending.final.document(),
    }


def _summary(spec: "SweepSpec", ending: "Ending") -> str:
    """Returns how a session ended, for a person, and what to type next."""
    from results.opening import typed

    state = ending.state
    counts = ", ".join(f"{count} {name}" for name, count in state.counts().items() if count)
    lines = [f"{spec.name}: {counts or 'no trials'}" + (f" ({ending.why})" if ending.why else "")]
    best = state.best_trial()
    if best is not None and ending.final is None:
        lines.append(
            f"best {state.objective} so far: {state.best_value(best.trial):.4f} (trial {best.trial}, "
            f"epoch {best.best_epoch}); the best of many noisy scores is partly luck"
        )
    if ending.final is not None:
        lines += ["", ending.final.text()]
    elif not ending.finished:
        lines.append(f"go on: search resume {typed(ending.storage)}")
    else:
        lines.append(f"look:  results top {typed(ending.storage)}")
    return "\n".join(lines)
