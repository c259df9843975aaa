"""Who may import whom (docs/architecture.md): between the three packages, and inside each from the ground up."""

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = [name for name in ("bach", "search", "results") if list((ROOT / name).glob("*.py"))]

FORBIDDEN = {
    "bach": {"ray", "optuna", "pyarrow", "pandas", "search", "results"},
    "search": {"bach", "music21", "mido", "verovio", "partitura", "pretty_midi"},
    "results": {"ray", "keras", "keras_tuner", "tensorflow", "jax", "search", "bach"},
}
# These answer `bach --help` and work without a model, so Keras (2 s to import, TensorFlow 5 s) has no place in them.
WITHOUT_KERAS = {
    *("notes", "errors", "encoding", "held", "measures", "formats", "windows", "corpus", "duplicates", "inspection"),
    *("scoring", "floors"),
}
# Imported inside the function that needs them, never on top of a module.
SLOW_TO_IMPORT = {
    "bach": {"music21", "matplotlib", "verovio", "tensorflow", "jax", "scipy"},
    "search": {"ray", "optuna", "keras", "keras_tuner", "pandas", "matplotlib", "scipy"},
    "results": {"pandas", "matplotlib", "scipy", "duckdb"},
}
# Ray's own base classes cannot be named without it; nothing imports this module on top.
SLOW_BY_NATURE = {"search/tune.py": {"ray"}}


@cache
def imports(path: Path) -> dict[str, bool]:
    """Dotted names that a file imports -> whether at least once outside functions."""
    tree, found = ast.parse(path.read_text("utf-8")), {}
    inside = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.Lambda) for n in ast.walk(f)}
    # What stands under `if TYPE_CHECKING:` is never imported when the program runs.
    typing_only = {
        id(n)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test)
        for n in ast.walk(branch)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            found[name] = found.get(name, False) or id(node) not in inside | typing_only
    return found


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def part(path: Path) -> str:
    """`bach/formats/midi.py` -> `formats`, `bach/notes.py` -> `notes`, `bach/__init__.py` -> ``."""
    inner = path.relative_to(ROOT).with_suffix("").parts[1:]
    return "" if inner == ("__init__",) else inner[0]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_stays_out_of_what_is_not_its_business(package):
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(package)
        for name in imports(path)
        if name.split(".")[0] in FORBIDDEN[package]
    ]
    assert not wrong


def layers(package: str) -> dict[str, tuple[int, str]]:
    """The package's table in docs/architecture.md: module -> its line, from the top, and those it stands there with.

    Modules that are joined by `+` belong together and may import each other.
    """
    document = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    table = re.search(rf"## Who imports whom in `{package}`\n.*?```text\n(.*?)```", document, re.S)
    assert table, f"docs/architecture.md has no table of imports of {package}"
    lines = [re.split(r" {3,}", line)[0].split() for line in table[1].splitlines()]
    return {name: (i, group) for i, groups in enumerate(lines) for group in groups for name in group.split("+")}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_built_from_the_ground_up(package):
    place, wrong = layers(package), []
    for path in modules(package):
        here = part(path)
        if not here:
            continue  # the package's own `__init__.py` shows the public names of all
        assert here in place, f"{path.relative_to(ROOT)}: give it its place in docs/architecture.md"
        for name in imports(path):
            there = name.split(".")[1] if name.startswith(f"{package}.") else ""
            if there not in place or there == here or place[there][1] == place[here][1]:
                continue
            if place[there][0] >= place[here][0]:
                wrong.append(f"{path.relative_to(ROOT)} imports {package}.{there}, which is not below it")
    assert not wrong


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_of_a_table_is_there(package):
    assert set(layers(package)) - {part(path) for path in modules(package)} == set()


def test_modules_that_need_no_model_do_not_import_keras():
    heavy = {"keras", "keras_tuner", "tensorflow", "jax"}
    heavy_parts = {part(p) for p in modules("bach") if any(n.split(".")[0] in heavy for n in imports(p))} - {""}
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules("bach")
        if part(path) in WITHOUT_KERAS
        for name in imports(path)
        if name.split(".")[0] in heavy or (name.startswith("bach.") and name.split(".")[1] in heavy_parts)
    ]
    assert not wrong


@pytest.mark.parametrize("package", PACKAGES)
def test_slow_libraries_are_imported_only_where_they_are_used(package):
    wrong = [
        f"{path.relative_to(ROOT)} imports {name} on top"
        for path in modules(package)
        for name, on_top in imports(path).items()
        if on_top
        and name.split(".")[0] in SLOW_TO_IMPORT[package] - SLOW_BY_NATURE.get(path.relative_to(ROOT).as_posix(), set())
    ]
    assert not wrong


@pytest.mark.parametrize("program", ["search", "results"])
def test_help_does_not_wait_for_slow_libraries(program):
    slow = sorted({name for names in SLOW_TO_IMPORT.values() for name in names})
    code = f"import sys, {program}.cli; print([name for name in {slow} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Declared because a library of ours imports it only where it is asked to: Optuna, for its CMA-ES sampler.
IMPORTED_BY_OTHERS = {"cmaes"}


def normal(requirement: str) -> str:
    """The name in a requirement, as package indexes spell it."""
    found = re.match(r"[\w.-]+", requirement)
    assert found, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def libraries(folders: list[str]) -> set[str]:
    """The distributions that the modules in `folders` import from."""
    # Scripts and fixtures import those that lie beside them.
    beside = {path.stem for folder in {"tests", "benchmarks"} & set(folders) for path in modules(folder)}
    own = {"bach", "search", "results", "tests", "benchmarks", *sys.stdlib_module_names, *beside}
    names = {n.split(".")[0] for folder in folders for path in modules(folder) for n in imports(path)} - own
    provided_by = packages_distributions()
    return {normal(dist) for name in names for dist in provided_by.get(name, [name])}


def test_declared_dependencies_are_exactly_the_libraries_imported():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = {extra: {normal(r) for r in wanted} for extra, wanted in project["optional-dependencies"].items()}
    declared = {normal(r) for r in project["dependencies"]}
    backends = extras["cpu"] | extras["gpu"] | extras["jax"]
    used = libraries(PACKAGES)
    # What few users need (of one cloud, of one form of models) is in an extra; the code says so where it is missing.
    assert used - declared - backends - extras["aws"] - extras["onnx"] == set(), (
        "imported, not declared in pyproject.toml"
    )
    assert declared - used == IMPORTED_BY_OTHERS, "declared in pyproject.toml, imported nowhere"
    in_tests = libraries(["tests", "benchmarks"])
    assert in_tests - declared - backends - extras["dev"] == set(), "imported by tests, not in the extra `dev`"
