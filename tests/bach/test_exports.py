"""Models in other forms give the same probabilities, and what is missing for a form is said."""

import importlib.util

import pytest

from bach import backend, exports
from bach.ensemble import combined
from bach.errors import SettingError
from bach.hypermodel import build, parameters
from bach.models.presets import PRESETS
from bach.task_card import references

TINY = {
    "conv_lstm": {"conv_lstm.recurrent_layers": 1},
    "transformer": {"transformer.embedding_dim": 64, "transformer.layers": 1, "transformer.activation": "gelu"},
    "relative_transformer": {"relative_transformer.layers": 2},
}


@pytest.mark.slow
@pytest.mark.parametrize("form", exports.FORMS)
@pytest.mark.parametrize("family", [*TINY, "ensemble"])
def test_a_model_in_another_form_gives_the_same_probabilities(family, form, tmp_path):
    members = [build(parameters({"model.family": each, **TINY[each]})) for each in TINY if family in (each, "ensemble")]
    model = combined(members) if family == "ensemble" else members[0]
    assert exports.export(model, form, tmp_path) < 1e-5
    assert (tmp_path / ("saved_model.pb" if form == "saved_model" else "model.onnx")).is_file()


def test_a_form_that_cannot_be_had_is_refused_with_what_is_missing(monkeypatch):
    with pytest.raises(SettingError, match="unknown form 'onx'; did you mean 'onnx'"):
        exports.check("onx")
    exports.check("onnx")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tf2onnx" else find(name))
    with pytest.raises(SettingError, match=r"as onnx needs tf2onnx, not installed here; pip install .*onnx\]"):
        exports.check("onnx")
    exports.check("saved_model")
    monkeypatch.setattr(backend, "name", lambda: "jax")
    with pytest.raises(SettingError, match="is written on TensorFlow, this runs on jax"):
        exports.check("saved_model")


MUSIC21 = "cac47866f90d96b09c3673b982752b6ea6bd582382d38511723dca2463af5f61"


def test_scores_of_presets_are_those_of_the_same_chorales_and_split():
    on_test = references(MUSIC21, "test")
    assert on_test.keys() == PRESETS.keys()
    assert on_test["seed-conv-lstm"]["test_nll"] == 0.571
    assert references(MUSIC21, "valid")["seed-conv-lstm"] == {"val_nll": 0.55}
    assert references(MUSIC21, "train") == {}
    assert references("0" * 64, "test") == {}


def test_scores_of_presets_are_those_of_the_document(request):
    document = (request.config.rootpath / "docs" / "models.md").read_text("utf-8")
    names = ("test_nll", "test_accuracy", "test_window_nll", "test_window_accuracy")
    table = document.partition("<!-- figures: music21, begin -->")[2].partition("<!-- figures: music21, end -->")[0]
    valid, test = references(MUSIC21, "valid"), references(MUSIC21, "test")
    for preset in PRESETS:
        [line] = [line for line in table.splitlines() if line.startswith(f"| `{preset}`")]
        wanted = [valid[preset]["val_nll"], *(test[preset][name] for name in names)]
        assert [float(cell) for cell in line.split("|")[2:-1]] == wanted
