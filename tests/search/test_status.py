import importlib
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from results.ledger import Writer
from results.storage import Storage
from search.cli import main
from search.errors import SweepError
from search.lock import LOCK_FILE, Lock
from search.snapshot import Limits
from search.state import SweepState
from search.status import read
from tests.search.event_book import SCHEMA, Book

LIMITS = Limits(trials=2, epochs=3)
SPEC = {"sweep": {"name": "toy", "task": "nowhere:Task", "objectives": ["loss min"], "trials": 2, "epochs": 3}}


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """A sweep's folder in `runs`, and what writes its ledger."""
    monkeypatch.chdir(tmp_path)
    storage = Storage("runs/toy")
    storage.write("sweep.json", json.dumps(SPEC).encode())
    return storage


def write(storage, book):
    writer = Writer(storage, SCHEMA, session=1, next_seq=0)
    for table, row in book.rows:
        writer.append(table, {name: value for name, value in row.items() if name not in ("sweep", "seq", "session")})
    writer.flush()


def half_way():
    book = Book()
    book.add("sessions", command="search run toy.toml")
    book.proposal(0, width=3)
    book.attempt(0, 1)
    book.epochs(0, 1, [3.0, 2.0, 1.0])
    book.attempt_end(0, 1, "completed", node="here", wall_s=3.0)
    book.end(0, "completed", checkpoint="x")
    book.proposal(1, kind="b")
    book.attempt(1, 1)
    book.epoch(1, 1, 1, 2.5)
    return book


def over():
    book = half_way()
    book.attempt_end(1, 1, "stopped", wall_s=1.0)
    book.end(1, "stopped", reason_kind="scheduler", reason="2.5 is above 2")
    return book


def ask(*words):
    return CliRunner().invoke(main, ["status", *words])


def test_a_sweep_with_a_living_driver_runs(sweep):
    write(sweep, half_way())
    with Lock(sweep):
        status = read(sweep, LIMITS)
        assert status.snapshot.condition == "running"
        assert status.driver is not None
        assert status.driver.pid == os.getpid()
        assert f"`search stop {sweep.uri}`" in status.advice


def test_a_sweep_whose_driver_was_killed_is_dead(sweep):
    write(sweep, half_way())
    code = "import os, sys\nfrom results.storage import Storage\nfrom search.lock import Lock\n"
    code += "Lock(Storage(sys.argv[1])).acquire()\nos.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, sweep.uri])
    status = read(sweep, LIMITS)
    assert status.snapshot.condition == "dead"
    assert "Its driver is gone: process " in status.advice
    assert f"1 trial left unfinished. `search resume {sweep.uri}` goes on where it stopped." in status.advice


def test_a_sweep_that_went_its_way_is_finished(sweep):
    write(sweep, over())
    status = read(sweep, LIMITS)
    assert (status.snapshot.condition, status.driver) == ("finished", None)
    assert f"`results top {sweep.uri}`" in status.advice


@pytest.mark.parametrize(
    ("limits", "condition"),
    [
        (Limits(trials=5), "stopped"),
        (Limits(trials=5, wall_time_s=5.0), "finished"),  # it ran for longer than that
        (Limits(wall_time_s=500.0), "finished"),
    ],
)
def test_a_sweep_without_a_driver_is_over_if_a_budget_is_used_up(sweep, limits, condition):
    write(sweep, over())
    assert read(sweep, limits).snapshot.condition == condition


def test_a_sweep_that_was_stopped_says_how_to_go_on(sweep):
    book = half_way()
    book.attempt_end(1, 1, "lost", reason_kind="user", wall_s=1.0)
    book.end(1, "unfinished", reason_kind="user")
    write(sweep, book)
    status = read(sweep, LIMITS)
    assert status.snapshot.condition == "stopped"
    assert status.advice.startswith("It was stopped in order; 1 trial left unfinished. `search resume")


def test_a_sweep_without_a_row_is_not_a_mistake_of_the_ledger(sweep):
    with pytest.raises(SweepError, match="has not written anything yet: its driver ended before that"):
        read(sweep, LIMITS)
    with Lock(sweep), pytest.raises(SweepError, match="has just begun"):
        read(sweep, LIMITS)


def test_what_the_ledger_gives_back_is_the_state_that_wrote_it(sweep):
    from results.ledger import Ledger

    book = over()
    write(sweep, book)
    assert SweepState(SCHEMA).replay(Ledger(sweep).events()).document() == book.state.document()


@pytest.mark.parametrize("where", ["toy", "runs/toy"])
def test_the_command_shows_it(sweep, where):
    write(sweep, over())
    result = ask(where)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("toy  finished ")
    assert "best loss 1" in result.stdout
    assert "trials 2/2" in result.stdout
    assert "`results top " in result.stdout
    assert "\x1b" not in result.stdout


def test_the_command_says_it_to_machines(sweep):
    write(sweep, half_way())
    with Lock(sweep):
        result = ask("toy", "--json")
    document = json.loads(result.stdout)
    assert document["condition"] == "running"
    assert document["driver"]["pid"] == os.getpid()
    assert document["driver"]["alive"] is True
    assert document["best"]["value"] == 1.0
    assert document["counts"]["running"] == 1


def test_watching_ends_with_the_sweep(sweep, monkeypatch):
    write(sweep, half_way())
    own = Lock(sweep)
    own.acquire()
    # The driver ends once the sweep has been seen to run, and before it is looked at again.
    clock = SimpleNamespace(monotonic=lambda: 0.0, sleep=lambda seconds: own.release())
    monkeypatch.setattr(importlib.import_module("search.cli.status"), "time", clock)
    result = ask("toy", "--watch")
    assert result.exit_code == 0
    assert result.stdout.startswith("toy  dead ")
    assert result.stderr.count("2 of 2 trials") == 2  # a line at once, and one at the end


def test_a_sweep_that_there_is_not_names_those_that_there_are(sweep):
    result = ask("tooy")
    assert result.exit_code == 2
    assert "toy" in result.stderr
    assert "Traceback" not in result.output


def test_a_lock_that_is_no_lock_is_no_driver(sweep):
    write(sweep, half_way())
    sweep.write(LOCK_FILE, b"?")
    assert read(sweep, LIMITS).snapshot.condition == "dead"
