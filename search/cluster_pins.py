"""Whether a cluster would run the versions that everything was tested with."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path, PurePosixPath

from search.cluster_file import ClusterFile, Finding, Manifest, RayFile, unfilled
from search.errors import SpecError

NAME = "constraints.txt"
_PINNED = re.compile(r"(?<![\w./@-])([A-Za-z][\w.-]*)(?:\[[\w,.-]*\])?==([\w.+!]+)")
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z][\w.-]*)(?:\[[\w, .-]*\])?\s*(?P<version>[=<>~!].*)?")
_WHEEL = re.compile(r"(?:^|/)(?P<name>[\w.]+)-(?P<version>\d[\w.!+]*)(?:-[\w.]+){3,4}\.whl")
_COMMIT = re.compile(r"@[0-9a-f]{40}\b|#sha256=")
_SOURCES = ("find-links", "index-url", "extra-index-url")
_TAKES_VALUE = {
    *("-e", "--editable", "-r", "--requirement", "-f", "-i", *(f"--{of}" for of in _SOURCES)),
    *("-t", "--target", "-p", "--python", "--prefix", "--root", "-n", "--name", "--index", "--python-version"),
}
"""Options of pip, uv and conda whose value is no package, and is not itself an option."""
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
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise SpecError(f"{path} is no text: a file of lines such as name==version was expected") from error
    for number, line in enumerate(text.splitlines(), 1):
        line = line.partition("#")[0].partition(";")[0].strip()
        if not line:
            continue
        name, equals, version = line.partition("==")
        if not equals:
            raise SpecError(f"{path}: line {number}: {line!r} pins no version; expected name==version")
        allowed.setdefault(_normal(name), set()).add(version.strip())
    return allowed


def findings(file: ClusterFile, allowed: Mapping[str, set[str]], source: Path) -> Iterator[Finding]:
    """Yields versions that differ from the allowed ones, and what is installed without saying which.

    Args:
        file: the cluster's file.
        allowed: versions by package.
        source: where these stand.
    """
    for where, command in file.commands():
        for name, version in _PINNED.findall(" ".join(command.words)):
            yield from _differs(where, name, version, allowed, source)
        for pip in ("pip", "pip3"):
            if (arguments := command.after(pip, "install")) is not None:
                yield from _pip(where, arguments, allowed, source)
        for conda, act in itertools.product(("conda", "mamba", "micromamba"), ("install", "create")):
            if (arguments := command.after(conda, act)) is not None:
                yield from _conda(where, arguments, allowed, source)
    for where, image in file.images():
        yield from _image(where, image, allowed, source)
    if isinstance(file, Manifest):
        yield from _differs("spec.rayVersion", "ray", str(file.spec.get("rayVersion")), allowed, source)
    elif isinstance(file, RayFile):
        here = metadata.version("ray")
        if allowed.get("ray") and here not in allowed["ray"]:
            yield Finding(
                where="ray",
                what=f"Ray here is {here}, and {source.name} has {_list(allowed['ray'])} for the cluster",
                advice="make install, or update the constraints",
            )


def _pip(where: str, arguments: Sequence[str], allowed: Mapping[str, set[str]], source: Path) -> Iterator[Finding]:
    """Yields what `pip install` would not take from the constraints."""
    constraints, wanted = _arguments(arguments)
    other = [name for name in constraints if PurePosixPath(name).name != source.name]
    if other:
        yield Finding(
            where=where,
            what=f"installs by {', '.join(other)}, not by {source.name}",
            advice=f"`-c {source.name}`, or name the other one with --constraints to check against it",
        )
    loose, unknown = [], []
    for text in wanted:
        found = _REQUIREMENT.fullmatch(text)
        if wheel := _WHEEL.search(text):
            yield from _differs(where, wheel["name"], wheel["version"], allowed, source)
        elif "://" in text:
            loose += [] if _COMMIT.search(text) else [text]
        elif found is None or _is_path(text):
            loose += [] if constraints else [text]  # the tree itself, whose needs the constraints decide
        elif not (found["version"] or "").startswith("=="):
            loose += [] if constraints else [text]
            unknown += [found["name"]] if constraints and _normal(found["name"]) not in allowed else []
    if loose:
        yield Finding(
            where=where,
            what=f"installs {', '.join(loose[:4])} without saying which version",
            advice=f"add `-c {source.name}`" if not constraints else "name a version, or a commit",
        )
    if unknown and not other:
        yield Finding(
            where=where,
            what=f"installs {', '.join(unknown[:4])}, which {source.name} does not pin",
            advice=f"name a version with ==, or pin it in {source.name}",
        )


def _arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the constraints files that `pip install` is called with, and what it shall install."""
    constraints, wanted = [], []
    words = iter(arguments)
    for word in words:
        if word in {"-c", "--constraint", "--constraints"}:
            constraints.append(next(words, ""))
        elif found := re.match(r"--constraints?=|-c(?=.)", word):
            constraints.append(word[found.end() :])
        elif word in {"-e", "--editable", "-r", "--requirement"}:
            wanted.append(next(words, ""))
        elif word in _TAKES_VALUE:
            next(words, None)
        elif not word.startswith("-"):
            wanted.append(word)
    return constraints, wanted


def _is_path(text: str) -> bool:
    return text.startswith((".", "/", "~", "$")) or "/" in text or text.endswith((".txt", ".whl", ".tar.gz"))


def _conda(where: str, arguments: Sequence[str], allowed: Mapping[str, set[str]], source: Path) -> Iterator[Finding]:
    """Yields what conda would install in other versions; it reads no constraints, and `=2.60` is any `2.60.x` to it."""
    words, loose = iter(arguments), []
    for word in words:
        if word in {*_TAKES_VALUE, "-c", "--channel"}:
            next(words, None)
        elif found := _REQUIREMENT.fullmatch(word):
            version = (found["version"] or "").lstrip("=").removesuffix(".*")
            wanted = allowed.get(_normal(found["name"]), set())
            if not version:
                loose.append(word)
            elif not word.count("==") and not any(f"{each}.".startswith(f"{version}.") for each in wanted):
                yield from _differs(where, found["name"], version, allowed, source)
    if loose:
        yield Finding(
            where=where,
            what=f"installs {', '.join(loose[:4])} without saying which version",
            advice=f"name versions, as {source.name} has them: conda does not read it",
        )


def _differs(where: str, name: str, version: str, allowed: Mapping[str, set[str]], source: Path) -> Iterator[Finding]:
    wanted = allowed.get(_normal(name))
    if wanted and version not in wanted:
        yield Finding(
            where=where,
            what=f"{name} {version}, but {source.name} has {_list(wanted)}",
            advice="make the two agree; a driver and workers of different versions do not understand each other",
        )


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
