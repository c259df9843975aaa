"""Sending sweeps to a cluster: what is refused before anything is sent, and how a log is read that begins again."""

import asyncio
import contextlib
import dataclasses
import http.server
import io
import json
import re
import subprocess
import threading
import zipfile

import pytest
from aiohttp import web
from click.testing import CliRunner

from results.storage import Storage
from search import submission, sweep_file
from search.checkpoints import SPEC_FILE
from search.cli import main
from search.errors import SweepAborted, SweepError
from search.submission import Job, _Log, check_shared, follow, is_job_server

SWEEP = """
[sweep]
name = "sent"
task = "tests.search.fake_task:FakeTask"
objectives = ["loss min"]
trials = 3
"""
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sent.toml").write_text(SWEEP)
    return tmp_path


def search(*words):
    return CliRunner().invoke(main, list(words))


@pytest.fixture
def stranger():
    """A server of something else."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *words):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


class JobServer:
    """A job server that answers as it is told to.

    Attributes:
        version: what it says of itself.
        states: of its job, one an answer; the last for ever. A number is an HTTP status, a text no JSON document.
        logs: what it sends of the job's log, one a reading; the last for ever. One that ends with `…` breaks off.
        jobs: that were sent to it.
        names: of the files that were.
    """

    def __init__(self):
        self.version, self.states, self.logs, self.jobs, self.url = '{"ray_version": "2"}', ["SUCCEEDED"], [""], [], ""
        self.names = set()
        self._loop = asyncio.new_event_loop()

    async def _version(self, request):
        return web.Response(text=self.version)

    async def _take(self, request):
        self.jobs.append(await request.json())
        return web.json_response({})

    async def _has(self, request):
        return web.Response(status=404)

    async def _unpack(self, request):
        with zipfile.ZipFile(io.BytesIO(await request.read())) as archive:
            self.names = set(archive.namelist())
        return web.Response()

    async def _state(self, request):
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, int):
            return web.Response(status=state)
        return web.Response(text=state) if "<" in state else web.json_response({"status": state})

    async def _log(self, request):
        log = self.logs.pop(0) if len(self.logs) > 1 else self.logs[0]
        stream = web.WebSocketResponse()
        await stream.prepare(request)
        await stream.send_str(log.removesuffix("…"))
        if log.endswith("…"):
            await asyncio.sleep(0.1)
            request.transport.abort()
        return stream

    @contextlib.contextmanager
    def running(self):
        app = web.Application()
        app.add_routes([
            web.get("/api/version", self._version),
            web.get("/api/packages/gcs/{name}", self._has),
            web.put("/api/packages/gcs/{name}", self._unpack),
            web.post("/api/jobs/", self._take),
            web.get("/api/jobs/{name}", self._state),
            web.get("/api/jobs/{name}/logs/tail", self._log),
        ])  # fmt: skip
        runner = web.AppRunner(app)
        thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        thread.start()
        self._do(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", 0)
        self._do(site.start())
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield self
        self._do(runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        thread.join()

    def _do(self, work):
        asyncio.run_coroutine_threadsafe(work, self._loop).result(60)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(submission, "AGAIN_S", 0.1)
    with JobServer().running() as running:
        yield running


def test_job_servers_are_told_from_ray():
    assert is_job_server("http://127.0.0.1:8265")
    assert is_job_server("https://head")
    assert not any(is_job_server(address) for address in (None, "auto", "ray://10.0.0.1:10001", "10.0.0.1:6379"))


@pytest.mark.parametrize("place", ["runs", "./x", "file://x", "~/x"])
def test_a_folder_that_the_cluster_does_not_see_is_refused(place):
    with pytest.raises(SweepError, match=r"which the cluster does not see; give s3://bucket/folder"):
        check_shared(place, "storage")


@pytest.mark.parametrize("place", ["s3://bucket/x", "gs://bucket/x", "/mnt/shared", "file:///mnt/shared"])
def test_one_that_it_may_see_is_not(place):
    check_shared(place, "storage")


def test_a_relative_storage_is_refused_before_anything_is_sent(here):
    done = search("run", "sent.toml", "--address", NOWHERE)
    assert done.exit_code == 2
    assert "sent.toml: storage 'runs' is below the current folder" in done.stderr
    done = search("resume", "runs/sent", "--address", NOWHERE)
    assert done.exit_code == 2
    assert "the sweep 'runs/sent' is below the current folder" in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("trials = 3", "trials = 0", "[sweep] trials: got 0"),
        ("FakeTask", "FakeTsk", "did you mean 'FakeTask'?"),
        ("trials = 3", 'trials = 3\n[space]\n"rat" = 0.1', "did you mean 'rate'?"),
    ],
)
def test_a_mistake_in_the_file_is_found_before_anything_is_sent(here, old, new, said):
    (here / "sent.toml").write_text(SWEEP.replace(old, new))
    done = search("run", "sent.toml", "--address", NOWHERE, "--storage", "s3://bucket/sweeps")
    assert done.exit_code == 2
    assert said in done.stderr
    assert NOWHERE not in done.stderr


def test_files_outside_of_what_travels_are_refused(here, monkeypatch):
    (here / "inner").mkdir()
    monkeypatch.chdir(here / "inner")
    done = search("run", "../sent.toml", "--address", NOWHERE, "--storage", "s3://bucket/sweeps")
    assert done.exit_code == 2
    assert "sent.toml lies outside of" in done.stderr
    assert "start from a folder that holds it as well as the code" in done.stderr


def test_where_nobody_answers_it_says_how_the_cluster_is_reached(here):
    done = search("run", "sent.toml", "--address", NOWHERE, "--storage", "s3://bucket/sweeps")
    assert done.exit_code == 2
    assert f"no job server answers at {NOWHERE}" in done.stderr
    assert "`ray dashboard cluster.yaml`" in done.stderr


def test_a_server_of_something_else_is_told_from_ray(here, stranger):
    done = search("run", "sent.toml", "--address", stranger, "--storage", "s3://bucket/sweeps")
    assert done.exit_code == 2
    assert f"{stranger} is no job server of Ray's" in done.stderr


@pytest.mark.parametrize("version", ["[1]", "null", "3", "{}"])
def test_nor_is_one_that_answers_with_something_else(here, server, version):
    server.version = version
    done = search("run", "sent.toml", "--address", server.url, "--storage", "s3://bucket/sweeps")
    assert done.exit_code == 2
    assert f"{server.url} is no job server of Ray's" in done.stderr


@pytest.mark.parametrize("name", ["мой", "gpu 1", "a", "_"])
def test_a_jobs_name_is_one_that_rays_commands_take(here, server, name):
    (here / "sent.toml").write_text(SWEEP.replace('"sent"', f'"{name}"'))
    done = search("run", "sent.toml", "--address", server.url, "--storage", "s3://bucket/sweeps", "--no-follow")
    assert done.exit_code == 0, done.stderr
    (job,) = server.jobs
    assert re.fullmatch(r"sweep(-\w+)*-[0-9a-f]{6}", job["submission_id"])
    assert f"ray job logs --follow --address {server.url} {job['submission_id']}\n" in done.stdout


@pytest.fixture(params=["mine:Mine", "./mine.py:Mine"], ids=["module", "file"])
def untracked(request, here):
    """A folder in which git tracks neither the sweep file nor what it names."""
    text = SWEEP.replace("tests.search.fake_task:FakeTask", request.param) + '[notify]\ncommand = "./tell.sh me"\n'
    (here / "sent.toml").write_text(text)
    (here / "mine.py").write_text("from tests.search.fake_task import FakeTask\n\nclass Mine(FakeTask):\n    pass\n")
    (here / "tell.sh").write_text("#!/bin/sh\n")
    (here / "tracked.py").write_text("")
    for words in (["init", "-q"], ["add", "tracked.py"]):
        subprocess.run(["git", *words], cwd=here, check=True)
    return here


NEEDED = {"tracked.py", "mine.py", "tell.sh"}


def test_resume_sends_what_a_sweep_file_names_as_run_does(untracked, server):
    there = ["--address", server.url, "--no-follow"]
    for words in (["run", "sent.toml", "--storage", "s3://b/x"], ["resume", "s3://b/x/sent", "--file", "sent.toml"]):
        done = search(*words, *there)
        assert done.exit_code == 0, done.stderr
        assert server.names == NEEDED | {"sent.toml"}
        server.names = set()
    done = search("run", str(untracked / "sent.toml"), "--storage", "s3://b/x", *there)
    assert server.names == NEEDED | {"sent.toml"}, done.stderr


def test_a_task_behind_a_link_travels_by_the_name_that_it_is_known_by(untracked, server, tmp_path_factory):
    (untracked / "mine.py").rename(untracked / "other.py")
    (untracked / "mine.py").symlink_to("other.py")
    there = ["--storage", "s3://b/x", "--address", server.url, "--no-follow"]
    assert search("run", "sent.toml", *there).exit_code == 0
    assert server.names == NEEDED | {"sent.toml"}
    by_another_way = tmp_path_factory.mktemp("link") / "here"
    by_another_way.symlink_to(untracked)
    done = search("run", str(by_another_way / "sent.toml"), *there)
    assert done.exit_code == 0, done.stderr


def test_a_mistake_in_the_file_of_a_known_sweep_is_found_before_anything_is_sent(here):
    (here / "sent.toml").write_text(SWEEP.replace("FakeTask", "FakeTsk"))
    done = search("resume", "s3://b/x/sent", "--file", "sent.toml", "--address", NOWHERE)
    assert done.exit_code == 2
    assert "did you mean 'FakeTask'?" in done.stderr


def begin(folder, spec):
    Storage(folder).child(spec.name).write(SPEC_FILE, json.dumps(sweep_file.document(spec)).encode())


@pytest.mark.parametrize("words", [["resume"], ["extend", "--trials", "5"], ["final"]], ids=lambda words: words[0])
def test_what_a_known_sweep_needs_is_read_from_its_storage(untracked, server, tmp_path_factory, words):
    shared = tmp_path_factory.mktemp("shared")
    begin(shared, sweep_file.load("sent.toml"))
    done = search(words[0], f"{shared}/sent", *words[1:], "--address", server.url, "--no-follow")
    assert done.exit_code == 0, done.stderr
    assert server.names == NEEDED
    (untracked / "mine.py").unlink()
    done = search(words[0], f"{shared}/sent", *words[1:], "--address", server.url, "--no-follow")
    is_file = ".py" in (untracked / "sent.toml").read_text()
    assert ("mine.py has to travel to the cluster, but it is not there" in done.stderr) == is_file


def test_files_that_a_known_sweep_names_from_the_root_are_the_clusters(untracked, server, tmp_path_factory):
    shared = tmp_path_factory.mktemp("shared")
    begin(shared, dataclasses.replace(sweep_file.load("sent.toml"), folder="/opt/sweeps"))
    done = search("resume", f"{shared}/sent", "--address", server.url, "--no-follow")
    assert done.exit_code == 0, done.stderr
    assert "tell.sh" not in server.names


@pytest.mark.parametrize("words", [["resume"], ["final"]], ids=lambda words: words[0])
def test_of_a_sweep_that_is_not_seen_from_here_it_says_what_travels(untracked, server, words):
    done = search(*words, "/nowhere/sent", "--address", server.url, "--no-follow")
    assert done.exit_code == 0, done.stderr
    assert server.names == {"tracked.py"}
    assert "cannot be read from here" in done.stderr
    assert "only what git tracks travels" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["run", "sent.toml", "--storage", "s3://me:hush@b/x"],
        ["resume", "s3://me:hush@b/x/sent"],
        ["final", "/nowhere/sent", "--with", "s3://b/x/other?secret_key=hush"],
        ["status", "s3://me:hush@b/x/sent"],
    ],
    ids=lambda words: words[0],
)
def test_an_address_with_a_key_is_not_sent(here, server, words):
    done = search(*words, "--address", server.url)
    assert done.exit_code == 2
    assert "AWS_SECRET_ACCESS_KEY" in done.stderr
    assert "hush" not in done.output + done.stderr
    assert server.jobs == []


def followed(server):
    job = Job(server=server.url, name="sweep-x")
    shown, said = [], []
    return follow(job, show=shown.append, say=said.append), shown, said


@pytest.mark.parametrize(("answer", "why"), [(404, "knows no job sweep-x"), (401, "asks for the cluster's token")])
def test_a_cluster_that_is_another_after_hours_is_a_run_that_failed(server, answer, why):
    server.states = ["RUNNING", answer]
    with pytest.raises(SweepAborted, match=why):
        followed(server)


def test_what_answers_in_the_servers_place_for_a_while_ends_nothing(server):
    server.states, server.logs = ["RUNNING", "RUNNING", "<html>", "<html>", "SUCCEEDED"], ["one\n", "one\ntwo\n"]
    outcome, shown, said = followed(server)
    assert (outcome.status, shown) == (0, ["one", "two"])
    assert [word in " ".join(said) for word in ("the connection is lost", "answers again")] == [True, True]


def test_a_log_that_broke_off_is_read_again_when_its_job_has_ended(server):
    server.states, server.logs = ["RUNNING", "SUCCEEDED"], ["one\nt…", "one\n…", "one\ntwo\nend"]
    outcome, shown, said = followed(server)
    assert (outcome.status, shown, said) == (0, ["one", "two", "end"], [])


@pytest.mark.slow
def test_a_log_that_always_breaks_off_is_given_up(server):
    server.logs = ["one\ntwo…"]
    outcome, shown, said = followed(server)
    assert (outcome.status, shown) == (0, ["one", "two"])
    assert "its end may be missing" in said[0]


@pytest.mark.parametrize("command", ["status", "stop"])
def test_who_only_asks_needs_the_address_of_a_dashboard(here, command):
    done = search(command, "s3://bucket/sweeps/x", "--address", "auto")
    assert done.exit_code == 2
    assert "--address auto: expected that of a cluster's dashboard" in done.stderr


def test_a_log_that_begins_again_is_not_shown_twice():
    shown = []
    log = _Log(shown.append)
    for part in ("one\ntw", "o\nthr"):
        log.take(part)
    assert shown == ["one", "two"]
    log.rewind()  # the connection was lost, and what comes is cut otherwise
    for part in ("one\n", "two\nthree\nfour", "\nend"):
        log.take(part)
    log.close()
    assert shown == ["one", "two", "three", "four", "end"]
