"""A file that starts a cluster, read: one of Ray's own, a manifest for KubeRay, or a script for Slurm."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from search import cluster_shell
from search.errors import SpecError, did_you_mean

PLACEHOLDER = "FILL-IN"
"""Stands in the files that come along for what only their user knows."""
ANNOTATION = "chorale-search/storage"
"""Names the storage of a KubeRay cluster's sweeps, among the annotations of its manifest."""
SETUP = ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands")
START = ("head_start_ray_commands", "worker_start_ray_commands")
LIMIT_VALUES = 20_000
"""A file with more values than this starts no cluster: its aliases multiply, or it is data."""


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
class Start:
    """How Ray is started on a kind of machine.

    Attributes:
        where: the command or the container.
        options_at: where the options of `ray start` stand; a manifest has them apart from the container.
        options: name without dashes -> value, "" for those without one.
        environment: what `ray start` sees, as far as the file sets it; None for a value that only the cluster knows.
        is_head: whether it starts the head.
        command: the command as it stands; "" in a manifest.
    """

    where: str
    options_at: str
    options: Mapping[str, str]
    environment: Mapping[str, str | None]
    is_head: bool
    command: str = ""


@dataclass(frozen=True, kw_only=True)
class ClusterFile(ABC):
    """What a file says, whatever its kind.

    Attributes:
        path: where it lies.
        text: as it stands.
        document: the parsed YAML; for a script, empty.
        storage_key: where it names the storage of the sweeps.
        num_cpus_of_head: how it tells the head to have no cores.
    """

    path: Path
    text: str
    document: Mapping[str, Any]
    storage_key: ClassVar[str]
    num_cpus_of_head: ClassVar[str] = "add --num-cpus=0 to `ray start --head`"

    @property
    @abstractmethod
    def storage(self) -> str | None:
        """Where the sweeps lie, as the file says; None if it does not."""

    @abstractmethod
    def starts(self) -> Iterator[Start]:
        """Yields how Ray is started, on the head and on the workers."""

    def values(self) -> Iterator[tuple[str, str]]:
        """Yields every text in the file with its path; comments are left out."""
        yield from texts(self.document)

    def commands(self) -> Iterator[tuple[str, cluster_shell.Command]]:
        """Yields every shell command with its path."""
        yield from ()

    def images(self) -> Iterator[tuple[str, str]]:
        """Yields the containers' images with their paths."""
        yield from ()


@dataclass(frozen=True, kw_only=True)
class RayFile(ClusterFile):
    """A file for `ray up`.

    Attributes:
        completed: the document with what Ray adds where it says nothing; the document itself where Ray cannot.
    """

    completed: Mapping[str, Any]
    storage_key = "metadata.storage"

    @property
    def provider(self) -> str:
        """The type of Ray's node provider, such as `aws`."""
        return str(mapping(self.document.get("provider")).get("type", ""))

    @property
    def storage(self) -> str | None:
        """Where the sweeps lie."""
        named = mapping(self.document.get("metadata")).get("storage")
        return None if named is None else str(named)

    @property
    def head(self) -> str:
        """The name of the head's node type."""
        return str(self.completed.get("head_node_type"))

    def nodes(self) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        """Yields each node type: its path, its name and what it says."""
        for name, node in mapping(self.completed.get("available_node_types")).items():
            yield f"available_node_types.{name}", str(name), mapping(node)

    def commands(self) -> Iterator[tuple[str, cluster_shell.Command]]:
        """Yields every shell command, those among them that Ray adds."""
        for where, text in self._scripts():
            for command in cluster_shell.commands(text):
                yield where, command

    def starts(self) -> Iterator[Start]:
        """Yields every `ray start`, which sees what its own command and the options of its container set."""
        for key in START:
            of_container = dict(self._environment(key.replace("start_ray_commands", "run_options")))
            for where, text in texts(self.completed.get(key), key):
                for command in cluster_shell.commands(text, of_container):
                    yield from _start(where, text, command)

    def run_options(self) -> Iterator[tuple[str, list[Any]]]:
        """Yields the lists of options that Docker starts containers with."""
        docker = mapping(self.document.get("docker"))
        for key in ("run_options", "head_run_options", "worker_run_options"):
            yield f"docker.{key}", items(docker.get(key))
        for where, _, node in self.nodes():
            options = mapping(node.get("docker")).get("worker_run_options")
            yield f"{where}.docker.worker_run_options", items(options)

    def images(self) -> Iterator[tuple[str, str]]:
        """Yields the containers' images."""
        dockers = [("docker", self.document.get("docker"))]
        dockers += [(f"{where}.docker", node.get("docker")) for where, _, node in self.nodes()]
        for where, docker in dockers:
            for key in ("image", "head_image", "worker_image"):
                if mapping(docker).get(key):
                    yield f"{where}.{key}", str(mapping(docker)[key])

    def _scripts(self) -> Iterator[tuple[str, str]]:
        for key in (*SETUP, *START):
            yield from texts(self.completed.get(key), key)
        for where, _, node in self.nodes():
            for key in SETUP:
                yield from texts(node.get(key), f"{where}.{key}")

    def _environment(self, key: str) -> Iterator[tuple[str, str]]:
        docker = mapping(self.document.get("docker"))
        options = [*items(docker.get("run_options")), *items(docker.get(key))]
        for _, value in cluster_shell.docker_options(options, "-e", "--env"):
            name, equals, value = value.partition("=")
            if equals:
                yield name, value


@dataclass(frozen=True, kw_only=True)
class Manifest(ClusterFile):
    """A manifest for KubeRay."""

    storage_key = "metadata.annotations"
    num_cpus_of_head = 'set num-cpus: "0"'

    @property
    def spec(self) -> Mapping[str, Any]:
        """What the cluster shall be."""
        return mapping(self.document.get("spec"))

    @property
    def head(self) -> Mapping[str, Any]:
        """The head's group."""
        return mapping(self.spec.get("headGroupSpec"))

    @property
    def storage(self) -> str | None:
        """Where the sweeps lie."""
        named = mapping(mapping(self.document.get("metadata")).get("annotations")).get(ANNOTATION)
        return None if named is None else str(named)

    def groups(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yields the groups of pods, the head's first."""
        yield "spec.headGroupSpec", self.head
        for i, group in enumerate(items(self.spec.get("workerGroupSpecs"))):
            yield f"spec.workerGroupSpecs[{i}]", mapping(group)

    def pods(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yields what each group's pods shall be."""
        for where, group in self.groups():
            yield f"{where}.template.spec", mapping(mapping(group.get("template")).get("spec"))

    def containers(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yields all containers of all groups."""
        for where, pod in self.pods():
            for i, container in enumerate(items(pod.get("containers"))):
                yield f"{where}.containers[{i}]", mapping(container)

    def starts(self) -> Iterator[Start]:
        """Yields how each group starts Ray, in the first of its containers."""
        tokens = mapping(self.spec.get("authOptions")).get("mode") == "token"
        shared = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": None} if tokens else {}
        for (where, group), (pod_at, pod) in zip(self.groups(), self.pods(), strict=True):
            container = mapping(next(iter(items(pod.get("containers"))), None))
            own = [mapping(entry) for entry in items(container.get("env"))]
            named = {
                str(entry.get("name")): str(entry["value"]) if entry.get("value") is not None else None for entry in own
            }
            yield Start(
                where=f"{pod_at}.containers[0]",
                options_at=f"{where}.rayStartParams",
                options={str(k): str(v) for k, v in mapping(group.get("rayStartParams")).items()},
                environment=shared | named,
                is_head=where == "spec.headGroupSpec",
            )

    def images(self) -> Iterator[tuple[str, str]]:
        """Yields the containers' images."""
        for where, container in self.containers():
            yield f"{where}.image", str(container.get("image", ""))


@dataclass(frozen=True, kw_only=True)
class Script(ClusterFile):
    """A shell script."""

    storage_key = "STORAGE"

    @property
    def storage(self) -> str | None:
        """Where the sweeps lie: the variable `STORAGE`, as it is at last."""
        named = None
        for _, command in self.commands():
            named = command.variables.get("STORAGE", named)
        return named

    def values(self) -> Iterator[tuple[str, str]]:
        """Yields the lines without comments, which `#SBATCH` is not."""
        for i, line in enumerate(self.text.splitlines(), 1):
            if not line.lstrip().startswith("#") or line.startswith("#SBATCH"):
                yield f"line {i}", line

    def commands(self) -> Iterator[tuple[str, cluster_shell.Command]]:
        """Yields the commands in order."""
        for command in cluster_shell.commands(self.text):
            yield f"line {command.line}", command

    def starts(self) -> Iterator[Start]:
        """Yields every `ray start`, which sees what was exported above it."""
        for where, command in self.commands():
            yield from _start(where, " ".join(command.words), command)


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
        return Script(path=path, text=text, document={})
    documents = _parsed(path, text)
    for document in documents:
        if isinstance(document, dict) and document.get("kind") == "RayCluster":
            return Manifest(path=path, text=text, document=document)
    if len(documents) == 1 and isinstance(documents[0], dict) and "provider" in documents[0]:
        return RayFile(path=path, text=text, document=documents[0], completed=documents[0])
    raise SpecError(
        f"{path} starts no cluster: expected a file for `ray up`, with `provider`, a manifest with `kind: RayCluster`, "
        "or a shell script; sweep files are checked by `search plan`"
    )


def _parsed(path: Path, text: str) -> list[Any]:
    import yaml

    try:
        documents = [part for part in yaml.safe_load_all(text) if part is not None]
        endless = not _ends(documents, [LIMIT_VALUES])
    except yaml.YAMLError as error:
        raise SpecError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    except (ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:
        raise SpecError(
            f"{path} cannot be read as YAML: a date or number that is none ({error}); put a text into quotes"
        ) from error
    except RecursionError:
        endless = True
    if endless:
        raise SpecError(
            f"{path} cannot be read: an alias that holds itself, or more than {LIMIT_VALUES} values; "
            "a cluster's file has a few hundred"
        )
    return documents


def _ends(value: Any, left: list[int]) -> bool:
    """Returns whether a value has no more values inside than are left; one that holds itself has endlessly many."""
    left[0] -= 1
    inner = [*value.keys(), *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return left[0] >= 0 and all(_ends(each, left) for each in inner)


def mapping(value: Any) -> Mapping[str, Any]:
    """Returns a mapping as it is, and an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def items(value: Any) -> list[Any]:
    """Returns a list as it is, and an empty one for anything else."""
    return value if isinstance(value, list) else []


def unfilled(value: Any) -> bool:
    """Returns whether a value, or one inside it, still waits to be filled in."""
    return any(PLACEHOLDER in text for _, text in texts(value))


def near(name: str, known: Collection[str]) -> str:
    """Returns the known name nearest to a name for an advice, but not a list of a hundred."""
    suggestion = did_you_mean(name, known)
    return suggestion if "did you mean" in suggestion or len(known) <= 12 else ""


def texts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yields every text inside a value with its path."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from texts(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from texts(inner, f"{path}[{i}]")
    elif isinstance(value, str):
        yield path, value


def _start(where: str, text: str, command: cluster_shell.Command) -> Iterator[Start]:
    arguments = command.after("ray", "start")
    if arguments is not None:
        options = cluster_shell.options(arguments)
        yield Start(
            where=where,
            options_at=where,
            options=options,
            environment=command.environment,
            is_head="head" in options,
            command=text,
        )
