"""What is wrong with a cluster's file, found offline and before any money is spent."""

import contextlib
import dataclasses
import io
import logging
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from search import cluster_doors, cluster_mounts, cluster_nodes, cluster_pins, cluster_storage, cluster_tokens
from search.cluster_file import PLACEHOLDER, ClusterFile, Finding, RayFile, Script, mapping, read
from search.errors import SpecError, did_you_mean


def check(path: Path, *, constraints: Path | None = None, storage: str | None = None) -> list[Finding]:
    """Returns all that is wrong with a file that starts a cluster; asks nothing of any cloud.

    Args:
        path: a file for `ray up`, a manifest for KubeRay, or a shell script.
        constraints: versions that the cluster has to run; None looks for `constraints.txt` beside the file and above.
        storage: where the sweeps lie; None takes what the file says.

    Raises:
        SpecError: the file is none of these, or there are no constraints to compare it with.
        OSError: it cannot be read.
    """
    file = read(path)
    source = constraints or cluster_pins.find(path)
    if source is None:
        raise SpecError(f"no {cluster_pins.NAME} beside {path}, above it or here; name it with --constraints")
    allowed = cluster_pins.load(source)
    found: list[Finding] = []
    if isinstance(file, RayFile):
        found, file = _as_ray_sees_it(file)
    found += _placeholders(file, storage)
    if isinstance(file, RayFile):
        found += cluster_nodes.findings(file)
        found += cluster_mounts.findings(file, tokens=cluster_tokens.places(file))
    if isinstance(file, Script):
        found += _syntax(file)
    found += cluster_doors.findings(file)
    found += _head(file)
    found += cluster_tokens.findings(file)
    found += cluster_pins.findings(file, allowed, source)
    found += cluster_storage.findings(file, storage or file.storage)
    return found


def _as_ray_sees_it(file: RayFile) -> tuple[list[Finding], RayFile]:
    """Returns what Ray's own validation finds, and the file with Ray's defaults, or as it is if Ray cannot add them."""
    import copy

    from ray.autoscaler._private.util import prepare_config, validate_config

    said = io.StringIO()
    logging.getLogger("ray.autoscaler").setLevel(logging.ERROR)
    completed: Any = file.document
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            completed = prepare_config(copy.deepcopy(dict(file.document)))
            validate_config(dict(completed))
    except Exception as error:  # noqa: BLE001 - Ray raises whatever it trips over
        return [_said_by_ray(error, said.getvalue())], dataclasses.replace(file, completed=mapping(completed))
    return [], dataclasses.replace(file, completed=completed)


def _said_by_ray(error: Exception, printed: str) -> Finding:
    where = ".".join(str(part) for part in getattr(error, "absolute_path", ())) or "the file"
    message = str(getattr(error, "message", "") or error).strip() or printed.strip() or type(error).__name__
    if isinstance(error, KeyError):
        message = f"{message} is missing"
    advice = "correct it as Ray asks; its reference of cluster files has every key"
    schema, instance = mapping(getattr(error, "schema", None)), mapping(getattr(error, "instance", None))
    if getattr(error, "validator", None) == "additionalProperties":
        unknown = sorted(str(key) for key in set(instance) - set(mapping(schema.get("properties"))))
        near = "".join(did_you_mean(name, mapping(schema.get("properties"))) for name in unknown)
        message, advice = f"Ray does not know {', '.join(map(repr, unknown))} here", f"correct or remove it{near}"
    return Finding(where=where, what=f"Ray refuses the file: {' '.join(message.split())[:300]}", advice=advice)


def _placeholders(file: ClusterFile, storage: str | None) -> Iterator[Finding]:
    for where, text in file.values():
        if PLACEHOLDER in text:
            yield Finding(
                where=where, what=f"still to be filled in: {text.strip()[:80]}", advice="see the file's opening"
            )
    if storage and PLACEHOLDER in storage:
        yield Finding(where="--storage", what=f"still to be filled in: {storage}", advice="name your bucket or folder")


def _syntax(file: Script) -> Iterator[Finding]:
    shell = shutil.which("bash")
    if shell is None:
        return
    run = subprocess.run([shell, "-n", str(file.path)], capture_output=True, text=True, timeout=30, check=False)
    if run.returncode:
        yield Finding(where="the script", what=" ".join(run.stderr.split())[:300], advice="correct it")


def _head(file: ClusterFile) -> Iterator[Finding]:
    """Yields a head on which trials would run, where they starve the driver."""
    starts = [start for start in file.starts() if start.is_head]
    if not starts:
        yield Finding(where="the file", what="nothing starts a head", advice="add `ray start --head` and its options")
    for start in starts:
        if start.options.get("num-cpus") == "0":
            continue
        where, advice = start.options_at, file.num_cpus_of_head
        if isinstance(file, RayFile) and file.provider != "local":
            nodes = {name: node for _, name, node in file.nodes()}
            resources = mapping(mapping(nodes.get(file.head)).get("resources"))
            if resources.get("CPU") == 0 and not resources.get("GPU"):
                continue
            where = f"available_node_types.{file.head}.resources"
            advice = 'set resources: { "CPU": 0 }, and no GPU'
        yield Finding(where=where, what="trials would run on the head, beside the driver", advice=advice)
