"""Whether all machines of a cluster see the storage of the sweeps, and have a right to it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from search.cluster_file import ClusterFile, Finding, Manifest, RayFile, Script, items, mapping, unfilled

OF_ONE_MACHINE = ("/tmp", "/var/tmp", "/dev/shm", "/run")
CLOUDS = {"s3": "aws", "gs": "gcp"}
"""Whose machines have rights to a bucket of a scheme by what the file says of them."""
RIGHTS = {"aws": ("IamInstanceProfile", "a profile"), "gcp": ("serviceAccounts", "an account")}
TEMPLATES = ("LaunchTemplate", "sourceInstanceTemplate")
"""Where a cloud keeps settings of machines that the file does not show."""
KEYS = {"AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "GOOGLE_APPLICATION_CREDENTIALS"}


def findings(file: ClusterFile, storage: str | None) -> Iterator[Finding]:
    """Yields a storage that not all machines would see, or have no right to.

    Args:
        file: the cluster's file.
        storage: a URI or folder; None if nobody says.
    """
    where = file.storage_key
    if storage is None:
        advice = "name the bucket or shared folder here, or with --storage"
        yield Finding(where=where, what="nobody says where the sweeps lie", advice=advice)
        return
    if unfilled(storage):
        return
    scheme, separator, rest = storage.partition("://")
    shown = re.sub(r"//[^/@]*@", "//…@", storage)
    if not separator or scheme == "file":
        yield from _folder(file, where, rest if separator else storage)
    elif scheme not in CLOUDS:
        told = "s3://bucket/path, gs://bucket/path, or a folder that all machines share"
        yield Finding(where=where, what=f"{shown!r} is no storage that sweeps can use", advice=told)
    elif not rest.partition("@")[2].strip("/") and not rest.partition("/")[0]:
        yield Finding(where=where, what=f"{shown!r} names no bucket", advice=f"such as {scheme}://bucket/sweeps")
    elif shown != storage:
        yield Finding(
            where=where,
            what=f"a key stands in the address {shown}: everybody sees it who sees the file or a process list",
            advice="give the machines a profile or account, or the keys through their environment",
        )
    else:
        yield from _rights(file, scheme, shown)


def _folder(file: ClusterFile, where: str, folder: str) -> Iterator[Finding]:
    path = Path(folder)
    told = "a bucket (s3://…, gs://…), or a folder on NFS or the like, at the same path on every machine"
    if isinstance(file, Script) and folder.startswith("$"):
        return  # what the site's own variable holds only the site knows
    if not path.is_absolute() or any(path.is_relative_to(place) for place in OF_ONE_MACHINE):
        yield Finding(where=where, what=f"{folder} is another folder on every machine", advice=told)
    elif isinstance(file, RayFile):
        mounted = [command for _, command in file.commands() if {"mount", "findmnt", "mountpoint"} & set(command.words)]
        places = {str(place) for place in (path, *path.parents)} - {"/"}
        if not any(word in places for command in mounted for word in command.words):
            yield Finding(
                where=where,
                what=f"nothing says that {folder} is the same folder on every machine",
                advice=f"mount it, or check it (findmnt --target {folder} --types nfs,nfs4), in "
                "initialization_commands; or name a bucket",
            )
    elif isinstance(file, Manifest):
        for pod_at, pod in file.pods():
            if not _is_mounted(pod, path):
                yield Finding(
                    where=f"{pod_at}.containers[0].volumeMounts",
                    what=f"nothing shared is mounted at {folder}: it would be another folder in every pod",
                    advice="mount a volume there that all pods share, such as a claim with ReadWriteMany",
                )


def _is_mounted(pod: Any, path: Path) -> bool:
    """Returns whether a pod's first container has a volume at a path or above that is not the pod's own."""
    own = {"emptyDir", "ephemeral", "configMap", "secret", "downwardAPI"}
    shared = {mapping(v).get("name") for v in items(pod.get("volumes")) if not own & set(mapping(v))}
    container = mapping(next(iter(items(pod.get("containers"))), None))
    return any(
        mapping(mount).get("name") in shared and path.is_relative_to(str(mapping(mount).get("mountPath") or "//"))
        for mount in items(container.get("volumeMounts"))
    )


def _rights(file: ClusterFile, scheme: str, storage: str) -> Iterator[Finding]:
    if isinstance(file, Manifest):
        yield from _rights_of_pods(file, storage)
    elif isinstance(file, RayFile) and file.provider in RIGHTS:
        if CLOUDS[scheme] != file.provider:
            yield Finding(
                where=file.storage_key,
                what=f"machines of {file.provider} have no right of their own to {storage}",
                advice=f"a bucket of {file.provider}; or the other cloud's rights for every machine: not checked here",
            )
            return
        key, kind = RIGHTS[file.provider]
        for where, _, node in file.nodes():
            config = mapping(node.get("node_config"))
            if not config.get(key) and not any(template in config for template in TEMPLATES):
                yield Finding(
                    where=f"{where}.node_config.{key}",
                    what=f"these machines have no right to {storage}",
                    advice=f"name {kind} that may read and write the bucket",
                )


def _rights_of_pods(file: Manifest, storage: str) -> Iterator[Finding]:
    for where, pod in file.pods():
        container = mapping(next(iter(items(pod.get("containers"))), None))
        keys = {str(mapping(entry).get("name")) for entry in items(container.get("env"))} & KEYS
        if not pod.get("serviceAccountName") and not keys and not container.get("envFrom"):
            yield Finding(
                where=f"{where}.serviceAccountName",
                what=f"these pods have no right to {storage}",
                advice="name a service account that may read and write the bucket (IRSA, workload identity)",
            )
