"""Trials or sweeps side by side: what differs in their configurations, what came out, and what it cost."""

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from results.errors import CallerError
from results.finding import Trial
from results.leaderboard import UNKNOWN_DATA
from results.opening import Results, Sweep
from results.schema import CONFIG

_COST = ("epochs", "best_epoch", "attempts", "train_s", "wall_s", "gpu_s")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """One property of everything compared.

    Attributes:
        part: `result`, `cost`, `configuration` or `settings`.
        name: of the property.
        values: one for each thing compared; None: it has none.
    """

    part: str
    name: str
    values: tuple[Any, ...]

    @property
    def differs(self) -> bool:
        """Whether not all values are equal."""
        return any(value != self.values[0] for value in self.values[1:])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Things side by side.

    Attributes:
        names: of the things.
        lines: properties, results first.
        warning: why their scores must not be compared; "" if they may.
    """

    names: tuple[str, ...]
    lines: tuple[Line, ...]
    warning: str


def compare_trials(trials: Sequence[Trial]) -> Comparison:
    """Returns trials side by side: state, metrics at the best epoch, cost, and every parameter.

    Raises:
        CallerError: fewer than two.
    """
    _check_two([trial.id for trial in trials])
    rows = [trial.row for trial in trials]
    metrics = dict.fromkeys(name for trial in trials for name in trial.sweep.schema.metrics)
    parameters = dict.fromkeys(name for row in rows for name in row if name.startswith(CONFIG))
    return Comparison(
        names=tuple(trial.id for trial in trials),
        lines=(
            *_lines("result", ("state", "reason", *metrics, "data"), rows),
            *_lines("cost", _COST, rows),
            *_lines("configuration", ("seed", "origin", *parameters), rows),
        ),
        warning=_warning({row.get("data_fingerprint"): row.get("data") for row in rows}),
    )


def compare_sweeps(results: Results) -> Comparison:
    """Returns sweeps side by side: their best trial, trials by state, cost, and what their settings differ in.

    Raises:
        CallerError: fewer than two.
    """
    _check_two([sweep.name for sweep in results.sweeps])
    rows = [summary(sweep) for sweep in results.sweeps]
    settings = [_flat(_settings(sweep)) for sweep in results.sweeps]
    named = dict.fromkeys(name for each in settings for name in each)
    result = [name for row in rows for name in row if name not in {*_SWEEP_COST, "data_fingerprint"}]
    return Comparison(
        names=tuple(sweep.name for sweep in results.sweeps),
        lines=(
            *_lines("result", tuple(dict.fromkeys(result)), rows),
            *_lines("cost", _SWEEP_COST, rows),
            *_lines("settings", tuple(named), settings),
        ),
        warning=_warning({row["data_fingerprint"]: row["data"] for row in rows}),
    )


_SWEEP_COST = ("trials", "epochs", "train_s", "wall_s", "gpu_s")


def summary(sweep: Sweep) -> dict[str, Any]:
    """Returns a sweep in a few figures.

    `best` is the value of the first objective of the best trial (its best epoch), `best_trial` its id; both are None
    as long as no trial has a finite value. `wall_s` is the time from the first event to the last, with the breaks
    between sessions left out.
    """
    objectives = sweep.schema.objectives
    columns = ["trial", "state", "epochs", "train_s", "gpu_s", "data", "data_fingerprint"]
    columns += [name for name, _ in objectives]
    own = {"trials": columns, "sessions": ["data", "data_fingerprint"], "openings": ["opening"]}
    tables = sweep.tables({name: [*own.get(name, ()), "session", "time"] for name in (*_AT_WORK, "openings")})
    rows = tables["trials"].to_pylist()
    metric, goal = objectives[0] if objectives else ("", "min")
    sign = 1 if goal == "min" else -1
    finite = [row for row in rows if metric and row[metric] is not None and math.isfinite(row[metric])]
    best = min(finite, key=lambda row: (sign * row[metric], row["trial"]), default=None)
    states = Counter(row["state"] for row in rows)
    sessions = tables["sessions"].to_pylist()
    newest = best or (sessions[-1] if sessions else {})
    return {
        "objective": ", ".join(f"{name} {way}" for name, way in objectives),
        "best": best[metric] if best else None,
        "best_trial": f"{sweep.name}/{best['trial']}" if best else None,
        "trials": len(rows),
        **dict(sorted(states.items())),
        "finals": len(tables["finals"]),
        "openings": len(tables["openings"]),
        "sessions": len(sessions),
        "epochs": sum(row["epochs"] or 0 for row in rows),
        "train_s": sum(row["train_s"] or 0.0 for row in rows),
        "gpu_s": sum(row["gpu_s"] or 0.0 for row in rows),
        "wall_s": _wall_s(tables[table] for table in _AT_WORK),
        "data": newest.get("data"),
        "data_fingerprint": newest.get("data_fingerprint"),
    }


_AT_WORK = ("sessions", "proposals", "attempts", "epochs", "attempt_ends", "trials", "finals")
"""Tables whose rows say when the driver was at work."""


def _wall_s(tables: Iterable[pa.Table]) -> float:
    """Returns for how long the driver was at work: first to last event of every session."""
    spans: dict[int, list[Any]] = {}
    for rows in tables:
        if not len(rows):
            continue
        by_session = rows.group_by("session").aggregate([("time", "min"), ("time", "max")]).to_pylist()
        for row in by_session:
            low, high = spans.get(row["session"], [row["time_min"], row["time_max"]])
            spans[row["session"]] = [min(low, row["time_min"]), max(high, row["time_max"])]
    return sum((high - low).total_seconds() for low, high in spans.values())


def _settings(sweep: Sweep) -> Mapping[str, Any]:
    """Returns the settings that the sweep left beside its ledger; empty if there are none."""
    try:
        return json.loads(sweep.storage.read("sweep.json"))
    except (FileNotFoundError, ValueError):
        return {}


def _flat(document: Any, prefix: str = "") -> dict[str, Any]:
    """Returns a nested document as one level: `{"space.model.family.low": 1}`."""
    if not isinstance(document, Mapping):
        return {prefix: json.dumps(document) if isinstance(document, list) else document}
    found: dict[str, Any] = {}
    for key, value in document.items():
        found |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return found


def _lines(part: str, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[Line]:
    lines = [Line(part=part, name=name, values=tuple(row.get(name) for row in rows)) for name in names]
    return [line for line in lines if any(value not in (None, "") for value in line.values)]


def _warning(data: Mapping[str | None, str | None]) -> str:
    if len(data) < 2:
        return ""
    names = ", ".join(
        f"{name or UNKNOWN_DATA} ({(fingerprint or 'no fingerprint')[:12]})" for fingerprint, name in data.items()
    )
    return f"these were scored on different data, so their scores must not be compared: {names}"


def _check_two(names: Sequence[str]) -> None:
    if len(set(names)) < 2:
        raise CallerError(f"nothing to compare: got {', '.join(names) or 'nothing'}, expected two or more")
