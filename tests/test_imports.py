"""Who may import whom (docs/architecture.md): between the three packages, and inside `bach` from the ground up."""

import ast
import re
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
    "results": {"ray", "optuna", "keras", "keras_tuner", "tensorflow", "jax", "search", "bach"},
}
# A module imports from the lines above its own; modules of one sub-package may also import each other.
LAYERS = [
    "notes errors",
    "encoding held settings backend sampling",
    "corpus measures formats layers windows",
    "prediction models inspection",
    "hypermodel",
    "training scoring",
    "generation floors",
    "task",
    "cli",
]
# These answer `bach --help` and work without a model, so Keras (2 s to import, TensorFlow 5 s) has no place in them.
WITHOUT_KERAS = {"notes", "errors", "encoding", "corpus", "measures", "formats", "windows", "inspection"}
# Imported inside the function that needs them, never on top of a module.
SLOW_TO_IMPORT = {"music21", "matplotlib", "verovio", "tensorflow", "jax", "scipy"}


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


def test_bach_is_built_from_the_ground_up():
    height = {name: level for level, line in enumerate(LAYERS) for name in line.split()}
    wrong = []
    for path in modules("bach"):
        here = part(path)
        if not here:
            continue  # `bach/__init__.py` shows the public names of all
        assert here in height, f"{path.relative_to(ROOT)}: give it its place in LAYERS and in docs/architecture.md"
        for name in imports(path):
            there = name.split(".")[1] if name.startswith("bach.") else ""
            if there in height and there != here and height[there] >= height[here]:
                wrong.append(f"{path.relative_to(ROOT)} imports bach.{there}, which is not below it")
    assert not wrong


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


def test_slow_libraries_are_imported_only_where_they_are_used():
    wrong = [
        f"{path.relative_to(ROOT)} imports {name} on top"
        for path in modules("bach")
        for name, on_top in imports(path).items()
        if on_top and name.split(".")[0] in SLOW_TO_IMPORT
    ]
    assert not wrong


def test_declared_dependencies_are_exactly_the_libraries_imported():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

    def normal(requirement: str) -> str:
        name = re.match(r"[\w.-]+", requirement)
        assert name, requirement
        return re.sub(r"[-_.]+", "-", name[0]).lower()

    declared = {normal(r) for r in project["dependencies"]}
    optional = {normal(r) for extra in ("cpu", "gpu", "jax") for r in project["optional-dependencies"][extra]}
    names = {n.split(".")[0] for package in PACKAGES for path in modules(package) for n in imports(path)}
    provided_by = packages_distributions()
    used = {
        normal(dist)
        for name in names - set(sys.stdlib_module_names) - set(PACKAGES)
        for dist in provided_by.get(name, [name])
    }
    assert used - declared - optional == set(), "imported, not declared in pyproject.toml"
    assert declared - used == set(), "declared in pyproject.toml, imported nowhere"
