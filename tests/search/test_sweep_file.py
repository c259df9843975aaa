import dataclasses
import json

import pytest

from search.errors import SpecError
from search.fields import When
from search.spec import Objective, Point, SweepSpec
from search.sweep_file import changeable, check_resumable, differences, document, load, read

SMALL = """\
[sweep]
task = "tests.search.fake_task:FakeTask"
objectives = ["loss min"]
trials = 4
"""

WHOLE = """\
[sweep]
name = "laptop"
task = "my_task.py:Spirals"
objectives = ["val_nll min", "notes_per_s"]
trials = 24
epochs = 12
wall_time = "12 min"
gpu_hours = 40
money = 30.0
price_per_hour = 1.2
trial_time = "5 min"
seed = 1685
storage = "s3://bucket/runs"
concurrency = 3
backend = "jax"
warm_start = ["runs/earlier"]
[task]
data = "music21"
nested = { sizes = [1, 2.5], flag = true }
[searcher]
kind = "nsga2"
startup_trials = 5
[scheduler]
kind = "hyperband"
first_rung = 2
reduction = 2
brackets = 2
audit_share = 0
[resources]
cpus = 2
gpus = 0.25
memory_limit = "2 GiB"
retries = 0
[checkpoints]
every = "1 min"
keep_best = 3
disk = "1 TB"
[space]
"model.family" = { choice = ["conv_lstm", "transformer"] }
"train.learning_rate" = { low = 1e-4, high = 1e-2, scale = "log" }
"train.ema" = 0.999
[[points]]
preset = "small"
[[points]]
"train.learning_rate" = 3e-3
[final]
models = 2
seeds = 3
epochs = 20
samples = 0
"""


def mistakes(tmp_path, text, name="x.toml"):
    path = tmp_path / name
    path.write_text(text, "utf-8")
    with pytest.raises(SpecError) as caught:
        load(path)
    return str(caught.value)


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return load(path)


@pytest.fixture
def whole(tmp_path):
    path = tmp_path / "any.toml"
    path.write_text(WHOLE)
    return load(path)


def test_a_short_file_is_enough_and_named_after_itself(spec, tmp_path):
    assert (spec.name, spec.trials, spec.epochs, spec.storage, spec.folder) == ("small", 4, 10, "runs", str(tmp_path))
    assert spec.objectives == (Objective(metric="loss", goal="min"),)


def test_every_key_of_a_file_is_read(whole):
    assert (whole.name, whole.wall_time_s, whole.trial_time_s, whole.gpu_hours) == ("laptop", 720, 300, 40)
    assert whole.objectives[1] == Objective(metric="notes_per_s", goal=None)
    assert whole.options == {"data": "music21", "nested": {"sizes": [1, 2.5], "flag": True}}
    assert whole.points == (Point(preset="small"), Point(values={"train.learning_rate": 3e-3}))
    assert (whole.resources.memory_limit_bytes, whole.checkpoints.every_s, whole.final.seeds) == (2 * 2**30, 60, 3)
    assert set(whole.space) == {"model.family", "train.learning_rate", "train.ema"}


def test_the_document_of_a_sweep_makes_the_same_sweep(spec, whole):
    for one in (spec, whole):
        assert read(json.loads(json.dumps(document(one))), source="sweep.json") == one


BAD = {
    "unknown key": ("trails = 3", r"\[sweep\] trails: unknown key; did you mean 'trials'\?"),
    "key of another table": ("retries = 3", r"\[sweep\] retries: unknown key; it belongs to \[resources\]"),
    "wrong type": ('epochs = "3"', r'epochs: got "3", expected a whole number from 1 to'),
    "true is no number": ("epochs = true", "epochs: got true, expected a whole number"),
    "zero trials": ("trials = 0", "trials: got 0, expected a whole number, 1 or more"),
    "negative time": ('wall_time = "-3 min"', "wall_time: got '-3 min', expected a length of time"),
    "no time": ('wall_time = "0 s"', 'wall_time: got "0 s", expected more than 0 s'),
    "time without its unit": ("wall_time = 12", "wall_time: got 12, expected a length of time in quotes"),
    "time half without": ('trial_time = "1h30"', "trial_time: got '1h30'.*1 h 30 min"),
    "name with a slash": ('name = "a/b"', 'name: got "a/b", expected a folder\'s name'),
    "name that leads up": ('name = ".."', 'name: got ".."'),
    "name of nothing": ('name = ""', "name: got"),
    "name with a backslash": (r'name = "a\\b"', "name: got"),
    "name that is an option": ('name = "-x"', "name: got"),
    "name too long": (f'name = "{"é" * 60}"', "a name of 120 bytes, expected at most 100"),
    "task without class": ('task = "my_task"', 'task: got "my_task", expected "module:Class"'),
    "no objective": ("objectives = []", "objectives: got an empty list"),
    "objective without sense": ('objectives = ["loss lowest"]', 'got "loss lowest", expected a metric and min or max'),
    "objective twice": ('objectives = ["a min", "a max"]', "got a twice"),
    "objective not in a list": ('objectives = "loss min"', "expected texts such as .* in square brackets"),
    "money without price": ("money = 3", "money: got no price_per_hour with it"),
    "hours of no GPU": ("gpu_hours = 3", "gpu_hours: the trials hold no GPU"),
    "infinite money": ("money = inf", "money: got inf, expected a number above 0"),
    "seed below zero": ("seed = -1", "seed: got -1, expected a whole number from 0 to 4294967295"),
    "unknown backend": ('backend = "tensorflwo"', "backend: got .*did you mean 'tensorflow'"),
    "unknown table": ("[serch]", r"\[serch\]: unknown table; did you mean 'searcher'"),
    "unknown scheduler": ('[scheduler]\nkind = "ahsa"', "did you mean 'asha'"),
    "rung beyond the end": ("[scheduler]\nfirst_rung = 11", "first_rung: got 11, expected at most the 10 epochs"),
    "nothing to compare": ("[scheduler]\nreduction = 1", "reduction: got 1, expected a whole number, 2 or more"),
    "share above one": ("[scheduler]\naudit_share = 1.5", "audit_share: got 1.5, expected a number from 0 to 1"),
    "no cores": ("[resources]\ncpus = 0", "cpus: got 0, expected a number above 0"),
    "one and a half GPUs": ("[resources]\ngpus = 1.5", "gpus: got 1.5, expected a part of one GPU or a whole number"),
    "size without its unit": ("[checkpoints]\ndisk = 10", "disk: got 10, expected an amount in quotes"),
    "low above high": ('[space]\n"a" = { low = 2, high = 1 }', "low above high: got low = 2 and high = 1"),
    "log from 0": ('[space]\n"a" = { low = 0, high = 1, scale = "log" }', "log scale from 0"),
    "choice of nothing": ('[space]\n"a" = { choice = [] }', "choice: got an empty list"),
    "choice twice": ('[space]\n"a" = { choice = [1, 1] }', "expected each value once"),
    "choice and range": ('[space]\n"a" = { choice = [1], low = 1 }', "got choice together with low"),
    "unknown word of the space": ('[space]\n"a" = { lo = 1 }', r"unknown key 'lo'; did you mean 'low'"),
    "name with dots bare": ("[space]\na.b = { low = 1 }", "put names with dots in quotes"),
    "point with dots bare": ("[[points]]\na.b = 1", "put names with dots in quotes"),
    "point that is a list": ("[[points]]\na = [1]", r"a: got \[1\], expected a text, a finite number"),
    "points as a table": ("[points]\na = 1", r"\[\[points\]\]: expected tables"),
    "a date as an option": ("[task]\nday = 2026-01-01", "day: got"),
    "money without end": (f"money = {'9' * 400}", "money: got 9999.*…, expected a number above 0"),
    "value without end": (f'[space]\n"a" = {"9" * 400}', "a: got 9999.*…, expected a value"),
    "range without end": (f'[space]\n"a" = {{ high = {"9" * 400} }}', "high: got 9999.*…, expected a finite number"),
    "option without end": (f'[space]\n"a" = {{ choice = [{"9" * 400}] }}', "choice: got .*expected texts, finite"),
    "point without end": (f"[[points]]\na = {'9' * 400}", "a: got 9999.*…, expected a text, a finite number"),
    "CMA-ES, two objectives": ('objectives = ["a", "b"]\n[searcher]\nkind = "cmaes"', "follows one objective, got 2"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_a_bad_file_is_refused_with_what_is_wrong(tmp_path, what):
    text, message = BAD[what]
    given = {line.split(" =")[0] for line in text.splitlines()}
    rest = "\n".join(line for line in SMALL.splitlines() if line.split(" =")[0] not in given)
    import re

    found = mistakes(tmp_path, f"{rest}\n{text}\n")
    assert re.search(message, found), found
    assert "1 mistake;" in found, found


def test_all_mistakes_are_told_in_one_go(tmp_path):
    found = mistakes(
        tmp_path, '[sweep]\nobjectives = 3\ntrials = -1\n[searcher]\nkind = "x"\n[space]\n"a" = { low = inf }\n'
    )
    assert "5 mistakes" in found
    for part in ("task: missing", "objectives:", "trials:", "kind:", "low: got inf"):
        assert part in found


def test_a_sweep_without_any_budget_is_refused(tmp_path):
    assert "no budget: got none of trials, wall_time, gpu_hours and money" in mistakes(
        tmp_path, SMALL.replace("trials = 4", "")
    )


def test_a_budget_that_is_wrong_is_not_called_missing_too(tmp_path):
    assert "no budget" not in mistakes(tmp_path, SMALL.replace("= 4", "= 0"))


def test_bad_toml_is_refused_with_its_line(tmp_path):
    assert "is not TOML" in (message := mistakes(tmp_path, SMALL + "x =\n"))
    assert "line 5" in message


def test_a_number_that_python_does_not_read_is_refused(tmp_path):
    assert "is not TOML: Exceeds the limit" in mistakes(tmp_path, SMALL + f"money = {'9' * 5000}\n")


def test_deep_nesting_is_refused(tmp_path):
    assert "nested too deeply" in mistakes(tmp_path, "x = " + "[" * 20_000)


def test_files_that_are_none_are_refused(tmp_path):
    (tmp_path / "laptop.toml").write_text(SMALL)
    (tmp_path / "latin.toml").write_bytes(b"# ok\n# caf\xe9\n")
    for path, message in {
        tmp_path / "lptop.toml": "no such sweep file; did you mean '.*laptop.toml'",
        tmp_path: "is a folder",
        tmp_path / "latin.toml": "not UTF-8 text: line 2",
        tmp_path / "laptop.toml" / "x": "cannot be read",
        "a\0b": "cannot be read",
    }.items():
        with pytest.raises(SpecError, match=message):
            load(path)


def test_a_byte_order_mark_does_no_harm(tmp_path):
    (tmp_path / "x.toml").write_text(SMALL, "utf-8-sig")
    assert load(tmp_path / "x.toml").trials == 4


def test_a_sweep_made_by_hand_is_checked_too():
    with pytest.raises(SpecError, match="no budget"):
        SweepSpec(name="x", task="a:B", objectives=(Objective(metric="loss"),))
    with pytest.raises(SpecError, match="trials: got 0"):
        SweepSpec(name="x", task="a:B", objectives=(Objective(metric="loss"),), trials=0)
    with pytest.raises(SpecError, match="low above high"):
        SweepSpec(
            name="x", task="a:B", objectives=(Objective(metric="l"),), trials=1, space={"a": {"low": 2, "high": 1}}
        )


def test_budget_and_resources_may_change_between_sessions(spec):
    resources = dataclasses.replace(spec.resources, retries=5)
    later = dataclasses.replace(
        spec, trials=9, concurrency=1, wall_time_s=60.0, resources=resources, folder="elsewhere"
    )
    assert [str(difference) for difference in check_resumable(spec, later)] == [
        "[sweep] trials: 4 -> 9",
        '[sweep] wall_time: nothing -> "1 min"',
        "[sweep] concurrency: 0 -> 1",
        "[resources] retries: 2 -> 5",
    ]


@pytest.mark.parametrize(
    "change",
    [{"seed": 2}, {"task": "a:B"}, {"objectives": (Objective(metric="loss", goal="max"),)}, {"space": {"a": 1}},
     {"options": {"x": 1}}, {"points": (Point(preset="a"),)}, {"storage": "other"}, {"backend": "jax"}],
)  # fmt: skip
def test_what_the_results_depend_on_may_not_change(spec, change):
    with pytest.raises(SpecError, match=r"(?s)begun otherwise.*->.*may change: trials, wall_time.*\[resources\]"):
        check_resumable(spec, dataclasses.replace(spec, **change))


def test_epochs_grow_by_extending_alone(spec):
    more, fewer = (dataclasses.replace(spec, epochs=epochs) for epochs in (20, 5))
    with pytest.raises(SpecError, match="epochs can grow with search extend"):
        check_resumable(spec, more)
    assert [difference.after for difference in check_resumable(spec, more, extend=True)] == [20]
    with pytest.raises(SpecError, match="10 -> 5"):
        check_resumable(spec, fewer, extend=True)


def test_equal_sweeps_do_not_differ(whole):
    assert differences(whole, read(document(whole), source="x")) == []


def test_what_may_change_is_named():
    names = list(changeable({When.RESUME}))
    assert "trials" in names
    assert "[checkpoints]" in names
    assert "seed" not in names
    assert "epochs" not in names
