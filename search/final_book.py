"""The final job's rows: what the ledger has of it, and what it adds, at once and all or none."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from results.errors import StorageError
from search.errors import SweepAborted
from search.final_candidates import Key, key_of
from search.origins import Data
from search.state import SweepState
from search.task import TEST

_log = logging.getLogger(__name__)

PATIENCE_S = 60.0
"""How long the storage may be away before the job is given up."""
AGAIN_S = 1.0
"""It is tried again after so long."""
_COMMON = ("sweep", "seq", "session", "time")


class FinalBook:
    """Reads and writes the rows of one sweep's final job.

    Attributes:
        state: of the sweep; rows are added to it as they are written.
        data: name and fingerprint of the data; rows of trainings on others do not count.
    """

    def __init__(self, state: SweepState, writer: Any, data: Data, check: Callable[[], None] = lambda: None):
        """Takes the sweep's state, a `results.ledger.Writer` or what takes rows as it does, and the data.

        Args:
            state: of the sweep.
            writer: takes rows.
            data: of the task.
            check: called before anything is written; raises if the sweep is no longer this process's.
        """
        self.state, self.data, self._writer, self._check = state, data, writer, check

    def note(self, table: str, row: Mapping[str, Any]) -> None:
        """Writes an event down, at once: each of them stands for minutes of work."""
        self.note_all([(table, row)])

    def note_all(self, events: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Writes events down, all or none; a storage that fails is given time.

        Raises:
            SweepAborted: it has been away for too long, or the sweep is no longer this process's.
        """
        self._check()
        numbers = [self._writer.append(table, row) for table, row in events]
        self._flush()
        for number, (table, row) in zip(numbers, events, strict=True):
            self.state.apply(table, {**row, "seq": number})

    def _flush(self) -> None:
        until, warned = time.monotonic() + PATIENCE_S, False
        while True:
            try:
                return self._writer.flush()
            except StorageError as error:
                if time.monotonic() >= until:
                    raise SweepAborted(
                        f"the ledger cannot be written: {error}. The final job goes on where it was when the same "
                        "command is given again, once the storage is back"
                    ) from error
                if not warned:
                    _log.warning("the ledger cannot be written, trying again for %.0f s: %s", PATIENCE_S, error)
                warned = True
                time.sleep(AGAIN_S)
                self._check()

    def finals(self, kind: str) -> list[dict[str, Any]]:
        """Returns the rows of a kind of final model, on this data."""
        return [
            row
            for row in self.state.finals
            if (row.get("kind") or "single") == kind and row["data_fingerprint"] == self.data.fingerprint
        ]

    def training(self, key: Key, seed: int, kind: str = "single") -> dict[str, Any] | None:
        """Returns the row of a training that was asked for before, done or failed; None if there is none."""
        return next((row for row in self.finals(kind) if (key_of(row), row["seed"]) == (key, seed)), None)

    def free_numbers(self, count: int) -> list[int]:
        """Returns the lowest numbers that no final model has."""
        taken = {row["final"] for row in self.state.finals}
        return [number for number in range(count + len(taken)) if number not in taken][:count]

    @property
    def spent_s(self) -> float:
        """Time that was spent on trainings, as the rows have it."""
        return max((row.get("job_s") or 0.0 for row in self.state.finals), default=0.0)

    def score(self, final: int, names: Iterable[str]) -> dict[str, float]:
        """Returns those scores of a final model that are known."""
        row = next((row for row in self.state.finals if row["final"] == final), {})
        return {name: row[name] for name in names if row.get(name) is not None}

    def write_pieces(self, final: int, split: str, pieces: Mapping[str, tuple[float, float]]) -> None:
        """Writes what a model scored on each piece."""
        self.note_all(self.piece_rows(final, split, pieces))

    @staticmethod
    def piece_rows(
        final: int, split: str, pieces: Mapping[str, tuple[float, float]]
    ) -> list[tuple[str, dict[str, Any]]]:
        """Returns the events of what a model scored on each piece."""
        return [
            ("piece_scores", {"final": final, "split": split, "piece": piece, "value": value, "weight": weight})
            for piece, (value, weight) in pieces.items()
        ]

    def write_test(
        self, row: Mapping[str, Any], scores: Mapping[str, float], pieces: Mapping[str, tuple[float, float]]
    ) -> None:
        """Writes what a model scored on the test split."""
        self.note_all([*self.piece_rows(row["final"], TEST, pieces), ("finals", {**without_common(row), **scores})])

    def choose(
        self,
        row: Mapping[str, Any],
        scores: Mapping[str, float],
        pieces: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        """Marks a final model as the chosen one, and no other, and writes what it scored on the test split."""
        others = (other for other in self.state.finals if other["chosen"] and other["final"] != row["final"])
        self.note_all(
            [
                *self.piece_rows(row["final"], TEST, pieces or {}),
                *(("finals", {**without_common(other), "chosen": False}) for other in others),
                ("finals", {**without_common(row), **scores, "chosen": True}),
            ]
        )

    def write_samples(self, final: int, samples: Iterable[Mapping[str, Any]]) -> None:
        """Writes what a model produced; a sample that it had made before under the same name keeps its number."""
        known = {row["name"]: row["sample"] for row in self.state.samples if row["final"] == final}
        number = 1 + max((row["sample"] for row in self.state.samples), default=-1)
        rows = []
        for sample in samples:
            if sample["name"] not in known:
                known[sample["name"]], number = number, number + 1
            row = {"sample": known[sample["name"]], "final": final}
            row |= {name: sample[name] for name in ("name", "kind", "origin", "path")}
            rows.append(("samples", row | dict(sample["measures"])))
        if rows:
            self.note_all(rows)

    def lose_samples(self, below: str) -> None:
        """Notes that the files of samples below a folder are no longer there."""
        gone = [row for row in self.state.samples if (row["path"] or "").startswith(f"{below}/")]
        if gone:
            self.note_all([("samples", {**without_common(row), "path": ""}) for row in gone])


def without_common(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a row without what the writer fills in, so that it can be written anew."""
    return {name: value for name, value in row.items() if name not in _COMMON}
