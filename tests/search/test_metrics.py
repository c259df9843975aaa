import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from search.metrics import Metrics
from search.snapshot import Limits, take
from tests.search.event_book import START, Book

ROOT = Path(__file__).resolve().parents[2]


def shot(book):
    return take(book.state, Limits(trials=3), now=START.timestamp() + 60, storage="runs/toy", condition="running")


def test_without_ray_nothing_happens():
    Metrics().update(shot(Book()))


@pytest.mark.slow
def test_ray_exports_the_figures_of_a_sweep():
    # In a process of its own: Ray looks only once whether tokens are asked for, and other tests ask for them.
    code = "import json; from tests.search.test_metrics import exported; print(json.dumps(exported()))"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    environment |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert {name: figures.get(name) for name in EXPECTED} == EXPECTED


EXPECTED = {
    "ray_search_trials running": 1,
    "ray_search_trials failed": 0,
    "ray_search_best_value loss": 1.25,
    "ray_search_epochs_total": 3,  # since this session began to be watched
}


def exported():
    """What Ray tells of a sweep, once it is what is expected or that takes too long: name and tag -> figure."""
    import ray

    ray.init(
        address="local",
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        _system_config={"metrics_report_interval_ms": 500},
    )
    try:
        book, metrics = Book(), Metrics()
        book.proposal(0)
        book.attempt(0, 1)
        book.epochs(0, 1, [3.0, 2.0])
        metrics.update(shot(book))
        book.epochs(0, 1, [1.5, 1.75, 1.25], first=3)
        metrics.update(shot(book))
        port = ray.nodes()[0]["MetricsExportPort"]
        until = time.monotonic() + 120
        figures = {}
        while time.monotonic() < until and not EXPECTED.items() <= figures.items():
            time.sleep(0.5)
            with contextlib.suppress(OSError):
                figures = told(f"http://127.0.0.1:{port}/metrics")
        return figures
    finally:
        ray.shutdown()


def told(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        lines = [line for line in answer.read().decode().splitlines() if "toy" in line]
    return {line.partition("{")[0] + tag(line): float(line.split()[-1]) for line in lines}


def tag(line):
    for name in ("state", "metric"):
        if f'{name}="' in line:
            return " " + line.split(f'{name}="')[1].split('"')[0]
    return ""
