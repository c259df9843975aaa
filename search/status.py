"""How a sweep stands, read from its folder: while it runs elsewhere, after it ended, and after its driver died."""

import shlex
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from results.ledger import Ledger
from results.storage import Storage
from search.checkpoints import SPEC_FILE
from search.errors import SweepError
from search.lock import Holder, holder, is_alive
from search.snapshot import Condition, Limits, Snapshot, take
from search.state import SweepState

OPEN = ("proposed", "running", "paused")
"""States that a driver which ended in order leaves no trial in."""
FINAL_BEGUN, BUNDLE_WHOLE = f"finals/{SPEC_FILE}", "bundle/SHA256SUMS"
"""What a final job writes before its first training, and after all else."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """How a sweep stands.

    Attributes:
        driver: who runs it, or ran it and died; None if the last one ended in order.
        advice: what it means and what may be typed next, a sentence.
    """

    snapshot: Snapshot
    driver: Holder | None
    advice: str

    def document(self) -> dict[str, Any]:
        """Returns it as plain values for JSON."""
        driver = None
        if self.driver is not None:
            shown = asdict(self.driver)
            driver = {key: shown[key] for key in ("host", "pid", "started")}
            driver["alive"] = self.snapshot.condition == "running"
        return {**self.snapshot.document(), "driver": driver, "advice": self.advice}


def read(
    storage: Storage,
    limits: Limits,
    *,
    now: Callable[[], float] = time.time,
    on_wait: Callable[[str], None] = lambda text: None,
) -> Status:
    """Returns how the sweep in a folder stands.

    Args:
        storage: the sweep's.
        limits: of the sweep, from its file.
        now: seconds since 1970.
        on_wait: is told if it takes a while to see whether a driver on another machine lives.

    Raises:
        SweepError: it has not written anything yet.
        ResultsError: its ledger cannot be read.
    """
    driver = holder(storage)
    alive = driver is not None and is_alive(storage, driver, on_wait=on_wait)
    ledger = Ledger(storage)
    if not ledger.exists:
        doing = f"its driver has just begun ({driver})" if alive else "its driver ended before that"
        raise SweepError(
            f"the sweep in {storage.uri} has not written anything yet: {doing}; look again, or run it anew"
        )
    state = SweepState(ledger.schema).replay(ledger.events())
    seen = now()
    judged = condition(state, limits, alive=alive, left_lock=driver is not None)
    shot = take(state, limits, now=seen, storage=storage.uri, condition=judged)
    left = len(state.unfinished) + len(state.to_extend(limits.epochs or 0))
    place = shlex.quote(storage.uri)
    advice = _advice(judged, driver, place, left=left, has_final_left=_has_final_left(storage, state))
    return Status(snapshot=shot, driver=driver, advice=advice)


def condition(state: SweepState, limits: Limits, *, alive: bool, left_lock: bool) -> Condition:
    """Returns whether a sweep runs, and if not, how it ended.

    Args:
        state: of the sweep.
        limits: of the sweep.
        alive: its driver lives.
        left_lock: its last driver has left its lock behind.
    """
    if alive:
        return "running"
    counts = state.counts()
    if left_lock or any(counts[each] for each in OPEN):
        return "dead"
    asked = any(trial.reason_kind == "user" for trial in state.trials.values() if trial.state == "unfinished")
    all_there = limits.trials is None or len(state.trials) >= limits.trials
    complete = all_there and not state.to_extend(limits.epochs or 0)
    if asked or not state.trials:
        return "stopped"
    if complete:
        return "finished"
    shot = take(state, limits, now=0.0, condition="finished")
    budgets = (use for use in shot.budget if use.name in ("wall_time_s", "gpu_hours", "money"))
    return "finished" if any(use.limit is not None and use.used >= use.limit for use in budgets) else "stopped"


def _has_final_left(storage: Storage, state: SweepState) -> bool:
    """Whether a final job has begun and was not finished."""
    if not storage.exists(FINAL_BEGUN):
        return False
    chosen = next((row for row in state.finals if row["chosen"]), None)
    return chosen is None or (bool(chosen["model"]) and not storage.exists(BUNDLE_WHOLE))


def _advice(condition: Condition, driver: Holder | None, place: str, *, left: int, has_final_left: bool) -> str:
    unfinished = f"{left} trial{'' if left == 1 else 's'} left unfinished"
    if condition == "running":
        return f"Its driver lives: {driver}. `search stop {place}` ends it in order."
    if condition == "dead":
        who = f"Its driver is gone: {driver}" if driver else "Its driver is gone"
        return f"{who}; {unfinished}. `search resume {place}` goes on where it stopped."
    if condition == "stopped":
        return f"It was stopped in order; {unfinished}. `search resume {place}` goes on where it stopped."
    if has_final_left:
        return f"Its trials are over. `search final {place}` goes on with its final job, which was not finished."
    return f"It is over. `results top {place}` ranks its trials, `search extend {place} --trials N` gives it more."
