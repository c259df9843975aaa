"""The panels: whether Grafana would take them, and whether Prometheus has data for each of them while a sweep runs."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

import psutil
import pytest
import yaml
from click.testing import CliRunner

from search.cli import main
from search.dashboard import grafana_dashboard, page
from search.panels import PANELS
from tests.search.faults import free_ports

ROOT = Path(__file__).resolve().parents[2]
SWEEP = """
[sweep]
name = "watched"
task = "tests.search.fake_task:Broken"
objectives = ["loss min"]
trials = 4000
epochs = 5
price_per_hour = 1.0
[task]
how = "epoch"
kind = "wide"
after = 1
epoch_s = 1.0
[resources]
retries = 0
[searcher]
kind = "random"
[final]
models = 0
"""
NEVER_HERE = {"gpu"}
"""What panels need that no test has."""


def differences(asked, understood, where="dashboard"):
    """Yields what of a document is lost or changed when it is read and written."""
    if isinstance(asked, dict):
        for key, value in asked.items():
            if not isinstance(understood, dict) or key not in understood:
                yield f"{where}.{key} is unknown"
            else:
                yield from differences(value, understood[key], f"{where}.{key}")
    elif isinstance(asked, list):
        assert len(asked) == len(understood), where
        for position, (one, other) in enumerate(zip(asked, understood, strict=True)):
            yield from differences(one, other, f"{where}[{position}]")
    elif asked != understood:
        yield f"{where}: {asked!r} became {understood!r}"


def test_grafana_knows_all_of_the_dashboard():
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    asked = json.loads(json.dumps(grafana_dashboard()))
    understood = json.loads(JSONEncoder().encode(Dashboard.from_json(asked)))
    assert list(differences(asked, understood)) == []
    asked["panels"][1]["tittle"] = "x"  # what it does not know would be noticed
    understood = json.loads(JSONEncoder().encode(Dashboard.from_json(asked)))
    assert list(differences(asked, understood)) == ["dashboard.panels[1].tittle is unknown"]


def test_panels_have_numbers_and_places_of_their_own():
    panels = grafana_dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    assert {panel["title"] for panel in panels} >= {panel.title for panel in PANELS}


def test_the_page_has_all_panels_and_asks_nobody_but_prometheus():
    html = page()
    for panel in PANELS:
        assert json.dumps(panel.title) in html
    assert "{{" not in html  # Prometheus would take it for its own
    assert set(re.findall(r"https?://[\w./]+", html)) == {"http://www.w3.org/2000/svg"}


def test_settings_are_written_for_this_machine_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "watched").mkdir(mode=0o755)  # one that was there already
    words = ["monitor", "--folder", "watched", "--ray-folder", "a b", "--grafana-port", "3111", "--only-write"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    folder = tmp_path / "watched"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    settings = yaml.safe_load((folder / "prometheus.yml").read_text())
    (job,) = settings["scrape_configs"]
    assert job["file_sd_configs"][0]["files"] == [str(tmp_path / "a b" / "prom_metrics_service_discovery.json")]
    assert json.loads((folder / "grafana" / "dashboards" / "sweeps.json").read_text()) == grafana_dashboard()
    ini = (folder / "grafana" / "grafana.ini").read_text()
    assert "http_addr = 127.0.0.1\nhttp_port = 3111\n" in ini
    (source,) = yaml.safe_load((folder / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://127.0.0.1:9090"
    (provider,) = yaml.safe_load((folder / "grafana/provisioning/dashboards/folders.yml").read_text())["providers"]
    assert provider["options"]["path"] == str(folder / "grafana" / "dashboards")


def test_without_prometheus_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    done = CliRunner().invoke(main, ["monitor", "--folder", str(tmp_path / "watched")])
    assert done.exit_code == 2
    assert "`apt install prometheus`" in done.stderr
    assert not (tmp_path / "watched").exists()


def test_a_port_that_is_taken_is_named(tmp_path, monkeypatch):
    program = tmp_path / "prometheus"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        done = CliRunner().invoke(main, ["monitor", "--folder", str(tmp_path / "watched"), "--prometheus-port", port])
    assert done.exit_code == 2
    assert f"port {port} here is taken" in done.stderr
    assert "--prometheus-port" in done.stderr


def test_a_program_that_ends_at_once_is_told_with_what_it_said(tmp_path, monkeypatch):
    program = tmp_path / "prometheus"
    program.write_text("#!/bin/sh\necho 'the disk is full'\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    words = ["monitor", "--folder", str(tmp_path / "watched"), "--prometheus-port", str(*free_ports(1))]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1
    assert "prometheus does not run: the disk is full" in done.stderr


# --- with a sweep that runs -------------------------------------------------------------------------------------------


def command(*words):
    return [sys.executable, "-m", "search.cli", *words]


@contextlib.contextmanager
def running(words, folder, env, log):
    with open(folder / log, "w") as output:
        process = subprocess.Popen(command(*words), cwd=folder, env=env, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A sweep of this machine, and what watches it."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed")
    folder = tmp_path_factory.mktemp("watched")
    (folder / "watched.toml").write_text(SWEEP)
    place = Path(tempfile.mkdtemp(prefix="search-"))  # Unix sockets have short names
    env = os.environ | {
        "PYTHONPATH": str(ROOT), "RAY_TMPDIR": str(place), "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "RAY_AUTH_TOKEN": "5" * 64,
        # Ray keeps a figure for twice as long, and measures the machine every 5 s: below, figures come and go.
        "RAY_metrics_report_interval_ms": "5000",
    }  # fmt: skip
    port, of_grafana = free_ports(2)
    words = ["monitor", "--ray-folder", str(place / "ray"), "--prometheus-port", str(port)]
    with (
        running(["run", "watched.toml", "--concurrency", "2"], folder, env, "sweep.log") as sweep,
        running([*words, "--grafana-port", str(of_grafana)], folder, env, "monitor.log") as monitor,
    ):
        them = {"url": f"http://127.0.0.1:{port}", "port": port, "folder": folder, "monitor": monitor, "sweep": sweep}
        eventually(them, "vector(1)")
        yield them
    shutil.rmtree(place, ignore_errors=True)


def answer(watched, query):
    words = urllib.parse.urlencode({"query": query.replace("$sweep", ".*")})
    with urllib.request.urlopen(f"{watched['url']}/api/v1/query?{words}", timeout=30) as said:
        return json.load(said)["data"]["result"]


def eventually(watched, query):
    """What Prometheus answers once it has something to answer, while sweep and monitor run."""
    until = time.monotonic() + 300
    while True:
        with contextlib.suppress(OSError):
            if found := answer(watched, query):
                return found
        for name in ("sweep", "monitor"):
            said = (watched["folder"] / f"{name}.log").read_text()[-2000:]
            assert watched[name].poll() is None, f"no data so far for {query}; the {name} has ended: {said}"
        assert time.monotonic() < until, f"no data for {query}"
        time.sleep(1)


@pytest.mark.slow
def test_prometheus_has_data_for_every_panel(watched):
    for query in {line.query for panel in PANELS for line in panel.lines if panel.needs not in NEVER_HERE}:
        eventually(watched, query)
    for panel in PANELS:  # those without data at least are understood
        for line in panel.lines:
            answer(watched, line.query)
            labels = set(re.findall(r"<(\w+)>", line.name))
            assert all(labels <= set(one["metric"]) for one in answer(watched, line.query)), line


@pytest.mark.slow
def test_there_are_as_many_series_as_workers_however_many_trials(watched):
    trials = eventually(watched, "sum(ray_search_trials) >= 2")
    assert float(trials[0]["value"][1]) >= 2
    every = '{__name__=~"ray_search_worker_.*"}'
    series = eventually(watched, f"{every} and on() count({every}) >= 2")
    assert 2 <= len(series) <= 2 * 6  # two gauges; a few workers may have been replaced
    assert not [one for one in series if "trial" in one["metric"]]


@pytest.mark.slow
def test_it_listens_on_this_machine_alone_and_knows_no_token(watched):
    processes = psutil.Process(watched["monitor"].pid).children(recursive=True)
    (prometheus,) = [process for process in processes if process.name() == "prometheus"]
    listening = {c.laddr for c in prometheus.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr}
    assert listening == {("127.0.0.1", watched["port"])}
    assert not [name for name in prometheus.environ() if name.startswith("RAY_AUTH")]
    assert stat.S_IMODE((watched["folder"] / "runs" / ".monitor").stat().st_mode) == 0o700


@pytest.mark.slow
def test_a_browser_shows_the_panels_with_data(watched, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium here")
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}",
         "--virtual-time-budget=8000", "--dump-dom", f"{watched['url']}/consoles/sweep.html?sweep=watched&last=3600"],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert 'role="status">as of ' in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]
    shown = dict(re.findall(r"<figcaption>([^<]+)<small>.*?</figcaption>(.*?)</figure>", done.stdout, re.S))
    assert set(shown) == {panel.title for panel in PANELS}
    for panel in PANELS:
        if panel.needs not in NEVER_HERE:
            assert "<path" in shown[panel.title], panel.title
            assert re.search(r"<b>-?[\d.]+", shown[panel.title]), panel.title
        else:
            assert "no data in this time" in shown[panel.title]


@pytest.mark.slow
def test_when_it_is_ended_nothing_stays(watched):
    processes = psutil.Process(watched["monitor"].pid).children(recursive=True)
    assert processes
    watched["monitor"].send_signal(signal.SIGTERM)
    assert watched["monitor"].wait(90) == 0
    assert psutil.wait_procs(processes, timeout=60)[1] == []
