import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from results.storage import Storage
from search import lock
from search.errors import SweepAborted, SweepError
from search.lock import LOCK_FILE, Lock, holder, is_alive

BEAT_S = 0.1

HOLD = """
import sys, time
from results.storage import Storage
from search.errors import SweepError
from search.lock import Lock
try:
    with Lock(Storage(sys.argv[1]), beat_s=float(sys.argv[2])):
        print("held", flush=True)
        sys.stdin.read()
except SweepError as error:
    print("refused", error, flush=True)
"""


@contextlib.contextmanager
def driver(folder, beat_s=BEAT_S):
    """Another process that wants the lock; yields it and the first line that it says."""
    command = [sys.executable, "-c", HOLD, str(folder), str(beat_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield process, process.stdout.readline()
        finally:
            if process.poll() is None:
                process.communicate()


def from_elsewhere(storage, **changes):
    """Turns the lock that lies there into one of another machine."""
    document = json.loads(storage.read(LOCK_FILE)) | {"host": "elsewhere"} | changes
    storage.write(LOCK_FILE, json.dumps(document).encode())
    return document


@pytest.fixture
def storage(tmp_path):
    return Storage(tmp_path / "a sweep")


def test_a_lock_is_there_while_it_is_held(storage):
    assert holder(storage) is None
    with Lock(storage):
        held = holder(storage)
        assert held is not None
        assert (held.pid, held.beat) == (os.getpid(), 0)
        assert is_alive(storage, held)
    assert holder(storage) is None


def test_its_counter_goes_up(storage):
    with Lock(storage, beat_s=0.02):
        until = time.monotonic() + 60
        while (held := holder(storage)) is None or held.beat < 3:
            assert time.monotonic() < until
            time.sleep(0.01)


def test_the_second_driver_is_told_where_the_first_runs(storage):
    with driver(storage.uri) as (process, said):
        assert said == "held\n"
        with pytest.raises(SweepError) as refused, Lock(storage):
            pass
        assert f"process {process.pid} on " in str(refused.value)
        assert f"search status '{storage.uri}'" in str(refused.value)
        assert f"search stop '{storage.uri}'" in str(refused.value)
    with Lock(storage):  # the first has given it back
        pass


def test_a_process_that_holds_it_is_refused_as_well(storage):
    with Lock(storage), pytest.raises(SweepError, match="runs already"), Lock(storage):
        pass


def test_the_lock_of_a_killed_driver_is_taken_at_once(storage):
    with driver(storage.uri, beat_s=60) as (process, _):
        process.send_signal(signal.SIGKILL)
        while lock.process_start(process.pid) is not None:  # till it is a zombie: nobody has waited for it yet
            time.sleep(0.01)
        held = holder(storage)
        assert held is not None
        assert not is_alive(storage, held)
        with Lock(storage, beat_s=60):
            assert holder(storage) != held


def test_a_stopped_driver_keeps_its_lock(storage):
    with driver(storage.uri) as (process, _):
        process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(SweepError), Lock(storage):
                pass
        finally:
            process.send_signal(signal.SIGCONT)


def test_a_later_process_of_the_same_number_is_not_the_holder(storage):
    with driver(storage.uri, beat_s=60) as (process, _):
        document = json.loads(storage.read(LOCK_FILE)) | {"process_start": "1"}
        storage.write(LOCK_FILE, json.dumps(document).encode())
        with Lock(storage):
            pass
        assert process.poll() is None


def test_a_counter_that_turns_elsewhere_keeps_others_out(storage):
    with Lock(storage, beat_s=60):
        document = from_elsewhere(storage)
        done = threading.Event()

        def turn():
            beat = 0
            while not done.wait(BEAT_S):
                beat += 1
                storage.write(LOCK_FILE, json.dumps(document | {"beat": beat}).encode())

        turning = threading.Thread(target=turn)
        turning.start()
        said = []
        try:
            # It is watched for longer than it ever takes to turn it once, and no longer than until it was.
            with pytest.raises(SweepError, match="on elsewhere"), Lock(storage, beat_s=10.0, on_wait=said.append):
                pass
        finally:
            done.set()
            turning.join()
        assert said == ["watching for up to 30 s whether the driver on elsewhere lives"]


def test_a_counter_that_stands_still_elsewhere_keeps_nobody_out(storage):
    with Lock(storage, beat_s=60):
        from_elsewhere(storage, token="other", started="2099-01-01T00:00:00+00:00")  # its clock is of no interest
        with Lock(storage, beat_s=BEAT_S):
            held = holder(storage)
            assert held is not None
            assert held.is_here


def test_a_driver_that_was_taken_over_notices_and_leaves_the_lock_alone(storage):
    with Lock(storage, beat_s=0.02) as own:
        own.check()
        until = time.monotonic() + 60
        while own._taken_by is None and time.monotonic() < until:
            from_elsewhere(storage, token="other")  # again, if it was just about to write its own
            time.sleep(0.05)
        with pytest.raises(SweepAborted, match=r"taken this sweep over .* on elsewhere"):
            own.check()
    held = holder(storage)
    assert held is not None
    assert held.token == "other"


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"host": 1}', b"\xff"])
def test_what_is_not_a_lock_keeps_nobody_out(storage, content):
    storage.write(LOCK_FILE, content)
    with Lock(storage):
        assert holder(storage) is not None


def eight_at_once(storage, refused):
    """Eight that want a lock; returns those that got it, and puts the others into `refused`."""
    taken = []
    together = threading.Barrier(8)

    def take():
        own = Lock(storage)
        together.wait()
        try:
            own.acquire()
            taken.append(own)
        except SweepError:
            refused.append(own)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return taken


def test_of_many_at_once_one_gets_it(storage):
    taken = eight_at_once(storage, refused := [])
    assert (len(taken), len(refused)) == (1, 7)
    taken[0].release()


def test_without_exclusive_files_one_gets_it(storage, monkeypatch):
    refused, settling = [], []

    def settle(seconds):
        """However slow the disk is, all have written by the time that one looks whose lock it is."""
        assert seconds == lock.SETTLE_S
        settling.append(seconds)
        until = time.monotonic() + 60
        while len(settling) + len(refused) < 8 and time.monotonic() < until:
            time.sleep(0.01)

    monkeypatch.setattr(lock, "time", SimpleNamespace(sleep=settle))
    storage.write("sweep.json", b"{}")
    storage.is_local = False
    taken = eight_at_once(storage, refused)
    assert (len(taken), len(refused)) == (1, 7)
    taken[0].release()
