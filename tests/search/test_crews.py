"""Crews carry what pieces of work tell, and what becomes of those that fail or die."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from search.connection import connected
from search.crews import Here, OnRay
from search.errors import TrialFailed
from search.spec import Objective, SweepSpec

ROOT = Path(__file__).resolve().parents[2]


def counting(upto, *, fails="", folder=""):
    for number in range(upto):
        yield {"number": number}
    match fails:
        case "error":
            raise ValueError("cannot count\nany further")
        case "reason":
            raise TrialFailed("counted to infinity", reason_kind="non_finite")
        case "once":
            mark = Path(folder) / "died"
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        case "always":
            os.kill(os.getpid(), signal.SIGKILL)
    yield {"result": upto}


def told(crew, *arguments):
    """The last message of each piece, and how many numbers it told."""
    last, numbers = {}, {}
    for piece, message in crew.run(counting, list(arguments)):
        last[piece] = message
        numbers[piece] = numbers.get(piece, 0) + ("number" in message)
    return last, numbers


def test_pieces_tell_and_fail_each_for_itself():
    last, numbers = told(Here(), ((2,), {}), ((1,), {"fails": "error"}), ((0,), {"fails": "reason"}), ((3,), {}))
    assert numbers == {0: 2, 1: 1, 2: 0, 3: 3}
    assert (last[0], last[3]) == ({"result": 2}, {"result": 3})
    assert (last[1]["failed"], last[1]["reason_kind"]) == ("ValueError: cannot count", "error")
    assert "ValueError" in last[1]["detail"]
    assert (last[2]["failed"], last[2]["reason_kind"]) == ("counted to infinity", "non_finite")


@pytest.mark.slow
def test_on_a_cluster_a_piece_whose_process_dies_is_begun_again(tmp_path):
    # In a process of its own: Ray looks only once for how tokens are asked for, and other tests have it look.
    code = "import sys; from tests.search.test_crews import on_a_cluster; print(on_a_cluster(sys.argv[1]))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["0"] == {"result": 2}
    assert last["1"]["reason_kind"] == "non_finite"
    assert last["2"] == {"result": 1}
    assert last["3"]["reason_kind"] == "worker_died"
    assert len(last["again"]) == 6
    assert len(set(last["again"])) == 1, "who is done takes over what has found no room, and stays for what comes next"


def on_a_cluster(folder):
    """The last message of each piece, as JSON."""
    spec = SweepSpec(name="toy", task="toy:Toy", objectives=(Objective(metric="loss", goal="min"),), trials=1)
    with connected(spec, dashboard=False):
        crew = OnRay(cpus=os.cpu_count() or 1, gpus=0, retries=1)
        pieces = [
            ((2,), {}),
            ((1,), {"fails": "reason"}),
            ((1,), {"fails": "once", "folder": folder}),
            ((1,), {"fails": "always"}),
        ]
        last, _ = told(crew, *pieces)
        again = [message["result"] for _ in range(2) for _, message in crew.run(naming, [((), {})] * 3)]
    return json.dumps({**last, "again": again})


def naming():
    """Says which process it is."""
    yield {"result": os.getpid()}
