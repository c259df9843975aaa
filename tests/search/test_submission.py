"""Sending sweeps to a cluster: what is refused before anything is sent, and how a log is read that begins again."""

import http.server
import threading

import pytest
from click.testing import CliRunner

from search.cli import main
from search.errors import SweepError
from search.submission import _Log, check_shared, is_job_server

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
