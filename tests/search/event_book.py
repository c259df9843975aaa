"""Events of sweeps that never ran, for tests of what is made of events."""

from datetime import UTC, datetime, timedelta

from results.schema import Measure, Parameter, SweepSchema
from search.state import SweepState

SCHEMA = SweepSchema(
    sweep="toy",
    parameters={"width": Parameter("int"), "kind": Parameter("str")},
    metrics={"loss": Measure("", "", "min"), "speed": Measure("", "", "max")},
    scores={},
    measures={},
    objectives=(("loss", "min"), ("speed", "max")),
)
START = datetime(2026, 1, 1, tzinfo=UTC)


class Book:
    """Gives rows the columns that the ledger fills in."""

    def __init__(self, schema=SCHEMA):
        self.state = SweepState(schema)
        self.rows = []

    def add(self, table, **row):
        row = {
            "sweep": "toy",
            "seq": len(self.rows),
            "session": 1,
            "time": START + timedelta(seconds=len(self.rows)),
            **row,
        }
        self.rows.append((table, row))
        self.state.apply(table, row)

    def proposal(self, trial, **config):
        values = {f"config.{name}": value for name, value in config.items()}
        self.add("proposals", trial=trial, origin="searcher", seed=trial, bracket=0, **values)

    def attempt(self, trial, attempt, cause="first", gpus=0.0):
        self.add("attempts", trial=trial, attempt=attempt, cause=cause, cpus=1.0, gpus=gpus)

    def epoch(self, trial, attempt, epoch, loss, speed=1.0):
        self.add("epochs", trial=trial, attempt=attempt, epoch=epoch, loss=loss, speed=speed, duration_s=0.5)

    def epochs(self, trial, attempt, losses, first=1):
        for epoch, loss in enumerate(losses, first):
            self.epoch(trial, attempt, epoch, loss)

    def attempt_end(self, trial, attempt, outcome, **row):
        self.add("attempt_ends", trial=trial, attempt=attempt, outcome=outcome, **row)

    def end(self, trial, state, **row):
        self.add("trials", trial=trial, state=state, **row)
