"""Several trained models as one, whose probabilities are the mean of theirs.

    model = combined([model_files.load("first"), model_files.load("second")])
    combine(["first", "second"], "both")          # the same, from folders to a folder

It is a Keras model like any other: causal, from tokens to logits, saved as one file, scored and sampled by the same
means. It costs what its members cost together.
"""

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from bach import backend, model_files
from bach.errors import ModelError
from bach.layers import Ensemble, NoteInputs, body

FAMILY = "ensemble"
"""What stands in the record of such a model for its family."""
_OF_A_MEMBER = ("preset", "family", "parameters", "values", "seed", "epochs", "best_epoch", "val_nll", "members")


def combined(models: Sequence[keras.Model]) -> keras.Model:
    """Returns one model that shares the weights of `models` and gives the mean of their probabilities.

    Members may be of any family and have any inputs, ensembles too; each counts the same.

    Args:
        models: from tokens `[batch, time]` to logits, two or more.

    Raises:
        ModelError: fewer than two.
    """
    if len(models) < 2:
        raise ModelError(f"an ensemble: got {len(models)} models, expected two or more")
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    # A member that hears no echoes does not read those columns, so one table of inputs serves all.
    inputs = NoteInputs(echo=any(model.layers[0].echo for model in models), name="note_inputs")
    members = [body(model, name=f"member_{number}") for number, model in enumerate(models)]
    return keras.Sequential([tokens, inputs, Ensemble(members, name="mean")], name=FAMILY)


def combine(folders: Sequence[str | os.PathLike], out: str | os.PathLike) -> Path:
    """Writes the ensemble of the models in `folders` to `out`, with its record, and returns the model's path.

    Raises:
        ModelError: fewer than two folders, no model in one of them, or they learnt from different chorales.
        OutputError: `out` cannot be written.
    """
    models = [model_files.load(folder) for folder in folders]
    records = [model_files.record(folder) for folder in folders]
    _check_data(folders, records)
    model = combined(models)
    return model_files.save(model, out, _facts(model, records))


def _check_data(folders: Sequence[str | os.PathLike], records: Sequence[Mapping[str, Any]]) -> None:
    known = {
        record.get("fingerprint"): f"{record.get('data')} ({folder})"
        for folder, record in zip(folders, records, strict=True)
    }
    if len(known) > 1:
        raise ModelError(
            f"an ensemble of models that learnt from different chorales: {', '.join(known.values())}; "
            "what one has not seen another has, so that no score of theirs would be honest"
        )


def _facts(model: keras.Model, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    trained_on = {split: None for record in records for split in model_files.trained_on(record)}
    return {
        "preset": "",
        "family": FAMILY,
        "parameters": model.count_params(),
        "data": records[0].get("data"),
        "fingerprint": records[0].get("fingerprint"),
        "trained_on": list(trained_on),
        "backend": backend.name(),
        "python": platform.python_version(),
        "versions": backend.versions(),
        "members": [{name: record[name] for name in _OF_A_MEMBER if name in record} for record in records],
    }
