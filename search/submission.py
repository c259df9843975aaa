"""A sweep is sent to a cluster from outside, through the job server of its dashboard, and looked on from there.

`ray dashboard cluster.yaml` brings that server to this machine through SSH. The driver then runs on the cluster: what
happens to the connection or to this machine does not concern it.
"""

import asyncio
import contextlib
import hashlib
import json
import re
import secrets
import shlex
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from results.storage import Storage
from search import connection
from search.environment import COMMIT, commit
from search.errors import SweepAborted, SweepError
from search.parcel import Parcel, pack

if TYPE_CHECKING:
    import aiohttp

ANSWER_LIMIT_S = 30.0
"""A server that takes longer for an answer is taken to be out of reach."""
UPLOAD_LIMIT_S = 900.0
AGAIN_S = 3.0
"""When the connection is lost, it is tried again after so many seconds."""
HEARTBEAT_S = 15.0
"""So often a connection on which nothing comes is asked whether it is still there."""
YOUNG_S = 60.0
"""A head that has just started is given so long until it takes jobs."""
READINGS = 5
"""So often the log of a job that has ended is read when it breaks off."""
NOBODY_YET = "No available agent"
"""Ray's words for it."""
ENDED = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})
NOT_FOUND = 127
"""What a shell exits with if there is no such command."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A command that runs on a cluster.

    Attributes:
        server: the address of the job server.
        name: that Ray knows it by.
    """

    server: str
    name: str

    @property
    def logs_command(self) -> str:
        """What shows its log from its beginning, and follows it."""
        return f"ray job logs --follow --address {self.server} {self.name}"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a job ended.

    Attributes:
        status: its exit status; 130 if it was stopped.
        why: what Ray says where the command itself could not say anything; "" otherwise.
    """

    status: int
    why: str = ""


def is_job_server(address: str | None) -> bool:
    """Whether an address is one that sweeps are sent to, and not one that a driver connects to."""
    return address is not None and address.partition("://")[0] in ("http", "https")


def check_shared(place: str, what: str) -> None:
    """Returns if a storage is one that a cluster may see as well as this machine.

    Raises:
        SweepError: it is a folder below the current one.
        StorageError: it is none, or its address holds a key.
    """
    if not Storage(place).is_local or Path(place.removeprefix("file://")).is_absolute():
        return
    raise SweepError(
        f"{what} {place!r} is below the current folder, which the cluster does not see; give s3://bucket/folder, "
        "gs://bucket/folder, or the absolute path of a folder that all its machines share"
    )


def send(
    words: Sequence[str],
    *,
    server: str,
    name: str,
    parcel: Parcel | None = None,
    width: int | None = None,
    say: Callable[[str], None],
) -> Job:
    """Sends a command to a cluster, where it begins at once.

    Args:
        words: of the command line.
        server: address of the job server, such as `http://127.0.0.1:8265`.
        name: what the job is about; becomes part of its name.
        parcel: files that it finds in its current folder, there and in all workers.
        width: columns of the terminal that its words are for.
        say: told what a person at the terminal should know.

    Raises:
        SweepError: nobody answers there, the token is missing or wrong, or the job was refused.
    """
    # Of some names nothing is left, and what begins with a dash would be an option of Ray's commands.
    kept = [word for word in re.split(r"[^A-Za-z0-9_]+", name) if word]
    job = Job(server=server.rstrip("/"), name="-".join(["sweep", *kept, secrets.token_hex(3)]))
    environment = {"COLUMNS": str(width)} if width else {}
    asyncio.run(_send(job, words, parcel, environment, say))
    return job


def follow(job: Job, *, show: Callable[[str], None], say: Callable[[str], None]) -> Outcome:
    """Shows what a job prints until it ends; a connection that is lost is tried again.

    Args:
        job: from `send`.
        show: is given its lines, without their ends.
        say: told what a person at the terminal should know.

    Raises:
        SweepAborted: the cluster does not know the job any more, or does not let us in any more.
    """
    try:
        return asyncio.run(_follow(job, show, say))
    except SweepError as error:
        raise SweepAborted(str(error)) from error


def remove(job: Job) -> None:
    """Ends a job and takes it from the cluster's list; nothing happens if that does not work."""
    with contextlib.suppress(SweepError):
        asyncio.run(_remove(job))


# --- the job server ---------------------------------------------------------------------------------------------------


class _Unreachable(SweepError):
    """Nobody answers; that may pass."""


class _Server:
    """The job server of a cluster, with a session of HTTP that is open."""

    def __init__(self, address: str, session: "aiohttp.ClientSession"):
        self._address, self.session = address, session

    async def call(
        self, method: str, path: str, *, body: Any = None, data: bytes | None = None, missing: bool = False
    ) -> dict[str, Any] | None:
        """Returns the document that it answers with; None if there is no such thing and `missing` allows for that."""
        import aiohttp

        limit = aiohttp.ClientTimeout(total=ANSWER_LIMIT_S if data is None else UPLOAD_LIMIT_S)
        try:
            async with self.session.request(
                method, self._address + path, json=body, data=data, timeout=limit, allow_redirects=False
            ) as answer:
                text = await answer.text("utf-8", errors="replace")
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise _Unreachable(
                f"no job server answers at {self._address} ({_why(error)}); `ray dashboard cluster.yaml` brings the "
                "cluster's to http://127.0.0.1:8265 through SSH and has to stay open"
            ) from error
        if missing and answer.status == 404:
            return None
        self._check(answer.status, text)
        with contextlib.suppress(ValueError):
            if isinstance(document := json.loads(text), dict):
                return document
        return {}

    def _check(self, status: int, text: str) -> None:
        if status in (401, 403):
            token = connection.token_source()
            found = f"the one in {token} is another's" if token else "none is found here"
            raise SweepError(
                f"{self._address} asks for the cluster's token (it answers {status}), {found}; put the cluster's into "
                f"{connection.token_file()}, readable by you alone, or name its file in {connection.TOKEN_PATH}"
            )
        if status >= 500:
            raise _Unreachable(f"{self._address} answers with {status}: {_first_line(text)}")
        if status != 200:
            raise SweepError(
                f"{self._address} answers with {status}, expected Ray's job server: {_first_line(text)}; give the "
                "address of the cluster's dashboard"
            )


@contextlib.asynccontextmanager
async def _connected(address: str) -> AsyncIterator[_Server]:
    import aiohttp

    token = connection.token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession(headers=headers) as session:
        yield _Server(address, session)


async def _send(
    job: Job, words: Sequence[str], parcel: Parcel | None, environment: dict[str, str], say: Callable[[str], None]
) -> None:
    where = urlsplit(job.server)
    if where.scheme == "http" and where.hostname not in ("127.0.0.1", "localhost", "::1") and connection.token():
        say(f"the token goes to {where.hostname} as plain text: use that in a private network alone, or an SSH tunnel")
    async with _connected(job.server) as server:
        there = (await server.call("GET", "/api/version") or {}).get("ray_version")
        if there is None:
            raise SweepError(f"{job.server} is no job server of Ray's; give the address of the cluster's dashboard")
        if there != (here := metadata.version("ray")):
            say(f"the cluster runs Ray {there}, this machine {here}, expected the same on both")
        given: dict[str, Any] = {"env_vars": environment}
        if parcel is not None:
            given = {"working_dir": await _sent(server, parcel, say), "env_vars": {COMMIT: commit()} | environment}
        body = {"entrypoint": shlex.join(words), "submission_id": job.name, "runtime_env": given}
        await _patiently(lambda: server.call("POST", "/api/jobs/", body=body))


async def _patiently(ask: Callable[[], Awaitable[Any]]) -> None:
    """Asks again while a head that has just started has nobody yet who runs jobs."""
    until = time.monotonic() + YOUNG_S
    while True:
        try:
            await ask()
            return
        except _Unreachable as error:
            if NOBODY_YET not in str(error) or time.monotonic() >= until:
                raise
        await asyncio.sleep(1.0)


async def _sent(server: _Server, parcel: Parcel, say: Callable[[str], None]) -> str:
    """Sends the files, unless the cluster has just these already; returns how Ray names them."""
    with tempfile.TemporaryDirectory(prefix="search-") as folder:
        archive = Path(folder, "tree.zip")
        pack(parcel, archive)
        data = archive.read_bytes()
    # Named so by Ray's rules: what begins otherwise is not unpacked.
    package = f"_ray_pkg_{hashlib.sha256(data).hexdigest()[:32]}.zip"
    if await server.call("GET", f"/api/packages/gcs/{package}", missing=True) is None:
        await server.call("PUT", f"/api/packages/gcs/{package}", data=data)
    say(f"sent {len(parcel.sizes)} files of {parcel.root}, {len(data) / 1e6:.1f} MB packed")
    return f"gcs://{package}"


async def _follow(job: Job, show: Callable[[str], None], say: Callable[[str], None]) -> Outcome:
    log, readings = _Log(show), 0
    is_lost = False
    while True:
        try:
            async with _connected(job.server) as server:
                await _told(server, job)
                if is_lost:
                    say(f"{job.server} answers again")
                is_lost = False
                is_whole = await _show(server, job, log)
                told = await _told(server, job)
            if told["status"] in ENDED:
                readings += 1
                if not is_whole and readings == READINGS:
                    say(f"the log broke off {READINGS} times; its end may be missing: {job.logs_command}")
                if is_whole or readings == READINGS:
                    log.close()
                    return _outcome(told)
        except _Unreachable as error:
            if not is_lost:
                say(
                    f"the connection is lost: {error}. What runs on the cluster goes on; trying again until Ctrl-C, "
                    "which ends the looking on alone"
                )
            is_lost = True
        await asyncio.sleep(AGAIN_S if is_lost else 0.5)


async def _remove(job: Job) -> None:
    async with _connected(job.server) as server:
        await server.call("POST", f"/api/jobs/{job.name}/stop")  # nothing happens if it has ended
        while (await _told(server, job))["status"] not in ENDED:
            await asyncio.sleep(0.5)
        await server.call("DELETE", f"/api/jobs/{job.name}")


async def _told(server: _Server, job: Job) -> Mapping[str, Any]:
    """Returns what is known of a job, its `status` at least."""
    told = await server.call("GET", f"/api/jobs/{job.name}", missing=True)
    if told is None:
        raise SweepError(
            f"{job.server} knows no job {job.name} (any more): if its head was started anew, `search resume` goes on"
        )
    if "status" not in told:
        raise _Unreachable(f"{job.server} answers, but not as Ray's job server does")
    return told


async def _show(server: _Server, job: Job, log: "_Log") -> bool:
    """Shows the log until it ends or the connection does; returns whether it was the log."""
    import aiohttp

    log.rewind()
    url = f"{job.server}/api/jobs/{job.name}/logs/tail"
    try:
        async with server.session.ws_connect(url, heartbeat=HEARTBEAT_S, max_msg_size=0) as stream:
            async for message in stream:
                if message.type is aiohttp.WSMsgType.TEXT:
                    log.take(message.data)
            return stream.close_code == aiohttp.WSCloseCode.OK
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False  # asked for the job's state next, the server says what is wrong


def _outcome(told: Mapping[str, Any]) -> Outcome:
    code, said = told.get("driver_exit_code"), str(told.get("message") or "")
    if told["status"] == "SUCCEEDED":
        return Outcome(status=0)
    if told["status"] == "STOPPED":
        return Outcome(status=130, why="the job was stopped; `search resume` goes on with its sweep")
    if code == NOT_FOUND:
        return Outcome(
            status=1, why="the cluster's head has no command `search` on its PATH: install the package there"
        )
    if isinstance(code, int) and code > 0:
        return Outcome(status=code)
    return Outcome(status=1, why=f"the job has failed: {said.strip()[-1500:] or 'Ray does not say why'}")


def _why(error: Exception) -> str:
    system = getattr(error, "os_error", error)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(getattr(system, "strerror", None) or error) or type(error).__name__


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "nothing")[:200]


class _Log:
    """The lines of a log that is sent again from its beginning whenever the connection was lost."""

    def __init__(self, show: Callable[[str], None]):
        self._show = show
        self._shown = self._passed = 0
        self._rest = ""

    def rewind(self) -> None:
        """What comes next is the beginning again."""
        self._passed = 0

    def take(self, text: str) -> None:
        """Shows what is new."""
        new = text[max(0, self._shown - self._passed) :]
        self._passed += len(text)
        self._shown = max(self._shown, self._passed)
        *lines, self._rest = (self._rest + new).split("\n")
        for line in lines:
            self._show(line)

    def close(self) -> None:
        """Shows a last line that has no end."""
        if self._rest:
            self._show(self._rest)
        self._rest = ""
