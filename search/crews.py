"""Crews do pieces of work that tell how they come along: in this process, or side by side on a Ray cluster.

A piece of work is a generator of plain documents; its last one is `{"result": ...}`.
"""

import contextlib
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from search.connection import connected
from search.errors import TrialFailed
from search.spec import SweepSpec

Message = dict[str, Any]
Work = Callable[..., Iterator[Message]]
Arguments = Sequence[tuple[tuple, dict[str, Any]]]
"""What each piece of work is called with: positional and named arguments."""


class Crew(Protocol):
    """Does pieces of work, perhaps several at a time."""

    def run(self, work: Work, arguments: Arguments) -> Iterator[tuple[int, Message]]:
        """Yields what each piece tells, with the number of its arguments.

        The last message of each is `{"result": ...}` or `{"failed": reason, "reason_kind": ..., "detail": ...}`.
        """
        ...

    def width(self) -> int:
        """Returns how many pieces of work are done at a time."""
        ...


def _guarded(work: Work, args: tuple, options: dict[str, Any]) -> Iterator[Message]:
    """Runs a piece of work; what goes wrong in it is its last message."""
    try:
        yield from work(*args, **options)
    except TrialFailed as failure:
        yield {"failed": str(failure), "reason_kind": failure.reason_kind, "detail": failure.detail}
    except Exception as error:  # noqa: BLE001 - the boundary: the work's failure is its row's affair
        words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        kind = getattr(error, "reason_kind", "error")
        yield {"failed": words.splitlines()[0][:500], "reason_kind": kind, "detail": traceback.format_exc()[-20_000:]}


class Here:
    """Does one piece after the other, in this process."""

    def run(self, work: Work, arguments: Arguments) -> Iterator[tuple[int, Message]]:
        """See `Crew`."""
        for number, (args, options) in enumerate(arguments):
            for message in _guarded(work, args, options):
                yield number, message

    def width(self) -> int:
        """See `Crew`."""
        return 1


class OnRay:
    """Does the pieces on the Ray cluster that this process is connected to, as many at a time as fit."""

    def __init__(self, *, cpus: float, gpus: float, retries: int):
        """Takes what each piece is given, and how often one whose process dies is begun again."""
        self._options = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": retries}

    def width(self) -> int:
        """See `Crew`; as the cluster is now."""
        import ray

        have = ray.cluster_resources()
        pairs = (("CPU", self._options["num_cpus"]), ("GPU", self._options["num_gpus"]))
        return max(1, min((int(have.get(name, 0.0) / each + 1e-9) for name, each in pairs if each), default=1))

    def run(self, work: Work, arguments: Arguments) -> Iterator[tuple[int, Message]]:
        """See `Crew`; a piece that is begun again tells some things twice."""
        import ray
        from ray.exceptions import RayError

        remote = ray.remote(_guarded).options(**self._options, num_returns="streaming")
        running: dict[Any, int] = {
            remote.remote(work, args, options): number for number, (args, options) in enumerate(arguments)
        }
        try:
            while running:
                ready: list[Any] = ray.wait(list(running), num_returns=1, timeout=1.0)[0]
                for stream in ready:
                    number = running[stream]
                    message: Any
                    try:
                        message = ray.get(next(stream))
                    except StopIteration:
                        del running[stream]
                        continue
                    except RayError as error:
                        del running[stream]
                        lines = str(error).strip().splitlines()
                        message = {"failed": lines[0] if lines else "its process ended", "reason_kind": "worker_died"}
                    yield number, message
        finally:
            for stream in running:
                ray.cancel(stream)


class Connecting:
    """A crew on Ray that connects when there is something to do, and lets go at the end of its `with`."""

    def __init__(self, spec: SweepSpec, **options: Any):
        """Takes the sweep, and the options of `search.connection.connected`."""
        self._spec, self._options = spec, options
        self._connection = contextlib.ExitStack()
        self._crew: OnRay | None = None

    def __enter__(self) -> "Connecting":
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()

    def connect(self) -> str:
        """Connects now, if it has not yet; returns the address of Ray's dashboard, or "" for none that is new."""
        if self._crew is not None:
            return ""
        url = self._connection.enter_context(connected(self._spec, **self._options))
        given = self._spec.resources
        self._crew = OnRay(cpus=given.cpus, gpus=given.gpus, retries=given.retries)
        return url

    def run(self, work: Work, arguments: Arguments) -> Iterator[tuple[int, Message]]:
        """See `Crew`."""
        if not arguments:
            return
        self.connect()
        assert self._crew is not None
        yield from self._crew.run(work, arguments)

    def width(self) -> int:
        """See `Crew`."""
        self.connect()
        assert self._crew is not None
        return self._crew.width()
