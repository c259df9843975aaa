"""What a user can get wrong before anything runs: told in words, with exit status 2, and nothing is written."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from search.cli import main
from search.sweep_file import document, load

TASK = """
import sys

class Task:
    metrics = {"loss": ("nats", "falls", "min")}

    def space(self, hp):
        hp.Float("rate", 1e-4, 1.0, sampling="log")
        hp.Choice("kind", ["plain", "wide"])

    def start(self, values, *, epochs, seed):
        raise AssertionError("nothing runs here")

class RaisesInSpace(Task):
    def space(self, hp):
        raise ValueError("no space left")

class ExitsInSpace(Task):
    def space(self, hp):
        sys.exit(3)

class RaisesInPoints(Task):
    def points(self):
        raise KeyError("p")

class HasListOfPoints(Task):
    def points(self):
        return ["p"]

class RaisesInData(Task):
    def data(self):
        raise OSError("no such corpus")

class RaisesInFirstRung(Task):
    def first_rung(self, values):
        return 1 // 0

class HasTextAsFirstRung(Task):
    def first_rung(self, values):
        return "three"

class Prints(Task):
    def space(self, hp):
        super().space(hp)
        for _ in range(100):
            print("x" * 1_000_000)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "task.py").write_text(TASK)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def file(*, task="Task", sweep="", rest=""):
    return f"""
[sweep]
name = "bad"
task = "task.py:{task}"
objectives = ["loss min"]
trials = 2
epochs = 2
{sweep}
{rest}
"""


def search(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)), prog_name="search")


def left(folder):
    return {path.name for path in folder.iterdir()} - {"task.py", "bad.toml", "__pycache__"}


def refused(told, message, status=2):
    assert told.exit_code == status, told.output
    assert message in told.stderr, told.stderr
    assert told.stdout == ""
    assert "Traceback" not in told.stderr
    return True


BAD = {
    "unknown parameter": (file(rest="[space]\nrat = 0.1"), "[space] unknown parameter 'rat'; did you mean 'rate'?"),
    "unknown option": (file(rest='[space]\nkind = { choice = ["plane"] }'), "expected one of 'plain', 'wide'"),
    "out of range": (file(rest="[space]\nrate = 7"), "[space] parameter 'rate': pinned to 7, expected"),
    "unknown point": (file(rest='[[points]]\npreset = "x"'), "[[points]] 1: preset: the task has no point 'x'"),
    "point out of range": (file(rest="[[points]]\n[[points]]\nrate = 7"), "[[points]] 2: parameter 'rate': got 7"),
    "point of an unknown parameter": (file(rest="[[points]]\nrat = 1"), "[[points]] 1: unknown parameter 'rat'"),
    "no teacher": (file(sweep='warm_start = ["runs/no"]'), "warm_start: there is no sweep at"),
    "space that raises": (file(task="RaisesInSpace"), "ValueError: no space left, "),
    "space that exits": (file(task="ExitsInSpace"), "SystemExit: 3, "),
    "points that raise": (file(task="RaisesInPoints", rest='[[points]]\npreset="p"'), "points does not answer: KeyErr"),
    "points that are none": (file(task="HasListOfPoints", rest='[[points]]\npreset="p"'), "points: got list, expected"),
    "rung that raises": (file(task="RaisesInFirstRung"), "first_rung does not answer: ZeroDivisionError"),
    "rung that is none": (file(task="HasTextAsFirstRung"), "first_rung: got 'three', expected the number of an epoch"),
    "trials without end": (file().replace("trials = 2", f"trials = {10**20}"), "expected 1000000000 at most"),
    "epochs without end": (
        file().replace("epochs = 2", f"epochs = {10**9}"),
        "expected a whole number from 1 to",
    ),
}


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize("what", BAD)
def test_what_only_the_task_knows_is_told_before_anything_is_written(here, what, command):
    text, message = BAD[what]
    (here / "bad.toml").write_text(text)
    assert refused(search(command, "bad.toml", "--json"), message)
    assert left(here) == set()


def test_data_that_cannot_be_had_is_told_before_anything_is_written(here):
    (here / "bad.toml").write_text(file(task="RaisesInData"))
    assert refused(search("run", "bad.toml"), "data does not answer: OSError: no such corpus")
    assert left(here) == set()


def test_all_that_is_wrong_with_space_or_points_is_told_in_one_go(here):
    (here / "bad.toml").write_text(file(rest='[space]\nrat = 0.1\nkind = "plane"\n'))
    assert refused(search("plan", "bad.toml"), "2 mistakes; nothing was started")
    (here / "bad.toml").write_text(file(rest='[[points]]\nrat = 0.1\n[[points]]\nkind = "plane"\n'))
    assert refused(search("plan", "bad.toml"), "2 mistakes; nothing was started")


def test_what_a_task_prints_is_not_among_the_results(here):
    (here / "bad.toml").write_text(file(task="Prints"))
    told = search("plan", "bad.toml", "--json")
    assert json.loads(told.stdout)["spec"]["sweep"]["name"] == "bad"
    assert len(told.stderr) < 100_000


def test_a_sweep_without_end_is_planned_at_once(here):
    (here / "bad.toml").write_text(file().replace("trials = 2", "trials = 1000000"))
    plan = json.loads(search("plan", "bad.toml", "--json").stdout)
    assert plan["forecast"]["trials"] == 1_000_000
    assert plan["forecast"]["epochs"] > 1_000_000


@pytest.mark.parametrize("storage", ["task.py", "ftp://x/y", "/proc/x"])
def test_a_storage_that_is_none_is_refused(here, storage):
    (here / "bad.toml").write_text(file(sweep=f'storage = "{storage}"'))
    told = search("run", "bad.toml")
    assert told.exit_code == 2
    assert "Traceback" not in told.stderr
    assert left(here) == set()


FOLDERS = (("status",), ("resume",), ("extend", "--trials", "3"), ("stop",), ("final",), ("audit",), ("replay",))


@pytest.mark.parametrize("command", FOLDERS, ids=lambda words: words[0])
@pytest.mark.parametrize("where", ["nothing", "empty", "task.py", "..", "s3://", "a\0b", "damaged"])
def test_a_folder_that_holds_no_sweep_is_refused(here, command, where):
    (here / "empty").mkdir()
    (here / "damaged").mkdir()
    (here / "damaged" / "sweep.json").write_text('{"sweep": ')
    told = search(command[0], where, *command[1:])
    if (command[0], where) == ("stop", "damaged"):
        assert told.output == "damaged does not run.\n"
        return
    assert told.exit_code == 2, told.output
    assert told.stderr.startswith("Error: ")
    assert "Traceback" not in told.stderr
    assert left(here) == {"empty", "damaged"}


values = st.one_of(
    st.none().map(lambda _: "''"),
    st.booleans().map(lambda it: str(it).lower()),
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(lambda it: repr(it).replace("e+", "e")),
    st.text(max_size=12).map(json.dumps),
    st.sampled_from(
        ["[]", "{}", "[[]]", "[{}]", '["loss min"]', "{ low = 1, high = 0 }", "2026-01-01", "{ choice = [] }"]
    ),
)
KEYS = [
    *("name", "task", "objectives", "trials", "epochs", "wall_time", "gpu_hours", "money", "price_per_hour", "seed"),
    *("storage", "concurrency", "backend", "warm_start", "trial_time", "kind", "first_rung", "reduction", "brackets"),
    *("cpus", "gpus", "memory_limit", "retries", "every", "keep_best", "disk", "models", "rate", "preset", '"é"'),
]
TABLES = [
    *("[sweep]", "[task]", "[searcher]", "[scheduler]", "[resources]", "[checkpoints]", "[final]", "[space]"),
    *("[[points]]", "[points]", "[sweep.x]", "[[sweep]]", "[x]"),
]
keys, tables = st.sampled_from(KEYS), st.sampled_from(TABLES)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(tables, st.dictionaries(keys, values, max_size=4)), max_size=4), st.booleans())
@example([("[sweep]", {"trials": "1e400"})], True)
def test_no_file_whatsoever_ends_in_a_traceback(here, drawn, good):
    begun = file() if good else ""
    text = begun + "".join(f"{name}\n" + "".join(f"{k} = {v}\n" for k, v in rows.items()) for name, rows in drawn)
    Path("bad.toml").write_text(text, "utf-8", errors="replace")
    told = search("plan", "bad.toml", "--proposals", "1")
    assert told.exit_code in (0, 2), (text, told.output, told.exception)
    assert told.exit_code == 0 or (told.stdout == "" and told.stderr.startswith("Error: "))
    assert left(here) == set()


@pytest.mark.parametrize("given", [("--wall-time", "never"), ("--wall-time", "0 s"), ("--gpu-hours", "nan")])
def test_an_option_that_is_none_is_refused(here, given):
    (here / "bad.toml").write_text(file())
    (here / "runs" / "bad").mkdir(parents=True)
    (here / "runs" / "bad" / "sweep.json").write_text(json.dumps(document(load(here / "bad.toml"))))
    told = search("extend", "bad", *given)
    assert told.exit_code == 2, told.output
    assert "expected" in told.stderr
    assert [path.name for path in (here / "runs" / "bad").iterdir()] == ["sweep.json"]


def test_a_file_that_is_none_is_refused(here):
    (here / "bad.toml").write_text("")
    assert refused(search("run", "bad.toml"), "task: missing")
    (here / "bad.toml").write_bytes(b"\x80\xff")
    assert refused(search("run", "bad.toml"), "is not UTF-8 text: line 1")
    assert refused(search("run", "."), "is a folder, expected a sweep file")
    assert refused(search("run", "task.py"), "is not TOML: ")
    assert refused(search("run", "bod.toml"), "did you mean 'bad.toml'?")
