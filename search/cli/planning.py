"""`search plan` and `search doctor`: what would happen, and whether it can."""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from results.cli.commands import Command, pass_terminal
from results.cli.terminal import Terminal
from results.plain import duration

if TYPE_CHECKING:
    from search.doctor import Check
    from search.forecast import FinalForecast
    from search.plan import Plan, Proposal

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines to read.")
file_argument = click.argument("file", metavar="FILE", type=click.Path(path_type=Path))

SIGNS = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}


@click.command(cls=Command, examples=["search plan sweeps/laptop.toml"])
@file_argument
@click.option(
    "--proposals", type=click.IntRange(min=0), metavar="N", default=5, show_default=True,
    help="Show so many first configurations beside the points of the file.",
)  # fmt: skip
@click.option("--all", "everything", is_flag=True, help="List the parameters that do not vary too.")
@json_option
@pass_terminal
def plan(terminal: Terminal, file: Path, proposals: int, everything: bool, as_json: bool) -> None:
    """Shows what a sweep file would run, how long and for how much.

    Nothing is started or written. The space as the file narrows it, the first configurations (a run makes the same at
    one trial a time, up to `startup_trials`: those after them follow from results), the epochs at which trials are
    judged, how many epochs there will be at most and with early stopping. Time and money come from what earlier sweeps
    of the task measured, in the same storage.
    """
    from search.plan import plan as make
    from search.sweep_file import load

    made = make(load(file), proposals=proposals)
    if as_json:
        terminal.json(made.to_dict())
        return
    terminal.out("\n".join(_plan_lines(made)))
    rows = [row for row in made.parameters if everything or row.state == "varies"]
    terminal.out(f"\n{_space_line(made)}")
    if rows:
        terminal.table(
            ["parameter", "range", "default", "only if", "state"][: 5 if everything else 4],
            [[*_row(row)][: 5 if everything else 4] for row in rows],
            keep=2,
        )
    terminal.out(f"\nFirst trials{':' if made.proposals else ': none'}")
    for proposal in made.proposals:
        terminal.out(_proposal_line(proposal, made))


def _plan_lines(plan: "Plan") -> Iterator[str]:
    spec, forecast = plan.spec, plan.forecast
    objectives = ", ".join(f"{metric} {goal}" for metric, goal in plan.objectives)
    yield f"Sweep {spec.name}: {spec.task}, {objectives}; to {spec.storage.rstrip('/')}/{spec.name}"
    yield f"  budget      {', '.join(_budgets(plan))}"
    yield f"  trials      of {spec.epochs} epochs at most, {plan.workers} at a time on this machine"
    brackets = {proposal.bracket: proposal.milestones for proposal in plan.proposals}
    rungs = "; ".join(
        (f"bracket {bracket}: " if len(brackets) > 1 else "") + (", ".join(map(str, epochs)) or "none")
        for bracket, epochs in sorted(brackets.items())
    )
    yield f"  searcher    {spec.searcher.kind}; scheduler {spec.scheduler.kind}" + (
        f", judges after epochs {rungs}" if rungs else ""
    )
    if forecast.epochs is None:
        yield "  epochs      unknown: how many trials the time is enough for depends on what an epoch takes"
    else:
        yield (
            f"  epochs      about {forecast.epochs:,} of {forecast.trials:,} trials, "
            f"at most {forecast.epochs_most:,} if none is stopped"
        )
    if plan.final is not None:
        yield f"  final job   {_final_line(plan.final)}"
    known = plan.measured
    if known is None:
        yield (
            "  time        unknown: no earlier sweep of this task in this storage; "
            "a short one tells: set trials = 2 and epochs = 2 under another name"
        )
        return
    yield (
        f"  time        about {duration(forecast.wall_s or 0)}, {duration(forecast.worker_s or 0)} of all workers; "
        f"from {known.epochs:,} epochs of {', '.join(known.sweeps)}: {duration(known.epoch_s)} each, "
        f"{duration(known.start_s)} to start a trial"
    )
    if forecast.gpu_hours:
        yield f"  GPUs        about {forecast.gpu_hours:.2f} hours"
    if forecast.money is not None:
        yield f"  money       about {forecast.money:.2f}"


def _final_line(final: "FinalForecast") -> str:
    trainings = f"{final.trainings} training{'' if final.trainings == 1 else 's'} of {final.epochs} epochs"
    if final.trainings_most > final.trainings:
        trainings += f", {final.trainings_most} at most"
    told = [trainings]
    if final.wall_s is not None:
        told.append(f"about {duration(final.wall_s)}")
    if final.gpu_hours:
        told.append(f"{final.gpu_hours:.2f} GPU hours")
    if final.money is not None:
        told.append(f"{final.money:.2f} of money")
    return "; ".join(told[:2]) + "".join(f", {each}" for each in told[2:])


def _budgets(plan: "Plan") -> Iterator[str]:
    spec = plan.spec
    if spec.trials is not None:
        yield f"{spec.trials} trials"
    if spec.wall_time_s is not None:
        yield f"{duration(spec.wall_time_s)} in all"
    if spec.gpu_hours is not None:
        yield f"{spec.gpu_hours:g} GPU hours"
    if spec.money is not None:
        yield f"{spec.money:g} of money at {spec.price_per_hour:g} an hour"


def _space_line(plan: "Plan") -> str:
    names = {row.name for row in plan.parameters}
    varying = {row.name for row in plan.parameters if row.state == "varies"}
    count = plan.configurations
    if count is None:
        size = "more configurations than can be counted"
    elif math.isinf(count):
        size = "configurations without number (some parameters are continuous)"
    else:
        size = f"{count:,.0f} configurations" if count < 1e9 else f"{count:.1e} configurations"
    return f"Space: {len(varying)} of {len(names)} parameters vary, {size}"


def _row(row: Any) -> tuple[str, str, str, str, str]:
    default = f"{row.default:g}" if isinstance(row.default, float) else str(row.default)
    return row.name, row.range, default, row.condition, row.state


def _proposal_line(proposal: "Proposal", plan: "Plan") -> str:
    varying = {row.name for row in plan.parameters if row.state == "varies"}
    values = ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in proposal.values.items()
        if name in varying
    )
    return f"  {proposal.trial}  {proposal.origin}: {values or 'nothing varies'}"


@click.command(cls=Command, examples=["search doctor", "search doctor sweeps/laptop.toml"])
@click.argument("file", metavar="[FILE]", required=False, type=click.Path(path_type=Path))
@click.option("--storage", metavar="URI", default="runs", show_default=True, help="Where sweeps lie, without a FILE.")
@click.option("--address", metavar="HOST:PORT", help="Look at every node of this Ray cluster too; auto: the one here.")
@json_option
@pass_terminal
@click.pass_context
def doctor(
    ctx: click.Context, terminal: Terminal, file: Path | None, storage: str, address: str | None, as_json: bool
) -> None:
    """Checks that a sweep can run here, before it does.

    The packages that the searcher needs, Keras's backend, the storage, room on disk, the clock; with a FILE also
    whether the task can be made in a worker process, memory, and the GPU if trials use one. One line a check; exit
    status 1 if one found a problem.
    """
    from search.doctor import examine
    from search.errors import SpecError
    from search.sweep_file import load

    if address is not None and file is None:
        raise SpecError("--address needs a FILE: it says which task and storage the nodes have to reach")
    found = []
    for check in examine(None if file is None else load(file), storage=storage, address=address):
        found.append(check)
        if not as_json:
            terminal.out(_check_line(check))
    if as_json:
        terminal.json([dataclasses.asdict(check) for check in found])
    if any(check.state == "problem" for check in found):
        ctx.exit(1)


def _check_line(check: "Check") -> str:
    advice = f"\n{'':18}-> {check.advice}" if check.advice else ""
    return f"{SIGNS[check.state]}  {check.name:9}{check.found}{advice}"
