"""The ledger through sessions, damage, death and tidying up: nothing is lost, nothing counts twice."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from results import compaction
from results.errors import LedgerError, StorageError
from results.ledger import Ledger, Writer
from results.parts import Parts
from results.schema import Measure, Parameter, SweepSchema
from results.storage import Storage
from tests.results.events import SCHEMA, epoch, files, fill, seqs, writer


@pytest.fixture
def storage(tmp_path) -> Storage:
    return Storage(tmp_path / "a sweep # 1")


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
    print("flushed", flush=True)
"""


@pytest.mark.slow
def test_killing_the_writer_leaves_no_half_of_anything(storage):
    writer(storage)
    written = 0
    for kill in range(5):
        process = subprocess.Popen([sys.executable, "-c", WRITE, storage.uri], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        until = time.monotonic() + 0.09 * (kill + 1)
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
