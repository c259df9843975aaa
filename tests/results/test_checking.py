"""`results check`: a sound ledger has no problem, and each broken promise is found with its table, part and row."""

import math
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from results.checking import MOST, Problem, check
from results.ledger import Ledger, Writer
from results.schema import Measure, Parameter, SweepSchema
from results.storage import Storage

SCHEMA = SweepSchema(
    sweep="laptop",
    parameters={"lr": Parameter("float")},
    metrics={"val_nll": Measure("nats per note"), "speed": Measure("notes per second")},
    scores={"test_nll": Measure("nats per note")},
    objectives=(("val_nll", "min"),),
)
Rows = list[tuple[str, dict]]


def rows() -> Rows:
    """Trial 0 completes after a lost attempt, 1 is stopped, 2 fails, 3 is left unfinished; a model is chosen."""
    made: Rows = [("sessions", {"command": "search run"})]

    def add(table: str, **row) -> None:
        made.append((table, row))

    def epoch(trial: int, epoch: int, value: float, attempt: int = 1) -> None:
        add("epochs", trial=trial, attempt=attempt, epoch=epoch, val_nll=value, speed=100.0)

    for trial in range(4):
        add("proposals", trial=trial, origin="searcher", seed=trial, bracket=0, **{"config.lr": 0.1 * trial})
        add("attempts", trial=trial, attempt=1, cause="first")
    config = [{"config.lr": 0.1 * trial, "origin": "searcher", "seed": trial, "bracket": 0} for trial in range(4)]
    epoch(0, 1, 3.0)
    epoch(0, 2, 9.0)
    add("attempt_ends", trial=0, attempt=1, outcome="lost", reason_kind="node_lost")
    add("attempts", trial=0, attempt=2, cause="lost")
    epoch(0, 2, 1.0, attempt=2)  # again, and this time it counts
    add("decisions", trial=0, attempt=2, epoch=2, value=1.0, verdict="continue", audited=False)
    epoch(0, 3, 2.0, attempt=2)
    add("attempt_ends", trial=0, attempt=2, outcome="completed")
    best = {"best_epoch": 2, "val_nll": 1.0, "speed": 100.0}
    add("trials", trial=0, state="completed", reason_kind="", attempts=2, epochs=3, **best, **config[0])
    epoch(1, 1, 5.0)
    add("decisions", trial=1, attempt=1, epoch=1, value=5.0, cutoff=4.0, verdict="stop", audited=False)
    add("attempt_ends", trial=1, attempt=1, outcome="stopped", reason_kind="scheduler")
    best = {"best_epoch": 1, "val_nll": 5.0, "speed": 100.0}
    add("trials", trial=1, state="stopped", reason_kind="scheduler", attempts=1, epochs=1, **best, **config[1])
    epoch(2, 1, math.nan)
    add("attempt_ends", trial=2, attempt=1, outcome="failed", reason_kind="non_finite", own_fault=True)
    add("trials", trial=2, state="failed", reason_kind="non_finite", attempts=1, epochs=1, **config[2])
    add("attempt_ends", trial=3, attempt=1, outcome="lost", reason_kind="user")
    add("trials", trial=3, state="unfinished", reason_kind="user", attempts=1, epochs=0, **config[3])
    for final in range(2):
        model = f"finals/{final}/model.keras"
        add("openings", opening=final, split="test", model=model, data_fingerprint="f")
        add(
            "finals", final=final, trial=final, state="completed", chosen=final == 1, model=model, data_fingerprint="f",
            test_nll=1.0, source="", kind="single",
        )  # fmt: skip
    for final, split in ((0, "valid"), (1, "valid"), (1, "test")):
        add("piece_scores", final=final, split=split, piece="a", value=1.0, weight=4.0)
    for rank, final in ((1, 1), (2, 0)):
        chosen = {"chosen": rank == 1, "final": final if rank == 1 else None}
        add("choices", choice=0, rank=rank, trial=final, source="", finals=f"{final}", mean=1.0, **chosen)
    add("samples", sample=0, final=1, name="a", kind="free")
    return made


def written(tmp_path: Path, made: Rows) -> Ledger:
    storage = Storage(tmp_path / "sweep")
    writer = Writer(storage, SCHEMA, session=1, next_seq=0)
    for table, row in made:
        writer.append(table, row)
    writer.flush()
    return Ledger(storage)


def find(made: Rows, table: str, **key) -> dict:
    return next(row for name, row in made if name == table and all(row.get(k) == v for k, v in key.items()))


def set_in(table: str, key: dict, **values) -> Callable[[Rows], None]:
    return lambda made: find(made, table, **key).update(values)


def drop(table: str, **key) -> Callable[[Rows], None]:
    return lambda made: made.remove((table, find(made, table, **key)))


def add(table: str, **row) -> Callable[[Rows], None]:
    return lambda made: made.append((table, row))


def test_a_sound_ledger_has_no_problem(tmp_path):
    ledger = written(tmp_path, rows())
    assert check(ledger) == []
    ledger.compact()
    assert check(ledger) == []


def test_a_trial_of_another_sweep_is_no_problem(tmp_path):
    made = rows()
    for table, key in (("finals", {"final": 0}), ("choices", {"rank": 2})):
        set_in(table, key, trial=9, source="other")(made)
    assert check(written(tmp_path, made)) == []


def test_an_empty_ledger_has_no_problem(tmp_path):
    assert check(written(tmp_path, [])) == []


def test_an_extension_is_no_problem(tmp_path):
    more: Rows = [
        ("attempts", {"trial": 0, "attempt": 3, "cause": "extended"}),
        ("epochs", {"trial": 0, "attempt": 3, "epoch": 4, "val_nll": 0.5}),
        ("attempt_ends", {"trial": 0, "attempt": 3, "outcome": "completed"}),
        (
            "trials",
            find(rows(), "trials", trial=0)
            | {"epochs": 4, "best_epoch": 4, "val_nll": 0.5, "speed": None, "attempts": 3},
        ),
    ]
    for length in range(len(more) + 1):
        if length != 3:  # what an end and its trial say is written in one flush
            assert check(written(tmp_path / str(length), rows() + more[:length])) == []


def test_a_sweep_that_was_killed_has_no_problem(tmp_path):
    everything = rows()
    for length in range(1, 20):
        if everything[length - 1][1].get("outcome") not in {"completed", "stopped"}:
            assert check(written(tmp_path / str(length), everything[:length])) == []


BROKEN = [
    (set_in("trials", {"trial": 1}, state="halted"), "trials", "trial 1", "state is 'halted'"),
    (set_in("trials", {"trial": 2}, reason_kind="bad luck"), "trials", "trial 2", "reason_kind is 'bad luck'"),
    (set_in("attempt_ends", {"trial": 2}, outcome="gone"), "attempt_ends", "trial 2, attempt 1", "outcome is 'gone'"),
    (set_in("decisions", {"trial": 0}, verdict="go"), "decisions", "trial 0, epoch 2", "verdict is 'go'"),
    (add("proposals", trial=3, origin="searcher", seed=3, bracket=0, **{"config.lr": 0.1 * 3}),
     "proposals", "trial 3", "written a second time"),
    (add("attempt_ends", trial=3, attempt=1, outcome="lost"), "attempt_ends", "trial 3", "written a second time"),
    (lambda made: made.insert(12, ("epochs", find(made, "epochs", trial=0, epoch=1))),
     "epochs", "trial 0, epoch 1", "a second time in the same attempt"),
    (drop("proposals", trial=2), "epochs", "trial 2, epoch 1", "trial 2 was not proposed before"),
    (drop("attempts", trial=1), "epochs", "trial 1, epoch 1", "attempt 1 had not begun before"),
    (set_in("decisions", {"trial": 1}, attempt=7), "decisions", "trial 1", "attempt 7 had not begun before"),
    (lambda made: [row.update(attempt=4) for _, row in made if row.get("attempt") == 2],
     "attempts", "trial 0", "attempts are [1, 4]"),
    (drop("epochs", trial=0, epoch=1), "epochs", "trial 0, epoch 2", "is not preceded by epoch 1"),
    (add("epochs", trial=1, attempt=1, epoch=2, val_nll=4.0), "epochs", "trial 1, epoch 2", "came after its trial"),
    (add("attempts", trial=2, attempt=2, cause="lost"), "attempts", "trial 2, attempt 2", "began after its trial"),
    (set_in("decisions", {"trial": 0}, epoch=7), "decisions", "trial 0, epoch 7", "epoch 7 was never reported"),
    (set_in("decisions", {"trial": 0}, value=7.0), "decisions", "trial 0", "but val_nll was reported as [9.0, 1.0]"),
    (set_in("decisions", {"trial": 1}, verdict="continue"), "trials", "trial 1", "but no decision says stop"),
    (set_in("decisions", {"trial": 0}, verdict="stop"), "decisions", "trial 0", "says stop, but the trial was"),
    (set_in("trials", {"trial": 0}, **{"config.lr": 0.7}), "trials", "trial 0", "config.lr is 0.7, but 0.0"),
    (set_in("trials", {"trial": 0}, epochs=4), "trials", "trial 0", "epochs is 4, but 3 count"),
    (set_in("trials", {"trial": 0}, best_epoch=3, val_nll=2.0), "trials", "trial 0", "best_epoch is 3 with val_nll"),
    (set_in("trials", {"trial": 0}, best_epoch=None), "trials", "trial 0", "best_epoch is None"),
    (set_in("trials", {"trial": 0}, speed=5.0), "trials", "trial 0", "speed is 5.0, but epoch 2 reported 100.0"),
    (set_in("trials", {"trial": 0}, val_nll=math.inf), "trials", "trial 0", "completed, but val_nll is inf"),
    (drop("trials", trial=1), "attempt_ends", "trial 1", "stopped, but the trial has no row in trials"),
    (drop("trials", trial=2), "proposals", "trial 2", "the sweep has ended, but the trial has no row"),
    (set_in("finals", {"final": 0}, chosen=True), "finals", "final 1", "is chosen, and so is final 0"),
    (set_in("finals", {"final": 0}, trial=9), "finals", "final 0", "trial 9 was never proposed"),
    (set_in("finals", {"final": 0}, test_nll=math.nan), "finals", "final 0", "test_nll is nan"),
    (set_in("finals", {"final": 0}, kind="double"), "finals", "final 0", "kind is 'double', not single, whole"),
    (set_in("finals", {"final": 0}, kind="ensemble"), "finals", "final 0", "is of kind ensemble and has no members"),
    (set_in("finals", {"final": 0}, kind="ensemble", members="1, 8"), "finals", "final 0", "its member, final 8, does"),
    (set_in("samples", {}, kind="song"), "samples", "sample 0", "kind is 'song', not free, continued, harmony"),
    (drop("openings", opening=0), "finals", "final 0", "no row in openings"),
    (set_in("openings", {"opening": 0}, data_fingerprint="g"), "finals", "final 0", "no row in openings"),
    (set_in("piece_scores", {"final": 0}, final=5), "piece_scores", "final 5", "final 5 does not exist"),
    (set_in("openings", {"opening": 1}, split="other"), "piece_scores", "final 1", "no row in openings before it"),
    (set_in("samples", {}, final=5), "samples", "sample 0", "final 5 does not exist"),
    (set_in("choices", {"rank": 2}, chosen=True), "choices", "choice 0", "2 configurations are chosen, not one"),
    (set_in("choices", {"rank": 1}, chosen=False), "choices", "choice 0", "0 configurations are chosen, not one"),
    (set_in("choices", {"rank": 2}, finals="0, 7"), "choices", "choice 0", "final 7 does not exist"),
    (set_in("choices", {"rank": 2}, finals="1"), "choices", "choice 0", "final 1 is of trial 1, not of 0"),
    (set_in("choices", {"rank": 1}, final=7), "choices", "choice 0", "final 7 does not exist"),
    (set_in("choices", {"rank": 1}, final=None), "choices", "choice 0", "is chosen without a model"),
    (set_in("choices", {"rank": 2}, rank=3), "choices", "choice 0", "ranks are [1, 3], not 1, 2, …"),
]  # fmt: skip


@pytest.mark.parametrize(("breaking", "table", "where", "what"), BROKEN, ids=[case[3] for case in BROKEN])
def test_a_broken_promise_is_found_where_it_is(tmp_path, breaking, table, where, what):
    made = rows()
    breaking(made)
    found = check(written(tmp_path, made))
    assert any(
        p.table == table and p.part == f"{table}/s0001-000000.parquet" and where in p.where and what in p.what
        for p in found
    ), [str(problem) for problem in found]


# --- files and numbers ------------------------------------------------------------------------------------------------


def rewrite(ledger: Ledger, table: str, change: Callable[[pa.Table], pa.Table]) -> None:
    path = Path(ledger.storage.uri, table, "s0001-000000.parquet")
    rows = pq.ParquetFile(path).read()
    mark = rows.schema.metadata
    pq.write_table(change(rows).replace_schema_metadata(mark), path)


def numbered(rows: pa.Table, seqs: list[int]) -> pa.Table:
    return rows.set_column(1, "seq", pa.array(seqs))


def sound(tmp_path: Path) -> Ledger:
    """A ledger with a second flush behind the first, so that the first is not the last."""
    storage = written(tmp_path, rows()).storage
    again = Ledger(Storage(Path(storage.uri).parent))
    writer = Writer(Storage(Path(storage.uri).parent), SCHEMA, session=2, next_seq=again.last_seq + 1)
    writer.append("sessions", {"command": "search resume"})
    writer.flush()
    assert check(again) == []
    return again


def texts(problems: list[Problem]) -> str:
    return "\n".join(map(str, problems))


def test_a_part_that_cannot_be_read_is_named(tmp_path):
    ledger = sound(tmp_path)
    part = Path(ledger.storage.uri, "samples", "s0001-000000.parquet")
    part.write_bytes(part.read_bytes()[:100])
    assert "samples/s0001-000000.parquet: cannot be read, its rows are lost" in texts(check(ledger))
    assert "event 36 is missing: rows were lost" in texts(check(ledger))


def test_a_damaged_last_flush_is_named(tmp_path):
    ledger = sound(tmp_path)
    Path(ledger.storage.uri, "sessions", "s0002-000000.parquet").write_bytes(b"")
    assert texts(check(ledger)) == ("sessions/s0002-000000.parquet: cannot be read; its flush is left out as a whole")


def test_a_file_that_is_none_of_ours_is_named(tmp_path):
    ledger = sound(tmp_path)
    ledger.storage.write("trials/notes.txt", b"")
    assert texts(check(ledger)).startswith("trials/notes.txt: is no part of a ledger")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda t: t.drop_columns(["name"]), "column name is missing"),
        (lambda t: t.set_column(1, "seq", t["seq"].cast(pa.int32())), "column seq is int32, int64 was expected"),
        (lambda t: t.append_column("mine", t["seq"]), "has columns of its own: mine"),
        (lambda t: t.select(t.column_names[::-1]), "has its columns in another order"),
    ],
)
def test_columns_that_are_not_as_declared_are_named(tmp_path, change, what):
    ledger = sound(tmp_path)
    rewrite(ledger, "samples", change)
    assert any(what in p.what and p.part == "samples/s0001-000000.parquet" for p in check(ledger))


def test_a_number_that_stands_twice_or_never_is_named(tmp_path):
    ledger = sound(tmp_path)
    rewrite(ledger, "samples", lambda rows: numbered(rows, [4]))
    assert "seq 4, sample 0: " not in texts(check(ledger))
    assert "samples/s0001-000000.parquet: seq 4: stands also in table attempts" in texts(check(ledger))
    assert "event 36 is missing" in texts(check(ledger))


def test_a_row_without_its_key_is_named(tmp_path):
    ledger = sound(tmp_path)
    rewrite(ledger, "samples", lambda rows: rows.set_column(4, "sample", pa.array([None], pa.int64())))
    assert texts(check(ledger)) == "samples/s0001-000000.parquet: seq 36: sample is missing"


def test_rows_of_another_sweep_or_session_are_named(tmp_path):
    ledger = sound(tmp_path)
    rewrite(ledger, "samples", lambda rows: rows.set_column(0, "sweep", pa.array(["other"])))
    rewrite(ledger, "openings", lambda rows: rows.set_column(2, "session", pa.array([5, 5], pa.int32())))
    found = texts(check(ledger))
    assert "samples: has rows of another sweep, 'other'" in found
    assert "session 5 wrote rows, but never began" in found
    assert "an older session wrote after a newer one had begun" in found


def test_a_schema_that_cannot_be_read_is_the_only_problem(tmp_path):
    ledger = sound(tmp_path)
    ledger.storage.write("schema.json", b"{")
    (problem,) = check(Ledger(Storage(Path(ledger.storage.uri).parent)))
    assert str(problem).startswith("schema.json: this is no schema of a ledger")


def test_many_problems_of_one_kind_are_counted(tmp_path):
    made = rows() + [("samples", {"sample": n, "final": 77}) for n in range(1, 1 + MOST + 5)]
    found = check(written(tmp_path, made))
    assert len(found) == MOST + 1
    assert str(found[-1]) == "samples: 5 more: no final"
