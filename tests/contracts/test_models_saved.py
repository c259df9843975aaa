"""A saved model loads in a process that imports no more than bach, and says the same there, on either backend."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bach.models.presets import PRESETS

ROOT = Path(__file__).resolve().parents[2]

# What anyone may write who was given model.keras: no module of ours by name, safe mode as Keras has it by default.
LOAD_AND_PREDICT = """
import sys
import bach
import keras
import numpy as np

tokens = np.load(sys.argv[1])
for path in sys.argv[2:]:
    model = keras.models.load_model(path)
    np.save(path + "." + keras.backend.backend() + ".npy", model.predict(tokens, verbose=0))
"""


def predict_elsewhere(backend, tokens, paths):
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", LOAD_AND_PREDICT, str(tokens), *map(str, paths)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr
    return [np.load(f"{path}.{backend}.npy") for path in paths]


@pytest.fixture(scope="module")
def tokens():
    return np.random.default_rng(5).integers(0, 47, (2, 300)).astype(np.int32)


def test_a_saved_model_loads_in_safe_mode_and_gives_equal_outputs(model, tokens, tmp_path):
    import keras

    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.models.load_model(path, safe_mode=True)
    assert loaded.count_params() == model.count_params()
    np.testing.assert_allclose(
        loaded.predict(tokens, verbose=0), model.predict(tokens, verbose=0), atol=1e-5, err_msg=str(path)
    )


def saved_and_predicted(names, build_point, folder, tokens):
    np.save(folder / "tokens.npy", tokens)
    paths, outputs = [], []
    for name in names:
        model = build_point(name)
        paths.append(folder / f"{name}.keras")
        model.save(paths[-1])
        outputs.append(model.predict(tokens, verbose=0))
    return paths, outputs


@pytest.mark.slow
@pytest.mark.parametrize("module", ["bach.backend", "bach.layers", "bach.task_runs"])
def test_any_module_may_be_the_first_that_is_imported(module):
    # Whoever imports Keras has our layers registered in the middle of it, so they must not need who imports it.
    done = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_fresh_process_that_imports_bach_alone_predicts_the_same(build_point, tokens, tmp_path):
    from bach.backend import name

    paths, outputs = saved_and_predicted(["small-conv_lstm"], build_point, tmp_path, tokens)
    [elsewhere] = predict_elsewhere(name(), tmp_path / "tokens.npy", paths)
    np.testing.assert_allclose(elsewhere, outputs[0], atol=1e-5)


@pytest.mark.slow
def test_tensorflow_and_jax_agree_on_every_family_and_preset(build_point, tokens, tmp_path):
    from bach.backend import BACKENDS, name

    names = ["small-conv_lstm", "small-transformer", "small-relative_transformer", "small-ensemble"]
    names += PRESETS
    names += [f"random-{family}-{i}" for family in ("conv_lstm", "transformer", "relative_transformer") for i in (0, 1)]
    paths, outputs = saved_and_predicted(names, build_point, tmp_path, tokens)
    [other] = [backend for backend in BACKENDS if backend != name()]
    for point, here, there in zip(
        names, outputs, predict_elsewhere(other, tmp_path / "tokens.npy", paths), strict=True
    ):
        np.testing.assert_allclose(there, here, atol=1e-3, rtol=1e-3, err_msg=point)
