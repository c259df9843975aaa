"""The sweep files that come along, and the example of an own task."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from search.plan import plan
from search.spec import TABLES
from search.sweep_file import document, load

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "sweeps").glob("*.toml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_sweep_file_opens_with_purpose_command_and_expectation(path):
    spec = load(path)
    comment = path.read_text("utf-8").partition("[sweep]")[0]
    assert spec.name == path.stem
    assert f"# Run: search run sweeps/{path.name}" in comment
    assert "# Expect: " in comment


def test_the_files_that_the_documents_name_are_there():
    assert {path.stem for path in FILES} >= {"laptop", "families", "gpu", "smoke"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_sweep_file_can_be_planned(path, tmp_path):
    made = plan(load(path))
    assert len(made.proposals) >= len(made.spec.points)
    families = {proposal.values["model.family"] for proposal in made.proposals[: len(made.spec.points)]}
    assert families == {"conv_lstm", "transformer", "relative_transformer"}


def blocks(document):
    """The Python and the TOML of docs/own_task.md, as files."""
    text = (ROOT / "docs" / document).read_text("utf-8")
    found = re.findall(r"```(?:python|toml)\n# save as ([\w.]+)\n(.*?)```", text, re.S)
    return dict(found)


def test_the_own_task_is_short():
    lines = [line for text in blocks("own_task.md").values() for line in text.splitlines() if line.strip()]
    assert len(lines) < 50
    assert len([line for line in blocks("own_task.md")["spirals.py"].splitlines() if line.strip()]) < 40


def test_a_sweep_is_gone_on_with_by_its_file_wherever_its_storage_is_named_from(tmp_path, monkeypatch):
    from search.folders import folder_of
    from search.preparation import prepare
    from search.sweep import _check_begun

    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.toml").write_text(
        '[sweep]\ntask = "tests.search.fake_task:FakeTask"\nobjectives = ["loss min"]\ntrials = 2\n'
    )
    prepared = prepare(load("toy.toml"))
    assert prepared.spec.storage == "runs"
    folder_of(prepared.spec).write("sweep.json", json.dumps(document(prepared.spec)).encode())
    _check_begun(prepared, go_on=True, extend=False)  # is not refused


@pytest.mark.slow
def test_the_own_task_is_swept(tmp_path):
    for name, text in blocks("own_task.md").items():
        (tmp_path / name).write_text(text)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "search.cli", "run", "spirals.toml"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    import results

    trials = results.open(tmp_path / "runs" / "spirals").trials()
    assert len(trials) == 8
    assert set(trials["state"]) <= {"completed", "stopped"}
    assert trials["val_loss"].notna().all()
    assert time.monotonic() - began < 300


def test_the_whole_file_of_the_documents_is_read(tmp_path):
    text = (ROOT / "docs" / "sweeps.md").read_text("utf-8")
    example = re.search(r"```toml\n(.*?)```", text, re.S)
    assert example
    (tmp_path / "x.toml").write_text(example[1])
    assert load(tmp_path / "x.toml").name == "laptop"


def test_every_table_of_a_sweep_file_is_described():
    text = (ROOT / "docs" / "sweeps.md").read_text("utf-8")
    for table in [*TABLES, "task", "space"]:
        assert f"### `[{table}]`" in text
