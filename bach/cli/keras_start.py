"""Loading Keras and its backend: late, quietly, and with a sentence if there is none."""

import contextlib
import importlib.util
import logging
import os
from collections.abc import Iterator

from bach.cli.terminal import Terminal
from bach.errors import SettingError

EXTRAS = {"tensorflow": "cpu", "jax": "jax"}
"""The backends, in the order of preference, and the extra of our package that brings each."""


def start_keras(terminal: Terminal, *, training: bool = False) -> None:
    """Imports Keras on the backend that `KERAS_BACKEND` names, or the first of `EXTRAS` that is installed.

    Args:
        terminal: told that this takes a while.
        training: load what training needs beside it: KerasTuner, and the random seeds of all backends installed.

    Raises:
        SettingError: the backend is unknown, or is not installed.
    """
    backend = _backend()
    os.environ["KERAS_BACKEND"] = backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for chatty in ("absl", "jax", "tensorflow", "keras", "h5py"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    terminal.status(f"loading Keras on {backend}", now=terminal.live)
    try:
        with _quiet():
            import keras

            if training:
                import keras_tuner  # noqa: F401

                keras.utils.set_random_seed(0)  # loads TensorFlow wherever it is installed
    except ImportError as error:
        raise SettingError(
            f"Keras cannot be loaded on {backend} ({error}); "
            f"install it anew: pip install 'chorale-search[{EXTRAS[backend]}]'"
        ) from error


def _backend() -> str:
    named = os.environ.get("KERAS_BACKEND")
    if named and named not in EXTRAS:
        raise SettingError(
            f"KERAS_BACKEND: got {named!r}, expected {' or '.join(EXTRAS)}; unset it, or name one of these"
        )
    installed = [name for name in EXTRAS if importlib.util.find_spec(name) is not None]
    if named and named not in installed:
        raise SettingError(
            f"the Keras backend {named!r} is not installed; install it: pip install 'chorale-search[{EXTRAS[named]}]'"
            + (f", or use the one that is: KERAS_BACKEND={installed[0]}" if installed else "")
        )
    if not installed:
        raise SettingError(
            "models need a Keras backend, and none is installed; install TensorFlow with pip install "
            "'chorale-search[cpu]' (for an NVIDIA GPU: [gpu]), or JAX with [jax]"
        )
    return named or installed[0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Sends to nowhere what native code writes to stderr; TensorFlow greets before it can be told not to."""
    try:
        kept = os.dup(2)
    except OSError:  # stderr is closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
