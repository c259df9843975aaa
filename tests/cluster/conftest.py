"""The lab is used only where it is asked for (`make test-cluster`): it takes many minutes, root and Linux."""

import os
import time
from pathlib import Path

import pytest

from tests.cluster import lab as machines
from tests.cluster.fault_table import FaultTable
from tests.cluster.lab_sweeps import LabSweep
from tests.cluster.ray_cluster import ALL, RayCluster, answer

HERE = Path(__file__).resolve().parent
BEGAN = time.monotonic()


def pytest_ignore_collect(config):
    """Leaves this folder out unless it, or a file of it, was named."""
    named = [Path(str(word).partition("::")[0]).resolve() for word in config.args]
    return None if any(HERE in (path, path.parent) for path in named) else True


def pytest_addoption(parser):
    parser.addoption("--write-table", action="store_true", help="write the table of faults into docs/cluster.md")


@pytest.fixture(scope="session")
def say(request):
    """Tells how far it is, past pytest's capture."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    screen = request.config.pluginmanager.getplugin("terminalreporter")

    def tell(text):
        with capture.global_and_fixture_disabled():
            passed = time.monotonic() - BEGAN
            screen.write_line(f"{passed // 60:3.0f}:{passed % 60:02.0f}  {text}")

    return tell


@pytest.fixture(scope="session")
def lab(say):
    """The machines, all on."""
    why = machines.missing()
    if why:
        pytest.skip(f"no cluster can be tried here: {why}")
    with machines.Lab() as it:
        for machine in it.machines.values():
            machine.boot()
        it.make_bucket()
        say("laptop, head, w1, w2 and a storage are on")
        yield it
        if logs := os.environ.get("LAB_LOGS"):  # for whoever looks for what went wrong
            it.keep_logs(Path(logs))


@pytest.fixture(scope="session")
def starting(lab, say):
    """The cluster, brought up by `ray up`, and how long that took."""
    it = RayCluster(lab)
    it.prepare()
    began = time.monotonic()
    it.up()
    it.wait_for_nodes(*ALL)
    took_s = time.monotonic() - began
    say(f"ray up: all machines after {took_s:.0f} s")
    return it, took_s


@pytest.fixture(scope="session")
def ready(starting, say):
    """Returns the cluster with all its machines and no sweep, whatever the test before left behind."""
    it, _ = starting

    def get():
        if not it.is_ready():
            say("bringing the cluster back")
            it.repair()
        return it

    return get


@pytest.fixture
def cluster(ready):
    """The cluster with all its machines, for one test."""
    return ready()


@pytest.fixture(scope="session")
def undisturbed(ready, say):
    """The books of a sweep to which nothing happened."""
    sweep = LabSweep(ready(), "undisturbed")
    sweep.start()
    assert sweep.wait() == 0, sweep.said
    say("a sweep without faults is over")
    return sweep.books()


@pytest.fixture(scope="session")
def table(request, say):
    """The table of faults, printed at the end, and written if that was asked for."""
    it = FaultTable(say)
    yield it
    for line in it.lines():
        say(line)
    if request.config.getoption("--write-table"):
        it.write()


@pytest.fixture
def tunnel(cluster):
    """`ray dashboard` on the laptop; its address there."""
    log = cluster.lab.folder / "tunnel.log"
    process = cluster.start_in_tree("ray dashboard lab.yaml", log)
    url, laptop = "http://127.0.0.1:8265", cluster.laptop
    until = time.monotonic() + 120
    while not (laptop.listens(8265) and answer(laptop, url)):  # the dashboard comes a while after its head
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.2)
    yield url
    laptop.run("pkill -f '[r]ay dashboard'; pkill -f '[s]sh.*8265'", check=False)
    process.wait(20)
    until = time.monotonic() + 20
    while laptop.listens(8265):
        assert time.monotonic() < until, "the tunnel does not end"
        time.sleep(0.2)
