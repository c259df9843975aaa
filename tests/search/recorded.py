"""Ledgers of sweeps that never ran, as `search audit` and `search replay` read them."""

import math
from collections.abc import Sequence

from results.ledger import Ledger, Writer
from results.schema import Goal, Measure, Parameter, SweepSchema
from results.storage import Storage
from search.scheduler import SchedulerSettings, create
from search.simulation import Curve, simulate

STATES = {"completed": "completed", "stopped": "stopped", "failed": "failed"}


def sweep(
    folder,
    curves: Sequence[Curve],
    settings: SchedulerSettings,
    *,
    name="toy",
    goal: Goal = "min",
    workers=1,
    budget=math.inf,
) -> Ledger:
    """Writes what a sweep over the curves would have left, and returns its ledger."""
    schema = SweepSchema(
        sweep=name,
        parameters={"width": Parameter("int")},
        metrics={"score": Measure("", "", goal)},
        objectives=(("score", goal),),
    )
    storage = Storage(folder).child(name)
    writer = Writer(storage, schema, session=1, next_seq=0)
    sign = -1.0 if goal == "max" else 1.0
    done = simulate(
        create(settings),
        lambda trial: curves[trial] if trial < len(curves) else None,
        workers=workers,
        max_cost=budget,
    )
    for trial in done.runs:
        writer.append(
            "proposals", {"trial": trial, "origin": "searcher", "seed": 1, "bracket": 0, "config.width": trial}
        )
    for trial, run in done.runs.items():
        for epoch, loss in run.seen.items():
            row = {"trial": trial, "attempt": 1, "epoch": epoch, "duration_s": run.curve.cost(epoch)}
            writer.append("epochs", {**row, "score": sign * loss if math.isfinite(loss) else None})
        for decision in run.decisions:
            row = {
                name: getattr(decision, name) for name in ("trial", "epoch", "bracket", "rung", "cutoff", "num_values")
            }
            value = decision.value if math.isfinite(decision.value) else None
            row |= {"attempt": 1, "value": value, "verdict": decision.verdict, "audited": decision.audited}
            writer.append("decisions", row)
        if run.state in STATES:
            kind = {"stopped": "scheduler", "failed": "error"}.get(run.state, "")
            writer.append("trials", {"trial": trial, "state": run.state, "reason_kind": kind, "epochs": run.epochs})
    writer.flush()
    return Ledger(storage)
