"""What is wrong with a cluster's file, found offline and before any money is spent."""

import contextlib
import io
import logging
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from search import cluster_nodes, cluster_pins
from search.cluster_file import (
    PLACEHOLDER,
    ClusterFile,
    Finding,
    items,
    mapping,
    option,
    read,
    unfilled,
)
from search.errors import SpecError, did_you_mean

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
OF_ONE_MACHINE = ("/tmp", "/var/tmp", "/dev/shm", "/run")
HEAVY_OR_SECRET = (".git", ".venv", ".cache", "runs", ".env", ".ssh", ".aws")
"""What must not travel to the machines of a cluster: large, or nobody's business."""
TOKEN_FILE = "auth_token"


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
    found, completed = ([], file.document) if file.kind != "ray" else _as_ray_sees_it(file)
    found += _placeholders(file, storage)
    if file.kind == "ray":
        found += cluster_nodes.findings(file)
        found += _mounts(file)
    if file.kind == "script":
        found += _syntax(file)
    found += _doors(file, completed)
    found += _head(file, completed)
    found += _tokens(file, completed)
    found += cluster_pins.findings(file, completed, allowed, source)
    found += _storage(file, storage or file.storage)
    return found


def _as_ray_sees_it(file: ClusterFile) -> tuple[list[Finding], Mapping[str, Any]]:
    """Returns what Ray's own validation finds, and the file with Ray's defaults, or as it is if Ray cannot add them."""
    import copy

    from ray.autoscaler._private.util import prepare_config, validate_config

    document: Any = copy.deepcopy(dict(file.document))
    said = io.StringIO()
    logging.getLogger("ray.autoscaler").setLevel(logging.ERROR)
    completed: Mapping[str, Any] = document
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            completed = prepare_config(copy.deepcopy(document))
            validate_config(dict(completed))
    except Exception as error:  # noqa: BLE001 - Ray raises whatever it trips over
        return [_said_by_ray(error, said.getvalue())], completed
    return [], completed


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


def _syntax(file: ClusterFile) -> Iterator[Finding]:
    shell = shutil.which("bash")
    if shell is None:
        return
    run = subprocess.run([shell, "-n", str(file.path)], capture_output=True, text=True, timeout=30, check=False)
    if run.returncode:
        yield Finding(where="the script", what=" ".join(run.stderr.split())[:300], advice="correct it")


def _mounts(file: ClusterFile) -> Iterator[Finding]:
    """Yields files that are to travel but are not here, and folders that bring along what should stay."""
    excluded = [str(pattern).strip("/*") for pattern in items(file.document.get("rsync_exclude"))]
    filtered = bool(file.document.get("rsync_filter"))
    for remote, local in mapping(file.document.get("file_mounts")).items():
        where, place = f"file_mounts.{remote}", Path(str(local)).expanduser()
        if unfilled(local):
            continue
        if not place.exists():
            advice = "run this where `ray up` will run, in the folder of the project"
            if place.name == TOKEN_FILE:
                advice = "make one: ray get-auth-token --generate > /dev/null && chmod 600 ~/.ray/auth_token"
            yield Finding(where=where, what=f"{local} is not there, seen from {Path.cwd()}", advice=advice)
        elif place.name == TOKEN_FILE and stat.S_IMODE(place.stat().st_mode) & 0o077:
            yield Finding(where=where, what=f"others can read the token {local}", advice=f"chmod 600 {local}")
        elif place.is_dir() and not filtered:
            carried = [name for name in HEAVY_OR_SECRET if (place / name).exists() and name not in excluded]
            if carried:
                yield Finding(
                    where=where,
                    what=f"takes {', '.join(carried)} along to every machine",
                    advice="mount the folders that are needed, or name these in rsync_exclude",
                )


def _doors(file: ClusterFile, completed: Mapping[str, Any]) -> Iterator[Finding]:
    """Yields dashboards and services that answer more than their own machine."""
    for where, command, _ in file.starts(completed):
        host = option(command, "--dashboard-host")
        if host is not None and host not in LOOPBACK:
            yield Finding(
                where=where,
                what=f"the dashboard answers on {host}: whoever reaches it can run commands",
                advice="--dashboard-host=127.0.0.1, and `ray dashboard` or an SSH tunnel to look at it"
                + ("" if where.split("[")[0] in file.document or file.kind != "ray" else "; this is Ray's own default"),
            )
    if file.kind == "ray":
        for key in ("run_options", "head_run_options", "worker_run_options"):
            for i, text in enumerate(items(mapping(file.document.get("docker")).get(key))):
                published = re.search(r"(?:^|\s)(?:-p|--publish)(?:=|\s+)?(\S+)", str(text))
                if published and not published[1].startswith(("127.0.0.1:", "localhost:")):
                    yield Finding(
                        where=f"docker.{key}[{i}]",
                        what=f"port {published[1]} of the container is open to whoever reaches the machine",
                        advice=f"publish it as 127.0.0.1:{published[1]}, or not at all",
                    )
    if file.kind == "kuberay":
        head = mapping(mapping(file.document.get("spec")).get("headGroupSpec"))
        kinds = {
            "spec.headGroupSpec.serviceType": head.get("serviceType"),
            "spec.headGroupSpec.headService.spec.type": mapping(mapping(head.get("headService")).get("spec")).get(
                "type"
            ),
        }
        for where, kind in kinds.items():
            if kind in ("LoadBalancer", "NodePort"):
                yield Finding(
                    where=where,
                    what=f"a service of type {kind} opens the head's ports outside Kubernetes",
                    advice="ClusterIP, and `kubectl port-forward` to look at it",
                )


def _head(file: ClusterFile, completed: Mapping[str, Any]) -> Iterator[Finding]:
    """Yields a head on which trials would run, where they starve the driver."""
    what = "trials would run on the head, beside the driver"
    if file.kind == "kuberay":
        head = mapping(mapping(file.document.get("spec")).get("headGroupSpec"))
        if str(mapping(head.get("rayStartParams")).get("num-cpus")) != "0":
            where = "spec.headGroupSpec.rayStartParams.num-cpus"
            yield Finding(where=where, what=what, advice='set num-cpus: "0"')
        return
    starts = [(where, command) for where, command, is_head in file.starts(completed) if is_head]
    if not starts:
        yield Finding(where="the file", what="nothing starts a head", advice="add `ray start --head` and its options")
        return
    if any(option(command, "--num-cpus") == "0" for _, command in starts):
        return
    if file.kind == "script" or file.provider == "local":
        yield Finding(where=starts[0][0], what=what, advice="add --num-cpus=0 to `ray start --head`")
        return
    name = str(completed.get("head_node_type"))
    resources = mapping(mapping(mapping(completed.get("available_node_types")).get(name)).get("resources"))
    if resources.get("CPU") != 0 or resources.get("GPU"):
        where = f"available_node_types.{name}.resources"
        yield Finding(where=where, what=what, advice='set resources: { "CPU": 0 }, and no GPU')


def _tokens(file: ClusterFile, completed: Mapping[str, Any]) -> Iterator[Finding]:
    """Yields nodes that would be started without asking for a token, and tokens that stand where others see them."""
    advice = 'set RAY_AUTH_MODE=token for every `ray start`; docs/cluster.md, "The token"'
    if file.kind == "kuberay":
        spec = mapping(file.document.get("spec"))
        if mapping(spec.get("authOptions")).get("mode") == "token":
            return
        for where, container in cluster_pins.containers(file):
            given = {str(mapping(e).get("name")): mapping(e).get("value") for e in items(container.get("env"))}
            if given.get("RAY_AUTH_MODE") != "token":
                told = "set spec.authOptions.mode: token (KubeRay 1.6 or newer)"
                yield Finding(where=where, what="it would run without a token", advice=told)
        return
    everything = "\n".join(command for _, command in file.commands(completed))
    for where, command in file.commands(completed):
        if re.search(r"\bRAY_AUTH_TOKEN=[\"']?[^\s\"'$]", command):
            told = "keep it in a file (RAY_AUTH_TOKEN_PATH, or ~/.ray/auth_token through file_mounts)"
            yield Finding(where=where, what="the token itself stands in the file and in process lists", advice=told)
    scripted = file.kind == "script" and "RAY_AUTH_MODE=token" in everything
    for where, command, _ in file.starts(completed):
        if "RAY_AUTH_MODE=token" not in command and not scripted:
            yield Finding(where=where, what="it would run without a token", advice=advice)
    mounted = any(Path(str(remote)).name == TOKEN_FILE for remote in mapping(file.document.get("file_mounts")))
    if not mounted and "RAY_AUTH_TOKEN_PATH" not in everything:
        told = "file_mounts: { ~/.ray/auth_token: ~/.ray/auth_token }"
        if file.kind == "script":
            told = "write one to a file that only you can read, and export RAY_AUTH_TOKEN_PATH"
        yield Finding(where="file_mounts", what="no token reaches the machines", advice=told)


def _storage(file: ClusterFile, storage: str | None) -> Iterator[Finding]:
    """Yields a storage that not all machines would see, or have no right to."""
    where = {"ray": "metadata.storage", "kuberay": "metadata.annotations", "script": "STORAGE"}[file.kind]
    if storage is None:
        yield Finding(
            where=where,
            what="nobody says where the sweeps lie",
            advice="name the bucket or shared folder here, or with --storage",
        )
        return
    if unfilled(storage):
        return
    scheme, separator, _ = storage.partition("://")
    if separator and scheme not in {"s3", "gs", "file"}:
        told = "s3://bucket/path, gs://bucket/path, or a folder that all machines share"
        yield Finding(where=where, what=f"{storage!r} is no storage that sweeps can use", advice=told)
    elif separator and scheme != "file":
        yield from _rights(file, scheme, storage)
    else:
        yield from _folder(file, where, storage.removeprefix("file://"))


def _folder(file: ClusterFile, where: str, folder: str) -> Iterator[Finding]:
    path = Path(folder)
    told = "a bucket (s3://…, gs://…), or a folder on NFS or the like, at the same path on every machine"
    own = any(path.is_relative_to(place) for place in OF_ONE_MACHINE)
    if not path.is_absolute() or own:
        yield Finding(where=where, what=f"{folder} is another folder on every machine", advice=told)
    elif file.kind == "ray":
        mounted = [text for _, text in file.commands() if re.search(r"\b(mount|findmnt|mountpoint)\b", text)]
        places = {str(place) for place in (path, *path.parents)} - {"/"}
        if not any(word in places for text in mounted for word in text.split()):
            yield Finding(
                where=where,
                what=f"nothing says that {folder} is the same folder on every machine",
                advice=f"mount it, or check it (findmnt --target {folder} --types nfs,nfs4), in "
                "initialization_commands; or name a bucket",
            )


def _rights(file: ClusterFile, scheme: str, storage: str) -> Iterator[Finding]:
    key = {("aws", "s3"): "IamInstanceProfile", ("gcp", "gs"): "serviceAccounts"}.get((file.provider, scheme))
    if key is None:
        return
    for name, node in mapping(file.document.get("available_node_types")).items():
        config = mapping(mapping(node).get("node_config"))
        if key not in config and "LaunchTemplate" not in config:
            yield Finding(
                where=f"available_node_types.{name}.node_config.{key}",
                what=f"these machines have no right to {storage}",
                advice=f"name {'a profile' if scheme == 's3' else 'an account'} that may read and write the bucket",
            )
