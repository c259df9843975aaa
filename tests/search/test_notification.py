"""The command of `[notify]`: what it is told and when, and that nothing that it does harms a sweep."""

import json
import logging
import re
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from search.cli import main
from search.errors import SpecError, SweepAborted
from search.lock import LOCK_FILE, process_start
from search.notification import Notifier, _run, notifying
from search.sweep import run
from search.sweep_file import load, read

ROOT = Path(__file__).resolve().parents[2]
SWEEP = """
[sweep]
name = "told"
task = "tests.search.fake_task:FakeTask"
objectives = ["loss min"]
trials = 2
epochs = 2
[searcher]
kind = "random"
[final]
models = 0
[notify]
command = "./tell.sh one 'two three'"
"""
SCRIPT = """\
#!/bin/sh
cat > told-$$.json
printf '%s|' "$@" > words
env > environment
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # workers import the task from it
    (tmp_path / "told.toml").write_text(SWEEP)
    script(tmp_path, SCRIPT)
    return tmp_path


def script(folder, text):
    path = folder / "tell.sh"
    path.write_text(text)
    path.chmod(0o755)


def spec_of(folder, **changes):
    text = SWEEP
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    (folder / "told.toml").write_text(text)
    return load("told.toml")


def events(folder):
    documents = [json.loads(path.read_text()) for path in folder.glob("told-*.json")]
    return sorted(documents, key=lambda document: document["time"])


def test_a_command_is_a_text_or_a_list(tmp_path):
    document = {"sweep": {"name": "x", "task": "x:Y", "objectives": ["loss min"], "trials": 1}}
    for command in ("mail -s 'it is over' me", ["mail", "-s", "it is over", "me"]):
        spec = read(document | {"notify": {"command": command, "on": ["failed"], "timeout": "5 s"}}, source="x")
        assert spec.notify.command == ("mail", "-s", "it is over", "me")
        assert (spec.notify.on, spec.notify.timeout_s) == (("failed",), 5.0)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"command": "tell 'half"}, 'command: got "tell \'half": No closing quotation'),
        ({"command": 3}, "command: got 3, expected texts in square brackets"),
        ({"on": ["over"]}, 'on: got "over", expected one of finished, failed, budget, stopped'),
        ({"on": []}, "on: got an empty list"),
        ({"timeout": "soon"}, "timeout: got"),
    ],
)
def test_mistakes_are_told(table, said):
    document = {"sweep": {"name": "x", "task": "x:Y", "objectives": ["loss min"], "trials": 1}, "notify": table}
    with pytest.raises(SpecError) as caught:
        read(document, source="x")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("./nobody.sh", "nobody.sh is not there or cannot be executed"),
        ("no-such-program-here", "no program 'no-such-program-here' on the PATH"),
    ],
)
def test_a_command_that_is_not_there_is_found_before_anything_starts(here, command, said):
    spec_of(here, command=("./tell.sh one 'two three'", command))
    done = CliRunner().invoke(main, ["run", "told.toml"])
    assert done.exit_code == 2
    assert f"[notify] command: {said}" in done.stderr
    assert not (here / "runs").exists()


def test_without_a_command_nothing_happens(here):
    Notifier(spec_of(here, command=("command = \"./tell.sh one 'two three'\"", ""))).tell("finished")
    assert events(here) == []


def test_it_is_told_of_chosen_events_alone(here):
    spec = spec_of(here, on=("[notify]", '[notify]\non = ["failed"]'))
    Notifier(spec).tell("finished")
    assert events(here) == []
    Notifier(spec).tell("failed", "no room")
    assert [event["why"] for event in events(here)] == ["no room"]


def test_no_shell_comes_between(here):
    script(here, "#!/bin/sh\nprintf '%s|' \"$@\" > words\n")
    command = """["./tell.sh", "$HOME; touch evil", "*"]"""
    Notifier(spec_of(here, command=("\"./tell.sh one 'two three'\"", command))).tell("finished")
    assert (here / "words").read_text() == "$HOME; touch evil|*|"
    assert not (here / "evil").exists()


@pytest.mark.parametrize(
    ("text", "timeout", "said"),
    [
        ("#!/bin/sh\necho cannot send\nexit 3\n", "60 s", "it ended with 3: cannot send"),
        ("#!/bin/sh\nsleep 600\n", "1 s", "it took longer than 1 s and was ended"),
        ("#!/bin/sh\nsleep 600 &\necho started\n", "60 s", ""),
        ("#!/bin/sh\nexec < /dev/null\nyes | head -c 30000000\nexit 1\n", "60 s", "it ended with 1: y"),
        ("not a program\n", "60 s", "Exec format error"),
    ],
    ids=["fails", "hangs", "leaves a child", "prints without end", "is none"],
)
def test_what_the_command_does_harms_nothing(here, caplog, text, timeout, said):
    script(here, text)
    spec = spec_of(here, timeout=("[notify]", f'[notify]\ntimeout = "{timeout}"'))
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        Notifier(spec).tell("finished")
    assert time.monotonic() - began < 90  # nobody waits for what sleeps
    assert said in caplog.text
    assert bool(caplog.text) == bool(said)
    assert len(caplog.text) < 3000


def test_what_the_command_has_started_ends_with_it(here):
    script(here, "#!/bin/sh\nsleep 600 &\necho $! > child\n")
    assert _run(("./tell.sh",), "{}", str(here), 60.0) == ""
    child = int((here / "child").read_text())
    until = time.monotonic() + 60
    while process_start(child) is not None:  # nor is it a zombie
        assert time.monotonic() < until, "it lives"
        time.sleep(0.1)


def test_the_command_gets_no_secrets(here, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "hush" * 16)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("SOME_PASSWORD", "hush")
    spec = spec_of(here, storage=("trials = 2", 'trials = 2\nstorage = "s3://bucket/sweeps?region=us-west-2"'))
    Notifier(spec).tell("failed", f"no room; the token is {'hush' * 16}")
    (event,) = events(here)
    assert event["storage"] == "s3://bucket/sweeps/told?region=us-west-2"
    assert "hush" not in json.dumps(event)
    environment = (here / "environment").read_text()
    assert "hush" not in environment
    assert "PATH=" in environment
    assert (here / "words").read_text() == "one|two three|"


def test_a_key_in_the_storages_address_is_told_to_nobody(here):
    spec_of(here, storage=("trials = 2", 'trials = 2\nstorage = "s3://me:hush@bucket/sweeps"'))
    done = CliRunner().invoke(main, ["run", "told.toml"])
    assert done.exit_code == 2
    assert "AWS_SECRET_ACCESS_KEY" in done.stderr
    assert "hush" not in done.output + done.stderr
    assert events(here) == []


def test_a_mistake_of_the_caller_is_no_event(here):
    with pytest.raises(SpecError), notifying(load("told.toml")):
        raise SpecError("not so")
    assert events(here) == []


def test_ctrl_c_is_told_as_stopped(here):
    with pytest.raises(KeyboardInterrupt), notifying(load("told.toml")):
        raise KeyboardInterrupt
    assert [event["event"] for event in events(here)] == ["stopped"]


@pytest.mark.slow
def test_a_sweep_tells_how_it_ended(here):
    """One sweep that is taken up again and again: over its budget of time, finished, failed."""
    ending = run(spec_of(here, time=("trials = 2", 'trials = 50\nwall_time = "1 ms"')), dashboard=False)
    assert ending.finished
    told = events(here)
    assert {event["event"] for event in told} == {"budget", "finished"}
    over = next(event for event in told if event["event"] == "budget")
    assert over["why"].startswith("the budget is used up: wall time")
    assert over["budget"]["wall_time_s"]["limit"] == 0.001
    clear(here)

    assert run(load_more(here), go_on=True, dashboard=False).finished
    (finished,) = events(here)
    assert finished["event"] == "finished"
    assert finished["text"].startswith("Sweep told is over: ")
    assert finished["trials"]["completed"] + finished["trials"]["stopped"] >= 2
    assert finished["best"]["values"]["rate"] > 0
    assert finished["best"]["value"] == pytest.approx(min_loss(here))
    assert (finished["objective"], finished["goal"]) == ("loss", "min")
    assert finished["storage"] == str(here / "runs" / "told")
    assert finished["session"] == 2
    told = (ROOT / "docs" / "cluster.md").read_text("utf-8").partition("**Being told.**")[2].partition("\n## ")[0]
    described = told.partition("`text` in the event")[2].partition(". It finds")[0]
    assert set(re.findall(r"`(\w+)`", described)) | {"text"} == set(finished)
    clear(here)

    slow = spec_of(here, trials=("trials = 2", "trials = 60"), task=("[searcher]", "[task]\nepoch_s = 0.5\n[searcher]"))
    with pytest.raises(SpecError, match="epoch_s"):
        run(slow, go_on=True, dashboard=False)
    assert events(here) == []  # the caller's mistake
    (here / "told.toml").write_text(SWEEP.replace('"told"', '"other"').replace("trials = 2", "trials = 60").replace(
        "[searcher]", "[task]\nepoch_s = 0.5\n[searcher]"))  # fmt: skip
    threading.Thread(target=take_over, args=(here / "runs" / "other" / LOCK_FILE,), daemon=True).start()
    with pytest.raises(SweepAborted):
        run(load("told.toml"), dashboard=False)
    (failed,) = events(here)
    assert (failed["event"], failed["sweep"]) == ("failed", "other")
    assert failed["why"].startswith("another driver has taken this sweep over")


def take_over(lock):
    """Puts another driver's lock in the place of the one that is written there, which ends its sweep."""
    while not lock.exists():
        time.sleep(0.1)
    lock.write_text(json.dumps(json.loads(lock.read_text()) | {"token": "another", "host": "elsewhere"}))


def clear(folder):
    for path in folder.glob("told-*.json"):
        path.unlink()


def load_more(folder):
    return spec_of(folder, trials=("trials = 2", 'trials = 4\nwall_time = "1 h"'))


def min_loss(folder):
    import results

    return results.open(folder / "runs" / "told").trials()["loss"].min()
