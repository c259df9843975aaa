"""Three Ray nodes on this machine, with a token: one dies, one is added, the driver dies; `tests/cluster` has more."""

import contextlib
import dataclasses
import os
import re
import secrets
import subprocess
import sys
import time

import psutil
import pytest

from results.ledger import Ledger
from search import folders
from tests.search import faults, rig

pytestmark = pytest.mark.slow


NODES = """
import sys
from ray.cluster_utils import Cluster
small = {"object_store_memory": 100_000_000}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small})
workers = []
for line in sys.stdin:
    if line == "add\\n":
        workers.append(cluster.add_node(num_cpus=1, **small))
    else:
        cluster.remove_node(workers.pop(0), allow_graceful=False)
    print(cluster.address, flush=True)
cluster.shutdown()
"""
"""Has a head without a core to give, and adds and kills workers of one core each, as it is told."""


class ThreeNodes:
    """Nodes in a process of their own: Ray looks only once into the environment for whether tokens are asked for."""

    def __init__(self):
        self.environment = os.environ | {
            "PYTHONPATH": str(faults.ROOT),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_agent_register_timeout_ms": "100000",
        }
        self.address, self.workers = "", 0

    def __enter__(self):
        self._process = psutil.Popen(
            [sys.executable, "-c", NODES],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.add()
        self.add()
        return self

    def have(self, count):
        """Adds or kills workers until there are so many."""
        while self.workers < count:
            self.add()
        while self.workers > count:
            self.kill()

    def add(self):
        """Adds a worker."""
        self._tell("add")
        self.workers += 1

    def kill(self):
        """Kills a worker with all its processes."""
        self._tell("kill")
        self.workers -= 1

    def _tell(self, word):
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        while not re.fullmatch(r"[\d.]+:\d+", said := self._process.stdout.readline().strip()):
            assert self._process.poll() is None, said
        self.address = said

    def __exit__(self, *_):
        everyone = [self._process, *self._process.children(recursive=True)]
        self._process.stdin.close()
        psutil.wait_procs(everyone[:1], timeout=20)
        for process in everyone:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


@pytest.fixture(scope="module")
def nodes():
    with ThreeNodes() as it:
        yield it


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What the sweep comes to in one process, without Ray and without faults."""
    given = small_sweep(None, tmp_path_factory.mktemp("expected")).spec
    return faults.outcome(rig.run(dataclasses.replace(given, options={})).state)


def small_sweep(nodes, folder, **changes):
    options = {"trials": 8, "epochs": 40, "epoch_s": 0.25, "searcher": "random", "scheduler": "none", "concurrency": 3}
    return faults.Subject(nodes, folder, every_s=0.3, **options | changes)


def check(subject, expected):
    assert faults.accounted_for(subject.place, 8) == 8
    assert faults.duplicate_keys(subject.place) == 0
    assert faults.problems(subject.place) == []
    assert faults.outcome(faults.state_of(subject.place)) == expected
    assert "Traceback" not in subject.said
    return Ledger(subject.place).table("attempt_ends").to_pylist()


def test_a_node_dies_and_its_trial_goes_on_elsewhere(nodes, expected, tmp_path):
    nodes.have(2)
    subject = small_sweep(nodes, tmp_path)
    driver = subject.start()
    assert subject.wait_for_processes(2, driver=driver), subject.said
    assert subject.wait_for_epochs(5, driver=driver), subject.said
    two = subject.processes()
    nodes.kill()
    subject.wait_for_ends(two, left=1)
    subject.brake.unlink()
    assert driver.wait(300) == 0, subject.said
    ends = check(subject, expected)
    assert {end["reason_kind"] for end in ends if end["outcome"] == "lost"} == {"node_lost"}
    assert not any(end["own_fault"] for end in ends)
    assert faults.trained_again(subject)[2] <= 3


def test_a_node_is_added_and_used(nodes, tmp_path):
    # Trials that last: where one ends before a worker on the new node has started, Tune gives the next to the old one.
    nodes.have(1)
    subject = small_sweep(nodes, tmp_path, trials=3, epochs=300, epoch_s=0.4)
    driver = subject.start()
    assert subject.wait_for_epochs(4, driver=driver), subject.said
    assert len(subject.processes()) == 1
    added = time.monotonic_ns()
    nodes.add()
    assert subject.wait_for_processes(2, driver=driver, since=added), subject.said
    subject.brake.unlink()
    assert driver.wait(300) == 0, subject.said
    assert faults.accounted_for(subject.place, 3) == 3
    assert faults.problems(subject.place) == []
    assert len(subject.processes(added)) == 2


def test_the_driver_dies_and_the_next_goes_on(nodes, expected, tmp_path):
    nodes.have(2)
    subject = small_sweep(nodes, tmp_path)
    driver = subject.start()
    assert subject.wait_until(lambda: is_known_to_run(subject), driver=driver, look_s=0.2), subject.said
    driver.kill()
    driver.wait()
    subject.wait_for_ends(subject.processes())
    subject.brake.unlink()
    last = subject.start()
    assert last.wait(300) == 0, subject.said
    ends = check(subject, expected)
    assert {end["reason_kind"] for end in ends if end["outcome"] == "lost"} == {"driver_lost"}
    assert len(Ledger(subject.place).table("sessions")) == 2


def is_known_to_run(subject):
    """Whether the ledger has a trial that runs: what a driver has not written down yet, the next cannot know."""
    return Ledger(subject.place).exists and any(trial.epoch for trial in faults.state_of(subject.place).running)


def test_all_was_asked_for_a_token(nodes, tmp_path):
    subject = small_sweep(nodes, tmp_path)
    nodes.environment["RAY_AUTH_TOKEN"], right = "0" * 64, nodes.environment["RAY_AUTH_TOKEN"]
    try:
        assert subject.start().wait(240) == 2
    finally:
        nodes.environment["RAY_AUTH_TOKEN"] = right
    assert "no Ray cluster answers" in subject.said
    assert folders.folder_of(subject.spec).exists("ledger") is False or not faults.state_of(subject.place).trials


def test_a_connection_that_breaks_without_word_of_a_death_is_laid_to_the_machine():
    from search.tune import _cause
    from tests.search.test_trial import attempt

    text = "ray.exceptions.ActorUnavailableError: The actor 3f is unavailable: RpcError: Socket closed"
    assert _cause(text, attempt(), ran_s=1.0)[0] == "node_lost"
    assert _cause(text, attempt(time_limit_s=8.0), ran_s=8.1)[0] == "time_limit"
