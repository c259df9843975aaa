"""Where a sweep's time went, which stops turned out to be wrong, and how workers were busy."""

import dataclasses
from collections.abc import Sequence
from datetime import datetime, timedelta

from results.report.facts import Facts, finite


@dataclasses.dataclass(frozen=True, kw_only=True)
class Share:
    """A part of the time that workers spent.

    Attributes:
        name: what for.
        kind: the colour's name in `page.css`.
        seconds: how long, over all workers.
        meaning: a sentence.
    """

    name: str
    kind: str
    seconds: float
    meaning: str


def time_shares(facts: Facts) -> list[Share]:
    """Returns where the time on workers went, by the attempts that have ended; parts without any are left out."""
    useful = {"completed": 0.0, "stopped": 0.0, "paused": 0.0}
    starting = waiting = saving = lost = 0.0
    for row in facts.tables["attempt_ends"]:
        wall, train = row["wall_s"] or 0.0, row["train_s"] or 0.0
        start, wait = row["start_s"] or 0.0, row["wait_s"] or 0.0
        waiting += wait
        if row["outcome"] not in useful:
            lost += max(wall, train + start)
            continue
        useful[row["outcome"]] += train
        starting += start
        saving += max(0.0, wall - train - start)
    shares = [
        Share(
            name="training of completed trials",
            kind="completed",
            seconds=useful["completed"],
            meaning="Epochs of trials that ran to their end.",
        ),
        Share(
            name="training of stopped trials",
            kind="stopped",
            seconds=useful["stopped"],
            meaning="Epochs of trials that the scheduler, the budget or a person stopped.",
        ),
        Share(
            name="training of paused trials",
            kind="unfinished",
            seconds=useful["paused"],
            meaning="Epochs before a pause; the trial may have gone on since.",
        ),
        Share(
            name="starting",
            kind="starting",
            seconds=starting,
            meaning="From a trial's start on a worker to its first epoch: libraries, data, the model.",
        ),
        Share(
            name="saving and the rest",
            kind="saving",
            seconds=saving,
            meaning="Checkpoints, and what else lies between epochs.",
        ),
        Share(
            name="lost to failures",
            kind="failed",
            seconds=lost,
            meaning="Attempts that failed or were lost, from their start to their end.",
        ),
        Share(
            name="waiting for a worker",
            kind="waiting",
            seconds=waiting,
            meaning="From being handed out to the start on a worker; no worker was busy with it.",
        ),
    ]
    return [share for share in shares if share.seconds > 0]


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
        wait = end["wait_s"] if end else 0.0
        until = end["time"] if end else max(over or row["time"], row["time"])
        begin = min(row["time"] + timedelta(seconds=wait if finite(wait) else 0.0), until)
        found.append((begin, until, row["id"], end["outcome"] if end else "running"))
    free: list[datetime] = []
    placed = []
    for begin, end, name, outcome in sorted(found):
        lane = next((i for i, since in enumerate(free) if since <= begin + timedelta(milliseconds=50)), len(free))
        free[lane : lane + 1] = [end]
        placed.append(Stretch(id=name, outcome=outcome, begin=begin, end=end, lane=lane))
    return placed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Audited:
    """A trial that would have been stopped and ran on to find out whether that is right.

    Attributes:
        id: of the trial.
        epoch: after which it would have been stopped.
        value: its best value in the end.
        rank: its place among all trials by that value, from 1.
    """

    id: str
    epoch: int
    value: float
    rank: int


def audited(facts: Facts) -> list[Audited]:
    """Returns the audited trials that ran to their end, the best first."""
    first: dict[str, int] = {}
    for row in facts.tables["decisions"]:
        if row["audited"]:
            first.setdefault(row["id"], row["epoch"])
    return [
        Audited(id=row["id"], epoch=first[row["id"]], value=row[facts.metric], rank=rank)
        for rank, row in enumerate(facts.ranked, start=1)
        if row["id"] in first and row["state"] == "completed"
    ]


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
