"""A ledger of an older version is read and gone on with; one of a newer version is refused. Version 0 is made up."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from results import upgrade
from results.errors import SchemaError
from results.ledger import Ledger, Writer
from results.schema import SCHEMA_VERSION, Measure, SweepSchema
from results.storage import Storage

SCHEMA = SweepSchema(sweep="old", metrics={"loss": Measure()}, objectives=(("loss", "min"),))


def newer_document(document):
    return {**document, "version": 1, "objectives": [[document["objective"], "min"]]}


def newer_table(name: str, rows: pa.Table) -> pa.Table:
    if name != "epochs":
        return rows
    return rows.rename_columns([{"seconds": "duration_s"}.get(column, column) for column in rows.column_names])


# In version 0 there was one objective, and `duration_s` was called `seconds`.
UPGRADES = {0: upgrade.Upgrade(document=newer_document, table=newer_table)}


@pytest.fixture
def old(tmp_path) -> Storage:
    storage = Storage(tmp_path)
    writer = Writer(storage, SCHEMA, session=1, next_seq=0)
    for epoch in (1, 2, 2):
        writer.append("epochs", {"trial": 0, "attempt": 1, "epoch": epoch, "duration_s": 0.5 * epoch})
    writer.flush()
    (part,) = (tmp_path / "ledger" / "epochs").iterdir()
    rows = pq.read_table(part)
    names = ["seconds" if name == "duration_s" else name for name in rows.column_names]
    mark = rows.schema.metadata[b"ledger"].replace(b'"version": 1', b'"version": 0')
    pq.write_table(rows.rename_columns(names).replace_schema_metadata({b"ledger": mark}), part)
    document = json.loads(SCHEMA.to_json())
    document |= {"version": 0, "objective": document.pop("objectives")[0][0]}
    storage.write("ledger/schema.json", json.dumps(document).encode())
    return storage


def test_an_older_ledger_is_read_as_if_it_were_of_today(old):
    ledger = Ledger(old, upgrades=UPGRADES)
    assert ledger.schema == SCHEMA
    assert ledger.table("epochs", ["epoch", "duration_s"]).to_pylist() == [
        {"epoch": 1, "duration_s": 0.5},
        {"epoch": 2, "duration_s": 1.0},
    ]


def test_going_on_with_an_older_ledger_brings_all_of_it_up(old):
    ledger = Ledger(old, upgrades=UPGRADES)
    before = list(ledger.events())
    Writer(old, SCHEMA, session=2, next_seq=3, upgrades=UPGRADES)
    present = Ledger(old)  # knows nothing of version 0
    assert list(present.events()) == before
    assert json.loads(old.read("ledger/schema.json"))["version"] == SCHEMA_VERSION


def test_an_older_ledger_that_nobody_can_bring_up_is_refused(old):
    with pytest.raises(SchemaError, match=r"written with version 0 .* no longer knows how to go on from version 0"):
        _ = Ledger(old).schema


def test_steps_follow_each_other_in_order():
    steps = {
        n: upgrade.Upgrade(document=lambda d, n=n: {"seen": [*d["seen"], n]}, table=lambda _, t: t) for n in range(4)
    }
    assert upgrade.document({"seen": []}, 1, 4, steps) == {"seen": [1, 2, 3]}
    assert upgrade.document({"seen": []}, 4, 4, steps) == {"seen": []}


def test_a_newer_ledger_is_refused_by_reader_and_writer(tmp_path):
    storage = Storage(tmp_path)
    Writer(storage, SCHEMA, session=1, next_seq=0)
    newer = json.loads(SCHEMA.to_json()) | {"version": SCHEMA_VERSION + 1}
    storage.write("ledger/schema.json", json.dumps(newer).encode())
    for attempt in (lambda: Ledger(storage).table("trials"), lambda: Writer(storage, SCHEMA, session=2, next_seq=0)):
        with pytest.raises(SchemaError, match="update it"):
            attempt()
