"""Models in forms that run without this package: TensorFlow's SavedModel, and ONNX.

Both take tokens `[batch, time]`, whole numbers of 32 bits, and give logits `[batch, time, 47]`, as the Keras model
does; batch and time may be of any length.
"""

import contextlib
import functools
import importlib.util
import io
import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from bach import backend
from bach.errors import OutputError, SettingError, did_you_mean
from bach.notes import NUM_TOKENS

FORMS = ("saved_model", "onnx")
NEEDS = {"saved_model": ("tensorflow",), "onnx": ("tensorflow", "tf2onnx", "onnx", "onnxruntime")}
"""What has to be installed to write a form and read it back."""
ONNX_FILE = "model.onnx"
SHAPES = ((1, 1), (2, 64), (3, 130))
"""Batch and time of what both models are asked."""


def check(form: str) -> None:
    """Checks that a form can be written here.

    Raises:
        SettingError: there is no such form, or what it needs is not installed.
    """
    if form not in FORMS:
        raise SettingError(f"unknown form {form!r}{did_you_mean(form, FORMS)}")
    missing = [package for package in NEEDS[form] if importlib.util.find_spec(package) is None]
    if missing:
        raise SettingError(
            f"a model as {form} needs {', '.join(missing)}, not installed here; pip install 'chorale-search[cpu,onnx]'"
        )
    if backend.name() != "tensorflow":
        raise SettingError(
            f"a model as {form} is written on TensorFlow, this runs on {backend.name()}; make the bundle first, then "
            "`KERAS_BACKEND=tensorflow search bundle export BUNDLE --export ...`: models are the same on both"
        )


def export(model: keras.Model, form: str, folder: Path) -> float:
    """Writes a model in another form, reads it back, and compares what both say.

    Args:
        model: from tokens to logits.
        form: one of `FORMS`.
        folder: empty; the SavedModel itself, or the folder of `ONNX_FILE`.

    Returns:
        The largest difference between two probabilities, in [0, 1]; infinite if one of the models gives no number.

    Raises:
        SettingError: see `check`.
        OutputError: the folder cannot be written.
    """
    check(form)
    if form == "onnx":
        _know_erfc()
    path = folder if form == "saved_model" else folder / ONNX_FILE
    try:
        with _quiet():
            model(np.zeros((1, 1), np.int32), training=False)  # Keras exports no model that was never called
            model.export(path, format="tf_saved_model" if form == "saved_model" else "onnx", verbose=False)
    except OSError as error:
        raise OutputError(f"cannot write the model to {folder}: {error.strerror or error}") from error
    with _quiet():
        logits = _saved_model(folder) if form == "saved_model" else _onnx(folder)
        return _difference(model, logits)


def _difference(model: keras.Model, logits: Callable[[np.ndarray], np.ndarray]) -> float:
    draw, largest = np.random.default_rng(0), 0.0
    for shape in SHAPES:
        tokens = draw.integers(0, NUM_TOKENS, shape).astype(np.int32)
        own = _probabilities(keras.ops.convert_to_numpy(model(tokens, training=False)))
        apart = float(np.abs(_probabilities(logits(tokens)) - own).max())
        largest = max(largest, apart if math.isfinite(apart) else math.inf)
    return largest


def _probabilities(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def _saved_model(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder))
    return lambda tokens: loaded.serve(tokens).numpy()


def _onnx(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(str(folder / ONNX_FILE), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda tokens: np.asarray(session.run(None, {name: tokens})[0])


@functools.cache
def _know_erfc() -> None:
    """Tells tf2onnx what TensorFlow's `Erfc` is, which it does not know and GELU asks for: 1 - erf."""
    from tf2onnx import utils
    from tf2onnx.handler import tf_op

    @tf_op("Erfc")
    class Erfc:
        @classmethod
        def version_9(cls, ctx: Any, node: Any, **_: Any) -> None:  # Erf is there since ONNX's operators of version 9
            of, to = node.input[0], node.output[0]
            shapes, dtypes = [ctx.get_shape(to)], [ctx.get_dtype(to)]
            kind = utils.map_onnx_to_numpy_type(dtypes[0])
            erf = ctx.make_node("Erf", [of], shapes=shapes, dtypes=dtypes)
            one = ctx.make_const(utils.make_name("one"), np.array(1, kind))
            ctx.remove_node(node.name)
            ctx.make_node(
                "Sub",
                [one.output[0], erf.output[0]],
                name=node.name,
                outputs=node.output,
                shapes=shapes,
                dtypes=dtypes,
            )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """For the length of a `with`, the converters keep their remarks to themselves."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
