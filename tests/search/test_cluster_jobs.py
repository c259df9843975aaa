"""A cluster with a token, and a sweep that is sent to it as a laptop would: what works, and what stays closed."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from results.ledger import Ledger
from results.storage import Storage
from search.cluster_file import read
from search.connection import connected
from search.errors import SweepError

ROOT = Path(__file__).resolve().parents[2]
SWEEP = """
    [sweep]
    name = "sent"
    task = "sent_task:Slope"
    objectives = ["loss min"]
    trials = 3
    epochs = 2
    storage = "{storage}"
    [searcher]
    kind = "random"
    [final]
    models = 0
"""
TASK = """
    class Slope:
        metrics = {"loss": ("nats", "falls", "min")}

        def space(self, hp):
            hp.Float("rate", 0.1, 1.0)

        def start(self, values, *, epochs, seed):
            return Run(values)

    class Run:
        def __init__(self, values):
            self.values, self.done = values, 0

        def epoch(self):
            self.done += 1
            print(__file__)
            return {"loss": self.values["rate"] / self.done}
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answer(url, token):
    """The HTTP status that a request gets; 0 if nobody listens."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def ray(*words, env, **options):
    command = [sys.executable, "-m", "ray.scripts.scripts", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, **options)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A head as cluster.yaml starts it, but for ports, cores and the autoscaler."""
    folder = tmp_path_factory.mktemp("c", numbered=True)
    token = secrets.token_hex(32)
    (folder / "token").write_text(token)
    (folder / "token").chmod(0o600)
    gcs, board = free_port(), free_port()
    starting = next(command for _, command, is_head in read(ROOT / "cluster.yaml").starts() if is_head)
    assert "--dashboard-host=127.0.0.1" in starting
    env = os.environ | {
        "HOME": str(folder),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_agent_register_timeout_ms": "100000",
    }
    env.pop("RAY_AUTH_TOKEN", None)
    # Unix sockets have short names, so Ray's folder cannot lie below pytest's.
    session = Path(tempfile.mkdtemp(prefix="search-"))
    with open(folder / "head.log", "w") as log:
        head = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2",
             f"--port={gcs}", "--dashboard-host=127.0.0.1", f"--dashboard-port={board}", f"--temp-dir={session}",
             "--ray-client-server-port", str(free_port())],
            env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    url, deadline = f"http://127.0.0.1:{board}", time.monotonic() + 180
    try:
        while answer(f"{url}/api/jobs/", token) != 200:
            assert head.poll() is None, (folder / "head.log").read_text()
            assert time.monotonic() < deadline, (folder / "head.log").read_text()
            time.sleep(1)
        yield {
            "url": url,
            "env": env,
            "token": token,
            "folder": folder,
            "head": head,
            "session": session,
            "port": board,
        }
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(head.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            head.wait(5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(head.pid, signal.SIGKILL)
        subprocess.run(["rm", "-rf", str(session)], check=False)


@pytest.fixture(scope="module")
def sent(cluster):
    """A sweep whose tree was sent along, run to its end."""
    tree = cluster["folder"] / "tree"
    tree.mkdir()
    (tree / "sent_task.py").write_text(textwrap.dedent(TASK))
    (tree / "sent.toml").write_text(textwrap.dedent(SWEEP).format(storage=cluster["folder"] / "shared"))
    words = ["job", "submit", "--address", cluster["url"], "--working-dir", str(tree), "--"]
    done = ray(*words, "search", "run", "sent.toml", "--address", "auto", env=cluster["env"])
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.slow
def test_a_sweep_is_sent_with_its_tree_and_its_log_follows(cluster, sent):
    assert "sent: " in sent.stdout
    trials = Ledger(Storage(cluster["folder"] / "shared" / "sent")).table("trials").to_pylist()
    assert len(trials) == 3
    assert {trial["state"] for trial in trials} <= {"completed", "stopped"}


@pytest.mark.slow
def test_without_the_right_token_nobody_is_let_in(cluster):
    assert answer(f"{cluster['url']}/api/jobs/", "") == 401
    assert answer(f"{cluster['url']}/api/jobs/", "0" * 64) in {401, 403}
    done = ray("job", "list", "--address", cluster["url"], env=cluster["env"] | {"RAY_AUTH_TOKEN": "0" * 64})
    assert done.returncode != 0
    assert "token" in done.stdout + done.stderr


@pytest.mark.slow
def test_the_dashboard_answers_on_its_own_machine_alone(cluster):
    found = [c.laddr for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr]
    listening = {ip for ip, port in found if port == cluster["port"]}
    assert listening <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    assert listening


@pytest.mark.slow
def test_the_token_stands_in_no_log_no_table_and_no_process_list(cluster, sent):
    token = cluster["token"].encode()
    assert token.decode() not in sent.stdout + sent.stderr
    files = [p for place in (cluster["session"], cluster["folder"] / "shared") for p in place.rglob("*") if p.is_file()]
    assert len(files) > 20
    assert [str(path) for path in files if token in path.read_bytes()] == []
    for process in psutil.process_iter(["cmdline"]):
        assert token.decode() not in " ".join(process.info["cmdline"] or [])


@pytest.mark.parametrize("address", ["ray://10.0.0.1:10001", "http://127.0.0.1:8265"])
def test_a_driver_outside_the_cluster_is_told_how_to_get_in(address):
    from search.sweep_file import read as read_sweep

    spec = read_sweep(
        {"sweep": {"name": "x", "task": "x:Y", "objectives": ["loss min"], "trials": 1}}, source="x", folder="."
    )
    with pytest.raises(SweepError, match="`ray job submit`"), connected(spec, address=address):
        pass
