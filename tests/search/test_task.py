import subprocess
import sys
from pathlib import Path

import pytest

from results.schema import Measure
from search.errors import TaskError
from search.spec import Objective
from search.task import Task, TaskRun, declared, goals, load_task, located

FAKE = Path(__file__).with_name("fake_task.py")


def test_a_class_in_a_file_is_a_task_that_keeps_the_protocol():
    task = load_task(f"{FAKE}:FakeTask", {"epoch_s": 0.0})
    assert isinstance(task, Task)
    assert isinstance(task.start({"rate": 1e-2}, epochs=2, seed=1), TaskRun)


def test_the_path_of_a_file_is_relative_to_the_sweep_file():
    assert type(load_task("fake_task.py:ThreeLines", folder=FAKE.parent)).__name__ == "ThreeLines"
    assert located("fake_task.py:ThreeLines", FAKE.parent) == f"{FAKE}:ThreeLines"
    assert located("package.module:Class", FAKE.parent) == "package.module:Class"


def test_a_file_is_run_once_and_can_import_what_lies_beside_it(tmp_path):
    (tmp_path / "beside_it.py").write_text("METRICS = {'m': 'nats'}\n")
    (tmp_path / "needs_it.py").write_text(
        "from beside_it import METRICS\nclass T:\n  metrics = METRICS\n  def space(s, hp): ...\n  def start(s): ...\n"
    )
    made = [load_task("needs_it.py:T", folder=tmp_path) for _ in range(2)]
    assert type(made[0]) is type(made[1])


def test_files_of_one_name_in_two_folders_are_two_tasks(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "alike.py").write_text(
            f"class T:\n  metrics = {{'{name}': ''}}\n  def space(s, hp): ...\n  def start(s, v): ...\n"
        )
    assert [list(load_task("alike.py:T", folder=tmp_path / name).metrics) for name in ("one", "two")] == [
        ["one"],
        ["two"],
    ]


def test_the_current_folder_can_be_imported_from(tmp_path):
    (tmp_path / "near_by.py").write_text(
        "class T:\n  metrics={'a': ''}\n  def space(s, hp): ...\n  def start(s): ...\n"
    )
    code = (
        "import sys; sys.path = [p for p in sys.path if p]; from search.task import load_task; load_task('near_by:T')"
    )
    root = FAKE.parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(root)}, capture_output=True
    )
    assert done.returncode == 0, done.stderr


BAD = {
    "no such module": ("nowhere.at_all:T", {}, "no module 'nowhere'.*start from the folder that holds it"),
    "no such file": ("fake_tusk.py:T", {}, r"fake_tusk.py is not there; did you mean 'fake_task.py'"),
    "no such class": ("fake_task.py:FakeTusk", {}, "has no 'FakeTusk'; did you mean 'FakeTask'"),
    "no class": ("fake_task.py:LOSS", {}, "LOSS is a dict, expected a class"),
    "unknown option": ("fake_task.py:FakeTask", {"epoch": 1}, r"\[task\] epoch: unknown .*; did you mean 'epoch_s'"),
    "no options": ("fake_task.py:ThreeLines", {"x": 1}, r"\[task\] x: unknown option; it takes none"),
    "missing option": ("fake_task.py:Broken", {}, r"\[task\] how: missing"),
    "raises": ("fake_task.py:RaisesInInit", {}, r"RuntimeError: cannot be made \(.*fake_task.py, line \d+\)"),
    "no metrics": ("fake_task.py:NoMetrics", {}, "declares no metrics; give the class, for example, metrics ="),
    "no task": ("fake_task.py:Path", {}, "has no method space"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_a_bad_task_is_refused_with_what_to_do(what):
    path, options, message = BAD[what]
    with pytest.raises(TaskError, match=message):
        load_task(path, options, folder=FAKE.parent)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys\nsys.exit(3)\n", r"it ends the process \(exit 3\)"),
        ("x = = 1\n", r"invalid syntax \(.*, line 1\)"),
        ("import not_installed_anywhere\n", "it needs the module 'not_installed_anywhere'"),
        ("raise ValueError('x')\n", r"ValueError: x \(.*broken.*, line 1\)"),
    ],
)
def test_a_file_that_cannot_be_imported_is_refused(tmp_path, code, message):
    (tmp_path / "broken.py").write_text(code)
    with pytest.raises(TaskError, match=message):
        load_task("broken.py:T", folder=tmp_path)


class Declares:
    def __init__(self, metrics):
        self.metrics = metrics


def test_metrics_are_declared_in_several_ways():
    assert declared("t", Declares({"a": Measure("s", "time"), "b": ("nats", "loss", "min"), "c": "Hz"})) == {
        "a": Measure("s", "time"),
        "b": Measure("nats", "loss", "min"),
        "c": Measure("Hz"),
    }
    assert list(declared("t", Declares(["a", "b"]))) == ["a", "b"]
    assert declared("t", Declares({}), "scores") == {}


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ("loss", "expected a mapping such as"),
        ({"val loss": "nats"}, "got the name 'val loss'"),
        ({"epoch": "1"}, "'epoch' is a column of the ledger already"),
        ({"rank": "1"}, "'rank' is a column of `results top` already"),
        ({"id": "1"}, "'id' is a column of `results top` already"),
        ({"loss": 3}, "metrics: loss:"),
        ({"loss": ("nats", "x", "less")}, "goal is 'min', 'max' or None"),
    ],
)
def test_metrics_that_cannot_be_columns_are_refused(metrics, message):
    with pytest.raises(TaskError, match=message):
        declared("t", Declares(metrics))


def test_goals_come_from_the_file_or_else_from_the_task():
    metrics = {"loss": Measure("", "", "min"), "speed": Measure()}
    wanted = [Objective(metric="loss"), Objective(metric="speed", goal="max")]
    assert goals("t", metrics, wanted) == (("loss", "min"), ("speed", "max"))
    with pytest.raises(TaskError, match="no such metric; did you mean 'loss'"):
        goals("t", metrics, [Objective(metric="los")])
    with pytest.raises(TaskError, match='write "speed min" or "speed max"'):
        goals("t", metrics, [Objective(metric="speed")])


def test_the_fake_curve_depends_on_values_and_seed_alone(tmp_path):
    task, values = load_task(f"{FAKE}:FakeTask"), {"rate": 1e-2, "kind": "wide", "width": 32}
    first, second = (task.start(values, epochs=3, seed=7) for _ in range(2))
    losses = [first.epoch()["loss"] for _ in range(3)]
    second.epoch()
    first.save(tmp_path)
    assert losses == sorted(losses, reverse=True)
    third = task.start(values, epochs=3, seed=7)
    second.save(tmp_path)
    third.restore(tmp_path)
    assert [third.epoch()["loss"] for _ in range(2)] == losses[1:]
