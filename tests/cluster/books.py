"""Says as JSON what the books of a sweep hold: `python -m tests.cluster.books URI TRIALS`, on the lab's network."""

import json
import sys

from results.ledger import Ledger
from results.storage import Storage
from tests.search import faults
from tests.search.fake_task import loss


def reached(trial):
    """The loss that a trial of the fake task comes to, whatever happens to it."""
    return min(loss(trial.values, epoch, trial.seed) for epoch in trial.epochs)


def books(uri, trials):
    """What a test asks of a sweep's ledger."""
    place = Storage(uri)
    ledger = Ledger(place)
    state = faults.state_of(place)
    ranked = state.ranked()
    return {
        "accounted": faults.accounted_for(place, trials),
        "duplicates": faults.duplicate_keys(place),
        "problems": faults.problems(place),
        "outcome": sorted([number, *rest[:3], rest[3]] for number, rest in faults.outcome(state).items()),
        "best": ranked[0].trial if ranked else None,
        "really_best": min(state.trials.values(), key=reached).trial if state.objective == "loss" else None,
        "finals": sorted([row["trial"], row["seed"], row[state.objective], row["chosen"]] for row in state.finals),
        "attempts": ledger.table("attempts").select(["trial", "attempt", "cause"]).to_pylist(),
        "ends": ledger.table("attempt_ends")
        .select(["trial", "attempt", "outcome", "reason_kind", "reason", "node", "from_epoch", "wait_s"])
        .to_pylist(),
        "sessions": ledger.table("sessions").select(["session", "host", "commit", "command"]).to_pylist(),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(books(sys.argv[1], int(sys.argv[2])), default=str))
