"""A cluster with a token, and a sweep that is sent to it as a laptop would: what works, and what stays closed."""

import contextlib
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
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
from tests.search.faults import free_ports

ROOT = Path(__file__).resolve().parents[2]
SWEEP = """
    [sweep]
    name = "sent"
    task = "sent_task:Slope"
    objectives = ["loss min"]
    trials = 3
    epochs = 2
    [searcher]
    kind = "random"
    [final]
    models = 0
"""
TASK = """
    import time
    from pathlib import Path

    class Slope:
        begun = 0  # by this process

        metrics = {"loss": ("nats", "falls", "min")}

        def space(self, hp):
            hp.Float("rate", 0.1, 1.0)

        def start(self, values, *, epochs, seed):
            self.begun += 1
            while self.begun > 1 and Path("HOLD").exists():
                time.sleep(0.1)
            return Run(values)

    class Run:
        def __init__(self, values):
            self.values, self.done = values, 0

        def epoch(self):
            self.done += 1
            time.sleep(0.2)
            print(__file__)
            return {"loss": self.values["rate"] / self.done}
"""
HUSH = "nobody's business"


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


def ray(*words, env):
    command = [sys.executable, "-m", "ray.scripts.scripts", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=400)


def search(*words, at, env=None):
    command = [sys.executable, "-m", "search.cli", *words]
    return subprocess.run(
        command, env=env or at["env"], cwd=at["tree"], capture_output=True, text=True, timeout=400, check=False
    )


class Looking:
    """`search run` as a process of its own, whose words can be read while it runs."""

    def __init__(self, *words, at, url=""):
        self._folder = Path(tempfile.mkdtemp(dir=at["folder"]))
        with open(self._folder / "out", "w") as out, open(self._folder / "err", "w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "search.cli", "run", "sent.toml", "--address", url or at["url"], *words],
                env=at["env"], cwd=at["tree"], stdout=out, stderr=err,
            )  # fmt: skip
        at["looking"].append(self.process)

    @property
    def out(self):
        return (self._folder / "out").read_text()

    @property
    def err(self):
        return (self._folder / "err").read_text()

    def until(self, words):
        """Waits until it has said something."""
        end = time.monotonic() + 240
        while words not in self.out + self.err:
            assert self.process.poll() is None or words in self.out + self.err, self.out + self.err
            assert time.monotonic() < end, self.out + self.err
            time.sleep(0.2)
        return self


def ended(storage, count):
    """The trials of a sweep, once so many have ended."""
    until = time.monotonic() + 240
    while time.monotonic() < until:
        ledger = Ledger(Storage(storage))
        trials = ledger.table("trials").to_pylist() if ledger.exists else []
        if sum(trial["state"] in ("completed", "stopped") for trial in trials) >= count:
            return trials
        time.sleep(0.5)
    raise AssertionError(f"{storage}: {trials}")


class Line:
    """A line to the head that can be cut, as an SSH tunnel can."""

    def __init__(self, port):
        self._port, self._open = port, []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self.is_cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                if self.is_cut:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._port))
                self._open += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self):
        self.is_cut = True
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.cut()
        self._server.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A head as cluster.yaml starts it, but for ports, cores and the autoscaler."""
    folder = tmp_path_factory.mktemp("c", numbered=True)
    token = secrets.token_hex(32)
    (folder / "token").write_text(token)
    (folder / "token").chmod(0o600)
    gcs, board, client, agent = free_ports(4)
    starting = next(start.command for start in read(ROOT / "cluster.yaml").starts() if start.is_head)
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
             "--ray-client-server-port", str(client), "--dashboard-agent-listen-port", str(agent)],
            env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    url, deadline = f"http://127.0.0.1:{board}", time.monotonic() + 300
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
def laptop(cluster):
    """A working tree with secrets in it, and the way to the cluster."""
    tree, hold = cluster["folder"] / "tree", cluster["folder"] / "hold"
    tree.mkdir()
    (tree / "sent_task.py").write_text(textwrap.dedent(TASK).replace("HOLD", str(hold)))
    (tree / "sent.toml").write_text(textwrap.dedent(SWEEP))
    for name in (".env", "id_ed25519", "diary.txt"):
        (tree / name).write_text(HUSH)
    for words in (["init", "-q"], ["add", "-f", "sent_task.py", ".env", "id_ed25519"]):
        subprocess.run(["git", *words], cwd=tree, check=True)
    looking = []
    yield {**cluster, "tree": tree, "shared": str(cluster["folder"] / "shared"), "hold": hold, "looking": looking}
    for process in looking:  # without its cluster, one that was not ended would go on looking
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def sent(laptop):
    """A sweep that was sent from there, over a line that was cut for a while, run to its end."""
    line = Line(laptop["port"])
    laptop["hold"].touch()  # its last trial waits until the line was cut
    try:
        looking = Looking("--storage", laptop["shared"], at=laptop, url=line.url).until("new best")
        line.cut()
        looking.until("the connection is lost")
    finally:
        laptop["hold"].unlink()
    line.is_cut = False
    status = looking.process.wait(240)
    line.close()
    return subprocess.CompletedProcess([], status, looking.out, looking.err)


@pytest.mark.slow
def test_a_sweep_is_sent_with_its_tree_and_its_log_follows(laptop, sent):
    assert sent.returncode == 0, sent.stdout + sent.stderr
    assert re.search(r"^sent: \d completed", sent.stdout, re.M), sent.stdout
    trials = Ledger(Storage(f"{laptop['shared']}/sent")).table("trials").to_pylist()
    assert len(trials) == 3
    assert {trial["state"] for trial in trials} <= {"completed", "stopped"}


@pytest.mark.slow
def test_a_connection_that_is_lost_is_taken_up_again_and_no_line_comes_twice(sent):
    assert "the connection is lost" in sent.stderr
    assert "answers again" in sent.stderr
    assert sent.stdout.count("sent: ") == 1
    lines = [line for line in sent.stdout.splitlines() if "new best" in line]
    assert len(lines) == len(set(lines))


@pytest.mark.slow
def test_secrets_and_what_git_does_not_track_stay_on_the_laptop(laptop, sent):
    assert "left out: .env, its name is that of a secret" in sent.stderr
    assert "left out, because git does not track them: diary.txt" in sent.stderr
    there = files_below(laptop["session"])
    assert "sent_task.py" in {path.name for path in there}
    assert [str(path) for path, content in there.items() if HUSH.encode() in content] == []


@pytest.mark.slow
def test_a_sweep_goes_on_when_who_looks_on_is_killed(laptop):
    looking = Looking("--storage", laptop["shared"], "--name", "alone", "--trials", "6", at=laptop).until("new best")
    looking.process.kill()
    looking.process.wait()
    assert len(ended(f"{laptop['shared']}/alone", 6)) == 6


@pytest.fixture(scope="module")
def long(laptop):
    """A sweep that goes on until it is stopped."""
    return Looking("--storage", laptop["shared"], "--name", "long", "--trials", "20000", at=laptop).until("new best")


def asked(laptop, path):
    """What the dashboard answers."""
    headers = {"Authorization": f"Bearer {laptop['token']}"}
    with urllib.request.urlopen(urllib.request.Request(laptop["url"] + path, headers=headers), timeout=30) as answer:
        text = answer.read().decode()
        return json.loads(text) if "json" in answer.headers["Content-Type"] else text


def eventually(found, seconds=240):
    until = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < until, f"after {seconds} s there still is {answer!r}"
        time.sleep(1)
    return answer


def files_below(folder):
    """The files of a folder and what is in them; Ray removes some meanwhile."""
    found = {}
    for place, _, names in os.walk(folder):
        for path in (Path(place, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                if path.is_file():
                    found[path] = path.read_bytes()
    return found


@pytest.mark.slow
def test_a_trial_is_found_in_the_dashboard(laptop, long):
    """By its number: which process ran it, on which machine, and what it printed."""
    ledger = Ledger(Storage(f"{laptop['shared']}/long"))
    rows = eventually(lambda: [row for row in ledger.table("attempt_ends").to_pylist() if row["trial"] >= 3])
    trial, pid = rows[0]["trial"], rows[0]["pid"]
    name = f"trial-{trial:05d}-{rows[0]['attempt']} of long"

    actors = asked(laptop, "/api/v0/actors?detail=1")["data"]["result"]["result"]
    ours = [actor for actor in actors if actor["class_name"] == "TrialActor" and actor["state"] == "ALIVE"]
    assert all(re.fullmatch(r"TrialActor\(trial-\d{5}-1\)", actor["repr_name"]) for actor in ours)
    (actor,) = [actor for actor in ours if actor["pid"] == pid]
    log = asked(laptop, f"/api/v0/logs/file?actor_id={actor['actor_id']}&suffix=out&lines=100000")
    mine = log.partition(f"{name} begins\n")[2].partition(f"{name} ends: ")
    assert "sent_task.py" in mine[0]  # which the task prints in each epoch
    assert " of long begins" not in mine[0]
    assert re.match(r"(stopped|completed) after epoch \d\n", mine[2])

    node = f"/nodes/{actor['node_id']}"
    titles = eventually(lambda: [
        worker["cmdline"][0]
        for worker in asked(laptop, node)["data"]["detail"].get("workers", [])
        if worker["pid"] == pid and re.match(r"ray::trial-\d{5}-1 of long", worker["cmdline"][0])
    ])  # fmt: skip
    assert titles


@pytest.mark.slow
def test_after_ctrl_c_it_can_be_asked_for_and_stopped_from_outside(laptop, long):
    long.process.send_signal(signal.SIGINT)
    assert long.process.wait(120) == 130
    said = long.err
    place, there = f"{laptop['shared']}/long", ["--address", laptop["url"]]
    assert f"search status {place} --address {laptop['url']} --watch" in said
    status = search("status", place, *there, "--json", at=laptop)
    assert status.returncode == 0, status.stderr
    assert json.loads(status.stdout)["condition"] == "running"
    stopped = search("stop", place, *there, at=laptop)
    assert stopped.returncode == 0, stopped.stderr
    assert f"{place} has ended" in stopped.stdout
    listed = ray("job", "list", "--address", laptop["url"], env=laptop["env"])
    assert "sweep-status-" not in listed.stdout  # what only asks leaves nothing behind
    job = re.search(r"job (sweep-long-[0-9a-f]+) goes on", said)
    assert job
    words = ("job", "logs", "--address", laptop["url"], job[1])
    eventually(lambda: f"go on: search resume {place}" in ray(*words, env=laptop["env"]).stdout)


@pytest.mark.slow
def test_the_command_ends_as_the_sweep_there_does(laptop, sent):
    again = search("run", "sent.toml", "--address", laptop["url"], "--storage", laptop["shared"], at=laptop)
    assert again.returncode == 2
    assert "the sweep 'sent' has begun" in again.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("token", "said"),
    [
        ({"RAY_AUTH_TOKEN": "0" * 64}, "answers 403), the one in RAY_AUTH_TOKEN is another's"),
        ({"RAY_AUTH_TOKEN_PATH": "nowhere"}, "answers 401), none is found here"),
    ],
)
def test_without_the_right_token_nothing_is_sent(laptop, token, said):
    words = ["run", "sent.toml", "--address", laptop["url"], "--storage", laptop["shared"], "--name", "never"]
    done = search(*words, at=laptop, env=laptop["env"] | token)
    assert done.returncode == 2
    assert f"{laptop['url']} asks for the cluster's token (it {said}" in done.stderr
    assert not Path(laptop["shared"], "never").exists()


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
    files = files_below(cluster["session"]) | files_below(cluster["folder"] / "shared")
    assert len(files) > 20
    assert [str(path) for path, content in files.items() if token in content] == []
    for process in psutil.process_iter(["cmdline"]):
        assert token.decode() not in " ".join(process.info["cmdline"] or [])


@pytest.mark.parametrize("address", ["ray://10.0.0.1:10001", "http://127.0.0.1:8265"])
def test_a_driver_outside_the_cluster_is_told_how_to_get_in(address):
    from search.sweep_file import read as read_sweep

    spec = read_sweep(
        {"sweep": {"name": "x", "task": "x:Y", "objectives": ["loss min"], "trials": 1}}, source="x", folder="."
    )
    with (
        pytest.raises(SweepError, match=r"`search run FILE --address http://127\.0\.0\.1:8265`"),
        connected(spec, address=address),
    ):
        pass
