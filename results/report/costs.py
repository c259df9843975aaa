"""Where a sweep's time went, which stops turned out to be wrong, and how workers were busy."""

import dataclasses
import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

from results.report.facts import Facts, Row, finite


@dataclasses.dataclass(frozen=True, kw_only=True)
class Share:
    """A part of the time that workers spent.

    Attributes:
        name: what for.
        kind: the colour's name in `page.css`.
        seconds: how long, over all workers.
        held_s: the same, times the GPUs that were held, or the cores where there was no GPU.
        money: what that cost, in the sweeps whose file names a price.
        meaning: a sentence.
    """

    name: str
    kind: str
    seconds: float
    held_s: float
    money: float
    meaning: str


_SHARES = {
    "completed": ("training of completed trials", "Epochs of trials that ran to their end."),
    "stopped": ("training of stopped trials", "Epochs of trials that the scheduler, the budget or a person stopped."),
    "unfinished": ("training of paused trials", "Epochs before a pause; the trial may have gone on since."),
    "final": ("final trainings", "Epochs of the configurations that were trained anew."),
    "starting": ("starting", "From a trial's start on a worker to its first epoch: libraries, data, the model."),
    "saving": ("saving and the rest", "Checkpoints, and what else lies between epochs."),
    "failed": ("lost to failures", "Attempts that failed or were lost, from their start to their end."),
    "waiting": ("waiting for a worker", "From being handed out to the start on a worker; no worker was busy with it."),
}
"""Kinds of shares with their names and what they mean, in their order."""
_TRAINING = {"completed": "completed", "stopped": "stopped", "paused": "unfinished"}


def time_shares(facts: Facts) -> list[Share]:
    """Returns where the time on workers went, by the attempts that have ended; parts without any are left out."""
    seconds, held, money = (dict.fromkeys(_SHARES, 0.0) for _ in range(3))
    given = {(row["id"], row["attempt"]): _devices(row) for row in facts.tables["attempts"]}
    price = prices(facts)

    def spend(row: Row, kind: str, time_s: float, devices: float) -> None:
        seconds[kind] += time_s
        held[kind] += time_s * devices
        money[kind] += time_s * devices / 3600 * price.get(row["sweep"], 0.0)

    for row in facts.tables["attempt_ends"]:
        devices = given.get((row["id"], row["attempt"]), 0.0)
        wall, train = row["wall_s"] or 0.0, row["train_s"] or 0.0
        start = row["start_s"] or 0.0
        spend(row, "waiting", row["wait_s"] or 0.0, 0.0)
        if row["outcome"] not in _TRAINING:
            spend(row, "failed", max(wall, train + start), devices)
            continue
        spend(row, _TRAINING[row["outcome"]], train, devices)
        spend(row, "starting", start, devices)
        spend(row, "saving", max(0.0, wall - train - start), devices)
    usual: dict[str, list[float]] = defaultdict(list)
    for row in facts.tables["attempts"]:
        usual[row["sweep"]].append(_devices(row))
    for row in facts.tables["finals"]:
        spend(row, "final", row["train_s"] or 0.0, statistics.median(usual[row["sweep"]] or [0.0]))
    return [
        Share(name=name, kind=kind, seconds=seconds[kind], held_s=held[kind], money=money[kind], meaning=meaning)
        for kind, (name, meaning) in _SHARES.items()
        if seconds[kind] > 0
    ]


def prices(facts: Facts) -> dict[str, float]:
    """Returns what an hour of a GPU, or of a core where there is none, costs in each sweep whose file says so."""
    known = {name: facts.asked("sweep", "price_per_hour", name) for name in facts.names}
    return {name: price for name, price in known.items() if finite(price)}


def _devices(row: Row) -> float:
    """Returns what an attempt held that has a price: GPUs, or cores if it has none."""
    return row["gpus"] or row["cpus"] or 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stretch:
    """A time in which a worker was busy with a trial.

    Attributes:
        id: of the trial.
        outcome: of the attempt; `running` if it has not ended.
        begin: by the driver's clock.
        end: by the driver's clock.
        lane: worker, from 0.
    """

    id: str
    outcome: str
    begin: datetime
    end: datetime
    lane: int


def stretches(facts: Facts) -> list[Stretch]:
    """Returns when which trial ran, on as few lanes as there were attempts beside each other."""
    ends = {(row["id"], row["attempt"]): row for row in facts.tables["attempt_ends"]}
    over = max((row["time"] for row in facts.tables["attempt_ends"]), default=None)
    found: list[tuple[datetime, datetime, str, str]] = []
    for row in facts.tables["attempts"]:
        end = ends.get((row["id"], row["attempt"]))
        if end is None and over is None:
            continue
        until = end["time"] if end else max(over or row["time"], row["time"])
        begin = row["time"]
        if end and finite(end["wall_s"]):  # in older ledgers an attempt's row has the time of its hand-out
            begin = max(begin, until - timedelta(seconds=end["wall_s"]))
        found.append((min(begin, until), until, row["id"], end["outcome"] if end else "running"))
    free: list[datetime] = []
    placed = []
    for begin, end, name, outcome in sorted(found):
        lane = next((i for i, since in enumerate(free) if since <= begin + timedelta(milliseconds=50)), len(free))
        free[lane : lane + 1] = [end]
        placed.append(Stretch(id=name, outcome=outcome, begin=begin, end=end, lane=lane))
    return placed


GOOD = 0.1
"""Share of the trials that completed by right which are the good ones."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Audited:
    """A trial that would have been stopped and ran on to find out whether that is right.

    Attributes:
        id: of the trial.
        epoch: after which it would have been stopped.
        value: its best value in the end.
        rank: its place if it were put among the trials that completed by right, from 1.
        wrong: whether it came to be as good as the good ones of those.
    """

    id: str
    epoch: int
    value: float
    rank: int
    wrong: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Audit:
    """What the audited trials say of stopping; `search audit` counts alike.

    Attributes:
        trials: audited, and ran to their end, the best first.
        num_by_right: trials that completed and were never to be stopped.
        num_good: so many best ones of them are the good ones.
        interval: of the share of wrong stops, 95 % (Wilson's); None if nothing can be said.
    """

    trials: Sequence[Audited]
    num_by_right: int
    num_good: int
    interval: tuple[float, float] | None

    @property
    def num_wrong(self) -> int:
        """How many stops would have been wrong."""
        return sum(each.wrong for each in self.trials)


def audit(facts: Facts) -> Audit:
    """Returns what became of the trials that would have been stopped and ran on."""
    first: dict[str, int] = {}
    for row in facts.tables["decisions"]:
        if row["audited"]:
            first[row["id"]] = min(row["epoch"], first.get(row["id"], row["epoch"]))
    done = [row for row in facts.ranked if row["state"] == "completed"]
    by_right = [facts.sign * row[facts.metric] for row in done if row["id"] not in first]
    num_good = math.ceil(GOOD * len(by_right))
    found = []
    for row in done:
        if row["id"] in first:
            rank = 1 + sum(value <= facts.sign * row[facts.metric] for value in by_right)
            wrong = bool(by_right) and facts.sign * row[facts.metric] <= by_right[num_good - 1]
            found.append(Audited(id=row["id"], epoch=first[row["id"]], value=row[facts.metric], rank=rank, wrong=wrong))
    interval = None
    if found and by_right:
        from scipy.stats import binomtest

        ends = binomtest(sum(each.wrong for each in found), len(found)).proportion_ci(method="wilson")
        interval = float(ends.low), float(ends.high)
    return Audit(trials=found, num_by_right=len(by_right), num_good=num_good, interval=interval)


def stops_by_rung(facts: Facts) -> list[tuple[int, int, int, int, float | None]]:
    """Returns for each bracket and epoch that the scheduler judged at: how many stopped, of how many, the last cutoff.

    Returns:
        Tuples (bracket, epoch, stopped, judged, cutoff), the cutoff as the metric is, not negated.
    """
    found: dict[tuple[int, int], list] = {}
    for row in facts.tables["decisions"]:
        entry = found.setdefault((row["bracket"] or 0, row["epoch"]), [0, 0, None])
        entry[0] += row["verdict"] == "stop" and not row["audited"]
        entry[1] += 1
        if finite(row["cutoff"]):
            entry[2] = facts.sign * row["cutoff"]
    return [(*key, *entry) for key, entry in sorted(found.items())]


def busy(of: Sequence[Stretch]) -> float:
    """Returns the share of lanes that were busy, long breaks left out; 0 if there is none."""
    if not of:
        return 0.0
    lanes = 1 + max(each.lane for each in of)
    spans = blocks(of)
    total = sum((end - begin).total_seconds() for begin, end in spans)
    used = sum((each.end - each.begin).total_seconds() for each in of)
    return used / (lanes * total) if total else 0.0


def blocks(of: Sequence[Stretch]) -> list[tuple[datetime, datetime]]:
    """Returns the times in which anything ran; only a break of half a minute and a fiftieth of the whole is one."""
    whole = max(each.end for each in of) - min(each.begin for each in of)
    bridge = max(whole / 50, timedelta(seconds=30))
    found: list[tuple[datetime, datetime]] = []
    for each in sorted(of, key=lambda stretch: stretch.begin):
        if found and each.begin <= found[-1][1] + bridge:
            found[-1] = (found[-1][0], max(found[-1][1], each.end))
        else:
            found.append((each.begin, each.end))
    return found
