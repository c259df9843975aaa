"""Crews do pieces of work that tell how they come along: in this process, or side by side on a Ray cluster.

A piece of work is a generator of plain documents; its last one is `{"result": ...}`.
"""

import contextlib
import logging
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from results.errors import StorageError
from search.conductor import LOST_LIMIT
from search.connection import connected, room, tells_of_a_lost_machine
from search.errors import TrialFailed
from search.spec import ResourceSettings, SweepSpec

_log = logging.getLogger(__name__)

Message = dict[str, Any]
Work = Callable[..., Iterator[Message]]
Arguments = Sequence[tuple[tuple, dict[str, Any]]]
"""What each piece of work is called with: positional and named arguments."""
PATIENCE_S = 60.0
"""How long the storage may be away before a piece of work is given up."""
AGAIN_S = 1.0
"""A piece that has met a storage that is away is begun again after so long."""
BEGUN: Message = {"begun": True}


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
    """Runs a piece of work; what goes wrong in it is its last message. One whose storage is away is begun again."""
    away_since: float | None = None
    while True:
        try:
            for message in _caught(work, args, options):
                yield message
                away_since = None
            return
        except StorageError as error:
            now = time.monotonic()
            away_since = away_since or now
            if now - away_since >= PATIENCE_S:
                yield {"failed": str(error), "reason_kind": "error", "detail": traceback.format_exc()[-20_000:]}
                return
            _log.warning("a piece of work is begun again in %.0f s: %s", AGAIN_S, error)
            time.sleep(AGAIN_S)


def _caught(work: Work, args: tuple, options: dict[str, Any]) -> Iterator[Message]:
    try:
        yield from work(*args, **options)
    except StorageError:
        raise
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


class CrewMember:
    """A process that does pieces of work, one after the other; an actor of Ray's."""

    def do(self, work: Work, args: tuple, options: dict[str, Any]) -> Iterator[Message]:
        """Does a piece; says first that it has begun."""
        yield BEGUN
        yield from _guarded(work, args, options)


class OnRay:
    """Does the pieces on the Ray cluster that this process is connected to, as many at a time as fit.

    Its processes are actors and stay for the next pieces. Ray's tasks would do, but for a machine that goes silent: Ray
    takes an actor for dead when it misses the machine, after a minute, and a task only when its connection to it ends,
    which takes more than five.
    """

    def __init__(self, *, cpus: float, gpus: float, retries: int):
        """Takes what each piece is given, and how often one whose process dies, not its machine, is begun again."""
        self._share = ResourceSettings(cpus=cpus, gpus=gpus)
        self._retries = retries
        self._idle: list[Any] = []

    def width(self) -> int:
        """See `Crew`; as the cluster is now."""
        return room(self._share)

    def run(self, work: Work, arguments: Arguments) -> Iterator[tuple[int, Message]]:
        """See `Crew`; a piece that is begun again tells some things twice.

        Each piece has a member of its own, most of which wait for room, where an autoscaler sees them; who is done
        takes over a piece whose member has found none.
        """
        import ray
        from ray.exceptions import RayError

        join = ray.remote(CrewMember).options(num_cpus=self._share.cpus, num_gpus=self._share.gpus)
        running: dict[Any, tuple[int, Any]] = {}
        begun: set[int] = set()
        lives = dict.fromkeys(range(len(arguments)), 1 + self._retries)
        losses = dict.fromkeys(lives, 0)

        def give(number: int, member: Any) -> None:
            args, options = arguments[number]
            running[member.do.options(num_returns="streaming").remote(work, args, options)] = number, member

        def is_done(member: Any) -> None:
            """Lets a member go on with a piece that has found no room, or stay for the next ones."""
            for stream, (number, other) in list(running.items()):
                if number not in begun:
                    del running[stream]
                    ray.kill(other)
                    return give(number, member)
            return self._idle.append(member)

        try:
            for number in range(len(arguments)):
                give(number, self._idle.pop() if self._idle else join.remote())
            while running:
                ready: list[Any] = ray.wait(list(running), num_returns=1, timeout=1.0)[0]
                for stream in ready:
                    number, member = running[stream]
                    try:
                        message: Any = ray.get(next(stream))
                    except StopIteration:
                        del running[stream]
                        is_done(member)
                    except RayError as error:
                        del running[stream]
                        begun.discard(number)
                        losses[number] += 1
                        lives[number] -= not tells_of_a_lost_machine(str(error))
                        if lives[number] and losses[number] < LOST_LIMIT:
                            give(number, join.remote())
                            continue
                        lines = str(error).strip().splitlines()
                        yield (
                            number,
                            {"failed": lines[0] if lines else "its process ended", "reason_kind": "worker_died"},
                        )
                    else:
                        if message == BEGUN:
                            begun.add(number)
                        else:
                            yield number, message
        finally:
            for _, member in running.values():
                ray.kill(member)


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
