"""What the rows of a ledger promise about each other.

Each function checks one promise over a `results.checking.View`; `ALL` lists them.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from results.choices import final_numbers, key_of
from results.course import on_course
from results.schema import CONFIG, TABLES

if TYPE_CHECKING:
    from results.checking import Finder, View

Promise = Callable[["View", "Finder"], None]
Row = dict[str, Any]

ENDED = ("completed", "stopped", "failed")
"""States of trials that want no further attempt."""
STATES = (*ENDED, "unfinished")
OUTCOMES = ("completed", "stopped", "paused", "failed", "lost")
VERDICTS = ("continue", "stop", "pause", "promote")
REASONS = {
    "failed": (
        *("error", "non_finite", "no_metric", "time_limit", "out_of_memory", "host_memory", "memory_limit"),
        *("worker_died", "node_lost", "driver_lost", "build", "exit"),
    ),
    "stopped": ("scheduler", "budget", "user"),
}
FINAL_KINDS = ("single", "whole", "ensemble")
SAMPLE_KINDS = ("free", "continued", "harmony", "original", "")
HELD_BACK = "test"
"""The split whose every opening is written down."""
ONCE = ("proposals", "attempts", "attempt_ends", "openings")
"""Tables in which nothing is ever said a second time."""


def words(view: "View", finder: "Finder") -> None:
    """States, outcomes, verdicts and reasons are those that the schema names."""
    for table, column, known in (
        ("trials", "state", STATES),
        ("attempt_ends", "outcome", OUTCOMES),
        ("decisions", "verdict", VERDICTS),
        ("finals", "kind", FINAL_KINDS),
        ("samples", "kind", SAMPLE_KINDS),
    ):
        for row in view.rows(table):
            if row[column] not in known and not (row[column] is None and column == "kind"):
                told = ", ".join(filter(None, known))
                finder.row(f"unknown {column}", table, row, f"{column} is {row[column]!r}, not {told}")
    for row in view.rows("trials"):
        known = REASONS.get(row["state"])
        if known is not None and row["reason_kind"] not in known:
            what = f"reason_kind is {row['reason_kind']!r} for a {row['state']} trial, not {', '.join(known)}"
            finder.row("unknown reason_kind", "trials", row, what)


def said_once(view: "View", finder: "Finder") -> None:
    """A proposal, an attempt, its end and an opening are written once; an epoch once in an attempt."""
    for table in ONCE:
        key = [name for name in TABLES[table].key if name != "sweep"]
        seen: set[tuple[Any, ...]] = set()
        for row in view.rows(table):
            values = tuple(row[name] for name in key)
            if values in seen:
                finder.row("written twice", table, row, "is written a second time")
            seen.add(values)
    epochs = _Epochs(view)
    order = np.lexsort((epochs.seq, epochs.epoch, epochs.attempt, epochs.trial))
    same = np.ones(max(0, len(order) - 1), bool)
    for column in (epochs.trial, epochs.attempt, epochs.epoch):
        same &= column[order][1:] == column[order][:-1]
    for place in order[1:][same].tolist():
        finder.row("written twice", "epochs", epochs.row(place), "is written a second time in the same attempt")


def belong(view: "View", finder: "Finder") -> None:
    """Every event of a trial follows its proposal, every event of an attempt the attempt's beginning."""
    proposed = {row["trial"]: row["seq"] for row in reversed(view.rows("proposals"))}
    begun = {(row["trial"], row["attempt"]): row["seq"] for row in reversed(view.rows("attempts"))}
    for table in ("attempts", "attempt_ends", "decisions", "trials"):
        for row in view.rows(table):
            if proposed.get(row["trial"], math.inf) > row["seq"]:
                finder.row("no proposal", table, row, f"trial {row['trial']} was not proposed before")
            elif (
                table in ("attempt_ends", "decisions")
                and begun.get((row["trial"], row["attempt"]), math.inf) > row["seq"]
            ):
                finder.row("no attempt", table, row, f"attempt {row['attempt']} had not begun before")
    epochs = _Epochs(view)
    for (trial, attempt), places in epochs.attempts():
        first = epochs.row(int(places[np.argmin(epochs.seq[places])]))
        if proposed.get(trial, math.inf) > first["seq"]:
            finder.row("no proposal", "epochs", first, f"trial {trial} was not proposed before")
        elif begun.get((trial, attempt), math.inf) > first["seq"]:
            finder.row("no attempt", "epochs", first, f"attempt {attempt} had not begun before")
    for trial, numbers in _grouped(begun).items():
        if sorted(numbers) != list(range(1, len(numbers) + 1)):
            row = {"seq": begun[trial, max(numbers)], "trial": trial}
            finder.row("attempts are missing", "attempts", row, f"attempts are {sorted(numbers)}, not 1, 2, …")


def epochs_follow(view: "View", finder: "Finder") -> None:
    """The epochs of a trial are 1 to n, without a gap."""
    rows = view.latest("epochs")
    trial, epoch = (rows.column(name).to_numpy() for name in ("trial", "epoch"))
    order = np.lexsort((epoch, trial))
    trial, epoch, seq = trial[order], epoch[order], rows.column("seq").to_numpy()[order]
    _, starts, places = np.unique(trial, return_index=True, return_inverse=True)
    wrong = np.flatnonzero(epoch != np.arange(len(epoch)) - starts[places] + 1)
    for place in wrong[np.unique(trial[wrong], return_index=True)[1]].tolist():
        row = {"seq": int(seq[place]), "trial": int(trial[place]), "epoch": int(epoch[place])}
        due = place - int(starts[places[place]]) + 1
        finder.row("epochs are missing", "epochs", row, f"is not preceded by epoch {due}")


def over_is_over(view: "View", finder: "Finder") -> None:
    """Nothing happens to a trial after its end, unless an extension begins another attempt."""
    begun = _grouped({(row["trial"], row["seq"]): row for row in view.rows("attempts")})
    ends: dict[int, list[int]] = {}
    for row in view.rows("trials"):
        if row["state"] in ENDED:
            ends.setdefault(row["trial"], []).append(row["seq"])
    causes = {row["seq"]: row for row in view.rows("attempts")}
    windows: dict[int, list[tuple[int, float]]] = {}
    for trial, seqs in ends.items():
        starts = sorted(begun.get(trial, []))
        for seq in seqs:
            place = bisect_left(starts, seq)
            until = starts[place] if place < len(starts) else math.inf
            windows.setdefault(trial, []).append((seq, until))
            if until != math.inf and causes[int(until)]["cause"] != "extended":
                row = causes[int(until)]
                finder.row("begun after the end", "attempts", row, f"began after its trial had ended (event {seq})")
    for table in ("attempt_ends", "decisions", "trials"):
        for row in view.rows(table):
            for start, until in windows.get(row["trial"], ()):
                if start < row["seq"] < until:
                    finder.row("after the end", table, row, f"came after its trial had ended (event {start})")
    epochs = _Epochs(view)
    for trial, places in epochs.trials():
        for start, until in windows.get(trial, ()):
            late = places[(epochs.seq[places] > start) & (epochs.seq[places] < until)]
            for place in late.tolist():
                finder.row(
                    "after the end", "epochs", epochs.row(place), f"came after its trial had ended (event {start})"
                )


def decisions_hold(view: "View", finder: "Finder") -> None:
    """A decision judges an epoch that was reported, by its value, and what it says is what happened."""
    objective, goal = view.schema.objectives[0] if view.schema.objectives else ("", "min")
    sign = -1.0 if goal == "max" else 1.0
    epochs = _Epochs(view)
    values = epochs.values(objective) if objective else None
    found = {key: place for place, key in enumerate(zip(epochs.trial.tolist(), epochs.epoch.tolist(), strict=True))}
    for row in view.latest_rows("decisions"):
        place = found.get((row["trial"], row["epoch"]))
        if place is None:
            finder.row("judged unseen", "decisions", row, f"epoch {row['epoch']} was never reported")
        elif values is not None and row["value"] is not None and math.isfinite(row["value"]):
            # Another attempt may have trained the epoch again since: the value is that of one of them.
            same = epochs.of(row["trial"])
            reported = sign * values[same[epochs.epoch[same] == row["epoch"]]]
            if row["value"] not in reported.tolist():
                what = f"value is {row['value']!r}, but {objective} was reported as {reported.tolist()}"
                finder.row("judged by another value", "decisions", row, what)
    verdicts: dict[int, list[Row]] = {}
    for row in view.latest_rows("decisions"):
        verdicts.setdefault(row["trial"], []).append(row)
    for row in view.latest_rows("trials"):
        mine = [each for each in verdicts.get(row["trial"], []) if each["seq"] < row["seq"]]
        stops = [each for each in mine if each["verdict"] == "stop" and not each["audited"]]
        by_scheduler = row["state"] == "stopped" and row["reason_kind"] == "scheduler"
        if by_scheduler and not stops:
            finder.row("stopped by nobody", "trials", row, "was stopped by the scheduler, but no decision says stop")
        elif stops and not by_scheduler and row["state"] in ("completed", "stopped"):
            stop = stops[-1]
            what = f"says stop, but the trial was {row['state']} ({row['reason_kind'] or 'no reason'})"
            finder.row("stop was not heeded", "decisions", stop, what)


def trials_sum_up(view: "View", finder: "Finder") -> None:
    """A trial's row has the numbers of its epochs, the metrics of its best one and the values of its proposal."""
    epochs = _Epochs(view)
    metrics = {name: epochs.values(name) for name in view.schema.metrics}
    objective, goal = view.schema.objectives[0] if view.schema.objectives else ("", "min")
    proposals = {row["trial"]: row for row in view.latest_rows("proposals")}
    copied = ("origin", "seed", "bracket", *(CONFIG + name for name in view.schema.parameters))
    for row in view.latest_rows("trials"):
        for name in copied if row["trial"] in proposals else ():
            if not _same(row[name], proposals[row["trial"]][name]):
                what = f"{name} is {row[name]!r}, but {proposals[row['trial']][name]!r} was proposed"
                finder.row("not as proposed", "trials", row, what)
        # An extension may have gone on since: what counts is what had been reported when the row was written.
        places = epochs.of(row["trial"])
        places = epochs.on_course(places[epochs.seq[places] < row["seq"]])
        before = {int(epochs.epoch[p]): p for p in places.tolist()}
        if row["epochs"] is not None and row["epochs"] != len(before):
            finder.row("epochs miscounted", "trials", row, f"epochs is {row['epochs']}, but {len(before)} count")
        if not objective:
            continue
        curve = {e: float(metrics[objective][p]) for e, p in before.items() if math.isfinite(metrics[objective][p])}
        if row["state"] == "completed" and (row[objective] is None or not math.isfinite(row[objective])):
            finder.row("completed without a value", "trials", row, f"completed, but {objective} is {row[objective]}")
        best = row["best_epoch"]
        if best is None or best not in before:
            if curve:
                finder.row("no best epoch", "trials", row, f"best_epoch is {best}, which was not reported")
            continue
        aim = max(curve.values()) if goal == "max" else min(curve.values(), default=math.nan)
        if curve.get(best) != aim:
            what = f"best_epoch is {best} with {objective} {curve.get(best)}, but the best is {aim}"
            finder.row("not the best epoch", "trials", row, what)
        for name, values in metrics.items():
            if not _same(row[name], float(values[before[best]])):
                what = f"{name} is {row[name]}, but epoch {best} reported {float(values[before[best]])}"
                finder.row("metrics of another epoch", "trials", row, what)


def all_accounted_for(view: "View", finder: "Finder") -> None:
    """A trial whose last attempt completed or was stopped has a row; once the sweep has ended, every trial has."""
    states = {row["trial"]: row for row in view.latest_rows("trials")}
    last: dict[int, Row] = {}
    for row in view.rows("attempts"):
        last[row["trial"]] = row
    ends = {(row["trial"], row["attempt"]): row for row in view.rows("attempt_ends")}
    for trial, attempt in last.items():
        end, row = ends.get((trial, attempt["attempt"])), states.get(trial)
        by_itself = end is not None and end["outcome"] == "completed"
        if end is None or not (by_itself or (end["outcome"] == "stopped" and end["reason_kind"] == "scheduler")):
            continue
        if row is None or row["seq"] < attempt["seq"]:
            finder.row("no row in trials", "attempt_ends", end, f"{end['outcome']}, but the trial has no row in trials")
        elif row["state"] != end["outcome"]:
            what = f"is {row['state']}, but its last attempt was {end['outcome']}"
            finder.row("ended otherwise", "trials", row, what)
    # Trials are written down as unfinished when the sweep ends, all together.
    over = max((row["seq"] for row in view.rows("trials") if row["state"] == "unfinished"), default=-1)
    if all(row["seq"] < over for row in view.rows("attempts")):
        for row in view.latest_rows("proposals"):
            if row["trial"] not in states and row["seq"] < over:
                finder.row(
                    "no row in trials", "proposals", row, "the sweep has ended, but the trial has no row in trials"
                )


def finals_hold(view: "View", finder: "Finder") -> None:
    """At most one model is chosen; each comes from a trial, has finite scores, and its test split was seen opened.

    The members of an ensemble, samples and scores of pieces are, or belong to, models that there are. Trials of other
    sweeps stand in their own ledgers.
    """
    proposed = {row["trial"] for row in view.rows("proposals")}
    openings = view.rows("openings")
    chosen: list[Row] = []
    models = {row["final"]: row for row in view.rows("finals")}
    for row in view.latest_rows("finals"):
        if row["chosen"]:
            chosen.append(row)
        if row["trial"] is not None and not row["source"] and row["trial"] not in proposed:
            finder.row("no trial", "finals", row, f"trial {row['trial']} was never proposed")
        members = set(final_numbers(row["members"]))
        if bool(members) != (row["kind"] == "ensemble"):
            what = f"is of kind {row['kind']} and has {len(members) or 'no'} members"
            finder.row("members", "finals", row, what)
        for member in sorted(members - models.keys()):
            finder.row("no member", "finals", row, f"its member, final {member}, does not exist")
        scored = {name: row[name] for name in view.schema.scores if row[name] is not None}
        for name, value in scored.items():
            if row["state"] == "completed" and not math.isfinite(value):
                finder.row("no finite score", "finals", row, f"{name} is {value}")
        if scored and not any(_opened(opening, row) for opening in openings):
            finder.row(
                "scored in secret", "finals", row, "has scores, but no row in openings says that its model was scored"
            )
    for row in chosen[1:]:
        finder.row("chosen twice", "finals", row, f"is chosen, and so is final {chosen[0]['final']}")
    told: set[tuple[int, str]] = set()
    for row in view.rows("piece_scores"):
        final = models.get(row["final"])
        if (row["final"], row["split"]) in told:
            continue  # a model's pieces are written together: one of them stands for all
        told.add((row["final"], row["split"]))
        if final is None:
            finder.row("no final", "piece_scores", row, f"final {row['final']} does not exist")
        elif row["split"] == HELD_BACK and not any(
            opening["split"] == HELD_BACK and opening["seq"] < row["seq"] and _opened(opening, final)
            for opening in openings
        ):
            what = f"was scored on {HELD_BACK}, but no row in openings before it says so"
            finder.row("scored in secret", "piece_scores", row, what)
    known = models.keys()
    for row in view.rows("samples"):
        if row["final"] is not None and row["final"] not in known:
            finder.row("no final", "samples", row, f"final {row['final']} does not exist")


def choices_hold(view: "View", finder: "Finder") -> None:
    """Of each choice, one configuration is chosen with a model of it, ranks are 1 to n, and its trainings are there."""
    models = {row["final"]: row for row in view.rows("finals")}
    by_number: dict[int, list[Row]] = {}
    for row in view.latest_rows("choices"):
        by_number.setdefault(row["choice"], []).append(row)
        named = final_numbers(row["finals"])
        for number in sorted({*named, *([] if row["final"] is None else [row["final"]])} - models.keys()):
            finder.row("no final", "choices", row, f"final {number} does not exist")
        for number in named:
            if number in models and key_of(models[number]) != key_of(row):
                what = f"final {number} is of trial {key_of(models[number])}, not of {key_of(row)}"
                finder.row("final of another trial", "choices", row, what)
        if row["chosen"] and row["final"] is None:
            finder.row("chosen without a model", "choices", row, "is chosen without a model: final is missing")
    for rows in by_number.values():
        chosen, ranks = sum(bool(row["chosen"]) for row in rows), sorted(row["rank"] for row in rows)
        if chosen != 1:
            finder.row("not one is chosen", "choices", rows[-1], f"{chosen} configurations are chosen, not one")
        if ranks != list(range(1, len(rows) + 1)):
            finder.row("ranks are missing", "choices", rows[-1], f"ranks are {ranks}, not 1, 2, …")


ALL: tuple[Promise, ...] = (
    words, said_once, belong, epochs_follow, over_is_over, decisions_hold, trials_sum_up, all_accounted_for,
    finals_hold, choices_hold,
)  # fmt: skip


class _Epochs:
    """Every row of the epochs as arrays, sorted by sequence number, with ways to those of one trial."""

    def __init__(self, view: "View"):
        self._rows = view.raw["epochs"]
        self.seq, self.trial, self.attempt, self.epoch = (
            self._rows.column(name).to_numpy() for name in ("seq", "trial", "attempt", "epoch")
        )
        self._order = np.argsort(self.trial, kind="stable")
        self._sorted = self.trial[self._order]

    def values(self, metric: str) -> np.ndarray:
        """Returns a metric; NaN where it is missing."""
        return self._rows.column(metric).to_numpy()

    def row(self, place: int) -> Row:
        return {name: int(getattr(self, name)[place]) for name in ("seq", "trial", "attempt", "epoch")}

    def of(self, trial: int) -> np.ndarray:
        """Returns the places of a trial's rows."""
        start, end = np.searchsorted(self._sorted, [trial, trial + 1])
        return self._order[start:end]

    def on_course(self, places: np.ndarray) -> np.ndarray:
        """Returns those of a trial's places whose epochs count."""
        return places[on_course(self.trial[places], self.attempt[places], self.epoch[places])]

    def trials(self) -> Iterator[tuple[int, np.ndarray]]:
        for trial in np.unique(self.trial).tolist():
            yield trial, self.of(trial)

    def attempts(self) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
        for trial, places in self.trials():
            numbers = self.attempt[places]
            for attempt in np.unique(numbers).tolist():
                yield (trial, attempt), places[numbers == attempt]


def _grouped(keys: dict[tuple[int, int], Any]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for first, second in keys:
        found.setdefault(first, []).append(second)
    return found


def _same(one: Any, other: Any) -> bool:
    """Whether two values are equal, with NaN and missing ones taken for the same."""
    missing = [value is None or value != value for value in (one, other)]
    return all(missing) if any(missing) else one == other


def _opened(opening: Row, final: Row) -> bool:
    """Whether an opening is that of a final's model: the model itself, or the folder that it lies in."""
    if opening["data_fingerprint"] != final["data_fingerprint"]:
        return False
    model, opened = final["model"] or "", opening["model"] or ""
    return model == opened or model.startswith(f"{opened}/") or opened.startswith(f"{model}/")
