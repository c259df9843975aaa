"""A file that starts a cluster, read: one of Ray's own, a manifest for KubeRay, or a script for Slurm."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from search.errors import SpecError

Kind = Literal["ray", "kuberay", "script"]

PLACEHOLDER = "FILL-IN"
"""Stands in the files that come along for what only their user knows."""
ANNOTATION = "chorale-search/storage"
"""Names the storage of a KubeRay cluster's sweeps, among the annotations of its manifest."""
SETUP = ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands")
START = ("head_start_ray_commands", "worker_start_ray_commands")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A mistake in a cluster's file.

    Attributes:
        where: path in the file, such as `available_node_types.head.resources`, or a line of a script.
        what: what is wrong there.
        advice: what to do.
    """

    where: str
    what: str
    advice: str


@dataclass(frozen=True, kw_only=True)
class ClusterFile:
    """What a file says.

    Attributes:
        kind: `ray` for `ray up`, `kuberay` for a manifest with a RayCluster, `script` for a shell script.
        document: the parsed YAML; for a script, empty.
        text: as it stands.
    """

    path: Path
    kind: Kind
    document: Mapping[str, Any]
    text: str

    @property
    def provider(self) -> str:
        """The type of Ray's node provider, such as `aws`; "" for other files."""
        return str(mapping(self.document.get("provider")).get("type", "")) if self.kind == "ray" else ""

    @property
    def storage(self) -> str | None:
        """Where the sweeps lie, as the file says; None if it does not."""
        if self.kind == "script":
            named = re.search(r"""^\s*(?:export\s+)?STORAGE=["']?([^\s"']+)""", self.text, re.M)
            return named[1] if named else None
        metadata = mapping(self.document.get("metadata"))
        if self.kind == "kuberay":
            metadata = {"storage": mapping(metadata.get("annotations")).get(ANNOTATION)}
        named = metadata.get("storage")
        return None if named is None else str(named)

    def values(self) -> Iterator[tuple[str, str]]:
        """Yields every text in the file with its path; comments are left out."""
        if self.kind == "script":
            yield from self.lines()
        else:
            yield from _texts(self.document, "")

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yields a script's lines without comments, which `#SBATCH` is not; one that goes on in the next is one."""
        number, joined = 0, ""
        for i, line in enumerate(self.text.splitlines(), 1):
            number = number or i
            joined += line.rstrip("\\") if line.endswith("\\") else line
            if line.endswith("\\"):
                continue
            if not joined.lstrip().startswith("#") or joined.startswith("#SBATCH"):
                yield f"line {number}", joined
            number, joined = 0, ""

    def commands(self, document: Mapping[str, Any] | None = None) -> Iterator[tuple[str, str]]:
        """Yields every shell command with its path.

        Args:
            document: the file as Ray completes it; None for the file itself.
        """
        if self.kind == "script":
            yield from self.lines()
        elif self.kind == "ray":
            whole = self.document if document is None else document
            for key in (*SETUP, *START):
                yield from _texts(whole.get(key), key)
            for name, node in mapping(whole.get("available_node_types")).items():
                for key in SETUP:
                    yield from _texts(mapping(node).get(key), f"available_node_types.{name}.{key}")

    def starts(self, document: Mapping[str, Any] | None = None) -> Iterator[tuple[str, str, bool]]:
        """Yields every `ray start` with its path, and whether it starts the head."""
        for where, command in self.commands(document):
            if re.search(r"\bray start\b", command):
                yield where, command, bool(re.search(r"(?<!\S)--head(?!\S)", command))


def read(path: Path) -> ClusterFile:
    """Reads a file.

    Raises:
        SpecError: it cannot be read, or is none of the three kinds.
        OSError: it is not there.
    """
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise SpecError(f"{path} is no text: a cluster's file in YAML or a shell script was expected") from error
    if path.suffix in {".sh", ".sbatch", ".slurm"} or text.startswith("#!"):
        return ClusterFile(path=path, kind="script", document={}, text=text)
    import yaml

    try:
        documents = [part for part in yaml.safe_load_all(text) if part is not None]
    except yaml.YAMLError as error:
        raise SpecError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    for document in documents:
        if isinstance(document, dict) and document.get("kind") == "RayCluster":
            return ClusterFile(path=path, kind="kuberay", document=document, text=text)
    if len(documents) == 1 and isinstance(documents[0], dict) and "provider" in documents[0]:
        return ClusterFile(path=path, kind="ray", document=documents[0], text=text)
    raise SpecError(
        f"{path} starts no cluster: expected a file for `ray up`, with `provider`, a manifest with `kind: RayCluster`, "
        "or a shell script; sweep files are checked by `search plan`"
    )


def mapping(value: Any) -> Mapping[str, Any]:
    """Returns a mapping as it is, and an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def items(value: Any) -> list[Any]:
    """Returns a list as it is, and an empty one for anything else."""
    return value if isinstance(value, list) else []


def unfilled(value: Any) -> bool:
    """Returns whether a value, or one inside it, still waits to be filled in."""
    return any(PLACEHOLDER in text for _, text in _texts(value, ""))


def option(command: str, name: str) -> str | None:
    """Returns the value of an option of a command line, such as `--dashboard-host`; None if it is not there."""
    found = re.search(rf"(?<!\S){re.escape(name)}(?:=|\s+)(\S+)", command)
    return found[1].strip("\"'") if found else None


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _texts(inner, f"{path}[{i}]")
    elif isinstance(value, str):
        yield path, value
