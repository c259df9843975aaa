"""What docs/security.md promises and no other test shows; and that each promise there has its test."""

import io
import os
import re
import secrets
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from results.cli.terminal import Terminal
from search import connection
from search.errors import SpecError, SweepError
from search.sweep_file import read

ROOT = Path(__file__).resolve().parent.parent


def promises():
    table = (ROOT / "docs" / "security.md").read_text("utf-8").partition("## What is promised")[2].partition("\n## ")[0]
    return [
        row.split("|")[1:3] for row in table.splitlines() if row.startswith("| ") and not row.startswith("| promise")
    ]


def test_every_promise_has_a_test_that_is_there():
    assert len(promises()) > 10
    for promise, test in promises():
        found = re.fullmatch(r"`(tests/[\w/]+\.py)::(test_\w+)`", test.strip())
        assert found, promise
        assert re.search(rf"^def {found[2]}\(", (ROOT / found[1]).read_text("utf-8"), re.M), test


def test_the_token_is_for_its_owner_alone(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "token"
    monkeypatch.setenv(connection.TOKEN_PATH, str(path))
    monkeypatch.delenv(connection.TOKEN, raising=False)
    connection._make_token()
    first = path.read_text()
    assert len(first) == 64
    assert list(path.parent.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)  # as Ray's own command leaves it
    connection._make_token()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == first
    path.write_text("\n")
    with pytest.raises(SweepError, match="is empty, expected Ray's token"):
        connection._make_token()


def test_of_two_drivers_that_make_the_token_at_once_both_have_the_same(tmp_path, monkeypatch):
    path = tmp_path / "token"
    monkeypatch.setenv(connection.TOKEN_PATH, str(path))
    monkeypatch.delenv(connection.TOKEN, raising=False)
    draw = secrets.token_hex

    def meanwhile(size):
        if not path.exists():
            path.write_text("of the first")
        return draw(size)

    monkeypatch.setattr(secrets, "token_hex", meanwhile)
    connection._make_token()
    assert path.read_text() == "of the first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "name", ["..", "../x", "a/b", "/etc", ".hidden", "a\\b", "x\0", "x\x1b[2J", "", " ", "x" * 101]
)
def test_a_name_cannot_lead_out_of_the_storage(name, tmp_path):
    document = {"sweep": {"name": name, "task": "x:Y", "objectives": ["loss min"], "trials": 1}}
    with pytest.raises(SpecError, match="name: got"):
        read(document, source="x", folder=str(tmp_path))


def test_what_is_said_cannot_steer_the_terminal(monkeypatch):
    evil = "one\ttwo\nthree \x1b[2J\x1b]0;title\x07\r\x9b31m\u202e \udcff"

    class Screen(io.StringIO):
        def isatty(self):
            return True

    out, err = Screen(), Screen()
    monkeypatch.setattr(sys, "stdout", out)
    terminal = Terminal(err=err)
    terminal.note(evil)
    terminal.out(evil)
    terminal.status(evil, now=True)
    for said in (out.getvalue(), err.getvalue().lstrip("\r")):
        assert "one\ttwo\nthree ?[2J?]0;title??" in said
        assert not set("\x1b\x07\x9b\u202e\udcff") & set(said)


SWEEP_OF_ONE_MACHINE = """
import sys, urllib.error, urllib.request
from search.connection import connected
from search.sweep_file import read

spec = read({"sweep": {"name": "x", "task": "x:Y", "objectives": ["loss min"], "trials": 1}}, source="x", folder=".")
with connected(spec) as dashboard:
    assert dashboard.startswith("127.0.0.1:"), dashboard
    try:
        urllib.request.urlopen(f"http://{dashboard}/api/jobs/", timeout=30)
        print("let in")
    except urllib.error.HTTPError as error:
        print("status", error.code)
"""


@pytest.mark.slow
def test_a_sweep_on_this_machine_asks_for_a_token(tmp_path):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    environment |= {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", SWEEP_OF_ONE_MACHINE],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.stdout.strip().splitlines()[-1:] == ["status 401"], done.stdout + done.stderr
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600
