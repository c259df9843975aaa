"""A whole sweep of real models on real chorales, through the commands: searched, chosen, tested once, bundled, sung."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.slow


def call(*words, status=0, timeout=600):
    """Runs one of our commands in the checkout and returns what it has printed."""
    program = [sys.executable, "-m", f"{words[0]}.cli", *map(str, words[1:])]
    done = subprocess.run(program, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == status, done.stderr[-4000:]
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """The smoke sweep, run once for all tests here."""
    storage = tmp_path_factory.mktemp("a storage")
    call("search", "run", "sweeps/smoke.toml", "--storage", storage, "--no-dashboard", "--wall-time", "1 h")
    return storage / "smoke"


def read(sweep, table):
    return pd.read_parquet(sweep / "ledger" / table)


def test_every_trial_is_accounted_for(sweep):
    trials = read(sweep, "trials")
    assert sorted(trials["trial"]) == [0, 1, 2, 3]
    assert set(trials["config.model.family"]) >= {"conv_lstm", "transformer", "relative_transformer"}
    assert set(trials["state"]) <= {"completed", "stopped"}
    assert json.loads(call("results", "check", sweep, "--json")) == {"smoke": []}
    assert not read(sweep, "epochs").duplicated(["sweep", "trial", "epoch"]).any()


def test_the_tables_are_read_without_our_code(sweep):
    best = read(sweep, "epochs").groupby("trial")["val_nll"].min()
    for _, row in read(sweep, "trials").iterrows():
        assert row["val_nll"] == best[row["trial"]]
    counted = duckdb.sql(f"select count(*) from read_parquet('{sweep}/ledger/trials/*.parquet')").fetchone()
    assert counted == (4,)


def test_the_winner_is_trained_anew_and_tested_once(sweep):
    finals, openings = read(sweep, "finals"), read(sweep, "openings")
    assert finals["chosen"].sum() == 1
    chosen = finals[finals["chosen"]].iloc[0]
    assert chosen["seed"] != read(sweep, "trials").set_index("trial").loc[chosen["trial"], "seed"]
    assert chosen["test_nll"] > 0
    assert list(openings["split"]) == ["test"]
    assert chosen["data_fingerprint"] == openings["data_fingerprint"][0]


def test_the_bundle_is_whole_and_loads(sweep):
    bundle = sweep / "bundle"
    for line in (bundle / "SHA256SUMS").read_text().splitlines():
        digest, _, name = line.partition("  ")
        assert hashlib.sha256((bundle / name).read_bytes()).hexdigest() == digest
    card = json.loads((bundle / "card.json").read_text())
    chosen = read(sweep, "finals").query("chosen").iloc[0]
    assert card["scores"]["test_nll"] == pytest.approx(chosen["test_nll"])
    code = (
        "import bach, keras, numpy as np; "
        f"model = keras.models.load_model({str(bundle / 'model.keras')!r}); "
        "print(model(np.zeros((1, 7), 'int32')).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "(1, 7, 47)", done.stderr[-2000:]


def test_samples_stand_in_the_table_and_in_the_bundle(sweep):
    samples = read(sweep, "samples")
    assert set(samples["kind"]) == {"free", "continued", "harmony", "original"}
    assert set(samples["origin"].str.partition("/")[0]) == {"", "test"}
    assert sorted(samples.loc[samples["kind"] == "free", "temperature"]) == [0.8, 1.0, 1.5]
    for path in samples["path"]:
        assert path.startswith("bundle/samples/")
        assert (sweep / path).exists()
    card = json.loads((sweep / "bundle" / "card.json").read_text())
    assert [sample["name"] for sample in card["samples"]] == list(samples.sort_values("sample")["name"])
    assert card["sample_references"].keys() == {"Bach, train", "Bach, valid"}
    assert card["sample_limits"]


def test_a_sweep_that_is_over_is_left_as_it_is(sweep):
    before = read(sweep, "trials")
    told = json.loads(call("search", "resume", sweep, "--json"))
    assert told["finished"]
    pd.testing.assert_frame_equal(read(sweep, "trials"), before)
    assert len(read(sweep, "openings")) == 1


def test_a_sweep_that_has_begun_is_not_begun_again(sweep):
    call("search", "run", "sweeps/smoke.toml", "--storage", sweep.parent, status=2)


def test_others_read_it_while_it_is_over(sweep):
    assert "finished" in call("search", "status", sweep)
    assert json.loads(call("results", "top", sweep, "--json"))
    assert json.loads(call("search", "audit", sweep, "--json"))
