"""Watches a cluster over time: Prometheus, and Grafana where it is installed, on this machine alone, until it is ended.

Both read what Ray gives on each node; so they run on the head, or where the nodes can be reached.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from search import dashboard
from search.errors import SearchError, SweepError

HERE = "127.0.0.1"
READY_S = 60.0
"""A program that has not begun to listen by then does not."""
END_S = 10.0
"""A program that was asked to end is given so long."""
DISCOVERY = "prom_metrics_service_discovery.json"
"""What Ray calls its list of the addresses that give figures."""
KEPT = "15d"
"""Older figures are removed."""
GRAFANA_HOMES = (Path("/usr/share/grafana"), Path("/usr/local/share/grafana"), Path("/opt/homebrew/share/grafana"))


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Where the programs listen, on this machine alone."""

    prometheus: int = 9090
    grafana: int = 3000


@dataclass(frozen=True, kw_only=True)
class Started:
    """What runs.

    Attributes:
        page: the address of the panels that Prometheus shows.
        grafana: the address of Grafana's dashboard, "" if it is not installed.
        num_targets: how many addresses that give figures Ray has listed so far.
    """

    page: str
    prometheus: str
    grafana: str
    num_targets: int


def discovery_file(ray_folder: Path) -> Path:
    """Returns Ray's list of the addresses that give figures, below its folder for temporary files."""
    return ray_folder.absolute() / DISCOVERY


def write(folder: Path, *, discovery: Path, ports: Ports) -> None:
    """Writes the settings of both programs, the dashboard and the page; what lay there of these is replaced.

    Args:
        folder: where; for its owner alone, since Prometheus keeps its figures there too.
        discovery: see `discovery_file`.
        ports: where they are to listen.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    provisioning = folder / "grafana" / "provisioning"
    boards = {"Sweeps": folder / "grafana" / "dashboards"}
    of_ray = discovery.parent / "session_latest" / "metrics" / "grafana" / "dashboards"
    if of_ray.is_dir():
        boards["Ray"] = of_ray
    for path, text in {
        folder / "prometheus.yml": dashboard.prometheus_settings(discovery),
        folder / "consoles" / dashboard.PAGE: dashboard.page(),
        folder / "grafana" / "grafana.ini": dashboard.grafana_settings(folder / "grafana", port=ports.grafana),
        folder / "grafana" / "dashboards" / "sweeps.json": json.dumps(dashboard.grafana_dashboard(), indent=1) + "\n",
        provisioning / "datasources" / "prometheus.yml": dashboard.grafana_sources(_url(ports.prometheus)),
        provisioning / "dashboards" / "folders.yml": dashboard.grafana_providers(boards),
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


@contextlib.contextmanager
def monitoring(folder: Path, *, discovery: Path, ports: Ports) -> Iterator[tuple[Started, Callable[[], str]]]:
    """Runs the programs for the length of a `with`; yields what runs, and what says which of them has ended ("" none).

    Args:
        folder: for settings and figures; see `write`.
        discovery: see `discovery_file`; need not be there yet.
        ports: where they listen.

    Raises:
        SweepError: Prometheus is not installed, or a port is taken.
        SearchError: one of them ended at once.
    """
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        raise SweepError(
            "there is no program `prometheus` on the PATH; install it (Debian, Ubuntu: `apt install prometheus`; "
            "macOS: `brew install prometheus`), or let your own read what `search monitor --only-write` writes"
        )
    grafana = _grafana()
    _check_free(ports.prometheus, "--prometheus-port", "Debian's package starts one of its own: `systemctl disable "
                "--now prometheus` ends it")  # fmt: skip
    if grafana:
        _check_free(ports.grafana, "--grafana-port", "`systemctl disable --now grafana-server` ends the package's own")
    folder = folder.absolute()
    write(folder, discovery=discovery, ports=ports)
    with contextlib.ExitStack() as running:
        processes = {
            "Prometheus": running.enter_context(
                _running(
                    [
                        prometheus,
                        f"--config.file={folder / 'prometheus.yml'}",
                        f"--storage.tsdb.path={folder / 'figures'}",
                        f"--storage.tsdb.retention.time={KEPT}",
                        f"--web.listen-address={HERE}:{ports.prometheus}",
                        f"--web.console.templates={folder / 'consoles'}",
                    ],
                    folder / "prometheus.log",
                    ports.prometheus,
                )
            )
        }
        if grafana:
            processes["Grafana"] = running.enter_context(
                _running(
                    [*grafana, f"--config={folder / 'grafana' / 'grafana.ini'}"],
                    folder / "grafana.log",
                    ports.grafana,
                )
            )
        started = Started(
            page=f"{_url(ports.prometheus)}/consoles/{dashboard.PAGE}",
            prometheus=_url(ports.prometheus),
            grafana=f"{_url(ports.grafana)}/d/{dashboard.UID}" if grafana else "",
            num_targets=_num_targets(discovery),
        )

        def ended() -> str:
            return next((name for name, process in processes.items() if process.poll() is not None), "")

        yield started, ended


def _grafana() -> list[str]:
    """Returns how Grafana is started; nothing where it is not installed."""
    home = next((place for place in GRAFANA_HOMES if place.is_dir()), None)
    where = [f"--homepath={home}"] if home else []
    if own := shutil.which("grafana-server"):
        return [own, *where]
    if whole := shutil.which("grafana"):
        return [whole, "server", *where]
    return []


@contextlib.contextmanager
def _running(command: Sequence[str], log: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a program that listens, with a log of its own and without the token; ends it at the end of a `with`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment,
            cwd=log.parent, start_new_session=True,
        )  # fmt: skip
    try:
        until = time.monotonic() + READY_S
        while not _listens(port):
            if process.poll() is not None or time.monotonic() >= until:
                said = " ".join(log.read_text("utf-8", errors="replace").strip().splitlines()[-2:])[-600:]
                raise SearchError(f"{Path(command[0]).name} does not run: {said or 'it says nothing'}; {log} has all")
            time.sleep(0.1)
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
            return


def _check_free(port: int, option: str, hint: str) -> None:
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HERE, port))
    except OSError as error:
        raise SweepError(
            f"port {port} here is taken or not allowed ({error.strerror}); choose another with {option}. {hint}"
        ) from error


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HERE, port), timeout=1.0):
        return True
    return False


def _num_targets(discovery: Path) -> int:
    try:
        return sum(len(group["targets"]) for group in json.loads(discovery.read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _url(port: int) -> str:
    return f"http://{HERE}:{port}"
