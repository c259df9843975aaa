"""The tables of a ledger: every column with its type, unit and meaning, declared once.

`TABLES` holds what is the same in every sweep. What varies, the parameters of the space and what a task measures,
stands in the sweep's `SweepSchema`, which is written beside the tables as `schema.json`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, cast, get_args

import pyarrow as pa

from results import upgrade
from results.errors import SchemaError, did_you_mean

SCHEMA_VERSION = 3
"""Rises by one with every change of `TABLES`; `results.upgrade` then learns how to bring older ledgers up."""

Goal = Literal["min", "max"]
Kind = Literal["int", "float", "str", "bool"]
Varying = Literal["config", "metrics", "scores", "measures"]

CONFIG = "config."
"""What the column of a parameter begins with."""

TIME = pa.timestamp("us", tz="UTC")
INT, LONG, FLOAT, TEXT, BOOL = pa.int32(), pa.int64(), pa.float64(), pa.string(), pa.bool_()
_KINDS: Mapping[str, pa.DataType] = {"int": LONG, "float": FLOAT, "str": TEXT, "bool": BOOL}


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: as it stands in the files.
        type: Arrow's type; any value may be missing but those of the table's key and of `COMMON`.
        unit: empty where there is none.
        meaning: a sentence for the reader, without a full stop.
    """

    name: str
    type: pa.DataType
    unit: str
    meaning: str


@dataclass(frozen=True)
class Table:
    """One kind of event.

    Attributes:
        name: of the table and of its folder.
        meaning: what one row says.
        key: columns that are unique together in what readers see; of several rows, the one written last counts.
        columns: those that every sweep has, without `COMMON`.
        varying: the groups of columns that a sweep adds, in this order behind `columns`.
    """

    name: str
    meaning: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    varying: tuple[Varying, ...] = ()


@dataclass(frozen=True)
class Measure:
    """What a number that a task returns means.

    Attributes:
        unit: such as `nats per note`.
        meaning: a sentence for the reader, without a full stop.
        goal: what is better; None where neither is.
    """

    unit: str = ""
    meaning: str = ""
    goal: Goal | None = None

    @classmethod
    def of(cls, value: "Measure | tuple[str, ...] | str") -> "Measure":
        """Returns a measure from one, from a tuple (unit, meaning[, goal]), or from its unit alone."""
        if isinstance(value, Measure):
            return value
        parts = tuple(value) if isinstance(value, tuple | list) else (value,)
        if not 1 <= len(parts) <= 3 or not all(isinstance(part, str) for part in parts[:2]):
            raise SchemaError(f"a measure is Measure(unit, meaning), a tuple of these or a unit, not {value!r}")
        return cls(*cast("tuple[Any, ...]", parts))

    def __post_init__(self):
        if self.goal not in (None, "min", "max"):
            raise SchemaError(f"a measure's goal is 'min', 'max' or None, not {self.goal!r}")


@dataclass(frozen=True)
class Parameter:
    """What a parameter of the space holds; in a table it is the column `config.<name>`."""

    kind: Kind
    meaning: str = ""

    def __post_init__(self):
        if self.kind not in get_args(Kind):
            raise SchemaError(f"a parameter is of kind {', '.join(get_args(Kind))}, not {self.kind!r}")


COMMON = (
    Column("sweep", TEXT, "", "name of the sweep"),
    Column("seq", LONG, "", "number of the event, from 0, counted over all tables; a gap means lost rows"),
    Column("session", INT, "", "number of the driver process that wrote the row, from 1"),
    Column("time", TIME, "", "when the event was written, by the driver's clock"),
)
"""The first columns of every table."""

_TRIAL = Column("trial", LONG, "", "number of the trial, from 0")
_ATTEMPT = Column("attempt", INT, "", "which attempt at the trial, from 1")
_BRACKET = Column("bracket", INT, "", "bracket of the scheduler that the trial runs in")
_ORIGIN = Column("origin", TEXT, "", "who proposed it: searcher, point, or point:<name>")
_SEED = Column("seed", LONG, "", "seed of the training")
_REASON_KIND = Column(
    "reason_kind", TEXT, "",
    "failed: error, non_finite, no_metric, time_limit, out_of_memory (of a GPU), host_memory, memory_limit, "
    "worker_died, node_lost, driver_lost, build or exit; stopped: scheduler, budget or user; otherwise empty",
)  # fmt: skip
_REASON = Column("reason", TEXT, "", "why it ended so, in a sentence")
_DETAIL = Column("detail", TEXT, "", "the traceback, if there was one")
_TRAIN_S = Column("train_s", FLOAT, "s", "time spent in epochs")
_DATA = Column("data", TEXT, "", "name of the data; scores on different data are never compared")
_FINGERPRINT = Column("data_fingerprint", TEXT, "", "checksum of the data")


def _tables() -> tuple[Table, ...]:
    """Returns the tables in the order in which a flush writes them."""
    return (
        Table(
            "sessions", "a driver process began to work on the sweep", ("sweep", "session"), (
                Column("command", TEXT, "", "what was typed"),
                Column("host", TEXT, "", "name of the machine"),
                Column("pid", INT, "", "process id of the driver"),
                Column(
                    "commit", TEXT, "",
                    "commit of the code, with + if it was changed since; without a repository, a digest of it",
                ),
                Column("python", TEXT, "", "version of Python"),
                Column("packages", TEXT, "", "packages with their versions: name version, …"),
                Column("backend", TEXT, "", "backend of Keras"),
                _DATA, _FINGERPRINT,
                Column("spec_sha256", TEXT, "", "checksum of the sweep's effective settings"),
            ),
        ),
        Table(
            "proposals", "a configuration was proposed as a trial", ("sweep", "trial"),
            (_TRIAL, _ORIGIN, _SEED, _BRACKET), ("config",),
        ),
        Table(
            "attempts", "a worker began with a trial, or it was taken back before", ("sweep", "trial", "attempt"), (
                _TRIAL, _ATTEMPT,
                Column("cause", TEXT, "", "first, resumed, lost, out_of_memory, promoted, extended or failed"),
                Column("cpus", FLOAT, "cores", "what it was given"),
                Column("gpus", FLOAT, "devices", "what it was given; fractions share a device"),
            ),
        ),
        Table(
            "attempt_ends", "an attempt ended", ("sweep", "trial", "attempt"), (
                _TRIAL, _ATTEMPT,
                Column("outcome", TEXT, "", "completed, stopped, paused, failed or lost"),
                _REASON_KIND, _REASON, _DETAIL,
                Column("own_fault", BOOL, "", "whether the trial is to blame, so that it counts against its retries"),
                Column("node", TEXT, "", "machine that it ran on"),
                Column("pid", INT, "", "process id of its worker"),
                Column("from_epoch", INT, "epochs", "epochs that were done when it began, by its checkpoint"),
                Column("to_epoch", INT, "epochs", "epochs that were done when it ended"),
                Column("wait_s", FLOAT, "s", "from being handed out to its start on a worker"),
                Column("start_s", FLOAT, "s", "from its start on a worker to its first epoch"),
                _TRAIN_S,
                Column("wall_s", FLOAT, "s", "from its start on a worker to its end"),
                Column("peak_memory_mb", FLOAT, "MB", "largest resident memory of its worker"),
            ),
        ),
        Table(
            "epochs", "an epoch of a trial was trained", ("sweep", "trial", "epoch"), (
                _TRIAL, _ATTEMPT,
                Column("epoch", INT, "", "number of the epoch, from 1"),
                Column("duration_s", FLOAT, "s", "time that the epoch took"),
                Column("ended", TIME, "", "when it ended, by the worker's clock"),
            ), ("metrics",),
        ),
        Table(
            "decisions", "the scheduler judged a trial", ("sweep", "trial", "epoch"), (
                _TRIAL, _ATTEMPT,
                Column("epoch", INT, "", "epoch after which it was judged"),
                _BRACKET,
                Column("rung", INT, "", "rung of the bracket, from 0"),
                Column("value", FLOAT, "", "what was judged: the first objective, negated if it is maximised"),
                Column("cutoff", FLOAT, "", "the greatest value that goes on; missing if there was none yet"),
                Column("num_values", INT, "trials", "values in the rung, this one included"),
                Column("verdict", TEXT, "", "continue, stop, pause or promote"),
                Column("audited", BOOL, "", "would have been stopped, and runs on to find out whether that is right"),
            ),
        ),
        Table(
            "trials", "a trial ended, or was left unfinished when the sweep ended", ("sweep", "trial"), (
                _TRIAL,
                Column("state", TEXT, "", "completed, stopped, failed or unfinished"),
                _REASON_KIND, _REASON, _DETAIL, _ORIGIN, _SEED, _BRACKET,
                Column("attempts", INT, "attempts", "how many there were"),
                Column("epochs", INT, "epochs", "how many were trained"),
                Column("best_epoch", INT, "", "epoch with the best first objective; the metrics are this epoch's"),
                _TRAIN_S,
                Column("wall_s", FLOAT, "s", "time on workers, over all attempts"),
                Column("gpu_s", FLOAT, "s", "time on workers times the GPUs held"),
                Column("checkpoint", TEXT, "", "where the best epoch's weights lie, if they were kept"),
                Column("started", TIME, "", "when its first attempt began"),
                Column("ended", TIME, "", "when it ended"),
            ), ("metrics", "config"),
        ),
        Table(
            "finals", "a configuration was trained again for the final comparison", ("sweep", "final"), (
                Column("final", LONG, "", "number of the training, from 0"),
                Column("trial", LONG, "", "trial whose configuration it has; of an ensemble, the first member's"),
                Column("source", TEXT, "", "other sweep that the trial belongs to; empty for a trial of this one"),
                Column(
                    "kind", TEXT, "",
                    "single: of train; whole: of train and valid, to be shipped; ensemble: several models as one",
                ),
                Column("members", TEXT, "", "of an ensemble, the finals that it is made of: 0, 3, …; otherwise empty"),
                Column("round", INT, "", "of racing that asked for it, from 1; 0 for the seeds that all were given"),
                _SEED,
                Column("state", TEXT, "", "completed or failed"),
                _REASON,
                Column("epochs", INT, "epochs", "how many were trained"),
                Column("best_epoch", INT, "", "epoch whose weights were kept; the metrics are this epoch's"),
                Column("chosen", BOOL, "", "whether this is the model for production"),
                Column("model", TEXT, "", "where the model lies, below the sweep's folder"),
                _DATA, _FINGERPRINT, _TRAIN_S,
                Column("job_s", FLOAT, "s", "time that the final job had spent on trainings by then, in all sessions"),
            ), ("metrics", "scores", "config"),
        ),
        Table(
            "piece_scores", "a final model was scored on one piece of a split", ("sweep", "final", "split", "piece"), (
                Column("final", LONG, "", "training whose model was scored"),
                Column("split", TEXT, "", "which split, such as valid"),
                Column("piece", TEXT, "", "the piece's id"),
                Column("value", FLOAT, "", "the piece's score; the mean by weight is the first objective on the split"),
                Column("weight", FLOAT, "", "how much the piece counts, such as its notes"),
            ),
        ),
        Table(
            "choices", "a configuration was compared with the others of a final job, and one was chosen",
            ("sweep", "choice", "rank"), (
                Column("choice", LONG, "", "number of the choice, from 0; the last one holds"),
                Column("rank", INT, "", "place of the configuration by its mean, from 1"),
                Column("source", TEXT, "", "other sweep that the trial belongs to; empty for a trial of this one"),
                Column("trial", LONG, "", "trial whose configuration it is"),
                Column("finals", TEXT, "", "the final trainings that it was compared by: 0, 3, …"),
                Column("mean", FLOAT, "", "of the first objective of these trainings"),
                Column("sd", FLOAT, "", "of the first objective, from one training to the next; missing for one alone"),
                Column("interval_low", FLOAT, "", "lower end of the 95 % interval of the mean; missing without seeds"),
                Column("interval_high", FLOAT, "", "upper end of it"),
                Column("difference", FLOAT, "", "the mean less that of the best"),
                Column("difference_low", FLOAT, "", "lower end of the 95 % interval of the difference"),
                Column("difference_high", FLOAT, "", "upper end of it"),
                Column("chance_best", FLOAT, "", "probability that it is the best of those compared"),
                Column("tied", BOOL, "", "whether it may be the best"),
                Column("in_sweep", FLOAT, "", "first objective that the trial had reached in its sweep"),
                Column("expected", FLOAT, "", "the same without the luck of being among the best; missing if unknown"),
                Column(
                    "fair", BOOL, "",
                    "whether in_sweep and mean compare: the trial ran to its end, and the trainings are as long",
                ),
                Column("chosen", BOOL, "", "whether this configuration was taken"),
                Column("final", LONG, "", "its model that was taken, perhaps an ensemble; missing for the others"),
                Column("rule", TEXT, "", "by which one was taken: tied_cheapest, one_standard_error or best_mean"),
                Column("costs", TEXT, "", "what says how cheap a model is: metric min or max, …; in their order"),
                Column("over", TEXT, "", "what intervals are over: seeds and pieces, seeds, pieces or nothing"),
                Column("num_pieces", INT, "pieces", "that the models were compared on; 0 without"),
                Column("seed_sd", FLOAT, "", "of the first objective, from one seed to the next, told by all together"),
            ),
        ),
        Table(
            "samples", "a finished model produced something", ("sweep", "sample"), (
                Column("sample", LONG, "", "number of the sample, from 0"),
                Column("final", LONG, "", "training whose model made it"),
                Column("name", TEXT, "", "what it is"),
                Column(
                    "kind", TEXT, "",
                    "free: made from nothing; continued: goes on from a given beginning; harmony: completes a given "
                    "part; original: not made, for comparison; empty if the task does not say",
                ),
                Column("origin", TEXT, "", "piece that it begins with, completes or is; empty if there is none"),
                Column("path", TEXT, "", "where it lies, below the sweep's folder; empty if it is gone"),
            ), ("measures",),
        ),
        Table(
            "openings", "a split held back for the final score was opened", ("sweep", "opening"), (
                Column("opening", LONG, "", "number of the opening, from 0"),
                Column("who", TEXT, "", "user and machine"),
                Column("command", TEXT, "", "what was typed"),
                Column("split", TEXT, "", "which split, such as test"),
                Column("model", TEXT, "", "what was scored"),
                _DATA, _FINGERPRINT,
            ),
        ),
    )  # fmt: skip


TABLES: Mapping[str, Table] = MappingProxyType({table.name: table for table in _tables()})
"""Every table by name, in the order in which a flush writes them."""


@dataclass(frozen=True, kw_only=True)
class SweepSchema:
    """The columns that a sweep's space and task add to `TABLES`.

    Attributes:
        sweep: name of the sweep.
        parameters: of the whole space; inactive ones are missing in a row.
        metrics: what an epoch returns.
        scores: what the final job measures on a finished model.
        measures: what it measures on a sample.
        objectives: metrics with what is better; stopping follows the first.
    """

    sweep: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    metrics: Mapping[str, Measure] = field(default_factory=dict)
    scores: Mapping[str, Measure] = field(default_factory=dict)
    measures: Mapping[str, Measure] = field(default_factory=dict)
    objectives: tuple[tuple[str, Goal], ...] = ()

    def __post_init__(self):
        for group in ("metrics", "scores", "measures"):
            object.__setattr__(self, group, {name: Measure.of(m) for name, m in getattr(self, group).items()})
        object.__setattr__(self, "objectives", tuple((name, goal) for name, goal in self.objectives))
        for name, goal in self.objectives:
            if name not in self.metrics:
                raise SchemaError(f"objective {name!r} is no metric of the task{did_you_mean(name, self.metrics)}")
            if goal not in ("min", "max"):
                raise SchemaError(f"objective {name!r}: 'min' or 'max' was expected, not {goal!r}")
        for table in TABLES:
            seen: set[str] = set()
            for column in self.columns(table):
                if not column.name or column.name in seen:
                    what = "has no name" if not column.name else f"{column.name!r} stands twice"
                    raise SchemaError(f"table {table}: a column {what}; give what the task measures names of its own")
                seen.add(column.name)

    def columns(self, table: str) -> tuple[Column, ...]:
        """Returns all columns of a table in their order in the files."""
        declared = find(table)
        return COMMON + declared.columns + tuple(c for group in declared.varying for c in self._group(group))

    def _group(self, group: Varying) -> list[Column]:
        if group == "config":
            return [
                Column(CONFIG + name, _KINDS[parameter.kind], "", parameter.meaning or f"parameter {name} of the space")
                for name, parameter in self.parameters.items()
            ]
        measures: Mapping[str, Measure] = getattr(self, group)
        return [Column(name, FLOAT, measure.unit, measure.meaning) for name, measure in measures.items()]

    def arrow(self, table: str) -> pa.Schema:
        """Returns the schema of a table's files."""
        return pa.schema([pa.field(column.name, column.type) for column in self.columns(table)])

    def to_json(self) -> str:
        """Returns the text of `schema.json`, which also explains every column to a reader without this software."""
        document = {
            "version": SCHEMA_VERSION,
            "sweep": self.sweep,
            "objectives": [list(objective) for objective in self.objectives],
            "parameters": {name: {"kind": p.kind, "meaning": p.meaning} for name, p in self.parameters.items()},
            **{
                group: {
                    name: {"unit": m.unit, "meaning": m.meaning, "goal": m.goal}
                    for name, m in cast("Mapping[str, Measure]", getattr(self, group)).items()
                }
                for group in ("metrics", "scores", "measures")
            },
            "tables": {
                name: {
                    "meaning": table.meaning,
                    "key": list(table.key),
                    "columns": {
                        c.name: {"type": str(c.type), "unit": c.unit, "meaning": c.meaning} for c in self.columns(name)
                    },
                }
                for name, table in TABLES.items()
            },
        }
        return json.dumps(document, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, upgrades: upgrade.Upgrades = upgrade.UPGRADES) -> "SweepSchema":
        """Returns the schema that a `schema.json` holds, brought up to `SCHEMA_VERSION`.

        Raises:
            SchemaError: the text is no schema, or one of a newer version.
        """
        try:
            document = json.loads(text)
            version = document["version"]
        except (ValueError, TypeError, KeyError) as error:
            raise SchemaError(
                f"this is no schema of a ledger ({type(error).__name__}: {error}); restore schema.json from a copy"
            ) from error
        document = upgrade.document(document, version, SCHEMA_VERSION, upgrades)
        try:
            return cls(
                sweep=document["sweep"],
                parameters={name: Parameter(**p) for name, p in document["parameters"].items()},
                metrics={name: Measure(**m) for name, m in document["metrics"].items()},
                scores={name: Measure(**m) for name, m in document["scores"].items()},
                measures={name: Measure(**m) for name, m in document["measures"].items()},
                objectives=tuple((name, goal) for name, goal in document["objectives"]),
            )
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise SchemaError(
                f"schema.json lacks what belongs to it ({type(error).__name__}: {error}); restore it from a copy"
            ) from error


def find(table: str) -> Table:
    """Returns a table by name; an unknown one is refused with the nearest."""
    try:
        return TABLES[table]
    except KeyError:
        raise SchemaError(f"there is no table {table!r}{did_you_mean(table, TABLES)}") from None
