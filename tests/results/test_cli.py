import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from results import columns
from results.cli import main
from results.cli.terminal import cell, fitted
from tests.results import ledgers

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    ledgers.laptop(folder, "laptop")
    ledgers.plain(folder, "families", 12, 6, seed=3)
    return folder


@pytest.fixture
def run(runs):
    def invoke(*words, status=0, width=100):
        sub, *rest = words
        done = CliRunner().invoke(main, [sub, "--storage", str(runs), *map(str, rest)], env={"COLUMNS": str(width)})
        assert done.exit_code == status, (done.output, done.exception)
        assert "Traceback (most recent call last):\n  File" not in done.output
        return done

    return invoke


COMMANDS = [
    ("top",), ("top", "laptop", "--finals"), ("top", "--pareto"), ("top", "--all"), ("show", "laptop"),
    ("show", "laptop/12"), ("show", "laptop/11"), ("show", "laptop/14"), ("curves",),
    ("curves", "laptop", "--trial", "laptop/12"), ("compare", "laptop/0", "families/1"),
    ("compare", "laptop", "families"),
    ("compare", "laptop/0", "laptop/1", "--all"), ("importance",), ("failures",), ("failures", "laptop", "--detail"),
    ("failures", "families"),
]  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("width", [40, 100])
def test_every_table_fits_the_terminal(run, words, width):
    done = run(*words, width=width)
    long = [line for line in done.stdout.splitlines() if len(line) > width and "  " in line]
    # Only tables are cut; sentences and lists of names may be broken by the terminal.
    assert [line for line in long if re.match(r"^\s*\d+ |^rank|^kind|^id|^epoch ", line)] == []


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_prints_json(run, words):
    json.loads(run(*[word for word in words if word != "--detail"], "--json").stdout)


def test_top_in_every_format(run, tmp_path):
    lines = run("top", "laptop", "--format", "csv").stdout.splitlines()
    assert lines[0].startswith('"rank","id","val_nll"')
    assert lines[1].startswith('1,"laptop/13",0.5')
    run("top", "laptop", "--out", tmp_path / "x.parquet")
    assert pq.read_table(tmp_path / "x.parquet")["data"].to_pylist() == ["music21"] * 10
    (board,) = json.loads(run("top", "laptop", "--json").stdout)["leaderboards"]
    assert (board["metric"], board["num_ranked"], board["rows"][0]["id"]) == ("val_nll", 15, "laptop/13")


def test_top_filters_and_columns(run):
    done = run(
        "top", "--where", "model.family=conv_lstm", "--where", "state=completed", "--columns", "conv_lstm.*,seed"
    )
    assert done.stdout.splitlines()[0].split() == ["rank", "id", "val_nll", "conv_lstm.filters", "seed"]
    assert "val_nll, less is better, on music21" in done.stderr


def test_what_finds_no_room_is_named(run):
    done = run("top", "laptop", width=60)
    assert re.search(r"no room for .*--columns chooses", done.stderr)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("top", "lapto"), "no sweep 'lapto'.*did you mean 'laptop'"),
        (("top", "--where", "model.famly=x"), "unknown column 'model.famly'; did you mean 'model.family'"),
        (("top", "--columns", "val_nl"), "did you mean 'val_nll'"),
        (("top", "--metric", "nll"), "unknown metric 'nll'; did you mean 'val_nll'"),
        (("top", "--out", "x.xls"), "expected a name that ends in .csv, .json or .parquet"),
        (("top", "--json", "--format", "csv"), "not both"),
        (("show", "laptop/99"), "no trial 99 in sweep 'laptop': it has 16, 0 to 15"),
        (("show", "laptop/99999999999999999999999"), "no trial 99999999999999999999999 in sweep 'laptop': it has 16"),
        (("compare", "laptop/1", f"laptop/{2**63}"), "no trial 9223372036854775808 in sweep 'laptop'"),
        (("show", "nothing"), "known: families, laptop"),
        (("compare", "laptop/1"), "expected two or more"),
        (("compare", "laptop/1", "families"), "trials or sweeps, not both"),
        (("curves", "--trial", "laptop/77"), "no trial 77"),
        (("curves", "--png", "x.gif"), "expected a name that ends in .png"),
        (("importance", "--method", "fanove"), "did you mean 'fanova'"),
        (("importance", "--where", "trial<2"), "at least 10 are needed"),
        (("export", "--table", "trial"), "did you mean 'trials'"),
        (("export",), "add --out FOLDER"),
        (("export", "--optuna", "x"), "expected an address such as sqlite"),
        (("export", "--optuna", "x.log", "--table", "trials"), "leave out --table"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(run, words, message):
    done = run(*words, status=2)
    assert re.search(message, " ".join(done.output.split()))


def test_an_empty_ledger_is_told(run, runs, tmp_path):
    sweep = ledgers.Sweep(tmp_path)
    sweep.flush()
    place = sweep.storage.uri
    assert "the ledger is empty" in run("top", place, status=2).output
    assert "no epoch has ended yet" in run("curves", place, status=2).output
    assert "best" in run("show", place).output
    run("check", place)


def test_curves_are_drawn(run, tmp_path):
    run("curves", "laptop", "--png", tmp_path / "a.png")
    run("curves", "laptop", "--png", tmp_path / "a.svg")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert b"val_nll (nats per note)" in (tmp_path / "a.svg").read_bytes() or (tmp_path / "a.svg").stat().st_size > 1000


def test_tables_without_rows_have_their_header(run, tmp_path):
    top = run("top", "laptop", "--where", "trial>99", "--columns", "seed", "--format", "csv").stdout
    assert top.split() == ['"rank","id","val_nll","seed","data","data_fingerprint"']
    assert "no row meets the conditions" in run("top", "laptop", "--where", "trial>99").stderr
    failures = run("failures", "families", "--format", "csv").stdout.strip()
    assert failures == run("failures", "laptop", "--format", "csv").stdout.splitlines()[0]
    assert failures.startswith('"kind","num_trials","num_attempts","own_fault","lost_s","trials"')
    run("failures", "families", "--out", tmp_path / "x.parquet")
    run("failures", "laptop", "--out", tmp_path / "y.parquet")
    assert pq.read_schema(tmp_path / "x.parquet") == pq.read_schema(tmp_path / "y.parquet")


def test_what_is_compared_leaves_as_values_not_as_people_read_them(run, tmp_path):
    document = json.loads(run("compare", "laptop/0", "laptop/13", "--all", "--json").stdout)["lines"]
    run("compare", "laptop/0", "laptop/13", "--all", "--out", tmp_path / "x.parquet")
    told = {row["name"]: row["laptop/0"] for row in pq.read_table(tmp_path / "x.parquet").to_pylist()}
    exact = {line["name"]: line["values"][0] for line in document}
    assert float(told["config.train.learning_rate"]) == exact["config.train.learning_rate"]
    assert told["config.train.ema"] == str(exact["config.train.ema"]).lower()
    assert told["wall_s"] == str(exact["wall_s"])
    assert (told["state"], told["attempts"]) == ("completed", "1")
    assert "config.train.ema" in run("compare", "laptop/0", "laptop/13", "--all", "--format", "csv").stdout


def test_curves_of_a_maximised_objective_show_the_greatest_first(run, tmp_path):
    sweep = ledgers.Sweep(tmp_path, "fast", objectives=(("notes_per_s", "max"),))
    for number in range(3):
        sweep.trial(number)
    sweep.flush()
    for words in ((), ("--metric", "notes_per_s")):
        shown = json.loads(run("curves", sweep.storage.uri, *words, "--json").stdout)["curves"]
        assert [curve["id"] for curve in shown] == ["fast/2", "fast/1", "fast/0"]
    lowest = json.loads(run("curves", sweep.storage.uri, "--metric", "train_loss", "--json").stdout)["curves"]
    best = [min(curve["values"]) for curve in lowest]
    assert best == sorted(best)  # of a metric without a goal, the lowest comes first


def test_export_writes_one_table_or_all(run, tmp_path):
    done = run("export", "laptop", "--table", "epochs", "--where", "trial=12", "--columns", "epoch,attempt")
    assert done.stdout.split() == ['"epoch","attempt"', "1,2", "2,2", "3,2", "4,2"]
    run("export", "--out", tmp_path / "all", "--format", "parquet")
    assert {path.stem for path in (tmp_path / "all").iterdir()} == set(columns.TABLES)
    assert len(pq.read_table(tmp_path / "all" / "trials.parquet")) == 28


def test_check_passes_a_sound_ledger_and_names_what_breaks_a_promise(run, tmp_path):
    storage = ledgers.plain(tmp_path, "sound", 3, 3)
    assert "no problems" in run("check", storage.uri).stderr
    (part,) = (Path(storage.uri) / "ledger" / "epochs").glob("*.parquet")
    part.write_bytes(part.read_bytes()[:-100])
    done = run("check", storage.uri, "--json", status=1)
    assert json.loads(done.stdout)["sound"]


def test_compact_keeps_what_readers_see_and_waits_for_the_driver(run, tmp_path):
    storage = ledgers.laptop(tmp_path)
    before = run("export", storage.uri, "--table", "trials").stdout
    storage.write("lock.json", json.dumps({"pid": 12, "host": "there", "started": "today"}).encode())
    assert "in use by process 12 on there, since today" in run("compact", storage.uri, status=2).output
    run("compact", storage.uri, "--force")
    assert run("export", storage.uri, "--table", "trials").stdout == before


def test_a_sweep_with_a_number_for_a_name_is_no_trial(run, tmp_path):
    ledgers.plain(tmp_path, "17", 2, 3)
    assert run("show", tmp_path / "17").stdout.startswith("sweep 17")
    assert run("show", tmp_path / "17" / "1").stdout.startswith("trial 17/1")


def test_nothing_in_a_message_steers_the_terminal():
    assert cell("a\x1b[31m\nb") == "a?[31m b"
    text, left_out = fitted(["name", "value"], [["x" * 60, 1.0]], 60)
    assert text.splitlines()[1].rstrip().endswith("1")
    assert left_out == []


def every_command() -> list[tuple[str, click.Command]]:
    return sorted(main.commands.items())


@pytest.mark.parametrize(("name", "command"), every_command(), ids=[name for name, _ in every_command()])
def test_every_command_has_help_with_an_example_that_parses(name, command):
    done = CliRunner().invoke(main, [name, "--help"])
    assert done.exit_code == 0
    assert command.examples
    for example in command.examples:
        program, sub, *words = example.split()
        assert (program, sub) == ("results", name)
        command.make_context(name, [word.strip("'") for word in words]).close()


def test_help_needs_no_table_library():
    code = "import sys, results.cli; print(sorted({'pyarrow', 'pandas', 'optuna', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_best_trials_are_told_without_pandas_and_frames_can_still_be_had(runs):
    code = """
import sys
import results.cli, results
try:
    results.cli.main(["top", "--storage", sys.argv[1]])
except SystemExit as ending:
    assert not ending.code
print("pandas" in sys.modules, len(results.open(sys.argv[1]).trials()), "pandas" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code, str(runs)], capture_output=True, text=True, check=True)
    before, num_trials, after = done.stdout.split()[-3:]
    assert (before, after) == ("False", "True")
    assert int(num_trials) > 0


def test_the_page_of_columns_is_that_of_the_schema():
    told = "write it anew: python -m results.columns docs/columns.md"
    assert (ROOT / "docs" / "columns.md").read_text("utf-8") == columns.page(), told
