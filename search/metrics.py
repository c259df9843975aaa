"""The figures of a sweep in Ray's dashboard and in Prometheus, where they are called `ray_search_…`."""

import sys
from typing import Any

from search.snapshot import Snapshot

GAUGES = {
    "search_trials": "Trials by state.",
    "search_best_value": "The first objective of the best trial so far, as measured.",
    "search_trials_per_minute": "Trials that ended, over the last minutes.",
    "search_epochs_per_second": "Epochs that were trained, over the last minutes.",
    "search_elapsed_seconds": "How long the sweep has run, without the time between its sessions.",
    "search_time_left_seconds": "An estimate.",
    "search_gpu_hours": "Hours of GPUs that trials have held.",
    "search_money": "What trials have cost.",
}
COUNTERS = {
    "search_epochs": "Epochs that were trained since this session of the sweep began.",
    "search_failures": "Attempts that failed or were lost since this session of the sweep began, by reason.",
}
_OWN_TAG = {"search_trials": "state", "search_best_value": "metric", "search_failures": "reason"}


class Metrics:
    """Gauges and counters that follow a sweep; without a connection to Ray they do nothing."""

    def __init__(self):
        """Makes nothing yet: Ray takes metrics only once it is connected to."""
        self._made: dict[str, Any] = {}
        self._counted: dict[tuple[str, str], float] = {}

    def update(self, snapshot: Snapshot) -> None:
        """Sets all figures to those of a snapshot."""
        ray = sys.modules.get("ray")
        if ray is None or not ray.is_initialized():
            return
        first = not self._made
        if first:
            self._make()
        sweep = snapshot.name
        for state, count in snapshot.counts.items():
            self._set("search_trials", count, sweep, state)
        if snapshot.best is not None and snapshot.best.value is not None:
            self._set("search_best_value", snapshot.best.value, sweep, snapshot.objectives[0][0])
        self._set("search_trials_per_minute", snapshot.trials_per_min, sweep)
        self._set("search_epochs_per_second", snapshot.epochs_per_s, sweep)
        self._set("search_elapsed_seconds", snapshot.elapsed_s, sweep)
        if snapshot.time_left_s is not None:
            self._set("search_time_left_seconds", snapshot.time_left_s, sweep)
        self._set("search_gpu_hours", snapshot.use("gpu_hours").used, sweep)
        self._set("search_money", snapshot.use("money").used, sweep)
        self._count("search_epochs", snapshot.use("epochs").used, sweep, count=not first)
        for failure in snapshot.failures:
            self._count("search_failures", failure.attempts, sweep, failure.kind or "unknown", count=not first)

    def _make(self) -> None:
        from ray.util.metrics import Counter, Gauge

        for kind, described in ((Gauge, GAUGES), (Counter, COUNTERS)):
            for name, text in described.items():
                tags = ("sweep", _OWN_TAG[name]) if name in _OWN_TAG else ("sweep",)
                self._made[name] = kind(name, description=text, tag_keys=tags)

    def _set(self, name: str, value: float, sweep: str, tag: str = "") -> None:
        self._made[name].set(float(value), tags=_tags(name, sweep, tag))

    def _count(self, name: str, total: float, sweep: str, tag: str = "", *, count: bool) -> None:
        """Counts what has come since the last time; at the first time, what earlier sessions had is only noted."""
        more = total - self._counted.get((name, tag), 0.0)
        self._counted[name, tag] = total
        if count and more > 0:
            self._made[name].inc(more, tags=_tags(name, sweep, tag))


def _tags(name: str, sweep: str, tag: str) -> dict[str, str]:
    return {"sweep": sweep, _OWN_TAG[name]: tag} if name in _OWN_TAG else {"sweep": sweep}
