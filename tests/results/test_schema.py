"""The declared columns: complete, consistent, and kept beside the tables."""

import json

import pyarrow as pa
import pytest

import results
from results.errors import SchemaError
from results.schema import COMMON, SCHEMA_VERSION, TABLES, Measure, Parameter, SweepSchema, find

SCHEMA = SweepSchema(
    sweep="laptop",
    parameters={"lr": Parameter("float", "learning rate"), "n": Parameter("int"), "kind": Parameter("str")},
    metrics={"val_nll": Measure("nats per note", "validation", "min")},
    scores={"test_nll": Measure("nats per note", "test")},
    measures={"fifths": Measure("share", "parallel fifths")},
    objectives=(("val_nll", "min"),),
)


def test_the_names_of_the_package_are_there():
    for name in results.__all__:
        if name not in ("open", "Results"):  # those load pandas
            assert getattr(results, name) is not None
    with pytest.raises(AttributeError, match="nothing_of_ours"):
        _ = results.nothing_of_ours


@pytest.mark.parametrize("table", TABLES)
def test_every_column_is_explained(table):
    for column in SCHEMA.columns(table):
        assert column.meaning, column.name
        assert not column.meaning.endswith("."), column.name


@pytest.mark.parametrize("table", TABLES.values(), ids=str)
def test_keys_are_columns_and_begin_with_the_sweep(table):
    names = [column.name for column in (*COMMON, *table.columns)]
    assert table.key[0] == "sweep"
    assert set(table.key) <= set(names)
    assert len(names) == len(set(names))


def test_a_configuration_is_typed_columns():
    types = {field.name: field.type for field in SCHEMA.arrow("trials")}
    assert types["config.lr"] == pa.float64()
    assert types["config.n"] == pa.int64()
    assert types["config.kind"] == pa.string()
    assert types["val_nll"] == pa.float64()
    assert types["time"] == pa.timestamp("us", tz="UTC")


def test_the_written_schema_is_read_back_and_explains_itself():
    assert SweepSchema.from_json(SCHEMA.to_json()) == SCHEMA
    document = json.loads(SCHEMA.to_json())
    assert document["version"] == SCHEMA_VERSION
    column = document["tables"]["trials"]["columns"]["val_nll"]
    assert column == {"type": "double", "unit": "nats per note", "meaning": "validation"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no schema of a ledger"),
        ("[]", "no schema of a ledger"),
        ("{}", "no schema of a ledger"),
        (json.dumps({"version": SCHEMA_VERSION}), "lacks what belongs to it"),
        (
            json.dumps({"version": SCHEMA_VERSION + 1}),
            f"version {SCHEMA_VERSION + 1} .* up to {SCHEMA_VERSION}; update",
        ),
        (json.dumps({"version": "1"}), "a whole number was expected"),
    ],
)
def test_a_schema_that_cannot_be_understood_is_refused(text, message):
    with pytest.raises(SchemaError, match=message):
        SweepSchema.from_json(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"metrics": {"val_nll": ""}, "objectives": (("val_nl", "min"),)},
            "no metric of the task; did you mean 'val_nll'",
        ),
        ({"metrics": {"val_nll": ""}, "objectives": (("val_nll", "least"),)}, "'min' or 'max' was expected"),
        ({"metrics": {"epoch": Measure()}}, "table epochs: a column 'epoch' stands twice"),
        ({"metrics": {"": Measure()}}, "has no name"),
        ({"metrics": {"a": Measure()}, "scores": {"a": Measure()}}, "table finals: a column 'a' stands twice"),
    ],
)
def test_a_schema_that_contradicts_itself_is_refused(change, message):
    with pytest.raises(SchemaError, match=message):
        SweepSchema(**{"sweep": "x", **change})


def test_measures_may_be_written_briefly():
    schema = SweepSchema(sweep="x", metrics={"a": "s", "b": ("s", "how long"), "c": ("s", "how long", "min")})  # type: ignore[dict-item]
    assert schema.metrics["a"] == Measure("s")
    assert schema.metrics["b"] == Measure("s", "how long")
    assert schema.metrics["c"].goal == "min"
    for wrong in (3, ("a", 1), ("s", "m", "lowest"), ()):
        with pytest.raises(SchemaError, match=r"goal is|a measure is"):
            Measure.of(wrong)  # type: ignore[arg-type]


def test_unknown_kinds_and_tables_are_refused():
    with pytest.raises(SchemaError, match="of kind int, float, str, bool, not 'number'"):
        Parameter("number")  # type: ignore[arg-type]
    with pytest.raises(SchemaError, match="did you mean 'trials'"):
        find("trial")
