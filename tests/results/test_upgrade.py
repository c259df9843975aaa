"""A ledger of an older version is read and gone on with; one of a newer version is refused. Version 0 is made up."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from results import upgrade
from results.checking import check
from results.choices import Key
from results.choosing import Promise, earlier
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
UPGRADES = {**upgrade.UPGRADES, 0: upgrade.Upgrade(document=newer_document, table=newer_table)}


def marked(rows: pa.Table, version: int) -> bytes:
    """What a part of these rows says of itself, with another version."""
    return json.dumps(json.loads(rows.schema.metadata[b"ledger"]) | {"version": version}).encode()


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
    mark = marked(rows, 0)
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


# --- version 1, as its software wrote it ------------------------------------------------------------------------------

COMMON_1 = ["sweep", "seq", "session", "time"]
COLUMNS_1 = {
    "finals": [
        *COMMON_1, "final", "trial", "seed", "state", "reason", "epochs", "best_epoch", "chosen", "model", "data",
        "data_fingerprint", "train_s", "loss",
    ],
    "samples": [*COMMON_1, "sample", "final", "name", "path"],
}  # fmt: skip


def written_1(folder: Path, *, compacted: bool) -> Storage:
    """A finished sweep of version 1: a trial, trained anew twice, and a sample."""
    storage = Storage(folder)
    writer = Writer(storage, SCHEMA, session=1, next_seq=0)
    writer.append("sessions", {"session": 1})
    writer.append("proposals", {"trial": 0, "origin": "searcher", "seed": 1, "bracket": 0})
    for final in range(2):
        writer.append("finals", {"final": final, "trial": 0, "state": "completed", "chosen": final == 1, "loss": 0.5})
    writer.append("samples", {"sample": 0, "final": 1, "name": "cold", "path": "bundle/samples/cold.txt"})
    writer.flush()
    if compacted:
        Ledger(storage).compact()
    for part in (folder / "ledger").rglob("*.parquet"):
        rows = pq.read_table(part)
        names = COLUMNS_1.get(part.parent.name, rows.column_names)
        pq.write_table(rows.select(names).replace_schema_metadata({b"ledger": marked(rows, 1)}), part)
    document = json.loads(SCHEMA.to_json()) | {"version": 1}
    storage.write("ledger/schema.json", json.dumps(document).encode())
    return storage


@pytest.fixture(params=[False, True], ids=["parts", "compacted"])
def first(tmp_path, request) -> Storage:
    return written_1(tmp_path, compacted=request.param)


def test_final_models_of_version_1_are_single_ones_of_their_own_sweep(first):
    wanted = ["final", "source", "kind", "members", "round", "job_s"]
    assert Ledger(first).table("finals", wanted).to_pylist() == [
        {"final": final, "source": "", "kind": "single", "members": "", "round": 0, "job_s": None} for final in range(2)
    ]
    [sample] = Ledger(first).table("samples", ["name", "kind", "origin", "path"]).to_pylist()
    assert sample == {"name": "cold", "kind": "", "origin": "", "path": "bundle/samples/cold.txt"}


def test_a_sound_ledger_of_version_1_has_no_problem(first):
    assert check(Ledger(first)) == []


def test_going_on_leaves_no_file_of_version_1(first):
    before = list(Ledger(first).events())
    Writer(first, SCHEMA, session=2, next_seq=5)
    assert list(Ledger(first).events()) == before
    parts = list(Path(first.uri).rglob("*.parquet"))
    versions = {json.loads(pq.read_schema(part).metadata[b"ledger"])["version"] for part in parts}
    assert (len(parts), versions) == (4, {SCHEMA_VERSION})
    assert pq.read_table(next(part for part in parts if part.parent.name == "finals")).column("kind").to_pylist() == [
        "single",
        "single",
    ]


# --- version 2, as its software wrote it ------------------------------------------------------------------------------


@pytest.fixture(params=[False, True], ids=["parts", "compacted"])
def second(tmp_path, request) -> Storage:
    """A finished sweep of version 2: what version 3 has more is a table."""
    storage = Storage(tmp_path)
    writer = Writer(storage, SCHEMA, session=1, next_seq=0)
    writer.append("sessions", {"session": 1})
    writer.append("proposals", {"trial": 0, "origin": "searcher", "seed": 1, "bracket": 0})
    row = {"trial": 0, "state": "completed", "source": "", "kind": "single", "members": "", "round": 0, "epochs": 3}
    for final in range(2):
        writer.append("finals", {"final": final, "chosen": final == 1, "loss": 0.5 + final, "data": "a", **row})
    writer.flush()
    if request.param:
        Ledger(storage).compact()
    for part in (tmp_path / "ledger").rglob("*.parquet"):
        rows = pq.read_table(part)
        pq.write_table(rows.replace_schema_metadata({b"ledger": marked(rows, 2)}), part)
    storage.write("ledger/schema.json", json.dumps(json.loads(SCHEMA.to_json()) | {"version": 2}).encode())
    return storage


def test_a_ledger_of_version_2_has_no_choices_and_no_problem(second):
    assert Ledger(second).table("choices").num_rows == 0
    assert check(Ledger(second)) == []
    Writer(second, SCHEMA, session=2, next_seq=4).append("choices", {"choice": 0, "rank": 1, "trial": 0})
    parts = list(Path(second.uri).rglob("*.parquet"))
    assert {json.loads(pq.read_schema(part).metadata[b"ledger"])["version"] for part in parts} == {SCHEMA_VERSION}


def test_what_was_chosen_in_version_2_is_compared_as_its_final_job_did(second):
    rows = Ledger(second).table("finals").to_pylist()
    promises = {Key("", 0): Promise(0.4, fair=True)}
    found = earlier(rows, promises, objective="loss", goal="min", pieces={}, rule="best_mean", seed=0)
    assert found is not None
    assert (found.final, found.winner.mean, found.winner.finals) == (1, 1.0, (0, 1))
    assert (found.promised, found.found, found.winner.costs) == (0.4, 1.0, {})
