"""The ledger: what is appended comes back once, whatever dies between; other readers of Parquet see the same."""

import math
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from results import compaction
from results.errors import LedgerError, QueryError, RowError, SchemaError, StorageError
from results.ledger import Ledger, Writer
from results.parts import Parts
from results.schema import TABLES, Measure, Parameter, SweepSchema
from results.storage import Storage

SCHEMA = SweepSchema(
    sweep="laptop",
    parameters={
        "lr": Parameter("float"),
        "units": Parameter("int"),
        "family": Parameter("str"),
        "ema": Parameter("bool"),
    },
    metrics={"val_nll": Measure("nats per note"), "speed": Measure("notes per second")},
    objectives=(("val_nll", "min"),),
)


@pytest.fixture
def storage(tmp_path) -> Storage:
    return Storage(tmp_path / "a sweep # 1")


def writer(storage: Storage, **kwargs) -> Writer:
    ledger = Ledger(storage)
    return Writer(storage, SCHEMA, session=ledger.last_session + 1, next_seq=ledger.last_seq + 1, **kwargs)


def epoch(trial: int, epoch: int, value: float = 1.0, attempt: int = 1) -> dict:
    return {"trial": trial, "attempt": attempt, "epoch": epoch, "val_nll": value}


def fill(storage: Storage, flushes: int = 5, **kwargs) -> Writer:
    """Every flush writes two tables; epoch 1 is trained in each anew."""
    out = writer(storage, **kwargs)
    for number in range(flushes):
        out.append("proposals", {"trial": number, "config.lr": 0.1 * number})
        out.append("epochs", epoch(0, 1, number, attempt=number + 1))
        out.flush()
    return out


def seqs(storage: Storage) -> list[int]:
    return [row["seq"] for _, row in Ledger(storage).events()]


def files(storage: Storage, *tables: str) -> list[Path]:
    return sorted(p for t in tables or TABLES for p in (Path(storage.uri) / "ledger" / t).glob("*.parquet"))


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


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ROWS)
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
    last = {}
    for seq, (table, row) in enumerate(expected):
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


def test_files_put_aside_disturb_no_other_reader(storage):
    out = fill(storage, 3)
    files(storage, "epochs")[1].write_bytes(b"")
    Ledger(storage).quarantine()
    out.flush()
    folder = Path(storage.uri) / "ledger" / "epochs"
    assert len(pd.read_parquet(folder)) == 2
    assert duckdb.sql(f"select count(*) from read_parquet('{folder}/*.parquet')").fetchone() == (2,)


# --- sessions ---------------------------------------------------------------------------------------------------------


def test_the_next_session_goes_on(storage):
    fill(storage, 2)
    fill(storage, 2)
    ledger = Ledger(storage)
    assert (ledger.last_seq, ledger.last_session) == (7, 2)
    assert seqs(storage) == list(range(8))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"session": 1, "next_seq": 4}, "session 1 .* is over; the next is 2"),
        ({"session": 2, "next_seq": 3}, "goes on with event 4, not 3"),
        ({"session": 2, "next_seq": 9}, "goes on with event 4, not 9"),
    ],
)
def test_a_writer_that_does_not_follow_on_is_refused(storage, kwargs, message):
    fill(storage, 2)
    with pytest.raises(LedgerError, match=message):
        Writer(storage, SCHEMA, **kwargs)


def test_a_writer_of_another_schema_is_refused_with_what_differs(storage):
    fill(storage, 1)
    other = SweepSchema(
        sweep="other",
        parameters={"lr": Parameter("int")},
        metrics={"acc": Measure()},
        objectives=(("acc", "max"),),
    )
    with pytest.raises(LedgerError) as caught:
        Writer(storage, other, session=2, next_seq=2)
    for words in (
        "its sweep is 'laptop', not 'other'", "parameters lost ema, family, units", "parameters changed lr",
        "metrics lost speed, val_nll", "metrics gained acc", "objectives were [('val_nll', 'min')]", "warm started",
    ):  # fmt: skip
        assert words in str(caught.value)


def test_a_ledger_that_vanished_is_not_begun_anew(storage):
    out = fill(storage, 1)
    Storage(Path(storage.uri)).remove("ledger")
    out.append("epochs", epoch(0, 9))
    with pytest.raises(StorageError, match="is gone"):
        out.flush()
    assert not storage.exists("ledger")


# --- damage, death, tidying up ----------------------------------------------------------------------------------------


def test_a_flush_that_is_not_whole_counts_as_not_written_and_is_put_aside(storage):
    fill(storage, 3)
    files(storage, "proposals")[-1].unlink()  # as if the driver had died between two renames
    ledger = Ledger(storage)
    assert seqs(storage) == [0, 1, 2, 3]
    assert ledger.last_seq == 3
    assert ledger.last_session == 1
    fill(storage, 1)
    assert seqs(storage) == list(range(6))
    assert len(ledger.raw("epochs")) == 3
    assert (Path(storage.uri) / "ledger" / "epochs" / ".torn-s0001-000002").exists()


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_part_cut_short_is_found_and_put_aside(storage, keep):
    fill(storage, 3)
    part = files(storage, "epochs")[1]
    part.write_bytes(part.read_bytes()[:keep])
    ledger = Ledger(storage)
    assert ledger.damaged() == ["epochs/s0001-000001.parquet"]
    assert seqs(storage) == [0, 1, 2, 4, 5]
    assert ledger.quarantine() == ["epochs/.damaged-s0001-000001"]
    assert ledger.damaged() == []
    assert ledger.last_seq == 5


def test_flipped_bits_are_noticed(storage):
    out = writer(storage)
    for number in range(200):
        out.append("epochs", epoch(number, 1, value=number * 0.37))
    out.flush()
    (part,) = files(storage, "epochs")
    data = bytearray(part.read_bytes())
    data[len(data) // 3] ^= 0x55
    part.write_bytes(data)
    assert Ledger(storage).damaged() == ["epochs/s0001-000000.parquet"]


def test_of_a_damaged_last_flush_nothing_counts(storage):
    fill(storage, 3)
    part = files(storage, "epochs")[-1]
    part.write_bytes(part.read_bytes()[:-9])
    assert seqs(storage) == [0, 1, 2, 3]
    fill(storage, 1)
    assert seqs(storage) == list(range(6))


def test_a_failed_flush_may_be_tried_again(storage):
    out = fill(storage, 1)
    blocked = Path(storage.uri) / "ledger" / "decisions"
    blocked.write_text("a file where a folder should be")
    out.append("epochs", epoch(1, 1))
    out.append("decisions", epoch(1, 1) | {"val_nll": None, "verdict": "continue"})
    with pytest.raises(StorageError, match="a file stands where a folder was expected"):
        out.flush()
    assert not any("tmp" in path.name for path in (Path(storage.uri) / "ledger" / "epochs").iterdir())
    out.append("epochs", epoch(1, 2))
    blocked.unlink()
    out.flush()
    out.flush()
    assert seqs(storage) == list(range(5))


def test_compacting_keeps_every_row_and_makes_keys_unique_for_everyone(storage):
    fill(storage, 5)
    ledger = Ledger(storage)
    before = list(ledger.events())
    ledger.compact()
    assert list(ledger.events()) == before
    assert [len(files(storage, table)) for table in ("epochs", "proposals")] == [1, 1]
    assert len(pd.read_parquet(Path(storage.uri) / "ledger" / "epochs")) == 1
    assert len(pd.read_parquet(Path(storage.uri) / "ledger" / "superseded" / "epochs")) == 4
    listed = {path: path.stat().st_mtime_ns for path in files(storage)}
    ledger.compact()  # nothing to do
    assert {path: path.stat().st_mtime_ns for path in files(storage)} == listed
    fill(storage, 2)
    ledger.compact()
    assert seqs(storage) == list(range(14))
    assert len(pd.read_parquet(Path(storage.uri) / "ledger" / "epochs")) == 1


class Dying(Storage):
    """Dies before its n-th change."""

    def __init__(self, uri, changes: int):
        super().__init__(uri)
        self.changes = changes

    def child(self, *parts):
        return self

    def _change(self):
        self.changes -= 1
        if self.changes < 0:
            raise KeyboardInterrupt

    def write_all(self, files):
        self._change()
        super().write_all(files)

    def remove(self, path):
        self._change()
        super().remove(path)


def test_compaction_may_die_between_any_two_steps(storage):
    fill(storage, 4)
    expected, readers = list(Ledger(storage).events()), Ledger(storage).table("epochs").to_pylist()
    steps = 0
    while True:
        dying = Dying(storage.child("ledger").uri, steps)
        try:
            compaction.compact_all(Parts(dying), SCHEMA)
        except KeyboardInterrupt:
            steps += 1
        assert list(Ledger(storage).events()) == expected
        assert Ledger(storage).table("epochs").to_pylist() == readers
        assert Ledger(storage).last_seq == 7
        if dying.changes >= 0:
            break
        steps = min(steps, 3)  # each time it gets a little further
    fill(storage, 1)
    assert seqs(storage) == list(range(10))


def test_a_long_session_keeps_its_files_few(storage):
    fill(storage, 39, compact_every=4)
    # 36 of them make 32 + 4, for each merge takes in what is no larger; 3 wait for the next.
    assert len(files(storage, "epochs")) == 2 + 3
    assert seqs(storage) == list(range(78))
    fill(storage, 9, compact_every=4)
    assert seqs(storage) == list(range(96))


def test_a_merge_that_fails_loses_nothing(storage, caplog):
    out = fill(storage, 4, compact_every=4)
    (merged,) = files(storage, "epochs")
    merged.rename(merged.with_name("elsewhere"))
    for number in range(4):
        out.append("epochs", epoch(1, number + 1))
        out.flush()
    assert "could not be put together" in caplog.text
    merged.with_name("elsewhere").rename(merged)
    assert seqs(storage) == list(range(12))


WRITE = """
import sys
from results.ledger import Ledger, Writer
from results.storage import Storage
storage = Storage(sys.argv[1])
ledger = Ledger(storage)
out = Writer(storage, ledger.schema, session=ledger.last_session + 1, next_seq=ledger.last_seq + 1)
trial = 0
while True:
    for _ in range(5):
        out.append("proposals", {"trial": trial})
        out.append("attempts", {"trial": trial, "attempt": 1})
        out.append("epochs", {"trial": trial, "attempt": 1, "epoch": 1, "val_nll": 0.5})
        out.append("decisions", {"trial": trial, "epoch": 1})
        trial += 1
    out.flush()
    print("flushed", flush=True)  # the first takes longer than the rest, for it loads pyarrow
"""


@pytest.mark.slow
def test_killing_the_writer_leaves_no_half_of_anything(storage):
    writer(storage)
    written = 0
    for kill in range(6):
        process = subprocess.Popen([sys.executable, "-c", WRITE, storage.uri], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        until = time.monotonic() + 0.07 * (kill + 1)
        while time.monotonic() < until:
            numbers = seqs(storage)  # a reader meanwhile sees whole flushes, too
            assert numbers == list(range(len(numbers)))
            assert len(numbers) % 20 == 0
        process.send_signal(signal.SIGKILL)
        process.wait()
        ledger = Ledger(storage)
        numbers = seqs(storage)
        assert numbers == list(range(len(numbers)))
        assert len(numbers) % 20 == 0
        assert ledger.last_seq == len(numbers) - 1 >= written - 1
        assert ledger.damaged() == []
        written = len(numbers)
    assert written > 0
    writer(storage)
    left = [path.name for path in Path(storage.uri).rglob(".tmp-*")]
    assert left == []
