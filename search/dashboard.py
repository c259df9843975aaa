"""The panels as files: a dashboard for Grafana, a page that Prometheus shows, and the settings of both programs."""

import importlib.resources
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from search.panels import GROUPS, Panel

UID = "chorale-search"
SOURCE = "search-prometheus"
SCHEMA_VERSION = 39
"""Of Grafana's dashboards; 10.3 and newer read it as it is."""
WIDTH, COLUMNS, HEIGHT = 24, 2, 8
"""Grafana's grid: cells across, panels in a row, cells that a panel is high."""
EVERY_S = 10
"""Ray renews its figures about as often."""
PAGE = "sweep.html"


def grafana_dashboard() -> dict[str, Any]:
    """Returns the dashboard as Grafana imports it."""
    return {
        "uid": UID,
        "title": "Sweeps",
        "description": "A hyperparameter search and the machines that it runs on.",
        "tags": ["ray", "search"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "refresh": f"{EVERY_S}s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_source_variable(), _sweep_variable()]},
        "panels": list(_placed()),
    }


def page() -> str:
    """Returns the page that Prometheus shows at `/consoles/sweep.html`; it asks Prometheus and nobody else."""
    groups = [[heading, [_shown(panel) for panel in panels]] for heading, panels in GROUPS.items()]
    html = importlib.resources.files("search").joinpath("monitor.html").read_text("utf-8")
    # `{{` would be Prometheus's own, and `</` the end of the script.
    return html.replace('"PANELS"', json.dumps(groups).replace("</", "<\\/").replace("{{", "{ {"))


def prometheus_settings(discovery: Path) -> str:
    """Returns the settings of Prometheus, as YAML.

    Args:
        discovery: Ray's file of the addresses that give figures; Ray keeps it up to date on the head.
    """
    return (
        f"global:\n  scrape_interval: {EVERY_S}s\n  evaluation_interval: {EVERY_S}s\n"
        "scrape_configs:\n  - job_name: ray\n    file_sd_configs:\n"
        f"      - files: [{json.dumps(str(discovery))}]\n        refresh_interval: {EVERY_S}s\n"
    )


def grafana_settings(folder: Path, *, port: int) -> str:
    """Returns the settings of Grafana: on this machine alone, without accounts, nothing asked of the world.

    Args:
        folder: where it keeps what it has, and finds its provisioning.
        port: to listen on.
    """
    return "\n".join(
        [
            "[server]", "http_addr = 127.0.0.1", f"http_port = {port}",
            "[paths]", f"data = {folder / 'data'}", f"logs = {folder / 'log'}", f"plugins = {folder / 'plugins'}",
            f"provisioning = {folder / 'provisioning'}",
            "[auth]", "disable_login_form = true",
            "[auth.anonymous]", "enabled = true", "org_role = Viewer",
            "[security]", "disable_initial_admin_creation = true", "allow_embedding = true",
            "[analytics]", "reporting_enabled = false", "check_for_updates = false", "check_for_plugin_updates = false",
            "[news]", "news_feed_enabled = false",
            "",
        ]
    )  # fmt: skip


def grafana_sources(prometheus: str) -> str:
    """Returns where Grafana asks, as YAML for its provisioning; `prometheus` is an address."""
    return (
        f"apiVersion: 1\ndatasources:\n  - name: Prometheus\n    uid: {SOURCE}\n    type: prometheus\n"
        f"    access: proxy\n    url: {prometheus}\n    isDefault: true\n    jsonData: {{timeInterval: {EVERY_S}s}}\n"
    )


def grafana_providers(folders: dict[str, Path]) -> str:
    """Returns where Grafana finds dashboards, as YAML for its provisioning; name -> folder."""
    lines = ["apiVersion: 1", "providers:"]
    for name, folder in folders.items():
        lines += [f"  - name: {name}", "    type: file", "    options:", f"      path: {json.dumps(str(folder))}"]
    return "\n".join([*lines, ""])


def _source_variable() -> dict[str, Any]:
    return {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus", "current": {}}


def _sweep_variable() -> dict[str, Any]:
    query = "label_values(ray_search_trials, sweep)"
    return {
        "name": "sweep",
        "label": "Sweep",
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${source}"},
        "query": {"query": query, "refId": "sweep"},
        "refresh": 2,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }


def _placed() -> Iterator[dict[str, Any]]:
    """Yields rows and panels, each with its place; two panels stand side by side."""
    number, y = 0, 0
    for heading, panels in GROUPS.items():
        number += 1
        place = {"x": 0, "y": y, "w": WIDTH, "h": 1}
        yield {"id": number, "type": "row", "title": heading, "collapsed": False, "gridPos": place, "panels": []}
        y += 1
        for position, panel in enumerate(panels):
            number += 1
            row, column = divmod(position, COLUMNS)
            width = WIDTH // COLUMNS
            yield _panel(panel, number, {"x": column * width, "y": y + row * HEIGHT, "w": width, "h": HEIGHT})
        y += -(-len(panels) // COLUMNS) * HEIGHT


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${source}"}
    style = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 10, "spanNulls": False, "showPoints": "auto"}
    style["stacking"] = {"mode": "normal" if panel.stacked else "none", "group": "A"}
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.meaning,
        "datasource": source,
        "gridPos": place,
        "targets": [
            {
                "refId": chr(ord("A") + position),
                "datasource": source,
                "expr": line.query,
                "legendFormat": re.sub(r"<(\w+)>", r"{{\1}}", line.name),
                "range": True,
            }
            for position, line in enumerate(panel.lines)
        ],
        "fieldConfig": {"defaults": {"unit": panel.unit, "custom": style}, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull"]},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def _shown(panel: Panel) -> dict[str, Any]:
    return {
        "title": panel.title,
        "meaning": panel.meaning,
        "unit": panel.unit,
        "lines": [[line.query, line.name] for line in panel.lines],
    }
