"""Whether a sweep can run here: one check a line, before anything is started."""

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from results.errors import ResultsError
from results.opening import typed
from results.storage import Storage
from search.connection import connected, worker_environment
from search.errors import SearchError
from search.forecast import workers
from search.searcher import NEEDS
from search.spec import SweepSpec

State = Literal["ok", "note", "problem"]

CLOCK_TOLERANCE_S = 2.0
"""Clocks that differ by more make times in the ledger misleading."""
PROBE_LIMIT_S = 180.0
"""Importing a task on a worker may take so long; TensorFlow alone takes up to 15 s."""
NODES_LIMIT_S = 120.0
ANSWER_LIMIT_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Check:
    """What one check found.

    Attributes:
        name: what was looked at.
        state: `ok`, `problem`, or `note` for what may be meant so.
        found: what there is, in a few words.
        advice: what to do, "" for nothing.
    """

    name: str
    state: State
    found: str
    advice: str = ""


def examine(spec: SweepSpec | None = None, *, storage: str = "runs", address: str | None = None) -> Iterator[Check]:
    """Yields one check after the other; each may take seconds.

    Args:
        spec: the sweep that is to run; `None` looks at what every sweep needs.
        storage: where sweeps are to lie, without a spec.
        address: of a Ray cluster, whose nodes are looked at too.
    """
    yield from _packages(spec)
    yield _backend(spec.backend if spec else os.environ.get("KERAS_BACKEND", "tensorflow"))
    place = Storage(spec.storage if spec else storage)
    yield from _storage(place)
    yield _disk(place, spec.checkpoints.disk_bytes if spec else 0)
    if spec is None:
        return
    yield _begun(place.child(spec.name))
    yield _memory(spec)
    if address is None:
        yield from _worker(spec)
    else:
        yield from _nodes(spec, place, address)


def _packages(spec: SweepSpec | None) -> Iterator[Check]:
    needed = {"ray": "ray", "optuna": "optuna", "pyarrow": "pyarrow", **(NEEDS[spec.searcher.kind] if spec else {})}
    missing = [package for name, package in needed.items() if importlib.util.find_spec(name) is None]
    if missing:
        advice = f"pip install {' '.join(missing)}, or make install"
        yield Check(name="packages", state="problem", found=f"missing: {', '.join(missing)}", advice=advice)
    else:
        found = ", ".join(f"{package} {metadata.version(package)}" for package in needed.values())
        yield Check(name="packages", state="ok", found=found)


def _backend(backend: str) -> Check:
    missing = [name for name in ("keras", backend) if importlib.util.find_spec(name) is None]
    if missing:
        extra = {"tensorflow": "cpu (or gpu)", "jax": "jax"}.get(backend, backend)
        advice = f"install the extra {extra}, or name another backend in the sweep file"
        return Check(name="Keras", state="problem", found=f"no {', no '.join(missing)}", advice=advice)
    version = metadata.version("keras")
    return Check(name="Keras", state="ok", found=f"keras {version} on {backend}")


def _storage(place: Storage) -> Iterator[Check]:
    """Writes, reads and removes a file, and compares the clock that stamped it."""
    probe, before = f"doctor-{os.getpid()}", time.time()
    made = place.is_local and not Path(place.uri).exists()
    advice = "name another place as storage in the sweep file, or see to permissions, keys and network"
    try:
        place.write(probe, b"?")
        stamped = Path(place.uri, probe).stat().st_mtime if place.is_local else None
        back = place.read(probe)
        place.remove(probe)
        if made:
            Path(place.uri).rmdir()
    except (ResultsError, OSError) as error:
        yield Check(name="storage", state="problem", found=str(error), advice=advice)
        return
    if back != b"?":
        found = f"{place.uri} gave back other bytes than written"
        yield Check(name="storage", state="problem", found=found, advice=advice)
        return
    yield Check(name="storage", state="ok", found=f"{place.uri} can be written and read")
    off_s = 0.0 if stamped is None else max(before - stamped, stamped - time.time(), 0.0)
    yield _clock(f"that of {place.uri}", off_s)


def _clock(whose: str, off_s: float) -> Check:
    # This file cannot have been installed in the future.
    if time.time() < Path(__file__).stat().st_mtime - 86_400:
        found = f"it shows {time.strftime('%Y-%m-%d')}, which is over"
        return Check(name="clock", state="problem", found=found, advice="set this machine's clock")
    if off_s > CLOCK_TOLERANCE_S:
        advice = "set the clocks by one time server (chrony, systemd-timesyncd)"
        return Check(name="clock", state="problem", found=f"{off_s:.0f} s away from {whose}", advice=advice)
    return Check(name="clock", state="ok", found=f"agrees with {whose}")


def _disk(place: Storage, budget: int) -> Check:
    if not place.is_local:
        return Check(name="disk", state="ok", found="not on this machine")
    free = shutil.disk_usage(_existing(Path(place.uri))).free
    found = f"{_gigabytes(free)} free" + (f", checkpoints may take {_gigabytes(budget)}" if budget else "")
    if free < budget:
        advice = "make room, or set a smaller disk in [checkpoints]"
        return Check(name="disk", state="problem", found=found, advice=advice)
    return Check(name="disk", state="ok", found=found)


def _gigabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB"


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    return next(parent for parent in (folder, *folder.parents) if parent.exists())


def _begun(folder: Storage) -> Check:
    if folder.exists("sweep.json"):
        advice = f"search resume {typed(folder)} goes on with it; another name begins a new one"
        return Check(name="sweep", state="note", found=f"{folder.uri} has begun already", advice=advice)
    return Check(name="sweep", state="ok", found=f"{folder.uri} is free")


def _memory(spec: SweepSpec) -> Check:
    import psutil

    total = psutil.virtual_memory().total
    limit, number = spec.resources.memory_limit_bytes, workers(spec)
    need = number * limit
    found = f"{number} workers of at most {_gigabytes(limit)} each, {_gigabytes(total)} here"
    if need > total:
        advice = "fine if trials stay far below the limit; otherwise set memory_limit or concurrency lower"
        return Check(name="memory", state="note", found=found, advice=advice)
    return Check(name="memory", state="ok", found=found)


# --- in other processes -----------------------------------------------------------------------------------------------


def probe(task: str, options: Mapping[str, Any], folder: str, *, gpus: bool, backend: str) -> dict[str, Any]:
    """Returns what a worker process sees: the task's parameters, GPUs, its clock, or the error.

    The document has either `error`, or `parameters` (their number) and `gpus` (names; `None` if not asked for).
    """
    from search.space import Space
    from search.task import load_task

    try:
        made = load_task(task, options, folder=folder)
        number = len(Space.explore(made.space).kinds)
    except Exception as error:  # noqa: BLE001 - whatever the task does, the caller is told
        return {"error": str(error) if isinstance(error, SearchError) else f"{type(error).__name__}: {error}"}
    return {"parameters": number, "gpus": _gpus(backend) if gpus else None, "time": time.time()}


_PROBE = """\
import json, sys
from search.doctor import probe
answer = probe(**json.loads(sys.argv[1]))
print()
print(json.dumps(answer))
"""


def _gpus(backend: str) -> list[str]:
    try:
        if backend == "jax":
            import jax

            return [str(device) for device in jax.devices() if device.platform == "gpu"]
        import tensorflow as tf

        return [device.name for device in tf.config.list_physical_devices("GPU")]
    except Exception:  # noqa: BLE001 - drivers fail in many ways, all of them mean: no GPU
        return []


def _arguments(spec: SweepSpec) -> dict[str, Any]:
    return {
        "task": spec.task,
        "options": dict(spec.options),
        "folder": str(Path(spec.folder).absolute()),
        "gpus": spec.resources.gpus > 0,
        "backend": spec.backend,
    }


def _worker(spec: SweepSpec) -> Iterator[Check]:
    """Asks a fresh process of this machine, with the environment that workers have."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE, json.dumps(_arguments(spec))],
            env=os.environ | worker_environment(spec),
            capture_output=True,
            text=True,
            timeout=PROBE_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        advice = "see what it does on being imported or in space(hp); both should take seconds"
        found = f"{spec.task} was not there after {PROBE_LIMIT_S:.0f} s"
        yield Check(name="task", state="problem", found=found, advice=advice)
        return
    try:
        answer = json.loads(done.stdout.rstrip().rpartition("\n")[2])
    except ValueError:
        last = done.stderr.strip().rpartition("\n")[2]
        found = f"the process ended with {done.returncode}: {last}"
        yield Check(name="task", state="problem", found=found, advice="the task must not end its process")
        return
    yield from _seen(spec, answer, "a worker process")


def _seen(spec: SweepSpec, answer: Mapping[str, Any], where: str) -> Iterator[Check]:
    if "error" in answer:
        advice = "mend the task, or install what it needs there"
        yield Check(name="task", state="problem", found=f"on {where}: {answer['error']}", advice=advice)
        return
    found = f"{spec.task} with {answer['parameters']} parameters can be made on {where}"
    yield Check(name="task", state="ok", found=found)
    if answer["gpus"] is None:
        return
    if answer["gpus"]:
        yield Check(name="GPU", state="ok", found=f"{where} sees {len(answer['gpus'])}")
    else:
        advice = "install the extra gpu and NVIDIA's driver, or set gpus = 0 in [resources]"
        yield Check(name="GPU", state="problem", found=f"{where} sees none through {spec.backend}", advice=advice)


def _answers(address: str) -> bool:
    """Whether something listens there; Ray itself would try for minutes. Addresses of other kinds are left to Ray."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        return True
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_LIMIT_S).close()
    except (OSError, OverflowError):
        return False
    return True


def _nodes(spec: SweepSpec, place: Storage, address: str) -> Iterator[Check]:
    """Asks every node of a cluster."""
    if not _answers(address):
        advice = "ray status says whether it runs; ray start --head begins one"
        yield Check(name="cluster", state="problem", found=f"nobody answers at {address}", advice=advice)
        return
    try:
        with connected(spec, address=address):
            import ray

            nodes = [node for node in ray.nodes() if node["Alive"]]
            yield Check(name="cluster", state="ok", found=f"{len(nodes)} nodes at {address}")
            if spec.resources.gpus and not ray.cluster_resources().get("GPU"):
                advice = "it may still start some; otherwise add GPU nodes to cluster.yaml"
                yield Check(name="GPU", state="note", found="the cluster has none now", advice=advice)
            uri = str(Path(place.uri).absolute()) if place.is_local else place.uri
            place.write("doctor-shared", b"?")
            try:
                for node in nodes:
                    yield from _node(spec, node, uri, len(nodes) > 1)
            finally:
                place.remove("doctor-shared")
    except SearchError as error:
        advice = "ray status says whether it runs; ray start --head begins one"
        yield Check(name="cluster", state="problem", found=str(error), advice=advice)


def _node(spec: SweepSpec, node: Mapping[str, Any], uri: str, several: bool) -> Iterator[Check]:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    name = node["NodeManagerHostname"]
    here = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
    gpus = min(spec.resources.gpus, 1) if node["Resources"].get("GPU") else 0
    there = ray.remote(_on_node).options(num_cpus=0, num_gpus=gpus, scheduling_strategy=here)
    sent = time.time()
    try:
        answer = ray.get(there.remote(uri, _arguments(spec) | {"gpus": gpus > 0}), timeout=NODES_LIMIT_S)
    except Exception as error:  # noqa: BLE001 - whatever Ray says of a node is what is wrong with it
        found = f"{name} does not answer: {str(error).splitlines()[0]}"
        yield Check(name="node", state="problem", found=found, advice="ray status says how it stands")
        return
    if answer["shared"]:
        yield Check(name="storage", state="problem", found=f"{name}: {answer['shared']}", advice=(
            "name a place that all nodes share: s3://…, gs://…, or a folder on NFS" if several else "see to permissions"
        ))  # fmt: skip
    else:
        yield Check(name="storage", state="ok", found=f"{name} reads and writes {uri}")
    yield from _seen(spec, answer, name)
    if "time" in answer:
        yield _clock(f"that of {name}", max(sent - answer["time"], answer["time"] - time.time(), 0.0))


def _on_node(uri: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Runs on a node: reads what the driver wrote, writes, probes the task. `shared` is "" if the storage is fine."""
    place, shared = Storage(uri), ""
    try:
        if not place.exists("doctor-shared"):
            shared = f"{uri} is not the folder that the driver sees"
        place.write(f"doctor-{os.uname().nodename}", b"?")
        place.remove(f"doctor-{os.uname().nodename}")
    except (ResultsError, OSError) as error:
        shared = str(error)
    return probe(**arguments) | {"shared": shared}
