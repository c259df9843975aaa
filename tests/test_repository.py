"""What must not, and what must, stand in the repository."""

import ast
import os
import re
import shutil
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
MAX_BYTES = 8_000_000
THIS_FILE = Path(__file__).resolve().relative_to(ROOT)


@cache
def repository_files() -> tuple[Path, ...]:
    """Files that git tracks or would track, relative to the root."""
    # -c safe.directory: the clone may belong to another user, as it does in a container.
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return tuple(Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file())


def lines_matching(pattern: str, *, flags: int = 0) -> list[str]:
    """`file:line: text` for each match in text files; this file, which holds the patterns, is left out."""
    found = []
    for path in repository_files():
        data = (ROOT / path).read_bytes()
        if path == THIS_FILE or b"\0" in data:
            continue
        for number, line in enumerate(data.decode("utf-8").splitlines(), 1):
            if re.search(pattern, line, flags):
                found.append(f"{path}:{number}: {line.strip()[:120]}")
    return found


def test_no_package_registry_is_named():
    hosts = r"pypi\.org|pythonhosted\.org|npmjs\.(org|com)|deb\.debian\.org|archive\.ubuntu\.com|anaconda\.(org|com)"
    settings = r"--(extra-)?index-url|--find-links|^\s*(extra-)?(index-url|find-links)\s*=|\"resolved\": *\"http"
    assert lines_matching(f"{hosts}|{settings}") == []


def test_no_path_of_a_single_machine_is_named():
    assert lines_matching(r"(?<![\w.$}])/(home|Users|root|work)/\w|[A-Z]:\\\\?Users") == []


def test_nothing_is_left_to_be_done_in_comments():
    assert lines_matching(r"\b(TODO|FIXME|XXX|HACK)\b") == []


def test_no_pickle_is_read_or_written():
    unsafe = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
    wrong = []
    for path in (p for p in repository_files() if p.suffix == ".py"):
        for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8"))):
            match node:
                case ast.Import():
                    names = {alias.name.split(".")[0] for alias in node.names}
                case ast.ImportFrom():
                    names = {(node.module or "").split(".")[0]}
                case ast.keyword(arg="allow_pickle", value=ast.Constant(value=True)):
                    names = {"pickle"}
                case _:
                    continue
            if names & unsafe:
                wrong.append(f"{path}: line {getattr(node, 'lineno', '?')}")
    assert wrong == []


def test_no_file_is_larger_than_a_shipped_model_may_be():
    assert [f"{p}: {(ROOT / p).stat().st_size:,} bytes" for p in repository_files()
            if (ROOT / p).stat().st_size > MAX_BYTES] == []  # fmt: skip


def test_no_notes_of_the_corpus_are_shipped():
    # Encodings of chorales are used by permission and rebuilt on the user's machine; tables of facts are fine.
    music = {
        ".mid",
        ".midi",
        ".mxl",
        ".musicxml",
        ".xml",
        ".krn",
        ".abc",
        ".wav",
        ".npy",
        ".npz",
        ".tgz",
        ".zip",
        ".h5",
    }
    assert [str(p) for p in repository_files() if p.suffix in music] == []
    for path in (p for p in repository_files() if p.suffix == ".csv"):
        rows = (ROOT / path).read_text("utf-8").splitlines()
        of_notes = [row for row in rows if re.fullmatch(r"\s*\d+\s*([,;\t]\s*\d+\s*){3}", row)]
        assert not of_notes, f"{path} holds rows of four pitches: {of_notes[0]}"


def test_every_module_says_what_it_is_for():
    public = [p for p in repository_files() if p.suffix == ".py" and p.parts[0] in {"bach", "search", "results"}]
    assert public
    assert [str(p) for p in public if not ast.get_docstring(ast.parse((ROOT / p).read_text("utf-8")))] == []


def test_no_module_is_a_drawer_for_odds_and_ends():
    drawers = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert [str(p) for p in repository_files() if p.stem in drawers] == []


def test_the_ci_script_can_be_executed():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # The environment that an outer `make test` leaves behind would change what this one does.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")} | {"PYTHON": ""}
    return subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def test_make_alone_prints_the_targets_and_sets_nothing_up(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    done = make(tmp_path)
    assert done.returncode == 0
    listed = set(re.findall(r"^  make ([a-z-]+) +\S", done.stdout, re.M))
    assert listed >= {"help", "test", "test-fast", "check", "bench", "sweep", "install", "clean"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["Makefile"]


def test_set_up_without_a_suitable_python_says_which_is_needed(tmp_path):
    for file in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / file, tmp_path)
    done = make(tmp_path, "install", "PYTHON=no-such-python")
    assert done.returncode != 0
    assert "tried no-such-python; needed is 3.11, 3.12 or 3.13" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_an_environment_that_was_moved_is_made_anew(tmp_path):
    for file in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / file, tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").touch()
    (tmp_path / ".venv" / ".made-in").write_text("/somewhere/else\n", "utf-8")
    done = make(tmp_path, "install", "PYTHON=no-such-python")
    assert "moved" in done.stdout
    assert not (tmp_path / ".venv").exists()


def test_every_dependency_is_pinned_within_its_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pinned: dict[str, set[str]] = {}
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            name, version = line.split(";")[0].strip().split("==")
            pinned.setdefault(name, set()).add(version)
    extras = project["optional-dependencies"]
    for text in [*project["dependencies"], *extras["cpu"], *extras["jax"], *extras["dev"]]:
        wanted = Requirement(text)
        versions = pinned.get(wanted.name.lower())
        assert versions, f"{wanted.name}: not in constraints.txt; run `make constraints`"
        assert all(v in wanted.specifier for v in versions), (
            f"{wanted.name}: pinned {versions}, asked {wanted.specifier}"
        )
