"""`search rerun` and `search bundle`: a trial's model again, whole bundles, and whether they are what they say."""

from pathlib import Path
from typing import Any

import click

from results.cli.commands import FAILED, Command, Commands, pass_terminal
from results.cli.options import json_option
from results.cli.terminal import Terminal

export_option = click.option(
    "--export",
    "exports",
    metavar="FORMS",
    default="",
    help="The model in other forms, too, with commas between; chorale models: saved_model, onnx.",
)
schedule_option = click.option(
    "--epochs",
    type=click.IntRange(1),
    metavar="N",
    help="What its schedule spans.  [default: as the sweep's trials have now]",
)


@click.command(
    cls=Command,
    examples=["search rerun laptop/17", "search rerun runs/laptop/17 --tolerance 0"],
    short_help="Train a trial again from its row alone.",
)
@click.argument("trial", metavar="SWEEP/TRIAL")
@schedule_option
@click.option(
    "--tolerance",
    type=click.FloatRange(0),
    default=1e-6,
    show_default=True,
    metavar="SHARE",
    help="Metrics may differ by so much of their value.",
)
@json_option
@pass_terminal
@click.pass_context
def rerun(
    ctx: click.Context, terminal: Terminal, trial: str, epochs: int | None, tolerance: float, as_json: bool
) -> None:
    """Trains a trial again from its row alone, and compares it with the ledger, epoch by epoch.

    Configuration, seed, epochs and data are those of the trial; on the same machine the result is the same. Nothing is
    written. Exit status 1: it differs.
    """
    from search import rerun as reruns

    with _muffled():
        found = reruns.rerun(reruns.find(trial), epochs=epochs, tolerance=tolerance, on_epoch=_telling(terminal))
    if as_json:
        terminal.json(found.document())
    else:
        terminal.out(found.text())
    if not found.agrees:
        ctx.exit(FAILED)


@click.group(cls=Commands, name="bundle", examples=["search bundle verify runs/laptop/bundle"])
def bundle() -> None:
    """Makes bundles (a model with card, scores, samples and checksums) and checks them."""


@bundle.command(
    examples=["search bundle make laptop/17 --out second", "search bundle make laptop/17 --out second --export onnx"],
    short_help="Bundle any trial's model.",
)
@click.argument("trial", metavar="SWEEP/TRIAL")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, metavar="FOLDER", help="The bundle; a new folder."
)
@export_option
@click.option("--samples", type=click.IntRange(0), default=1, show_default=True, metavar="N", help="Of each sort.")
@schedule_option
@json_option
@pass_terminal
def make(terminal: Terminal, trial: str, out: Path, exports: str, as_json: bool, **options: Any) -> None:
    """Makes a bundle of any trial, at its best epoch.

    From the checkpoint of that epoch if it is still there; else the trial is trained again. The test split stays
    closed, and the card says so. The bundle of the model that a sweep chose is made by `search final`.
    """
    from search import rerun as reruns
    from search import trial_bundle

    with _muffled():
        card = trial_bundle.make(
            reruns.find(trial), out, exports=_forms(exports), on_epoch=_telling(terminal), **options
        )
    if as_json:
        terminal.json({"bundle": str(out), **card})
        return
    terminal.out(
        f"{out}: trial {card['trial']} of sweep {card['sweep']} at epoch {card['best_epoch']}, from "
        f"{card['made_from']}\ntest was not opened; scores are those of {card['split']}"
    )


@bundle.command(
    examples=["search bundle verify runs/laptop/bundle", "search bundle verify bundle --no-score"],
    short_help="Check files, model and scores.",
)
@click.argument("path", type=click.Path(path_type=Path), metavar="FOLDER")
@click.option("--score/--no-score", default=True, show_default=True, help="Load the model and score it again.")
@click.option("--task", metavar="PATH", help="Where its task lies here, if that is a file: path/to/file.py:Class.")
@click.option(
    "--tolerance",
    type=click.FloatRange(0),
    default=1e-4,
    show_default=True,
    metavar="SHARE",
    help="Scores may differ by so much of their value.",
)
@json_option
@pass_terminal
@click.pass_context
def verify(ctx: click.Context, terminal: Terminal, path: Path, score: bool, as_json: bool, **options: Any) -> None:
    """Checks that a bundle is what its card says: files, model, scores.

    The scores are made again on the data and the split that the card names. Exit status 1: something differs.
    """
    from search import verification

    if score and verification.scored_on_test(path):
        terminal.note(
            "This scores the model once more on test, where its scores come from. That is no new look at the split as "
            "long as nothing is chosen or changed by it."
        )
    with _muffled():
        found = verification.verify(path, score=score, **options)
    if as_json:
        terminal.json(found.document())
    else:
        terminal.out(found.text())
    if found.problems:
        ctx.exit(FAILED)


@bundle.command(
    examples=["search bundle export runs/laptop/bundle --export saved_model,onnx"],
    short_help="Add the model in other forms.",
)
@click.argument("path", type=click.Path(path_type=Path), metavar="FOLDER")
@export_option
@click.option("--task", metavar="PATH", help="Where its task lies here, if that is a file: path/to/file.py:Class.")
@pass_terminal
def export(terminal: Terminal, path: Path, exports: str, task: str | None) -> None:
    """Adds the model in other forms to a bundle, each once it gives the same probabilities."""
    from search import trial_bundle, verification

    forms = _forms(exports)
    if not forms:
        raise click.UsageError("which forms? Give, for example, --export saved_model,onnx")
    trial_bundle.recover(path)
    with _muffled():
        whole = verification.verify(path, score=False)
        if whole.problems:
            terminal.out(whole.text())
            click.get_current_context().exit(FAILED)
        card = trial_bundle.add_exports(path, forms, verification.task_of(verification.read(path), task=task))
    for form in forms:
        made = card["exports"][form]
        terminal.out(f"{path / made['path']}: the same probabilities but for {made['difference']:.1e}")


def _forms(exports: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(form.strip() for form in exports.split(",") if form.strip()))


def _telling(terminal: Terminal) -> Any:
    def on_epoch(epoch: int, metrics: Any) -> None:
        told = "  ".join(f"{name} {value:.4g}" for name, value in list(metrics.items())[:3])
        terminal.status(f"epoch {epoch}  {told}")

    return on_epoch


def _muffled() -> Any:
    import logging

    from search.native_output import muffled

    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # its advice on how to write the task is not for users
    return muffled()
