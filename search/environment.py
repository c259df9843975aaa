"""What a session of a sweep ran with: the row that makes a result traceable."""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from search.spec import SweepSpec

ROOT = Path(__file__).resolve().parents[1]
OURS = ("bach", "results", "search")
COMMIT = "SEARCH_COMMIT"
"""Names, in the environment, the commit of a tree that was sent without its repository."""
PACKAGES = ("ray", "optuna", "keras", "tensorflow", "tensorflow-cpu", "jax", "numpy", "pyarrow", "chorale-search")


def session_row(spec: SweepSpec, document: dict[str, Any], task: Any, *, session: int, command: str) -> dict[str, Any]:
    """Returns the row of `sessions`.

    Args:
        spec: what the sweep is asked to do.
        document: the same as a document, of which the row keeps a digest.
        task: asked for its data.
        session: counts from 1.
        command: what the user typed.
    """
    name, fingerprint = task.data() if hasattr(task, "data") else ("", "")
    return {
        "session": session,
        "command": command,
        "host": platform.node(),
        "pid": os.getpid(),
        **here(spec),
        "data": name,
        "data_fingerprint": fingerprint,
        "spec_sha256": hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest(),
    }


def here(spec: SweepSpec) -> dict[str, str]:
    """Returns the code and the packages that a result of this process depends on."""
    return {
        "commit": commit(),
        "python": platform.python_version(),
        "packages": ", ".join(f"{name} {version}" for name, version in versions().items()),
        "backend": spec.backend,
    }


def of_session(row: Mapping[str, Any]) -> dict[str, str]:
    """Returns the same of a session, from its row; empty if the row does not say."""
    return {name: row[name] for name in ("commit", "python", "packages", "backend") if row.get(name) is not None}


def versions() -> dict[str, str]:
    """Returns the versions of the packages that a result may depend on, of those that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Returns the commit of the current folder's repository, with `+` if files differ from it.

    Where there is no repository, as on the machines of a cluster, it is `files ` and the digest of the code that runs.
    """
    if os.environ.get(COMMIT):
        return os.environ[COMMIT]
    here = Path.cwd()
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return f"files {digest()}"
    return run.stdout.strip() if run.returncode == 0 else f"files {digest()}"


def digest(folder: Path = ROOT) -> str:
    """Returns what tells these packages' code from any other, in a checkout as on a cluster, as 12 hexadecimal digits.

    Args:
        folder: that the packages lie in.
    """
    whole = hashlib.sha256()
    for path in sorted(path for package in OURS for path in (folder / package).rglob("*.py")):
        whole.update(
            f"{path.relative_to(folder).as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode()
        )
    return whole.hexdigest()[:12]
