"""The benchmarks run, in their tiny size, and print figures that a machine can read."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(script, *arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "benchmarks" / script), *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_the_benchmark_of_generation_compares_the_notebook_with_both_ways_of_the_generator():
    done = run("bench_generation.py", "--tiny", "--json", "--presets", "seed-conv-lstm")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    (row,) = told["presets"]
    assert (row["preset"], row["parameters"]) == ("seed-conv-lstm", 396_810)
    for way in ("notebook", "one", "batch"):
        assert len(row["notes_per_s"][way]) == told["repeats"]
        assert all(rate > 0 for rate in row["notes_per_s"][way])
    ratios = [o / n for o, n in zip(row["notes_per_s"]["one"], row["notes_per_s"]["notebook"], strict=True)]
    assert min(ratios) <= row["one_ratio"] <= max(ratios)
    assert told["commit"]
    assert told["backend"] == os.environ["KERAS_BACKEND"]


@pytest.mark.slow
def test_the_benchmark_of_training_prints_a_table():
    done = run("bench_training.py", "--tiny")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("| `seed-conv-lstm` | ")


@pytest.mark.slow
def test_the_benchmark_of_telling_compares_the_ways_on_recorded_curves():
    done = run("bench_telling.py", "--tiny", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["num_curves"] == 86
    assert told["left_out"]["rank_correlation"] > 0.9
    [setting] = told["settings"]
    assert [row["arm"] for row in setting["arms"]] == ["complete", "pruned", "forecast", "random"]
    for row in setting["arms"]:
        assert row["interval"][0] <= row["quarters"][-1] <= row["interval"][1]
        assert row["quarters"][-1] > -0.2


def test_the_benchmark_of_choice_compares_ways_to_draw_seeds():
    done = run("bench_choice.py", "--runs", "2", "--draws", "50", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert len(rows) == 2 * 3 * 5
    assert all(0 <= row["differences"] <= 1 and 1 <= row["size"] <= 4 for row in rows)


def test_the_benchmark_of_choice_races_with_as_many_trainings_as_are_given_to_all_alike():
    done = run("bench_choice.py", "--racing", "--runs", "2", "--draws", "50", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert len(rows) == 2 * 3 * 2
    most = {"fixed means": 12, "drawn means": 16}
    assert all(row["added"] <= most[row["means"]] and row["behind"] >= 0 for row in rows)


@pytest.mark.slow
def test_the_benchmark_of_the_ledger_replays_and_reads_it():
    done = run("bench_ledger.py", "--tiny", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["events"] > 100 * 9
    assert len(told["rows"]) == 3
    assert all(0 < row["peak_mb"] < 1000 for row in told["rows"].values())


@pytest.mark.slow
def test_the_benchmark_of_the_page_says_how_large_and_quick_it_is():
    done = run("bench_page.py", "--tiny", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert rows
    assert all(0 < row["megabytes"] < 10 for row in rows)


@pytest.mark.slow
def test_the_benchmark_of_sweeps_compares_with_ray_tune_alone():
    done = run("bench_sweep.py", "--tiny", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert list(told["rows"]) == ["search", "tune alone", "tune with loggers"]
    for [row] in told["rows"].values():
        assert row["epochs_per_s"] == pytest.approx(told["epochs"] * row["trials_per_s"])


@pytest.mark.slow
def test_the_benchmark_of_scale_measures_driver_searchers_and_replay():
    done = run("bench_scale.py", "--tiny", "--json", "--parts", "driver,replay,schedulers,searchers")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [(row["workers"], row["trials"]) for row in told["driver"]] == [(10, 10), (10, 30)]
    for row in told["driver"] + told["schedulers"]:
        assert row["results"] > 0
        assert 0 < row["report_ms"] < row["ms_a_result"]
        assert 0 < row["busy"] < 1
    assert [row["results"] for row in told["replay"]] == sorted(row["results"] for row in told["replay"])
    assert {row["searcher"] for row in told["searchers"]} == {"random", "qmc", "tpe"}


@pytest.mark.slow
def test_the_benchmark_of_faults_breaks_sweeps_and_finds_their_books_in_order():
    done = run("bench_faults.py", "--tiny", "--json", "--only", "drivers", "--only", "drivers, concurrency 1")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert rows["drivers"]["drivers_killed"] == 2
    assert rows["drivers, concurrency 1"]["same_outcome"]


def test_every_benchmark_is_described_and_tested():
    scripts = {path.name for path in (ROOT / "benchmarks").glob("bench_*.py")}
    described = (ROOT / "benchmarks" / "README.md").read_text("utf-8")
    tested = Path(__file__).read_text("utf-8")
    assert [name for name in sorted(scripts) if f"`{name}`" not in described or f'"{name}"' not in tested] == []
