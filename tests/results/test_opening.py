import math

import boto3
import pyarrow as pa
import pytest
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

import results
from results.errors import LedgerError, QueryError
from results.filters import chosen_rows, condition
from results.opening import joined_tables, locate, typed
from results.parts import Parts
from results.schema import Measure, Parameter, SweepSchema
from results.storage import Storage
from tests.results import ledgers


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    ledgers.laptop(folder, "laptop")
    ledgers.plain(folder, "families", 12, 6, seed=3)
    return folder


@pytest.fixture(scope="module")
def laptop(runs):
    return results.open(runs / "laptop")


def test_every_table_opens_as_a_frame(laptop):
    sizes = {name: len(getattr(laptop, name)()) for name in results.TABLES}
    assert sizes == {
        "sessions": 1, "proposals": 16, "attempts": 16, "attempt_ends": 15, "epochs": 65,
        "decisions": 11, "trials": 16, "finals": 2, "piece_scores": 9, "choices": 0, "samples": 3, "openings": 2,
    }  # fmt: skip


def test_trials_that_have_not_ended_are_among_the_trials(laptop):
    trials = laptop.trials().set_index("trial")
    assert trials.loc[[12, 13, 14, 15], "state"].tolist() == ["completed", "running", "proposed", "paused"]
    running = trials.loc[13]
    assert (running["epochs"], running["best_epoch"], running["val_nll"]) == (3, 2, 0.5)  # the best, not the last 0.9
    assert running["train_s"] == 6.0  # three epochs of 2 s
    assert trials.loc[14, "attempts"] == 0
    assert math.isnan(trials.loc[14, "val_nll"])
    assert trials["data"].unique().tolist() == ["music21"]


def test_a_trial_whose_last_attempt_was_lost_is_unfinished(tmp_path):
    sweep = ledgers.Sweep(tmp_path)
    sweep.propose(0)
    sweep.begin(0)
    sweep.epoch(0, 1, 2.0)
    sweep.end(0, "lost", 1, kind="worker_died", reason="signal 9")
    sweep.flush()
    (row,) = results.open(sweep.storage.uri).arrow("trials").to_pylist()
    assert (row["state"], row["reason_kind"], row["train_s"]) == ("unfinished", "worker_died", 2.0)


def test_a_trial_that_was_extended_runs_again(tmp_path):
    sweep = ledgers.Sweep(tmp_path)
    sweep.trial(0)
    sweep.begin(0, 2, "extended")
    sweep.epoch(0, 7, 0.1, attempt=2)
    sweep.flush()
    (row,) = results.open(sweep.storage.uri).arrow("trials").to_pylist()
    assert (row["state"], row["epochs"], row["best_epoch"], row["attempts"]) == ("running", 7, 7, 2)


def test_the_last_attempt_of_an_epoch_counts(laptop):
    epochs = laptop.epochs()
    again = epochs[epochs["trial"] == 12]
    assert again["epoch"].tolist() == [1, 2, 3, 4]
    assert again["attempt"].tolist() == [2, 2, 2, 2]


def test_whole_numbers_stay_whole_beside_missing_values(laptop):
    trials = laptop.trials()
    assert str(trials["config.conv_lstm.filters"].dtype) == "Int64"
    assert str(trials["config.train.ema"].dtype) == "boolean"


def test_only_the_columns_asked_for_are_there_in_that_order(laptop):
    assert laptop.arrow("trials", ["val_nll", "trial", "data"]).column_names == ["val_nll", "trial", "data"]
    assert laptop.frame("epochs", ["epoch"]).columns.tolist() == ["epoch"]


def test_a_folder_of_sweeps_and_several_places_open_together(runs):
    both = results.open(runs)
    assert [sweep.name for sweep in both.sweeps] == ["families", "laptop"]
    assert len(both.trials()) == 28
    again = results.open(runs / "laptop", runs)  # named twice, there once
    assert [sweep.name for sweep in again.sweeps] == ["laptop", "families"]


def test_two_sweeps_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for place in ("here", "there"):
        ledgers.plain(tmp_path / place, "laptop", 2, 3)
    both = results.open(tmp_path / "here", tmp_path / "there")
    assert [sweep.name for sweep in both.sweeps] == ["here/laptop", "there/laptop"]
    assert both.trials()["sweep"].tolist() == ["here/laptop"] * 2 + ["there/laptop"] * 2


def test_a_bucket_opens_like_a_folder(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1").create_bucket(Bucket="runs")
        options = f"?endpoint_override={host}:{port}&scheme=http&region=us-east-1"
        ledgers.plain(f"s3://runs/here{options}", "laptop", 3, 3)
        ledgers.plain(f"s3://runs/there{options}", "laptop", 2, 3)
        assert len(results.open(f"s3://runs/here{options}").trials()) == 3
        both = results.open(f"s3://runs/here/laptop{options}", f"s3://runs/there/laptop{options}")
        assert [sweep.name for sweep in both.sweeps] == ["here/laptop", "there/laptop"]
        with pytest.raises(LedgerError, match="did you mean 'laptop'"):
            results.open(f"s3://runs/here/lapto{options}")
    finally:
        server.stop()


def test_sweeps_with_other_columns_join_with_missing_values():
    joined = joined_tables([pa.table({"a": [1], "b": [1]}), pa.table({"a": [1.5], "c": ["x"]}), pa.table({"b": ["y"]})])
    assert joined.to_pylist() == [
        {"a": 1.0, "b": "1", "c": None},
        {"a": 1.5, "b": None, "c": "x"},
        {"a": None, "b": "y", "c": None},
    ]


def test_a_place_without_a_sweep_says_what_is_there(runs, tmp_path):
    with pytest.raises(LedgerError, match=r"lapto'.*did you mean 'laptop'"):
        results.open(runs / "lapto")
    with pytest.raises(LedgerError, match="nothing is there"):
        results.open(tmp_path / "none" / "x")
    (tmp_path / "notes").mkdir()
    with pytest.raises(LedgerError, match="it holds notes, none of them with a ledger"):
        results.open(tmp_path)
    with pytest.raises(LedgerError, match="did you mean 'families'"):
        locate("familie", str(runs))
    assert locate("laptop", str(runs)) == str(runs / "laptop")


def test_a_sweep_is_found_by_its_name_though_a_folder_of_that_name_stands_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    ledgers.plain(tmp_path / "runs", "docs", 2, 2)
    there = str(tmp_path / "runs" / "docs")
    assert locate("docs", "runs") == there
    assert results.open(locate("runs", "runs")).sweeps[0].uri == there  # a folder of sweeps
    ledgers.plain(tmp_path, "docs", 2, 2)
    assert locate("docs", "runs") == str(tmp_path / "docs")


def test_a_sweep_is_named_so_that_what_was_said_can_be_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert typed(Storage("runs/laptop")) == "laptop"
    assert typed(Storage("else where/laptop")) == f"'{tmp_path}/else where/laptop'"
    assert typed(Storage("s3://bucket/runs/laptop?scheme=http")) == "'s3://bucket/runs/laptop?scheme=http'"
    (tmp_path / "laptop").mkdir()
    assert typed(Storage("runs/laptop")) == str(tmp_path / "runs" / "laptop")


def test_a_sweep_that_has_only_begun_has_empty_tables(tmp_path):
    sweep = ledgers.Sweep(tmp_path)
    sweep.flush()
    opened = results.open(sweep.storage.uri)
    assert len(opened.trials()) == len(opened.epochs()) == 0


def test_data_that_changed_between_sessions_is_told_by_the_best_epoch(tmp_path):
    sweep = ledgers.Sweep(tmp_path, data=("music21", "a"))
    config = sweep.propose(0)
    sweep.begin(0)
    sweep.epoch(0, 1, 1.0)
    sweep.flush()
    sweep.writer = results.Writer(sweep.storage, sweep.schema, session=2, next_seq=sweep.writer.next_seq)
    sweep.add("sessions", data="jsb", data_fingerprint="b")
    sweep.epoch(0, 2, 2.0)
    sweep.finish(0, "completed", config, {1: 1.0, 2: 2.0})
    sweep.flush()
    (row,) = results.open(sweep.storage.uri).arrow("trials").to_pylist()
    assert (row["session"], row["best_epoch"], row["data"], row["data_fingerprint"]) == (2, 1, "music21", "a")


@pytest.mark.parametrize(
    ("text", "trials"),
    [
        ("state=stopped", [8, 9, 10]),
        ("state=failed,paused", [11, 15]),
        ("trial<2", [0, 1]),
        ("trial<=1.5", [0, 1]),
        ("trial >= 14", [14, 15]),
        ("best_epoch=none", [14]),
        ("config.model.family!=conv_lstm,transformer", []),
    ],
)
def test_conditions_choose_rows(laptop, text, trials):
    assert chosen_rows(laptop, "trials", [condition(text)], ["trial"])["trial"].to_pylist() == trials


def test_a_condition_names_a_parameter_with_or_without_its_prefix(laptop):
    short = chosen_rows(laptop, "trials", [condition("transformer.heads>2")], ["trial"])
    full = chosen_rows(laptop, "trials", [condition("config.transformer.heads>2")], ["trial"])
    assert short.equals(full)
    assert 0 < len(short) < 16


def test_an_inactive_parameter_is_not_another_value(laptop):
    other = chosen_rows(laptop, "trials", [condition("transformer.heads!=2")], ["model.family"])
    assert set(other.column(0).to_pylist()) == {"transformer"}


@pytest.fixture(scope="module")
def norms(tmp_path_factory):
    """A parameter of which `none` is an option, and one with great whole numbers; trial 2 has neither."""
    parameters = {"family": Parameter("str"), "conv.norm": Parameter("str"), "hash": Parameter("int")}
    schema = SweepSchema(
        sweep="norms", parameters=parameters, metrics={"loss": Measure()}, objectives=(("loss", "min"),)
    )
    storage = Storage(tmp_path_factory.mktemp("norms"))
    writer = results.Writer(storage, schema, session=1, next_seq=0)
    chosen = [("conv", "none", 2**60 + 1), ("conv", "layer", 5), ("transformer", None, None), ("conv", "none", 2**60)]
    for trial, (family, norm, number) in enumerate(chosen):
        config = {"config.family": family, "config.conv.norm": norm, "config.hash": number}
        reason = "scheduler" if trial == 1 else ""
        writer.append("proposals", {"trial": trial, **config})
        writer.append("trials", {"trial": trial, "state": "completed", "reason_kind": reason, "loss": 1.0, **config})
    writer.flush()
    return results.open(storage.uri)


@pytest.mark.parametrize(
    ("texts", "trials"),
    [
        (["conv.norm=none"], [0, 3]),
        (["conv.norm=null"], [2]),
        (["conv.norm=none,null"], [0, 2, 3]),
        (["conv.norm=null", "family=transformer"], [2]),
        (["family=transformer", "conv.norm=none"], []),  # which value is meant does not hang on what else is asked
        (["conv.norm!=none"], [1]),
        (["conv.norm!=null"], [0, 1, 3]),
        (["hash=none"], [2]),
        (["reason_kind=none"], [0, 2, 3]),
        (["reason_kind!=none"], [1]),
        (["reason_kind!=budget"], [0, 1, 2, 3]),
    ],
)
def test_none_is_an_option_where_there_is_one_and_otherwise_no_value(norms, texts, trials):
    assert chosen_rows(norms, "trials", list(map(condition, texts)), ["trial"])["trial"].to_pylist() == trials


@pytest.mark.parametrize(
    ("text", "trials"),
    [
        ("hash>5", [0, 3]),
        (f"hash={2**60}", [3]),
        (f"hash>{2**60}", [0]),
        ("hash>4.5", [0, 1, 3]),
        ("hash<1e3", [1]),
        (f"hash<{10**30}", [0, 1, 3]),
        ("hash<-" + "9" * 5000, []),
        ("hash=5,nan", [1]),
        ("hash!=5", [0, 3]),
    ],
)
def test_conditions_on_great_whole_numbers_are_exact(norms, text, trials):
    assert chosen_rows(norms, "trials", [condition(text)], ["trial"])["trial"].to_pylist() == trials


def test_conditions_on_times_and_truth(laptop):
    assert len(chosen_rows(laptop, "trials", [condition("time>2026-05-01T00:00:00+00:00")])) == 16
    assert len(chosen_rows(laptop, "trials", [condition("time<2026-04-01")])) == 0
    yes = chosen_rows(laptop, "trials", [condition("train.ema=yes")])
    no = chosen_rows(laptop, "trials", [condition("train.ema=false")])
    assert len(yes) + len(no) == 16


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model.famly=x", "did you mean 'model.family'"),
        ("state", "expected a column, one of"),
        ("state=", "expected a column, one of"),
        ("state<stopped", "needs numbers or times"),
        ("trial=many", "got 'many', expected a number"),
        ("train.ema=maybe", "expected true or false"),
        ("time>yesterday", "expected a time such as"),
        ("time>0001-01-01", "expected a time such as"),
        ("time>9999-12-31T23:59:59-10:00", "expected a time such as"),
    ],
)
def test_a_condition_that_says_nothing_is_refused(laptop, text, message):
    with pytest.raises(QueryError, match=message):
        chosen_rows(laptop, "trials", [condition(text)])


def test_an_unknown_table_or_column_offers_the_nearest(laptop):
    with pytest.raises(QueryError, match="did you mean 'trials'"):
        laptop.arrow("trial")
    with pytest.raises(QueryError, match="did you mean 'val_nll'"):
        laptop.arrow("epochs", ["val_nl"])
    with pytest.raises(QueryError, match="no column begins with"):
        chosen_rows(laptop, "trials", columns=["trainer.*"])
    assert chosen_rows(laptop, "trials", columns=["transformer.*"]).num_columns == 2


def test_tables_that_belong_together_are_of_one_moment(tmp_path, monkeypatch):
    sweep = ledgers.Sweep(tmp_path)
    config = sweep.propose(0)
    sweep.begin(0)
    sweep.epoch(0, 1, 2.0)
    sweep.flush()
    read, reads = Parts.rows, []

    def slowly(parts: Parts, files, table, schema, columns=None):
        reads.append(table)
        if len(reads) == 2:  # between two tables, the driver writes down that the trial has ended
            sweep.epoch(0, 2, 1.0)
            sweep.end(0, "completed", 2)
            sweep.finish(0, "completed", config, {1: 2.0, 2: 1.0})
            sweep.flush()
        return read(parts, files, table, schema, columns)

    monkeypatch.setattr(Parts, "rows", slowly)
    tables = results.open(sweep.storage.uri).tables({"trials": None, "attempt_ends": None, "epochs": ["epoch"]})
    (trial,) = tables["trials"].to_pylist()
    assert (trial["state"], trial["epochs"]) == ("running", 1)
    assert (len(tables["attempt_ends"]), len(tables["epochs"])) == (0, 1)
    (trial,) = results.open(sweep.storage.uri).arrow("trials").to_pylist()
    assert (trial["state"], trial["epochs"]) == ("completed", 2)
