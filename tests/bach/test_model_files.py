"""Models on disk: whole or not at all, and nothing loads that is not ours."""

import json
import warnings
import zipfile

import keras
import numpy as np
import pytest

from bach import model_files
from bach.errors import ModelError, OutputError
from bach.hypermodel import from_values

POINT = {
    "model.family": "conv_lstm",
    "conv_lstm.embedding_dim": 5,
    "conv_lstm.dilation_depth": 0,
    "conv_lstm.filters": 32,
    "conv_lstm.lstm_width": 64,
}
TOKENS = np.random.default_rng(0).integers(0, 47, (2, 20)).astype(np.int32)


@pytest.fixture(scope="module")
def model():
    return from_values(POINT)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "a new one"
    assert model_files.save(model, folder, {"family": "conv_lstm", "val_nll": 1.5}) == folder / "model.keras"
    return folder


def test_what_was_saved_is_loaded_with_its_record(model, folder):
    assert sorted(file.name for file in folder.iterdir()) == ["model.json", "model.keras"]
    for path in (folder, folder / "model.keras", str(folder)):
        loaded = model_files.load(path)
        np.testing.assert_allclose(loaded(TOKENS), model(TOKENS), atol=1e-5)
        assert model_files.record(path) == {"family": "conv_lstm", "val_nll": 1.5}


def test_keras_itself_loads_a_saved_model_without_a_warning(model, folder):
    assert model.compiled  # saving leaves it as it was
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        loaded = keras.models.load_model(folder / "model.keras")
    assert not [str(warning.message) for warning in told if "optimizer" in str(warning.message)]
    np.testing.assert_allclose(loaded(TOKENS), model(TOKENS), atol=1e-5)


def test_a_model_without_a_record_that_can_be_read_has_an_empty_one(model, folder, tmp_path):
    (tmp_path / "model.keras").write_bytes((folder / "model.keras").read_bytes())
    assert model_files.record(tmp_path) == {}
    for text in ("{", "3", ""):
        (tmp_path / "model.json").write_text(text)
        assert model_files.record(tmp_path) == {}


def test_a_saved_model_replaces_the_one_before(model, folder, tmp_path):
    for number in (1, 2):
        model_files.save(model, tmp_path, {"number": number})
    assert model_files.record(tmp_path) == {"number": 2}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.json", "model.keras"]


def test_no_model_is_told_with_what_makes_one(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "model.keras"):
        with pytest.raises(ModelError, match=r"no model at .*expected a \.keras file or a folder with model\.keras"):
            model_files.load(path)


def test_a_damaged_model_is_refused_in_a_sentence(folder, tmp_path):
    data = (folder / "model.keras").read_bytes()
    for damaged in (b"", b"text", data[: len(data) // 2]):
        (tmp_path / "model.keras").write_bytes(damaged)
        with pytest.raises(ModelError, match="damaged"):
            model_files.load(tmp_path)
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 0xFF
    (tmp_path / "model.keras").write_bytes(flipped)
    with pytest.raises(ModelError, match="damaged"):
        model_files.load(tmp_path)


def test_an_archive_of_something_else_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("hello.txt", "hello")
    with pytest.raises(ModelError, match="damaged or not made by"):
        model_files.load(tmp_path)


def test_a_keras_model_that_is_not_ours_is_refused(tmp_path):
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(47)]).save(tmp_path / "model.keras")
    with pytest.raises(ModelError, match="not a chorale model: expected tokens"):
        model_files.load(tmp_path)


def test_a_model_that_wants_to_run_code_is_refused(tmp_path):
    # Built with a Lambda that would leave a mark if it ever ran.
    mark = tmp_path / "mark"
    code = keras.layers.Lambda(lambda x, mark=str(mark): (open(mark, "w").close(), x)[1], output_shape=(3,))
    model = keras.Sequential([keras.Input((3,)), code])
    mark.unlink(missing_ok=True)
    model.save(tmp_path / "model.keras")
    with pytest.raises(ModelError, match="refused, because it wants to run code of its own on loading"):
        model_files.load(tmp_path)
    assert not mark.exists()


def test_a_place_that_cannot_be_written_is_told(model, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"cannot write the model to .*file"):
        model_files.save(model, tmp_path / "file", {})


def test_a_full_disk_leaves_the_model_before(model, folder, tmp_path, monkeypatch):
    model_files.save(model, tmp_path, {"number": 1})
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full(path, *_, **__):
        path.write_bytes(b"half a mod")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(model), "save", lambda self, path, *a, **k: full(path))
    with pytest.raises(OutputError, match="No space left on device"):
        model_files.save(model, tmp_path, {"number": 2})
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_record_that_is_no_json_leaves_the_model_before(model, tmp_path):
    model_files.save(model, tmp_path, {"number": 1})
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="not JSON compliant"):
        model_files.save(model, tmp_path, {"val_nll": float("nan")})
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_the_shipped_model_is_found_by_its_name():
    path = model_files.find(model_files.SHIPPED)
    assert path.name == "model.keras"
    assert path.parent.name == "data"
    assert json.loads(path.with_name("model.json").read_text())["data"] == "music21"
    assert path.stat().st_size < 8_000_000
