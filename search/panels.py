"""What is worth watching of a sweep and its cluster, as queries to Prometheus; two pages show the same panels.

`search.dashboard` makes a dashboard for Grafana of them, and a page that Prometheus itself shows.
"""

from dataclasses import dataclass
from typing import Literal

Unit = Literal["short", "none", "s", "percent", "percentunit", "bytes", "Bps"]
"""As Grafana calls them."""

SWEEP = '{sweep=~"$sweep"}'
"""Both pages put the chosen sweep, or `.*`, in the place of `$sweep`."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """What one query draws.

    Attributes:
        query: in PromQL.
        name: of a line; `<label>` stands for the value of a label.
    """

    query: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A chart.

    Attributes:
        meaning: a sentence for those who see it for the first time.
        stacked: whether lines stand on each other.
        needs: what has to be there for data to appear, "" if a sweep that runs is enough.
    """

    title: str
    meaning: str
    unit: Unit
    lines: tuple[Line, ...]
    stacked: bool = False
    needs: Literal["", "gpu", "failures", "budget", "price"] = ""


def _one(query: str, name: str) -> tuple[Line, ...]:
    return (Line(query=query, name=name),)


GROUPS: dict[str, tuple[Panel, ...]] = {
    "The sweep": (
        Panel(
            title="Best so far",
            meaning="The first objective of the best trial, as measured; the best of many noisy scores is partly luck.",
            unit="none",
            lines=_one(f"max by (sweep, metric) (ray_search_best_value{SWEEP})", "<sweep> <metric>"),
        ),
        Panel(
            title="Trials by state",
            meaning="How many trials there are in each state; the sum grows with every proposal.",
            unit="short",
            lines=_one(f"max by (sweep, state) (ray_search_trials{SWEEP}) > 0", "<sweep> <state>"),
            stacked=True,
        ),
        Panel(
            title="Learning curves",
            meaning="The first objective of what each worker trains at the moment; a gap is the way to the next trial.",
            unit="none",
            lines=_one(f"ray_search_worker_value{SWEEP}", "<NodeAddress> <WorkerId>"),
        ),
        Panel(
            title="Which trial runs where",
            meaning="The number of the trial that each worker runs; its log has the same number.",
            unit="none",
            lines=_one(f"ray_search_worker_trial{SWEEP} >= 0", "<NodeAddress> <WorkerId>"),
        ),
        Panel(
            title="Trials that end, a minute",
            meaning="Over the last two minutes.",
            unit="none",
            lines=_one(f"max by (sweep) (ray_search_trials_per_minute{SWEEP})", "<sweep>"),
        ),
        Panel(
            title="Epochs a second",
            meaning="Over the last two minutes, of all workers together.",
            unit="none",
            lines=_one(f"max by (sweep) (ray_search_epochs_per_second{SWEEP})", "<sweep>"),
        ),
        Panel(
            title="Time",
            meaning="How long the sweep has run, and an estimate of what is left.",
            unit="s",
            lines=(
                Line(query=f"max by (sweep) (ray_search_elapsed_seconds{SWEEP})", name="<sweep> run"),
                Line(query=f"max by (sweep) (ray_search_time_left_seconds{SWEEP})", name="<sweep> left"),
            ),
        ),
        Panel(
            title="Failures",
            meaning="Attempts that failed or were lost since the session began, by reason.",
            unit="short",
            lines=_one(f"max by (sweep, reason) (ray_search_failures_total{SWEEP})", "<sweep> <reason>"),
            stacked=True,
            needs="failures",
        ),
        Panel(
            title="Workers that train",
            meaning="Few of many: trials do not find room, or the searcher is slow.",
            unit="short",
            lines=_one(f"count by (sweep) (ray_search_worker_trial{SWEEP} >= 0)", "<sweep>"),
        ),
        Panel(
            title="GPU-hours and money",
            meaning="What trials have held and cost, by the price in the sweep file.",
            unit="none",
            lines=(
                Line(query=f"max by (sweep) (ray_search_gpu_hours{SWEEP})", name="<sweep> GPU-hours"),
                Line(query=f"max by (sweep) (ray_search_money{SWEEP})", name="<sweep> money"),
            ),
        ),
    ),
    "The machines": (
        Panel(
            title="Processors",
            meaning="Use of all cores of each machine.",
            unit="percent",
            lines=_one("avg by (instance) (ray_node_cpu_utilization)", "<instance>"),
        ),
        Panel(
            title="Memory",
            meaning="Use of each machine; near 100 % workers are ended.",
            unit="percentunit",
            lines=_one("max by (instance) (ray_node_mem_used) / max by (instance) (ray_node_mem_total)", "<instance>"),
        ),
        Panel(
            title="GPUs",
            meaning="Use of each GPU. Low while trials train: the data come too slowly, or more trials could share it.",
            unit="percent",
            lines=_one("avg by (instance, GpuIndex) (ray_node_gpus_utilization)", "<instance> GPU <GpuIndex>"),
            needs="gpu",
        ),
        Panel(
            title="Memory of GPUs",
            meaning="What is taken of each GPU's memory.",
            unit="bytes",
            lines=_one("max by (instance, GpuIndex) (ray_node_gram_used) * 1048576", "<instance> GPU <GpuIndex>"),
            needs="gpu",
        ),
        Panel(
            title="Free disk",
            meaning="Of each machine, where Ray keeps its files.",
            unit="bytes",
            lines=_one("min by (instance) (ray_node_disk_free)", "<instance>"),
        ),
        Panel(
            title="Network",
            meaning="What each machine sends and receives.",
            unit="Bps",
            lines=(
                Line(query="max by (instance) (ray_node_network_send_speed)", name="<instance> sends"),
                Line(query="max by (instance) (ray_node_network_receive_speed)", name="<instance> receives"),
            ),
        ),
        Panel(
            title="Cores that trials hold",
            meaning="Cores as Ray hands them out: used, and there.",
            unit="short",
            lines=(
                Line(query='sum(ray_resources{Name="CPU", State="USED"})', name="used"),
                Line(query='sum(ray_resources{Name="CPU"})', name="there"),
            ),
        ),
        Panel(
            title="Machines",
            meaning="How many there are; spot machines come and go.",
            unit="short",
            lines=_one("sum(ray_cluster_active_nodes)", "machines"),
        ),
    ),
}
"""All panels, by the heading that they stand under."""

PANELS: tuple[Panel, ...] = tuple(panel for group in GROUPS.values() for panel in group)
