import dataclasses
from pathlib import Path

import pytest

from search import doctor
from search.doctor import examine
from search.spec import CheckpointSettings, Objective, ResourceSettings, SearcherSettings, SweepSpec

FAKE = Path(__file__).with_name("fake_task.py")


@pytest.fixture
def spec(tmp_path):
    return SweepSpec(
        name="examined",
        task="fake_task.py:FakeTask",
        objectives=(Objective(metric="loss"),),
        trials=2,
        storage=str(tmp_path / "runs"),
        folder=str(FAKE.parent),
    )


def states(spec, **options):
    return {check.name: check for check in examine(spec, **options)}


def test_a_sweep_that_can_run_has_no_problem(spec, tmp_path):
    found = states(spec)
    assert [check for check in found.values() if check.state == "problem"] == []
    assert set(found) >= {"packages", "Keras", "storage", "clock", "disk", "sweep", "memory", "task"}
    assert "3 parameters can be made on a worker process" in found["task"].found
    assert list(tmp_path.iterdir()) == [], "it leaves nothing behind"


def test_without_a_file_what_every_sweep_needs_is_looked_at(tmp_path):
    assert [check.name for check in examine(storage=str(tmp_path))] == ["packages", "Keras", "storage", "clock", "disk"]


def test_a_storage_that_cannot_be_written_is_a_problem(spec, tmp_path):
    (tmp_path / "file").write_text("")
    found = states(dataclasses.replace(spec, storage=str(tmp_path / "file" / "runs")))["storage"]
    assert found.state == "problem"
    assert "name another place as storage" in found.advice


def test_no_room_for_checkpoints_is_a_problem(spec):
    found = states(dataclasses.replace(spec, checkpoints=CheckpointSettings(disk_bytes=10**18)))["disk"]
    assert found.state == "problem"
    assert "make room" in found.advice


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("fake_task.py:RaisesInSpace", "no space left"),
        ("fake_task.py:Nobody", "has no 'Nobody'"),
        ("ends.py:Ends", "the process ended with 3"),
    ],
)
def test_a_task_that_a_worker_cannot_make_is_a_problem(spec, tmp_path, task, message):
    folder = tmp_path if task.startswith("ends") else FAKE.parent
    (tmp_path / "ends.py").write_text(
        "import os\nclass Ends:\n  metrics = {'a': ''}\n  def space(s, hp): os._exit(3)\n  def start(s): ...\n"
    )
    found = states(dataclasses.replace(spec, task=task, folder=str(folder)))["task"]
    assert found.state == "problem"
    assert message in found.found


def test_a_missing_package_is_named_with_how_to_get_it(spec, monkeypatch):
    monkeypatch.setattr(doctor, "NEEDS", {"cmaes": {"cmaes": "cmaes", "not_there": "not-installed-anywhere"}})
    found = states(dataclasses.replace(spec, searcher=SearcherSettings(kind="cmaes")))["packages"]
    assert (found.state, found.found) == ("problem", "missing: not-installed-anywhere")
    assert "pip install not-installed-anywhere" in found.advice


@pytest.mark.slow
def test_as_many_workers_want_memory_as_have_a_gpu(spec):
    # There is not a single GPU for it here, however many cores there are.
    found = states(dataclasses.replace(spec, resources=ResourceSettings(cpus=0.01, gpus=100.0)))["memory"]
    assert found.found.startswith("1 workers")


def test_a_sweep_that_has_begun_is_noted(spec, tmp_path):
    (tmp_path / "runs" / "examined").mkdir(parents=True)
    (tmp_path / "runs" / "examined" / "sweep.json").write_text("{}")
    assert f"search resume {tmp_path}/runs/examined goes on" in states(spec)["sweep"].advice


@pytest.mark.slow
def test_a_gpu_that_is_asked_for_and_not_there_is_a_problem(spec):
    if doctor.probe(**doctor._arguments(dataclasses.replace(spec, resources=ResourceSettings(gpus=1))))["gpus"]:
        return  # this machine has one
    found = states(dataclasses.replace(spec, resources=ResourceSettings(gpus=1)))["GPU"]
    assert found.state == "problem"


def test_a_cluster_that_does_not_answer_is_a_problem(spec):
    assert states(spec, address="127.0.0.1:1")["cluster"].state == "problem"
