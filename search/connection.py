"""The connection to Ray: a cluster of this machine's own, or one that is there; always with a token."""

import contextlib
import logging
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from search.errors import SweepError
from search.interrupts import unchanged
from search.shares import Share, fitting
from search.spec import SweepSpec

_log = logging.getLogger(__name__)

AUTH_MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"


@contextlib.contextmanager
def connected(spec: SweepSpec, *, address: str | None = None, dashboard: bool = True) -> Iterator[str]:
    """Connects to Ray for the length of a `with`; yields the address of its dashboard, or "" without one.

    Args:
        spec: says which Keras backend the workers use, and with how many threads.
        address: of a cluster that runs; None starts one on this machine, which ends with the `with`.
        dashboard: start the dashboard, on this machine alone (`address` None).

    Raises:
        SweepError: there is no cluster at the address, it is one of Ray Client's, or Ray cannot be started.
    """
    if address is not None and "://" in address:
        raise SweepError(
            f"--address {address}: a sweep's driver runs on a machine of the cluster, where --address auto finds it; "
            "`search run FILE --address http://127.0.0.1:8265` sends it there through `ray dashboard cluster.yaml`, "
            "`ray exec` starts it there (docs/cluster.md)"
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address is None:
        os.environ.setdefault("RAY_agent_register_timeout_ms", "100000")  # a busy machine takes longer than Ray's 15 s
        if os.environ.get(AUTH_MODE, "token") == "token":
            _make_token()  # where there is one, Ray asks for it
    elif token():
        os.environ.setdefault(AUTH_MODE, "token")  # clusters started where there is one ask for it
    import ray
    from ray.exceptions import RayError

    options: dict[str, Any] = {
        "runtime_env": {"env_vars": worker_environment(spec)},
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "namespace": "search",
    }
    if address is None:
        options |= {"include_dashboard": dashboard, "dashboard_host": "127.0.0.1"}
    try:
        with unchanged():
            context = ray.init(address=address or "local", **options)  # without an address, it would join what it finds
    except (ConnectionError, RuntimeError, ValueError, OSError, RayError) as error:
        where = f"no Ray cluster answers at {address}" if address else "Ray cannot be started on this machine"
        raise SweepError(
            f"{where}: {str(error).splitlines()[0][:300]}; `ray status` says more, `search doctor` checks the rest"
        ) from error
    try:
        yield context.dashboard_url or ""
    finally:
        ray.shutdown()


def room(share: Share) -> int:
    """Returns how many trials with such a share fit into the cluster as it is now; at least one."""
    import ray

    have = ray.cluster_resources()
    return fitting(share, cpus=have.get("CPU", 0.0), gpus=have.get("GPU", 0.0))


def tells_of_a_lost_machine(text: str) -> bool:
    """Returns whether what Ray says of the end of an actor means that its machine went away."""
    lower = text.lower()
    return any(words in lower for words in ("its node has died", "the actor's node was", "preempted"))


def worker_environment(spec: SweepSpec) -> dict[str, str]:
    """Returns what workers find in their environment: the backend, as many threads as cores, GPU memory on demand."""
    threads = str(max(1, int(spec.resources.cpus)))
    environment = {
        "KERAS_BACKEND": spec.backend,
        "OMP_NUM_THREADS": threads,
        "TF_NUM_INTRAOP_THREADS": threads,
        "TF_NUM_INTEROP_THREADS": "1",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH", "")])),
    }
    if threads == "1" and not spec.resources.gpus:
        environment["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    return environment


def token() -> str:
    """Returns the token that clusters are asked with, "" if there is none."""
    if os.environ.get(TOKEN):
        return os.environ[TOKEN].strip()
    try:
        return token_file().read_text("ascii", errors="ignore").strip()
    except OSError:
        return ""


def token_file() -> Path:
    """Returns where the token lies, or would lie."""
    return Path(os.environ.get(TOKEN_PATH) or Path.home() / ".ray" / "auth_token")


def token_source() -> str:
    """Returns where the token was found, for messages; "" if there is none."""
    if not token():
        return ""
    return TOKEN if os.environ.get(TOKEN) else str(token_file())


def _make_token() -> None:
    """Sees to it that there is a token, in a file that nobody else can read."""
    if os.environ.get(TOKEN):
        return
    path = token_file()
    if path.is_file():
        if not token():
            raise SweepError(f"{path} is empty, expected Ray's token; remove it, and a new one is made")
        with contextlib.suppress(OSError):
            path.chmod(0o600)
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, written = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # nobody else can read it
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32))
            with contextlib.suppress(FileExistsError):  # another driver was first
                os.link(written, path)
        finally:
            Path(written).unlink()
    except OSError as error:
        raise SweepError(
            f"cannot write Ray's token to {path}: {error.strerror or error}; set {TOKEN_PATH} to another file"
        ) from error
