"""In which session of its sweep a trial was trained and scored, and so on what data and with what code."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from results.ledger import Ledger
from search.state import SweepState
from search.trial_state import TrialState


class Data(NamedTuple):
    """What a trial was trained and scored on; "" for what is not known."""

    name: str
    fingerprint: str

    def __str__(self) -> str:
        return f"{self.name or 'data without a name'} ({self.fingerprint[:12] or 'no fingerprint'})"

    @classmethod
    def of_task(cls, task: Any) -> "Data":
        """Returns those that a task has now."""
        return cls(*task.data()) if hasattr(task, "data") else cls("", "")

    @classmethod
    def of(cls, session: Mapping[str, Any]) -> "Data":
        """Returns those of a row of `sessions`."""
        return cls(session.get("data") or "", session.get("data_fingerprint") or "")


def other_data(ledger: Ledger, state: SweepState, fingerprint: str) -> dict[int, Data]:
    """Returns the trials whose best epoch was scored on other data than those of a fingerprint, with these data.

    Args:
        ledger: of the sweep; read only if one of its sessions had other data.
        state: of the sweep.
        fingerprint: of the data that count.
    """
    known = {row["session"]: Data.of(row) for row in state.sessions}
    if all(data.fingerprint == fingerprint for data in known.values()):
        return {}
    ranked = state.ranked()
    written = _written(ledger, {trial.trial for trial in ranked})
    found = {trial.trial: known.get(written.get(_best(trial), 0), Data("", "")) for trial in ranked}
    return {trial: data for trial, data in found.items() if data.fingerprint != fingerprint}


def sessions_of(ledger: Ledger, state: SweepState, trial: TrialState) -> list[dict[str, Any]]:
    """Returns the rows of the sessions that trained a trial: the one that scored its best epoch first, then by number.

    Of a trial without an epoch it is the last session of the sweep; the list is empty if no row says more.
    """
    known = {row["session"]: row for row in state.sessions}
    written = _written(ledger, {trial.trial})
    trained = {written.get((trial.trial, epoch)) for epoch in trial.epochs}
    numbers = [written.get(_best(trial)), *sorted(number for number in trained if number is not None)]
    found = [known[number] for number in dict.fromkeys(numbers) if number in known]
    return found or state.sessions[-1:]


def trained_in(ledger: Ledger, state: SweepState, final: int) -> dict[str, Any]:
    """Returns the row of the session that trained a final model, though later ones wrote its row anew; may be empty."""
    columns = ("final", "state", "session")
    table = ledger.raw("finals", columns=columns)  # in the order of their writing
    rows = zip(*(table[name].to_pylist() for name in columns), strict=True)
    number = next((session for found, ended, session in rows if (found, ended) == (final, "completed")), None)
    return next((row for row in state.sessions if row["session"] == number), {})


def _best(trial: TrialState) -> tuple[int, int]:
    return trial.trial, trial.best_epoch or 0


def _written(ledger: Ledger, trials: Collection[int]) -> dict[tuple[int, int], int]:
    """Trial and epoch -> the session that wrote it down."""
    columns = ("trial", "epoch", "session")
    table = ledger.table("epochs", columns=columns)
    rows = zip(*(table[name].to_pylist() for name in columns), strict=True)
    return {(trial, epoch): session for trial, epoch, session in rows if trial in trials}
