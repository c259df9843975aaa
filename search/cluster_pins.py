"""Whether a cluster would run the versions that everything was tested with."""

import re
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from search.cluster_file import ClusterFile, Finding, items, mapping, unfilled
from search.errors import SpecError

NAME = "constraints.txt"
_PINNED = re.compile(r"(?<![\w./@-])([A-Za-z][\w.-]*)(?:\[[\w,.-]*\])?==([\w.+!]+)")
_INSTALL = re.compile(r"\bpip3? install\b(.*?)(?:&&|\|\||;|$)", re.S)
_IMAGE = re.compile(r"(?:^|/)rayproject/ray(?:-ml|-llm)?:(\d+\.\d+\.\d+)")


def find(file: Path) -> Path | None:
    """Returns the constraints that go with a cluster's file: beside it, in a folder above, or in the current one."""
    for folder in (*file.resolve().parents[:3], Path.cwd()):
        if (folder / NAME).is_file():
            return folder / NAME
    return None


def load(path: Path) -> Mapping[str, set[str]]:
    """Returns the versions that a constraints file allows of each package; several where they depend on the machine.

    Raises:
        SpecError: it is no such file.
        OSError: it cannot be read.
    """
    allowed: dict[str, set[str]] = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        line = line.partition("#")[0].partition(";")[0].strip()
        if not line:
            continue
        name, equals, version = line.partition("==")
        if not equals:
            raise SpecError(f"{path}: line {number}: {line!r} pins no version; expected name==version")
        allowed.setdefault(_normal(name), set()).add(version.strip())
    return allowed


def findings(
    file: ClusterFile, document: Mapping[str, Any], allowed: Mapping[str, set[str]], source: Path
) -> Iterator[Finding]:
    """Yields versions that differ from the allowed ones, and what is installed without saying which.

    Args:
        file: the cluster's file.
        document: the same as Ray completes it.
        allowed: versions by package.
        source: where these stand.
    """
    for where, command in file.commands(document):
        yield from _command(where, command, allowed, source)
    for where, image in _images(file):
        yield from _image(where, image, allowed, source)
    if file.kind == "kuberay":
        version = mapping(file.document.get("spec")).get("rayVersion")
        yield from _differs("spec.rayVersion", "ray", str(version), allowed, source)
    elif file.kind == "ray":
        here = metadata.version("ray")
        if allowed.get("ray") and here not in allowed["ray"]:
            yield Finding(
                where="ray",
                what=f"Ray here is {here}, and {source.name} has {_list(allowed['ray'])} for the cluster",
                advice="make install, or update the constraints",
            )


def _command(where: str, command: str, allowed: Mapping[str, set[str]], source: Path) -> Iterator[Finding]:
    for name, version in _PINNED.findall(command):
        yield from _differs(where, name, version, allowed, source)
    for arguments in _INSTALL.findall(command):
        words = arguments.replace("'", " ").replace('"', " ").split()
        if {"-c", "--constraint", "--constraints"} & set(words) or any(w.startswith("--constraint=") for w in words):
            continue
        loose = [w for w in words if re.match(r"[A-Za-z.@]", w) and "==" not in w]
        if loose:
            yield Finding(
                where=where,
                what=f"installs {', '.join(loose[:4])} without saying which version",
                advice=f"add `-c {source.name}`",
            )


def _differs(where: str, name: str, version: str, allowed: Mapping[str, set[str]], source: Path) -> Iterator[Finding]:
    wanted = allowed.get(_normal(name))
    if wanted and version not in wanted:
        yield Finding(
            where=where,
            what=f"{name} {version}, but {source.name} has {_list(wanted)}",
            advice="make the two agree; a driver and workers of different versions do not understand each other",
        )


def _images(file: ClusterFile) -> Iterator[tuple[str, str]]:
    if file.kind == "ray":
        docker = mapping(file.document.get("docker"))
        for key in ("image", "head_image", "worker_image"):
            if docker.get(key):
                yield f"docker.{key}", str(docker[key])
    elif file.kind == "kuberay":
        for where, container in containers(file):
            yield f"{where}.image", str(container.get("image", ""))


def containers(file: ClusterFile) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields the containers of a KubeRay manifest with their paths."""
    spec = mapping(file.document.get("spec"))
    groups = [("spec.headGroupSpec", spec.get("headGroupSpec"))]
    groups += [(f"spec.workerGroupSpecs[{i}]", group) for i, group in enumerate(items(spec.get("workerGroupSpecs")))]
    for where, group in groups:
        pod = mapping(mapping(mapping(group).get("template")).get("spec"))
        for i, container in enumerate(items(pod.get("containers"))):
            yield f"{where}.template.spec.containers[{i}]", mapping(container)


def _image(where: str, image: str, allowed: Mapping[str, set[str]], source: Path) -> Iterator[Finding]:
    if unfilled(image):
        return
    if found := _IMAGE.search(image):
        yield from _differs(where, "ray", found[1], allowed, source)
    tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
    if "@sha256:" not in image and tag in {"", "latest", "nightly"}:
        yield Finding(
            where=where,
            what=f"image {image!r} may be another one tomorrow",
            advice="name it by digest (…@sha256:…), or at least by a version",
        )


def _list(versions: set[str]) -> str:
    return " or ".join(sorted(versions))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
