"""One driver a sweep: the lock that the second one meets.

`lock.json` in the sweep's folder says who holds it and has a counter that its holder turns. Whether the holder lives is
seen from its process where it runs on this machine, and elsewhere from the counter: if it stands still for several
beats, nobody turns it. Clocks of two machines are never compared.
"""

import contextlib
import json
import logging
import os
import secrets
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from results.errors import StorageError
from results.storage import Storage
from search.checkpoints import SPEC_FILE
from search.errors import SweepAborted, SweepError

_log = logging.getLogger(__name__)

LOCK_FILE = "lock.json"
BEAT_S = 5.0
"""The holder turns its counter after so many seconds."""
BEATS_TO_WATCH = 3
"""A counter that stood still for so many beats belongs to nobody any more."""
SETTLE_S = 1.0
"""Where a file cannot be made exclusively: how long to wait before looking whose lock it has become."""
GUARD_FILE = ".lock"


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a sweep.

    Attributes:
        host: the machine's name.
        machine: tells this start of this machine, and this set of processes of it, from all others.
        process_start: tells the process from a later one of the same number.
        beat: the counter.
        started: when the lock was taken, by the holder's clock; ISO 8601.
        token: of this taking of the lock.
    """

    host: str
    machine: str
    pid: int
    process_start: str
    beat: int
    started: str
    token: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.started}"

    @property
    def is_here(self) -> bool:
        """Whether it is or was a process that this one would see."""
        return self.host == socket.gethostname() and self.machine == _machine()


def holder(storage: Storage) -> Holder | None:
    """Returns who holds a sweep, alive or not; None if nobody does, or the lock is not one.

    Args:
        storage: the sweep's.

    Raises:
        StorageError: the storage does not answer.
    """
    try:
        document = json.loads(storage.read(LOCK_FILE))
        return Holder(**{field.name: field.type(document[field.name]) for field in fields(Holder)})  # pyright: ignore[reportCallIssue]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return None


def is_alive(
    storage: Storage,
    held: Holder,
    *,
    on_wait: Callable[[str], None] = lambda text: None,
    beat_s: float = BEAT_S,
) -> bool:
    """Returns whether the driver that holds a sweep lives; if it is on another machine, that may take three beats.

    Args:
        storage: the sweep's.
        held: what `holder` has returned.
        on_wait: is told, once, that this takes a while.
        beat_s: seconds from one beat of the holder to the next.
    """
    if held.is_here:
        return process_start(held.pid) == held.process_start
    on_wait(f"watching for up to {BEATS_TO_WATCH * beat_s:.0f} s whether the driver on {held.host} lives")
    until = time.monotonic() + BEATS_TO_WATCH * beat_s
    while time.monotonic() < until:
        time.sleep(min(1.0, beat_s / 5))
        now = holder(storage)
        if now is None:
            return False
        if (now.token, now.beat) != (held.token, held.beat):
            return True
    return False


def held_by(storage: Storage, *, on_wait: Callable[[str], None] = lambda text: None) -> Holder | None:
    """Returns the driver that lives and holds a sweep; None if there is none. See `is_alive` for how long it takes."""
    held = holder(storage)
    return held if held is not None and is_alive(storage, held, on_wait=on_wait) else None


class Lock:
    """Holds a sweep for this process, from `acquire` to `release`, or for the length of a `with`."""

    def __init__(
        self,
        storage: Storage,
        *,
        on_wait: Callable[[str], None] = lambda text: None,
        beat_s: float = BEAT_S,
    ):
        """Takes what to hold; nothing is read or written yet.

        Args:
            storage: the sweep's.
            on_wait: is told, once, that finding out about another holder takes a while.
            beat_s: seconds from one beat to the next; all who look at this sweep must agree on it.
        """
        self._storage, self._on_wait, self._beat_s = storage, on_wait, beat_s
        self._own: Holder | None = None
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self._taken_by: Holder | None = None

    def __enter__(self) -> "Lock":
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def acquire(self) -> None:
        """Takes the lock, also from a holder that does not live any more.

        Raises:
            SweepError: a driver that lives holds it.
            StorageError: the storage does not answer.
        """
        own = Holder(
            host=socket.gethostname(),
            machine=_machine(),
            pid=os.getpid(),
            process_start=process_start(os.getpid()) or "",
            beat=0,
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            token=secrets.token_hex(8),
        )
        found = holder(self._storage)
        if found is not None and is_alive(self._storage, found, on_wait=self._on_wait, beat_s=self._beat_s):
            raise self._refusal(found)
        with _guarded(self._storage) as exclusive:
            now = holder(self._storage)
            if now is not None and now != found:
                raise self._refusal(now)  # somebody was faster, or lives after all
            self._write(own)
        if not exclusive:
            time.sleep(SETTLE_S)
            now = holder(self._storage)
            if now is not None and now.token != own.token:
                raise self._refusal(now)
        if found is not None:
            _log.info("the lock of a driver that is gone was taken over: %s", found)
        self._own = own
        self._done.clear()
        self._thread = threading.Thread(target=self._turn, name="search-lock", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Returns if the lock is still held.

        Raises:
            SweepAborted: another driver has taken it, having seen no beat of this one for too long.
        """
        if self._taken_by is not None:
            raise SweepAborted(
                f"another driver has taken this sweep over ({self._taken_by}), after this one could not write to "
                f"{self._storage.where(LOCK_FILE)} for {BEATS_TO_WATCH * self._beat_s:.0f} s; it goes on there"
            )

    def release(self) -> None:
        """Gives the lock back; nothing if it is not held or another has taken it."""
        if self._own is None or self._thread is None:
            return
        self._done.set()
        self._thread.join(timeout=2 * self._beat_s)
        own, self._own, self._thread = self._own, None, None
        with contextlib.suppress(StorageError):  # a lock of a process that is gone keeps nobody out
            now = holder(self._storage)
            if now is not None and now.token == own.token:
                self._storage.remove(LOCK_FILE)

    def _turn(self) -> None:
        own = self._own
        while own is not None and not self._done.wait(self._beat_s):
            try:
                now = holder(self._storage)
                if now is not None and now.token != own.token:
                    self._taken_by = now
                    return
                if now is None and not self._storage.exists(SPEC_FILE):
                    continue  # the folder is gone; writing would make it anew and be in the way when it comes back
                own = replace(own, beat=own.beat + 1)
                self._write(own)
            except StorageError as error:
                _log.debug("the lock's beat %d was not written: %s", own.beat, error)

    def _write(self, own: Holder) -> None:
        self._storage.write(LOCK_FILE, json.dumps(asdict(own), indent=1).encode())

    def _refusal(self, held: Holder) -> SweepError:
        place = shlex.quote(self._storage.uri)
        return SweepError(
            f"the sweep in {self._storage.uri} runs already: {held}. `search status {place}` shows how it stands, "
            f"`search stop {place}` ends it in order"
        )


def process_start(pid: int) -> str | None:
    """Returns what tells a process from a later one of the same number; None if it does not run."""
    stat = Path("/proc", str(pid), "stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            return None
        # A process that was killed and that its parent has not asked for yet is in state Z.
        return None if fields[0] in "ZX" else fields[19]
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.0f}"
    except psutil.Error:
        return None


def _machine() -> str:
    """Returns what tells this start of this machine, and this container on it, from all others."""
    parts = []
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    except OSError:
        import psutil

        parts.append(f"{psutil.boot_time():.0f}")
    with contextlib.suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


@contextlib.contextmanager
def _guarded(storage: Storage) -> Iterator[bool]:
    """Keeps others from taking the lock for the length of a `with`; yields whether it could."""
    if not storage.is_local:
        yield False
        return
    try:
        import fcntl
    except ImportError:
        yield False
        return
    try:
        folder = Path(storage.uri)
        folder.mkdir(parents=True, exist_ok=True)
        guard = os.open(folder / GUARD_FILE, os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise StorageError(
            f"cannot write to {storage.uri}: {error.strerror}; give a folder that can be written"
        ) from error
    try:
        try:
            fcntl.flock(guard, fcntl.LOCK_EX)
            exclusive = True
        except OSError:
            exclusive = False  # a file system that knows no locks
        yield exclusive
    finally:
        os.close(guard)
