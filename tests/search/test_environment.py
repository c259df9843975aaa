"""What says with which code a session ran."""

import shutil
from pathlib import Path

from search import environment

ROOT = Path(__file__).resolve().parents[2]


def test_code_without_a_repository_is_named_by_its_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.delenv(environment.COMMIT, raising=False)
    assert environment.commit() == f"files {environment.digest()}"


def test_the_same_files_have_the_same_digest_wherever_they_lie_and_others_do_not(tmp_path):
    for package in environment.OURS:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    assert environment.digest(tmp_path) == environment.digest(ROOT)
    (tmp_path / "search" / "tune.py").write_text("# changed\n")
    changed = environment.digest(tmp_path)
    assert changed != environment.digest(ROOT)
    (tmp_path / "search" / "tune.py").unlink()
    assert environment.digest(tmp_path) not in (changed, environment.digest(ROOT))
