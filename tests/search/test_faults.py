"""Sweeps that are broken: disks that fill up or go away, deaths at any moment, tasks with every fault."""

import errno
import itertools
import json
import os
import random
from pathlib import Path

import pytest

from results.ledger import Ledger
from results.places import Folder
from results.schema import TABLES
from search import conductor, sweep
from search.spec import CheckpointSettings, SchedulerSettings
from search.state import ENDED
from tests.search import faults, rig

SCHEDULERS = ("asha", "asha_promotion", "hyperband", "median", "none")
SEARCHERS = ("random", "tpe", "qmc", "cmaes", "nsga2")


CUT = ("sessions", "proposals", "attempts", "attempt_ends", "epochs", "decisions", "trials")


def check_books(place, trials):
    assert faults.accounted_for(place, trials) == trials
    assert faults.duplicate_keys(place) == 0
    assert faults.problems(place) == []


# --- without Ray ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_deaths_at_any_moment_leave_books_that_hold(tmp_path, scheduler):
    for number, searcher in enumerate(SEARCHERS):
        given, last, _ = faults.dying(tmp_path / searcher, scheduler, searcher, seed=number % 2)
        place = sweep.folder_of(given)
        check_books(place, given.trials)
        live = (last._searcher.state(), last._scheduler.state())
        assert faults.rebuilt(given, Ledger(place).events()) == json.loads(json.dumps(live))


def test_an_epoch_that_is_trained_again_is_not_judged_again(tmp_path):
    # Without checkpoints, trials start over; those that had passed a rung must not be stopped below their last epoch.
    given = rig.spec(
        tmp_path,
        trials=10,
        epochs=6,
        scheduler=SchedulerSettings(kind="asha", reduction=2, audit_share=0.0),
        checkpoints=CheckpointSettings(every_s=1000.0),
    )
    for steps in (5, 6, 7, 8):
        rig.run(given, steps=steps, flush_every=1, workers=3, order=steps)
    rig.run(given, workers=3)
    check_books(sweep.folder_of(given), given.trials)


class Disk:
    """A disk that is full after so many bytes: the real errors of the system, from where files are written."""

    def __init__(self, monkeypatch):
        self.room, self.refused = 0, 0
        fill = Folder.fill

        def limited(folder, files):
            def counted(write):
                def writing(to):
                    write(to)
                    self.room -= to.tell()
                    if self.room < 0:
                        self.refused += 1
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

                return writing

            fill(folder, {path: counted(write) for path, write in files.items()})

        monkeypatch.setattr(Folder, "fill", limited)


def test_a_disk_that_is_full_for_a_while_costs_nothing(tmp_path, monkeypatch):
    disk = Disk(monkeypatch)
    disk.room = 50_000
    given = rig.spec(tmp_path, trials=8)
    told, made = itertools.count(), sweep.make_conductor

    def making(*args, **options):
        it = made(*args, **options)
        it.listeners.append(lambda table, row: setattr(disk, "room", 10**9) if next(told) == 60 else None)
        return it

    monkeypatch.setattr(sweep, "make_conductor", making)
    state = rig.run(given).state
    assert disk.refused > 3
    check_books(sweep.folder_of(given), 8)
    assert {trial.state for trial in state.trials.values()} == {"completed", "stopped"}
    assert {trial.attempt for trial in state.trials.values()} == {1}


def test_a_disk_that_stays_full_ends_the_sweep_in_words_and_it_goes_on_later(tmp_path, monkeypatch):
    from search.errors import SweepAborted

    disk = Disk(monkeypatch)
    disk.room = 60_000
    monkeypatch.setattr(conductor, "PATIENCE_S", 0.0)
    given = rig.spec(tmp_path, trials=8)
    with pytest.raises(SweepAborted, match=r"the disk is full.*search resume rig"):
        rig.run(given)
    disk.room = 10**9
    rig.run(given)
    check_books(sweep.folder_of(given), 8)


@pytest.mark.parametrize(
    "table", ["sessions", "proposals", "attempts", "attempt_ends", "epochs", "decisions", "trials"]
)
def test_a_part_that_was_cut_short_is_made_up_for(tmp_path, table):
    given = rig.spec(tmp_path, trials=8)
    rig.run(given, steps=12, flush_every=2)
    place = sweep.folder_of(given)
    draw = random.Random(table)
    parts = sorted((Path(place.uri) / "ledger" / table).glob("*.parquet"))
    part = draw.choice(parts)
    newest = max(path.name for path in (Path(place.uri) / "ledger").glob("*/s*.parquet"))
    part.write_bytes(part.read_bytes()[: draw.randrange(part.stat().st_size)])
    state = rig.run(given).state
    assert {trial.state for trial in state.trials.values()} <= ENDED
    assert sorted(state.trials) == list(range(8))
    assert faults.duplicate_keys(place) == 0
    if part.name == newest:  # a flush that never was whole is as if it had never been
        assert faults.problems(place) == []


def test_every_table_that_trials_write_was_cut_short():
    assert {*CUT, "finals", "samples", "openings", "piece_scores"} >= set(TABLES)
