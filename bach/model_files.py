"""Trained models on disk: `model.keras`, and beside it `model.json`, the record of how it came to be."""

import contextlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import keras

from bach import layers
from bach.errors import ModelError, OutputError
from bach.notes import NUM_TOKENS, SPLITS, Split

MODEL_FILE, RECORD_FILE = "model.keras", "model.json"
SHIPPED = "shipped"
"""Stands for the model that comes with the package, wherever a path to a model is asked for."""


def shipped_model() -> Path:
    """Returns the path of the model that comes with the package."""
    return Path(str(resources.files("bach") / "data" / MODEL_FILE))


def find(path: str | os.PathLike) -> Path:
    """Returns the model file that `path` means: itself, or in that folder, or for `SHIPPED` the package's own.

    Raises:
        ModelError: there is none.
    """
    if str(path) == SHIPPED:
        return shipped_model()
    found = Path(path)
    if found.is_dir():
        found = found / MODEL_FILE
    if not found.is_file():
        raise ModelError(
            f"no model at {path}: expected a .keras file or a folder with {MODEL_FILE}; `bach train` makes one"
        )
    return found


def load(path: str | os.PathLike = SHIPPED) -> keras.Model:
    """Returns the model at `path` (see `find`); no code from the file is run.

    Raises:
        ModelError: there is no model, the file is damaged, it wants to run code, or it is not one of ours.
    """
    file = find(path)
    try:
        is_archive = zipfile.is_zipfile(file)
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror or error}") from error
    if not is_archive:
        raise ModelError(f"{file}: damaged or no Keras model: expected a .keras archive, as `bach train` writes it")
    try:
        model = keras.saving.load_model(file, compile=False, safe_mode=True)
    except Exception as error:
        if "safe_mode" in str(error) or "unsafe" in str(error).lower() or "Lambda" in str(error):
            raise ModelError(
                f"{file}: refused, because it wants to run code of its own on loading; "
                "use only models made by `bach train`"
            ) from error
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{file}: damaged or not made by `bach train`: {first_line[:200]}") from error
    if not _is_ours(model):
        raise ModelError(
            f"{file}: not a chorale model: expected tokens [batch, time] to logits [batch, time, {NUM_TOKENS}] "
            "behind a NoteInputs layer, as `bach train` writes it"
        )
    return model


def _is_ours(model: Any) -> bool:
    try:
        return isinstance(model.layers[0], layers.NoteInputs) and model.output_shape == (None, None, NUM_TOKENS)
    except (AttributeError, IndexError, ValueError):
        return False


def record(path: str | os.PathLike = SHIPPED) -> dict[str, Any]:
    """Returns what `model.json` beside the model says of it; empty if there is none that can be read."""
    try:
        return dict(json.loads((find(path).parent / RECORD_FILE).read_text()))
    except (OSError, ValueError, TypeError, ModelError):
        return {}


def trained_on(record: Mapping[str, Any]) -> tuple[Split, ...]:
    """Returns the splits that the model of a record has learnt from; `train` alone unless it says otherwise."""
    named = record.get("trained_on") or ("train",)
    return tuple(split for split in SPLITS if split in named)


def save(model: keras.Model, folder: str | os.PathLike, facts: Mapping[str, Any]) -> Path:
    """Writes `model.keras` and `model.json` to `folder`, each whole or not at all, and returns the model's path.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder = Path(folder)
    text = json.dumps(facts, indent=1, allow_nan=False) + "\n"
    temporary = folder / f".{os.getpid()}.part.keras"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _uncompiled(model):
            model.save(temporary)
        os.replace(temporary, folder / MODEL_FILE)
        temporary.write_text(text)
        os.replace(temporary, folder / RECORD_FILE)
    except OSError as error:
        raise OutputError(f"cannot write the model to {folder}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return folder / MODEL_FILE


@contextlib.contextmanager
def _uncompiled(model: keras.Model) -> Iterator[None]:
    """For the length of a `with`, the model counts as not compiled.

    Its optimizer has seen no training (`bach.training` has one of its own); saved, it would be missed on loading.
    """
    compiled, model.compiled = model.compiled, False
    try:
        yield
    finally:
        model.compiled = compiled
