"""`bach presets` and `bach train`."""

import dataclasses
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bach.cli.commands import STOPPED, Command
from bach.cli.keras_start import start_keras
from bach.cli.options import (
    DEFAULT_DATA,
    LARGEST_SEED,
    check_place,
    json_option,
    load_data,
    pass_terminal,
)
from bach.cli.terminal import Terminal, bar, duration, table
from bach.models.presets import PRESETS
from bach.notes import NUM_VOICES

if TYPE_CHECKING:
    from bach.run_records import RunRecord
    from bach.training import EpochResult

DEFAULT_PRESET = "small"
DEFAULT_SEED = 1685


@click.command(cls=Command, examples=["bach presets --json"], short_help="List the named models.")
@json_option
@pass_terminal
def presets(terminal: Terminal, as_json: bool) -> None:
    """Lists the named models: family, number of weights, epochs, purpose."""
    if as_json:
        names = ("name", "family", "parameters", "epochs", "purpose", "values")
        terminal.json([{name: getattr(preset, name) for name in names} for preset in PRESETS.values()])
        return
    rows: list[list[Any]] = [["name", "family", "parameters", "epochs", "purpose"]]
    rows += [[p.name, p.family, f"{p.parameters:,}", p.epochs, p.purpose] for p in PRESETS.values()]
    terminal.out(table(rows, left=frozenset({0, 1, 4})))


@click.command(
    cls=Command,
    examples=["bach train --out run --preset small", "bach train --out run --resume"],
    short_help="Train a model.",
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="The run's folder; made if it is not there."
)
@click.option("--preset", metavar="NAME", help=f"What to train; bach presets lists them.  [default: {DEFAULT_PRESET}]")
@click.option("--family", metavar="NAME", help="Or: a family with its default values.")
@click.option(
    "--set",
    "assignments",
    metavar="NAME=VALUE",
    multiple=True,
    help="Another value for one parameter, such as train.batch_size=32; may be given many times.",
)
@click.option(
    "--data",
    "source",
    metavar="SOURCE",
    help=f"The chorales, as for bach data; the test split is not touched.  [default: {DEFAULT_DATA}]",
)
@click.option("--epochs", type=click.IntRange(min=1), metavar="N", help="How many; the preset's number if not given.")
@click.option(
    "--seed",
    type=click.IntRange(0, LARGEST_SEED),
    metavar="N",
    help=f"Of all that is drawn; the same seed trains the same model.  [default: {DEFAULT_SEED}]",
)
@click.option("--resume", is_flag=True, help="Go on with the run in the folder, as it was begun.")
@json_option
@click.pass_context
@pass_terminal
def train(terminal: Terminal, ctx: click.Context, out: Path, resume: bool, as_json: bool, **asked: Any) -> None:
    """Trains a model and keeps that of its best epoch; prints one line an epoch.

    Ctrl-C stops it; --resume goes on from the last whole epoch, with the same outcome as if it had not been stopped.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell without job control starts `bach train &` this way; who sends it the signal means it all the same.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    record = _request(terminal, out, resume=resume, **asked)
    try:
        _train(terminal, record, out, resume=resume, as_json=as_json)
    except KeyboardInterrupt:
        terminal.note("\n" + _where_it_stands(out))
        ctx.exit(STOPPED)


def _request(
    terminal: Terminal,
    out: Path,
    *,
    resume: bool,
    preset: str | None,
    family: str | None,
    assignments: tuple[str, ...],
    source: str | None,
    epochs: int | None,
    seed: int | None,
) -> "RunRecord":
    """Returns what is to be trained: as asked, and for the rest as the run was begun, or by default."""
    from bach.points import assign, split_assignments, starting_point
    from bach.run_records import RunRecord, check_free, read_record

    if not resume:
        check_free(out)
    before = read_record(out) if resume else None
    texts = split_assignments(assignments)
    if before is not None and preset is None and family is None:
        name, values, usual_epochs = before.preset, before.values, before.epochs
    else:
        point = starting_point(
            preset_name=preset if preset or family else DEFAULT_PRESET,
            family=family,
        )
        name, values, usual_epochs = point.preset, point.values, before.epochs if before else point.epochs
    if texts:
        check_place(out)
        start_keras(terminal, training=True)
        values = assign(values, texts)
    if source is None:
        source = before.data if before else DEFAULT_DATA
    elif Path(source).exists() and source not in (DEFAULT_DATA, "jsb"):
        source = str(Path(source).resolve())
    if seed is None:
        seed = before.seed if before else DEFAULT_SEED
    return RunRecord(preset=name, values=dict(values), epochs=epochs or usual_epochs, seed=seed, data=source)


def _train(terminal: Terminal, record: "RunRecord", out: Path, *, resume: bool, as_json: bool) -> None:
    from bach.run_records import epochs_done

    check_place(out)
    data = load_data(terminal, record.data)
    start_keras(terminal, training=True)
    from bach import runs
    from bach.hypermodel import parameters

    values = parameters(record.values).values
    if not resume:
        record.write(out)
    done = (epochs_done(out) or 0) if resume else 0
    run = runs.Run(
        values=record.values, data=data, folder=out, epochs=record.epochs, seed=record.seed, preset=record.preset
    )
    terminal.note(
        f"{'Going on with' if resume else 'Training'} {record.preset or values['model.family']} on {data.name}: "
        f"epochs {done + 1} to {record.epochs}, seed {record.seed}"
        if done < record.epochs
        else f"All {record.epochs} epochs were done before."
    )
    notes_per_step = values["train.batch_size"] * values["train.window_steps"] * NUM_VOICES
    watch = Watch(terminal, epochs=record.epochs, epochs_before=done, notes_per_step=notes_per_step, as_json=as_json)
    model = runs.train(run, resume=resume, on_epoch=watch.epoch, on_step=watch.step)
    terminal.note(f"The model of the best epoch is {model}")


def _where_it_stands(out: Path) -> str:
    """Returns what is to be said after Ctrl-C."""
    from bach.run_records import epochs_done

    done = epochs_done(out)
    if done is None:
        return "Stopped before the training began; there is no checkpoint yet. Start it again."
    kept = "no epoch was finished" if not done else f"{done} epoch{'s' * (done > 1)} done"
    return f"Stopped; {kept}. The checkpoint is in {out}; go on with: bach train --out {out} --resume"


class Watch:
    """Tells how a training comes along."""

    def __init__(self, terminal: Terminal, *, epochs: int, epochs_before: int, notes_per_step: int, as_json: bool):
        """Takes what is to be known of the run.

        Args:
            terminal: where to tell it.
            epochs: of the whole run.
            epochs_before: those that were done when this process began.
            notes_per_step: notes in a batch, about.
            as_json: whether results are printed as JSON.
        """
        self._terminal, self._epochs, self._as_json = terminal, epochs, as_json
        self._done = epochs_before
        self._notes_per_step = notes_per_step
        self._epoch_began = time.monotonic()
        self._epochs_s: list[float] = []

    def step(self, steps: int, of: int, loss: float) -> None:
        """Shows how far the epoch is."""
        now = time.monotonic()
        notes_per_s = steps * self._notes_per_step / max(now - self._epoch_began, 1e-9)
        whole = (self._done + steps / of) / self._epochs
        self._terminal.status(
            f"epoch {self._done + 1}/{self._epochs} {bar(whole)}  loss {loss:.3f}  {notes_per_s:,.0f} notes/s  "
            f"{self._left(steps / of)}"
        )

    def epoch(self, result: "EpochResult") -> None:
        """Prints an epoch's result."""
        now = time.monotonic()
        self._done = result.epoch
        self._epochs_s.append(now - self._epoch_began)
        self._epoch_began = now
        if self._as_json:
            self._terminal.json(dataclasses.asdict(result), indent=None)
        else:
            self._terminal.out(
                f"epoch {result.epoch:>3}  train_loss {result.train_loss:.4f}  val_nll {result.val_nll:.4f}  "
                f"val_accuracy {result.val_accuracy:.4f}  {duration(result.duration_s)}"
                + ("  best" if result.best else "")
            )
        self._terminal.status(
            f"epoch {result.epoch}/{self._epochs} {bar(result.epoch / self._epochs)}  "
            f"{result.notes_per_s:,.0f} notes/s  {self._left(0.0)}",
            now=True,
        )

    def _left(self, share: float) -> str:
        """Returns how long it will take from here, `share` of the present epoch being done."""
        # The first epoch compiles, so it says least of those to come.
        known = (self._epochs_s[1:] or self._epochs_s)[-5:]
        epoch_s = sum(known) / len(known) if known else (time.monotonic() - self._epoch_began) / max(share, 1e-9)
        return f"{duration(epoch_s * (self._epochs - self._done - share))} left"
