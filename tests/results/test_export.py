import io
import json
import sqlite3

import duckdb
import optuna
import pandas as pd
import pyarrow.parquet as pq
import pytest
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

import results
from results.errors import CallerError, StorageError
from results.optuna_study import distributions, write_study
from results.output import encoded
from tests.results import ledgers


@pytest.fixture(scope="module")
def laptop(tmp_path_factory):
    return results.open(ledgers.laptop(tmp_path_factory.mktemp("runs")).uri)


def fetched(storage, path: str) -> dict:
    """What optuna-dashboard answers, through its own WSGI application."""
    from optuna_dashboard import wsgi

    status = []
    environment = {
        "REQUEST_METHOD": "GET", "PATH_INFO": path, "SERVER_NAME": "x", "SERVER_PORT": "80", "QUERY_STRING": "",
        "wsgi.input": io.BytesIO(), "wsgi.errors": io.StringIO(), "wsgi.url_scheme": "http",
    }  # fmt: skip
    body = b"".join(wsgi(storage)(environment, lambda code, headers, info=None: status.append(code)))
    assert status[0].startswith("200"), (status, body)
    return json.loads(body)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_a_sweep_opens_in_optuna_and_its_dashboard(laptop, tmp_path, kind):
    url = f"sqlite:///{tmp_path}/study.db" if kind == "sqlite" else str(tmp_path / "study.log")
    assert write_study(laptop.sweeps[0], url) == 16
    if kind == "sqlite":
        storage = optuna.storages.RDBStorage(url)
    else:
        storage = optuna.storages.JournalStorage(JournalFileBackend(url))
    study = optuna.load_study(study_name="laptop", storage=storage)
    states = [each.state for each in study.trials]
    assert states[:8] == [TrialState.COMPLETE] * 8
    assert states[8:16] == [
        *[TrialState.PRUNED] * 3, TrialState.FAIL, TrialState.COMPLETE, TrialState.RUNNING, TrialState.WAITING,
        TrialState.RUNNING,
    ]  # fmt: skip
    rows = laptop.trials().set_index("trial")
    assert study.best_trial.values == [rows.loc[study.best_trial.number, "val_nll"]]
    stopped = study.trials[8]
    assert stopped.values is None or stopped.value == stopped.intermediate_values[2]
    assert stopped.user_attrs["reason_kind"] == "scheduler"
    assert set(stopped.intermediate_values) == {1, 2}
    assert study.metric_names == ["val_nll"]
    families = {each.params["model.family"] for each in study.trials}
    assert families == {"conv_lstm", "transformer"}
    assert all(("transformer.heads" in t.params) == (t.params["model.family"] == "transformer") for t in study.trials)
    # The dashboard gives numbers of its own to studies and lists what we wrote.
    summaries = fetched(storage, "/api/studies")["study_summaries"]
    assert [each["study_name"] for each in summaries] == ["laptop"]
    detail = fetched(storage, f"/api/studies/{summaries[0]['study_id']}")
    assert len(detail["trials"]) == 16
    with pytest.raises(CallerError, match="a study 'laptop' is in"):
        write_study(laptop.sweeps[0], url)


def test_a_place_that_is_no_optuna_storage_is_refused(laptop, tmp_path):
    with pytest.raises(CallerError, match="expected an address such as"):
        write_study(laptop.sweeps[0], str(tmp_path / "study"))
    with pytest.raises(StorageError, match="cannot open the Optuna storage"):
        write_study(laptop.sweeps[0], "nosuchdatabase://x")
    (tmp_path / "x.db").write_text("this is no database, though it is long enough to be taken for one")
    with pytest.raises(StorageError, match="cannot open the Optuna storage"):
        write_study(laptop.sweeps[0], f"sqlite:///{tmp_path}/x.db")


def test_several_objectives_make_a_study_of_several(tmp_path):
    ledgers.plain(tmp_path, "two", 4, 3, objectives=(("val_nll", "min"), ("notes_per_s", "max")))
    write_study(results.open(tmp_path).sweeps[0], str(tmp_path / "s.log"))
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(tmp_path / "s.log")))
    study = optuna.load_study(study_name="two", storage=storage)
    assert [way.name for way in study.directions] == ["MINIMIZE", "MAXIMIZE"]
    assert len(study.best_trials[0].values) == 2


def test_distributions_hold_the_values_met():
    points = [{"a": 1e-4, "b": 3, "c": "x", "d": True}, {"a": 1e-3, "e": 0.001}, {"a": 1e-1, "c": "y", "e": 0.2}]
    found = distributions([*points, {"e": 0.4}])
    assert found["a"].log  # pyright: ignore[reportAttributeAccessIssue]
    assert not found["e"].log  # 400 times as large, and yet spread evenly  # pyright: ignore[reportAttributeAccessIssue]
    assert found["b"].single()
    assert found["c"].choices == ("x", "y")  # pyright: ignore[reportAttributeAccessIssue]
    assert found["d"].choices == (True,)  # pyright: ignore[reportAttributeAccessIssue]


def test_every_format_reads_back(laptop):
    rows = laptop.arrow("trials")
    assert pq.read_table(io.BytesIO(encoded(rows, "parquet"))).equals(rows)
    frame = pd.read_csv(io.BytesIO(encoded(rows, "csv")))
    assert frame["trial"].tolist() == rows["trial"].to_pylist()
    documents = json.loads(encoded(rows, "json"))
    assert documents[14]["val_nll"] is None
    assert documents[0]["time"].startswith("2026-05-01T")
    with pytest.raises(CallerError, match="did you mean 'parquet'"):
        encoded(rows, "parkett")


def test_json_has_no_word_for_what_is_not_finite(laptop):
    epochs = json.loads(encoded(laptop.arrow("epochs"), "json"))
    assert [row["val_nll"] for row in epochs if row["trial"] == 11][-1] is None


def test_pandas_and_duckdb_read_the_tables_without_our_code(laptop):
    place = f"{laptop.sweeps[0].uri}/ledger/trials"
    assert len(pd.read_parquet(place)) == 13  # those that ended
    best = duckdb.sql(
        f"select trial, val_nll from '{place}/*.parquet' where val_nll = val_nll order by val_nll limit 1"
    )
    row = best.fetchone()
    assert row is not None
    assert row[1] == min(v for v in laptop.trials().dropna(subset="state").query("state=='completed'")["val_nll"])


def test_sqlite_holds_every_epoch(laptop, tmp_path):
    write_study(laptop.sweeps[0], f"sqlite:///{tmp_path}/deep/er/study.db", name="mine")
    with sqlite3.connect(tmp_path / "deep" / "er" / "study.db") as database:
        (count,) = database.execute("select count(*) from trial_intermediate_values").fetchone()
    assert count == 65
