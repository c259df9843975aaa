"""The named points of the space."""

import pytest

from bach.models.presets import PRESETS, preset


def test_an_unknown_preset_is_refused_with_the_nearest_name():
    from bach.errors import SettingError

    with pytest.raises(SettingError, match="unknown preset 'seed-conv-lst'; did you mean 'seed-conv-lstm'"):
        preset("seed-conv-lst")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_family_and_the_number_of_parameters_that_it_names(name):
    from bach.hypermodel import from_values

    model = from_values(PRESETS[name].point())
    assert model.name == PRESETS[name].family
    assert model.count_params() == PRESETS[name].parameters


def test_the_seeds_presets_have_the_parameters_of_the_notebook():
    assert PRESETS["seed-conv-lstm"].parameters == 396_810
    assert PRESETS["seed-transformer"].parameters == 708_207


def test_presets_hold_no_value_beside_their_own_family_and_what_all_share():
    for name, point in PRESETS.items():
        assert name == point.name
        assert point.epochs >= 1
        assert {key.split(".")[0] for key in point.values} <= {point.family, "inputs", "train"}
