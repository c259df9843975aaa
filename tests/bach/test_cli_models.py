"""The command line with models: training, stopping and going on, scores, new chorales, files that are no models."""

import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from bach.cli import main
from bach.cli.training import Watch
from bach.errors import TrainingFailed
from bach.formats import read_pitches, write_csv
from bach.formats.writing import FORMATS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
CHORDS = np.array([[72, 67, 60, 48], [74, 67, 59, 43], [76, 67, 60, 48], [72, 69, 60, 53], [71, 67, 62, 43]])
TINY = {
    "conv_lstm.embedding_dim": 8,
    "conv_lstm.dilation_depth": 0,
    "conv_lstm.lstm_width": 64,
    "inputs.echo": "no",
    "train.window_steps": 32,
    "train.learning_rate": 0.01,
}
SMALL_MODEL = [
    "--family",
    "conv_lstm",
    *(word for name, value in TINY.items() for word in ("--set", f"{name}={value}")),
]


def bach(*arguments: object) -> Result:
    """Runs a command in this process; a traceback fails the test at once."""
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def strict_json(text: str):
    """JSON without NaN and Infinity."""

    def refuse(constant: str):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder, draw = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split, count in {"train": 4, "valid": 2, "test": 2}.items():
        for number in range(count):
            chorale = np.repeat(CHORDS[draw.integers(0, len(CHORDS), 12)], 4, axis=0)
            write_csv(chorale, folder / split / f"{number:03}.csv")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data) -> tuple[Path, Result]:
    """A run of four epochs, and what it said."""
    out = tmp_path_factory.mktemp("run") / "with a space"
    result = bach("train", "--out", out, "--data", data, "--epochs", 4, *SMALL_MODEL, "--json")
    assert result.exit_code == 0, result.stderr
    return out, result


def test_training_prints_one_json_object_an_epoch_and_progress_on_stderr(trained):
    out, result = trained
    epochs = [strict_json(line) for line in result.stdout.splitlines()]
    assert [epoch["epoch"] for epoch in epochs] == [1, 2, 3, 4]
    assert epochs[-1]["val_nll"] < epochs[0]["val_nll"]
    assert "epoch 4/4" in result.stderr
    assert "notes/s" in result.stderr
    assert "left" in result.stderr
    assert (out / "model.keras").is_file()
    record = strict_json((out / "model.json").read_text())
    assert record["values"]["conv_lstm.lstm_width"] == 64
    assert record["values"]["inputs.echo"] is False


def test_a_stopped_run_goes_on_to_the_same_end(trained, data, tmp_path, monkeypatch):
    undisturbed = strict_json((trained[0] / "model.json").read_text())
    tell = Watch.epoch

    def stop_after_two(self, result):
        tell(self, result)
        if result.epoch == 2:
            raise KeyboardInterrupt

    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(Watch, "epoch", stop_after_two)
        stopped = bach("train", "--out", out, "--data", data, "--epochs", 4, *SMALL_MODEL)
    assert stopped.exit_code == 130
    assert len(stopped.stdout.splitlines()) == 2
    assert f"2 epochs done. The checkpoint is in {out}; go on with: bach train --out {out} --resume" in stopped.stderr
    assert bach("score", "--model", out, "--data", data, "--protocol", "pieces").exit_code == 0

    again = bach("train", "--out", out, "--data", data, "--epochs", 4, *SMALL_MODEL)
    assert again.exit_code == 2
    assert "go on with --resume" in again.stderr

    resumed = bach("train", "--out", out, "--resume")
    assert resumed.exit_code == 0, resumed.stderr
    assert "epochs 3 to 4" in resumed.stderr
    record = strict_json((out / "model.json").read_text())
    for name in ("val_nll", "best_epoch", "values", "seed", "epochs_done", "fingerprint"):
        assert record[name] == undisturbed[name]
    assert [e["train_loss"] for e in record["history"]] == [e["train_loss"] for e in undisturbed["history"]]

    other = bach("train", "--out", out, "--resume", "--seed", 2)
    assert other.exit_code == 2
    assert "seed was 1685, is 2" in other.stderr


def test_ctrl_c_in_a_real_process_leaves_a_checkpoint(data, tmp_path):
    words = ["train", "--out", str(tmp_path / "run"), "--data", str(data), "--epochs", "100000", *SMALL_MODEL]
    with subprocess.Popen(
        [sys.executable, "-m", "bach.cli", *words],
        cwd=ROOT,
        env=os.environ | {"KERAS_BACKEND": "jax"},  # the quicker of the two to start
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("epoch   1  train_loss")
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=300)
        finally:
            process.kill()
    assert process.returncode == 130, errors
    assert "The checkpoint is in" in errors
    assert "Traceback" not in errors
    # Nothing but our own lines: TensorFlow, JAX and absl are silent.
    known = ("Training conv_lstm", "epoch ", "read ", "Stopped;")
    assert [line for line in errors.splitlines() if line and not line.startswith(known)] == []
    assert (tmp_path / "run" / "checkpoint.json").is_file()
    assert (tmp_path / "run" / "model.keras").is_file()


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("conv_lstm.lstm_widht=64", "did you mean 'conv_lstm.lstm_width'?"),
        ("conv_lstm.lstm_width=65", "expected one of"),
        ("conv_lstm.lstm_width=wide", "expected a whole number"),
        ("conv_lstm.residual=perhaps", "'perhaps'"),
        ("train.learning_rate=nan", "train.learning_rate"),
        ("transformer.layers=2", "of family 'conv_lstm'"),
    ],
)
def test_impossible_values_are_refused_before_anything_is_written(assignment, told, data, tmp_path):
    result = bach("train", "--out", tmp_path / "run", "--data", data, "--family", "conv_lstm", "--set", assignment)
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr
    assert not list(tmp_path.glob("run/*"))


def test_a_training_that_fails_ends_with_1(data, tmp_path, monkeypatch):
    def fails(*_, **__):
        raise TrainingFailed("epoch 1, step 8: the loss is nan, no finite number; lower the learning rate")

    monkeypatch.setattr("bach.runs.train", fails)
    result = bach("train", "--out", tmp_path / "run", "--data", data, *SMALL_MODEL)
    assert result.exit_code == 1
    assert "the loss is nan" in result.stderr


# --- scores -----------------------------------------------------------------------------------------------------------


def test_a_model_is_scored_with_what_its_record_says(trained, data):
    result = bach("score", "--model", trained[0], "--data", data, "--json")
    scores = strict_json(result.stdout)
    record = strict_json((trained[0] / "model.json").read_text())
    assert scores["val_nll"] == pytest.approx(record["val_nll"], abs=1e-4)
    assert scores["model"]["family"] == "conv_lstm"
    assert "was trained on" not in result.stderr


def test_a_model_that_has_learnt_from_valid_says_so_where_it_is_scored_there(trained, data, tmp_path):
    shutil.copytree(trained[0], tmp_path / "whole")
    record = strict_json((trained[0] / "model.json").read_text())
    (tmp_path / "whole/model.json").write_text(json.dumps({**record, "trained_on": ["train", "valid"]}))
    marked = bach("score", "--model", tmp_path / "whole", "--data", data, "--protocol", "pieces", "--json")
    assert "was trained on valid, too: what it scores there is how well it remembers" in marked.stderr
    assert strict_json(marked.stdout)["model"]["trained_on"] == ["train", "valid"]
    on_test = bach("score", "--model", tmp_path / "whole", "--data", data, "--protocol", "pieces", "--split", "test")
    assert "was trained on" not in on_test.stderr


def test_a_model_scored_on_other_data_than_its_own_says_so(trained, tmp_path):
    for split in ("train", "valid", "test"):
        write_csv(np.repeat(CHORDS, 8, axis=0) + (split == "valid"), tmp_path / split / "one.csv")
    result = bach("score", "--model", trained[0], "--data", tmp_path, "--protocol", "pieces")
    assert result.exit_code == 0
    assert "was trained on" in result.stderr
    assert "there is no score without them" in result.stderr  # valid is train, moved by a semitone


def foreign(folder: Path) -> Path:
    import keras

    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(folder / "foreign.keras")
    return folder / "foreign.keras"


def with_code(folder: Path) -> Path:
    import keras

    layers = [keras.Input((3,)), keras.layers.Lambda(lambda x: x * 2), keras.layers.Dense(2)]
    keras.Sequential(layers).save(folder / "code.keras")
    return folder / "code.keras"


def torn(folder: Path) -> Path:
    path = foreign(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def hollow(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "hollow.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    return folder / "hollow.keras"


def text(folder: Path) -> Path:
    (folder / "text.keras").write_text("dear reader")
    return folder / "text.keras"


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (foreign, "not a chorale model"),
        (with_code, "refused, because it wants to run code"),
        (torn, "damaged"),
        (hollow, "damaged or not made by"),
        (text, "damaged or no Keras model"),
        (lambda folder: folder / "none", "no model at"),
    ],
)
@pytest.mark.parametrize("command", ["score", "generate"])
def test_files_that_are_no_models_of_ours_are_refused(make, told, command, data, tmp_path):
    model = make(tmp_path)
    more = ["--out", tmp_path / "out"] if command == "generate" else []
    result = bach(command, "--model", model, "--data", data, *more)
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr
    assert not list(tmp_path.glob("out/*"))


# --- new chorales -----------------------------------------------------------------------------------------------------


def test_a_chorale_is_written_in_all_formats_with_its_measures(trained, data, tmp_path):
    result = bach("generate", "--model", trained[0], "--out", tmp_path, "--steps", 32, "--data", data)
    assert result.exit_code == 0, result.stderr
    stem = tmp_path / "chorale-1685"
    assert result.stdout.splitlines() == [f"{stem}{suffix}" for suffix in FORMATS.values()]
    pitches = read_pitches(f"{stem}.csv")
    assert pitches.shape == (32, 4)
    measures = strict_json(Path(f"{stem}.json").read_text())
    assert measures["steps"] == 32
    assert "longest_copied_run" in measures
    assert measures["made_by"]["seed"] == 1685
    assert "1 chorale of 32 steps" in result.stderr


def test_the_same_seed_gives_the_same_chorale_alone_and_in_a_batch(trained, data, tmp_path):
    words = ["--model", trained[0], "--steps", 16, "--formats", "csv", "--data", data]
    bach("generate", *words, "--out", tmp_path / "batch", "--seed", 7, "--count", 3)
    bach("generate", *words, "--out", tmp_path / "alone", "--seed", 8)
    files = sorted(path.name for path in (tmp_path / "batch").glob("*.csv"))
    assert files == ["chorale-7.csv", "chorale-8.csv", "chorale-9.csv"]
    together, alone = (tmp_path / folder / "chorale-8.csv" for folder in ("batch", "alone"))
    assert together.read_bytes() == alone.read_bytes()
    assert together.read_bytes() != (tmp_path / "batch" / "chorale-9.csv").read_bytes()


def test_a_prompt_opens_the_chorale_and_fixed_voices_stay(trained, data, tmp_path):
    prompt = read_pitches(data / "test" / "000.csv")
    words = ["--model", trained[0], "--prompt", "test/000", "--formats", "csv", "--data", data]
    bach("generate", *words, "--out", tmp_path / "a", "--steps", 24, "--prompt-steps", 8, "--hot")
    opened = read_pitches(tmp_path / "a" / "chorale-1685.csv")
    assert (opened[:8] == prompt[:8]).all()
    assert (opened[8:24] != prompt[8:24]).any()
    bach("generate", *words, "--out", tmp_path / "b", "--fix", "soprano,bass", "--hot")
    fixed = read_pitches(tmp_path / "b" / "chorale-1685.csv")
    assert fixed.shape == prompt.shape
    assert (fixed[:, [0, 3]] == prompt[:, [0, 3]]).all()
    assert (fixed[:, [1, 2]] != prompt[:, [1, 2]]).any()


def test_a_melody_is_harmonised_by_the_best_of_the_attempts(trained, data, tmp_path):
    melody = read_pitches(data / "test" / "000.csv")[:, 0]
    (tmp_path / "tune.csv").write_text("\n".join(map(str, melody)) + "\n")
    words = ["harmonise", tmp_path / "tune.csv", "--model", trained[0], "--out", tmp_path / "out", "--data", data]
    result = bach(*words, "--tries", 3, "--by", "parallels", "--formats", "csv", "--json")
    told = strict_json(result.stdout)
    assert [attempt["fault"] for attempt in told["attempts"]] == sorted(a["fault"] for a in told["attempts"])
    assert told["chorale"]["seed"] == told["attempts"][0]["seed"]
    assert (read_pitches(told["chorale"]["files"]["csv"])[:, 0] == melody).all()


def test_without_data_a_chorale_is_measured_alone_and_the_reason_is_told(trained, tmp_path, monkeypatch):
    from bach.errors import DataError

    def none(*_, **__):
        raise DataError("the package music21 is not installed")

    monkeypatch.setattr("bach.corpus.load", none)
    result = bach("generate", "--model", trained[0], "--out", tmp_path, "--steps", 8, "--formats", "csv")
    assert result.exit_code == 0
    assert "without a comparison to Bach: the package music21 is not installed" in result.stderr
    assert "copied" not in strict_json((tmp_path / "chorale-1685.json").read_text())


def test_a_full_disk_ends_a_chorale_with_a_sentence(trained, data, tmp_path, monkeypatch):
    chorales = iter([True])  # the first write is the question whether the folder can be written to

    def full(handle: int, mode: str):
        if next(chorales, False):
            return opened(handle, mode)
        os.close(handle)
        raise OSError(28, "No space left on device")

    opened = os.fdopen
    monkeypatch.setattr("bach.formats.files.os.fdopen", full)
    result = bach(
        "generate", "--model", trained[0], "--out", tmp_path, "--steps", 8, "--formats", "csv", "--data", data
    )
    assert result.exit_code == 2
    assert "there is no room" in result.stderr
    assert list(tmp_path.iterdir()) == []
