"""`search monitor`."""

import signal
import threading
from pathlib import Path

import click

from results.cli.commands import Command, pass_terminal
from results.cli.terminal import Terminal
from search.errors import SearchError
from search.interrupts import handled

LOOK_S = 1.0
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, SIGTERM, and a terminal that is closed."""
FOLDER = Path("runs", ".monitor")


@click.command(
    cls=Command,
    examples=["search monitor", "search monitor --folder watched --prometheus-port 9091"],
    short_help="Show a cluster and its sweeps over time, by Prometheus and Grafana.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=FOLDER,
    show_default=True,
    help="Where settings and figures are kept.",
)
@click.option(
    "--ray-folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/tmp/ray"),
    show_default=True,
    help="Ray's folder for temporary files, which lists the nodes.",
)
@click.option("--prometheus-port", type=click.IntRange(1, 65535), default=9090, show_default=True, help="Its port.")
@click.option("--grafana-port", type=click.IntRange(1, 65535), default=3000, show_default=True, help="Its port.")
@click.option("--only-write", is_flag=True, help="Write settings, dashboard and page, and start nothing.")
@pass_terminal
def monitor(
    terminal: Terminal, folder: Path, ray_folder: Path, prometheus_port: int, grafana_port: int, only_write: bool
) -> None:
    """Starts Prometheus, and Grafana if it is installed, for a Ray cluster; Ctrl-C ends both.

    Run it on the cluster's head, or beside a sweep of this machine. Both listen on 127.0.0.1 alone.
    """
    from search.monitoring import Ports, discovery_file, monitoring, write

    ports, discovery = Ports(prometheus=prometheus_port, grafana=grafana_port), discovery_file(ray_folder)
    if only_write:
        write(folder.absolute(), discovery=discovery, ports=ports)
        terminal.out(f"{folder} has prometheus.yml, consoles/ and grafana/")
        return
    asked = threading.Event()
    with (
        handled(lambda *_: asked.set(), *ENDS),
        monitoring(folder, discovery=discovery, ports=ports) as (started, ended),
    ):
        terminal.out(f"panels:     {started.page}")
        terminal.out(f"prometheus: {started.prometheus}")
        terminal.out(f"grafana:    {started.grafana or 'not installed; the panels are the same'}")
        if not started.num_targets:
            terminal.note(f"{discovery} lists no node yet: figures come when Ray runs here")
        terminal.note("Ctrl-C ends this")
        while not asked.is_set():
            if name := ended():
                raise SearchError(f"{name} has ended; its log lies in {folder}")
            asked.wait(LOOK_S)
