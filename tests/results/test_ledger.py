"""The ledger: what is appended comes back, in order and once for each key; other readers see the same."""

import math
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from results.errors import LedgerError, QueryError, RowError, SchemaError
from results.ledger import Ledger
from results.schema import TABLES
from results.storage import Storage
from tests.results.events import SCHEMA, epoch, files, fill, seqs, writer


@pytest.fixture
def storage(tmp_path) -> Storage:
    return Storage(tmp_path / "a sweep # 1")


# --- writing and reading ----------------------------------------------------------------------------------------------


def test_a_new_folder_holds_no_ledger(storage):
    ledger = Ledger(storage)
    assert not ledger.exists
    assert (ledger.last_seq, ledger.last_session) == (-1, 0)
    for read in (lambda: ledger.schema, lambda: ledger.table("trials"), lambda: list(ledger.events())):
        with pytest.raises(LedgerError, match=r"there is no ledger in .*; give the folder of a sweep"):
            read()


def test_an_empty_ledger_has_empty_tables_with_all_columns(storage):
    writer(storage).flush()
    ledger = Ledger(storage)
    assert ledger.exists
    for name in TABLES:
        assert ledger.table(name).schema == SCHEMA.arrow(name)
        assert len(ledger.raw(name)) == 0
    assert list(ledger.events()) == []


def test_rows_are_seen_after_the_flush_and_not_before(storage):
    out = writer(storage)
    assert out.append("epochs", epoch(3, 1)) == 0
    assert seqs(storage) == []
    out.flush()
    assert seqs(storage) == [0]


def test_the_writer_fills_in_what_is_its_own(storage):
    out, before = writer(storage), datetime.now(UTC)
    out.append("sessions", {"command": "search run", "session": 1, "sweep": "laptop"})
    out.flush()
    (row,) = Ledger(storage).table("sessions").to_pylist()
    assert (row["sweep"], row["seq"], row["session"]) == ("laptop", 0, 1)
    assert before <= row["time"] <= datetime.now(UTC)


def test_times_are_kept_in_utc(storage):
    out = writer(storage)
    east = datetime(2026, 1, 1, 3, 0, 0, 123456, tzinfo=timezone(timedelta(hours=3)))
    out.append("epochs", epoch(0, 1) | {"time": east, "ended": east})
    out.flush()
    (_, row), *_ = Ledger(storage).events()
    assert row["ended"] == row["time"] == datetime(2026, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)
    assert str(Ledger(storage).table("epochs").schema.field("ended").type) == "timestamp[us, tz=UTC]"


def test_of_rows_with_one_key_the_last_counts_and_all_stay_visible(storage):
    fill(storage, 5)
    ledger = Ledger(storage)
    (row,) = ledger.table("epochs").to_pylist()
    assert (row["val_nll"], row["attempt"]) == (4.0, 5)
    assert ledger.raw("epochs")["val_nll"].to_pylist() == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_columns_may_be_chosen(storage):
    fill(storage, 2)
    ledger = Ledger(storage)
    assert ledger.table("epochs", ["val_nll"]).to_pylist() == [{"val_nll": 1.0}]
    assert ledger.raw("epochs", ["val_nll", "trial"]).column_names == ["val_nll", "trial"]
    with pytest.raises(QueryError, match="no column 'val_nl'; did you mean 'val_nll'"):
        ledger.table("epochs", ["val_nl"])
    with pytest.raises(SchemaError, match="no table 'epoch'; did you mean 'epochs'"):
        ledger.table("epoch")


def test_events_come_in_their_order_with_all_columns(storage):
    fill(storage, 3)
    events = list(Ledger(storage).events())
    assert [name for name, _ in events] == ["proposals", "epochs"] * 3
    assert [row["seq"] for _, row in events] == list(range(6))
    assert list(events[1][1]) == SCHEMA.arrow("epochs").names
    assert events[1][1]["speed"] is None


def test_events_may_be_cut_to_columns_and_tables(storage):
    fill(storage, 2)
    events = list(Ledger(storage).events({"epochs": ["val_nll"], "proposals": []}))
    assert events == [("epochs", {"val_nll": 0.0}), ("epochs", {"val_nll": 1.0})]


ROWS = st.lists(
    st.one_of(
        st.tuples(
            st.just("epochs"),
            st.fixed_dictionaries(
                {"trial": st.integers(0, 2**63 - 1), "attempt": st.integers(1, 2), "epoch": st.integers(1, 2**31 - 1)},
                optional={
                    "val_nll": st.floats(),
                    "ended": st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
                },
            ),
        ),
        st.tuples(
            st.just("proposals"),
            st.fixed_dictionaries(
                {"trial": st.integers(0, 9)},
                optional={
                    "config.lr": st.floats() | st.none(),
                    "config.units": st.integers(-(2**63), 2**63 - 1),
                    "config.family": st.text(st.characters(exclude_categories=["Cs"])),
                    "config.ema": st.booleans(),
                },
            ),
        ),
        st.just(("flush", None)),
        st.just(("compact", None)),
    ),
    max_size=25,
)


def clean(row: dict) -> dict:
    """A row without what is None, NaN made equal to itself."""
    return {
        name: "NaN" if isinstance(value, float) and math.isnan(value) else value
        for name, value in row.items()
        if value is not None and name not in {"sweep", "session", "time", "seq"}
    }


def gives_up(later: dict, epoch: dict) -> bool:
    """Whether an epoch shows that a later attempt at the trial went on from before another one."""
    return later["trial"] == epoch["trial"] and later["attempt"] > epoch["attempt"] and later["epoch"] <= epoch["epoch"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ROWS)
@example([("epochs", {"trial": 0, "attempt": 2, "epoch": 1}), ("epochs", {"trial": 0, "attempt": 1, "epoch": 1})])
def test_whatever_is_appended_comes_back_in_order(tmp_path_factory, rows):
    storage = Storage(tmp_path_factory.mktemp("any"))
    out, expected = writer(storage), []
    for table, row in rows:
        if table == "flush":
            out.flush()
        elif table == "compact":
            Ledger(storage).compact()
        else:
            assert out.append(table, row) == len(expected)
            expected.append((table, clean(row)))
    out.flush()
    assert [(table, clean(row)) for table, row in Ledger(storage).events()] == expected
    epochs = [row for table, row in expected if table == "epochs"]
    last = {}
    for seq, (table, row) in enumerate(expected):
        if table != "epochs" or not any(gives_up(other, row) for other in epochs):
            last[table, *(row[name] for name in TABLES[table].key[1:])] = seq
    seen = [row["seq"] for table in ("epochs", "proposals") for row in Ledger(storage).table(table).to_pylist()]
    assert sorted(seen) == sorted(last.values())


def test_numpy_values_are_taken(storage):
    out = writer(storage)
    out.append("epochs", epoch(np.int64(1), np.int32(2)) | {"val_nll": np.float32(0.5), "speed": np.array(3.0)})  # type: ignore[arg-type]
    out.append("proposals", {"trial": 0, "config.ema": np.bool_(True), "config.units": np.int64(3), "config.lr": 1})
    out.flush()
    (row,) = Ledger(storage).table("epochs", ["trial", "epoch", "val_nll", "speed"]).to_pylist()
    assert row == {"trial": 1, "epoch": 2, "val_nll": 0.5, "speed": 3.0}


@pytest.mark.parametrize(
    ("table", "row", "message"),
    [
        ("epochs", {"trial": 0, "epoch": 1, "val_nl": 1.0}, "no column 'val_nl'; did you mean 'val_nll'"),
        ("epochs", {"trial": 0}, "has no epoch, which is part of its key"),
        ("epochs", {"trial": 0, "epoch": None}, "has no epoch"),
        ("epochs", {"trial": 0, "epoch": 1.0}, r"column epoch: a whole number was expected, not 1.0 \(float\)"),
        ("epochs", {"trial": 0, "epoch": True}, "a whole number was expected"),
        ("epochs", {"trial": 0, "epoch": 2**31}, "a whole number of 32 bits"),
        ("epochs", {"trial": 0, "epoch": 1, "val_nll": "low"}, "a number was expected, not 'low'"),
        ("epochs", {"trial": 0, "epoch": 1, "ended": datetime(2026, 1, 1)}, "with a time zone"),
        ("epochs", {"trial": 0, "epoch": 1, "seq": 5}, "no column 'seq'"),
        ("epochs", {"trial": 0, "epoch": 1, "session": 7}, "session is 1 in this ledger, not 7"),
        ("proposals", {"trial": 0, "config.family": 3}, "a text was expected"),
        ("proposals", {"trial": 0, "config.ema": 1}, "True or False was expected"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_at_once_and_leaves_nothing(storage, table, row, message):
    out = writer(storage)
    with pytest.raises(RowError, match=message):
        out.append(table, row)
    assert out.append("trials", {"trial": 0}) == 0
    out.flush()
    assert seqs(storage) == [0]


def test_text_that_utf8_cannot_hold_does_not_cost_the_row(storage):
    out = writer(storage)
    out.append("attempt_ends", {"trial": 0, "attempt": 1, "detail": "in file \udcff.py"})
    out.flush()
    assert Ledger(storage).table("attempt_ends")["detail"].to_pylist() == ["in file \\udcff.py"]


# --- other readers ----------------------------------------------------------------------------------------------------


def test_pandas_and_duckdb_read_the_folders(storage):
    fill(storage, 4)
    Ledger(storage).compact()
    folder = Path(storage.uri) / "ledger" / "epochs"
    frame = pd.read_parquet(folder)
    assert frame["val_nll"].tolist() == [3.0]
    count = duckdb.sql(f"select count(*), max(val_nll) from read_parquet('{folder}/*.parquet')").fetchone()
    assert count == (1, 3.0)


def test_all_parts_of_a_table_have_one_schema(storage):
    fill(storage, 3)
    fill(storage, 9, compact_every=4)  # some are put together
    Ledger(storage).compact()
    fill(storage, 2)
    for table in ("epochs", "proposals"):
        assert {str(pq.read_schema(path).remove_metadata()) for path in files(storage, table)} == {
            str(SCHEMA.arrow(table))
        }
        assert len(files(storage, table)) > 1


def test_a_writer_leaves_large_parts_as_they_are(storage, monkeypatch):
    monkeypatch.setattr("results.compaction.LARGE", 4)
    fill(storage, 16, compact_every=2)
    large = {name for name in Ledger(storage).parts.listing()["epochs"] if name.compacted and name.rows >= 4}
    assert len(large) > 2
    fill(storage, 8, compact_every=2)
    assert large < set(Ledger(storage).parts.listing()["epochs"])
    assert len(seqs(storage)) == len(set(seqs(storage)))


def test_files_put_aside_disturb_no_other_reader(storage):
    out = fill(storage, 3)
    files(storage, "epochs")[1].write_bytes(b"")
    Ledger(storage).quarantine()
    out.flush()
    folder = Path(storage.uri) / "ledger" / "epochs"
    assert len(pd.read_parquet(folder)) == 2
    assert duckdb.sql(f"select count(*) from read_parquet('{folder}/*.parquet')").fetchone() == (2,)
