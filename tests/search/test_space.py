"""Spaces: found in full, narrowed as a sweep file says, and alike to KerasTuner's."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.errors import SpaceError, TaskError
from search.hyperparameters import HyperParameters
from search.parameters import Fixed, Options, Range
from search.space import Space


def families(hp):
    family = hp.Choice("family", ["conv", "former"], default="former")
    with hp.conditional_scope("family", ["conv"]):
        if family == "conv":
            hp.Int("conv.width", 8, 256, sampling="log", default=32)
            for i in range(hp.Int("conv.layers", 1, 3)):
                hp.Float(f"conv.dropout_{i}", 0.0, 0.5, step=0.05, default=0.15)
    with hp.conditional_scope("family", ["former"]):
        if family == "former":
            hp.Choice("former.heads", [2, 4, 8], default=4)
    hp.Float("rate", 1e-4, 1e-2, sampling="log", default=1e-3)
    hp.Boolean("smooth", default=True)
    hp.Choice("clip", [0, 0.5, 1.0], default=1.0)


@pytest.fixture(scope="module")
def space():
    return Space.explore(families)


def at_random(space, seed):
    rng = random.Random(seed)
    return space.sample(lambda parameter: parameter.at(rng.random()))


# --- what is found ----------------------------------------------------------------------------------------------------


def test_every_parameter_is_found_whichever_branch_or_loop_declares_it(space):
    assert space.kinds == {
        "family": "str",
        "conv.width": "int",
        "conv.layers": "int",
        "conv.dropout_0": "float",
        "conv.dropout_1": "float",
        "conv.dropout_2": "float",
        "former.heads": "int",
        "rate": "float",
        "smooth": "bool",
        "clip": "float",  # a choice of whole and decimal numbers
    }


def test_scopes_in_scopes_are_entered():
    def nested(hp):
        hp.Choice("a", [1, 2])
        with hp.conditional_scope("a", [2]):
            hp.Choice("b", ["x", "y"])
            with hp.conditional_scope("b", ["y"]):
                hp.Boolean("c")
                with hp.conditional_scope("c", [True]):
                    hp.Int("d", 1, 3)

    space = Space.explore(nested)
    assert list(space.parameters) == ["a", "b", "c", "d"]
    assert space.defaults() == {"a": 1}
    assert space.point({"a": 2, "b": "y", "c": True}) == {"a": 2, "b": "y", "c": True, "d": 1}


def test_a_configuration_holds_what_is_active_and_no_more(space):
    for seed in range(20):
        values = at_random(space, seed)
        assert ("former.heads" in values) == (values["family"] == "former")
        assert sum(name.startswith("conv.dropout") for name in values) == values.get("conv.layers", 0)
        assert space.contains(values)


def test_a_space_that_conditions_describe_in_full_is_not_asked_again():
    asked = []

    def counted(hp):
        asked.append(None)
        hp.Boolean("a")
        hp.Int("b", 1, 5, parent_name="a", parent_values=[True])

    space = Space.explore(counted)
    before = len(asked)
    assert space.point({"a": True}) == {"a": True, "b": 1}
    assert space.defaults() == {"a": False}
    assert space.sample(lambda parameter: parameter.at(0.0)) == {"a": True, "b": 1}
    assert space.contains({"a": True, "b": 2})
    assert not space.contains({"a": True})
    assert not space.contains({"a": False, "b": 2})
    assert not space.contains({"a": True, "b": 9})
    assert len(asked) == before


def test_the_defaults_are_the_same_every_time(space):
    defaults = {"family": "former", "former.heads": 4, "rate": 1e-3, "smooth": True, "clip": 1.0}
    assert space.defaults() == space.defaults() == defaults


def test_one_name_with_two_ranges_is_held_apart_and_of_a_common_type():
    def twice(hp):
        with_many = hp.Boolean("many")
        with hp.conditional_scope("many", [True]):
            hp.Int("units", 10, 100)
        with hp.conditional_scope("many", [False]):
            hp.Float("units", 1, 5)
        return with_many

    space = Space.explore(twice)
    assert [p.described() for p in space.parameters["units"]] == [
        "a whole number from 10 to 100",
        "a number from 1.0 to 5.0",
    ]
    assert space.kinds["units"] == "float"
    assert space.point({"many": True, "units": 70})["units"] == 70
    with pytest.raises(SpaceError, match=r"got 70, expected a number from 1.0 to 5.0"):
        space.point({"many": False, "units": 70})
    assert space.narrowed({"units": {"low": 20}}).point({"many": True})["units"] == 20
    assert space.narrowed({"units": {"low": 20}}).point({"many": False})["units"] == 1.0


def test_one_name_with_texts_and_numbers_is_refused():
    def mixed(hp):
        hp.Boolean("a")
        hp.Int("x", 1, 2, parent_name="a", parent_values=[True])
        hp.Choice("x", ["one", "two"], parent_name="a", parent_values=[False])

    with pytest.raises(SpaceError, match="'x' is declared with values of different types"):
        Space.explore(mixed)


def test_a_space_that_raises_is_the_tasks_mistake():
    def broken(hp):
        if hp.Choice("size", [1, 2]) == 2:
            raise RuntimeError("too large")

    with pytest.raises(TaskError, match=r"RuntimeError: too large, .*test_space.py, line \d+ \(at size=2\)"):
        Space.explore(broken)


def test_a_parameter_that_appears_only_later_is_the_tasks_mistake():
    asked = []

    def fickle(hp):
        asked.append(None)
        if hp.Boolean("x"):
            hp.Int("y", 0, 10)
        if len(asked) > 1000:
            hp.Int("late", 0, 1)

    space = Space.explore(fickle)
    asked += [None] * 1000
    with pytest.raises(TaskError, match="declares 'late' at this point"):
        space.defaults()


# --- narrowing --------------------------------------------------------------------------------------------------------


def test_narrowing_holds_ranges_choices_and_pins(space):
    narrow = space.narrowed(
        {
            "family": "conv",
            "rate": {"low": 1e-3, "scale": "linear"},
            "conv.width": {"choice": [16, 64]},
            "conv.dropout_0": {"high": 0.1},
            "conv.layers": {"low": 2, "high": 2},
            "clip": {"choice": [0.5]},
        }
    )
    for seed in range(20):
        values = at_random(narrow, seed)
        assert (values["family"], values["conv.layers"], values["clip"]) == ("conv", 2, 0.5)
        assert values["conv.width"] in (16, 64)
        assert values["conv.dropout_0"] in (0.0, 0.05, 0.1)
        assert 1e-3 <= values["rate"] <= 1e-2
        assert space.contains(values)
    assert narrow.varying == ("conv.width", "conv.dropout_0", "conv.dropout_1", "rate", "smooth")
    assert narrow.defaults()["conv.width"] == 16  # 32, the task's default, is left out
    assert "former.heads" not in narrow.parameters  # the pin leaves nothing that needs it
    assert narrow.kinds["family"] == "str"


def test_defaults_move_into_what_is_left(space):
    assert space.narrowed({"rate": {"low": 2e-3}}).defaults()["rate"] == 2e-3
    assert space.narrowed({"rate": {"high": 5e-4}}).defaults()["rate"] == 5e-4
    assert space.narrowed({"rate": {"high": 5e-3}}).defaults()["rate"] == 1e-3


@pytest.mark.parametrize(
    ("narrowing", "message"),
    [
        ({"rte": 1e-3}, "unknown parameter 'rte'; did you mean 'rate'?"),
        ({"rate": 1.0}, "'rate': pinned to 1.0, expected a number from 0.0001 to 0.01"),
        ({"rate": "fast"}, "pinned to 'fast', expected a number"),
        ({"rate": True}, "pinned to True, expected a number"),
        ({"rate": math.nan}, "pinned to nan"),
        ({"smooth": 1}, "pinned to 1, expected one of True, False"),
        ({"family": "mlp"}, "pinned to 'mlp', expected one of 'conv', 'former'"),
        ({"rate": {"low": 1e-5}}, "1e-05 to 0.01 reaches out of the task's range"),
        ({"rate": {"high": 1}}, "reaches out"),
        ({"rate": {"low": 5e-3, "high": 1e-3}}, "low is 0.005 and above high, 0.001; swap them"),
        ({"rate": {"low": 0, "scale": "log"}}, "a log scale from 0"),
        ({"rate": {"low": "a"}}, "low is 'a', expected a number"),
        ({"conv.width": {"low": 8.5}}, "low is 8.5, expected a whole number"),
        ({"rate": {"scale": "cubic"}}, "unknown scale 'cubic'"),
        ({"rate": {"lo": 1e-3}}, "unknown key 'lo'; did you mean 'low'?"),
        ({"rate": {}}, "an empty table says nothing"),
        ({"rate": {"choice": [1e-3], "low": 1e-3}}, "got choice and low"),
        ({"family": {"choice": []}}, "a choice of nothing"),
        ({"family": {"choice": "conv"}}, "choice is 'conv', expected a list"),
        ({"family": {"choice": ["conv", "mlp"]}}, "the choice has 'mlp', expected one of"),
        ({"family": {"low": 1}}, "low, high and scale are for numbers"),
        ({"conv.dropout_0": {"low": 0.01, "high": 0.04}}, "nothing lies from 0.01 to 0.04"),
        ({"conv.dropout_0": {"scale": "linear"}}, "a scale for steps"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(space, narrowing, message):
    with pytest.raises(SpaceError) as caught:
        space.narrowed(narrowing)
    assert message in str(caught.value)


# --- points -----------------------------------------------------------------------------------------------------------


def test_a_point_is_completed_with_defaults(space):
    assert space.point({"family": "conv", "conv.layers": 2}) == {
        "family": "conv",
        "conv.width": 32,
        "conv.layers": 2,
        "conv.dropout_0": 0.15,
        "conv.dropout_1": 0.15,
        "rate": 1e-3,
        "smooth": True,
        "clip": 1.0,
    }
    assert space.point({"clip": 0})["clip"] == 0.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rates": 1e-3}, "unknown parameter 'rates'; did you mean 'rate'?"),
        ({"rate": 0.5}, "got 0.5, expected a number from 0.0001 to 0.01"),
        ({"conv.width": 16}, "'conv.width' is not active at this point: it needs family = conv"),
        ({"conv.dropout_2": 0.1, "family": "conv"}, "'conv.dropout_2' is not active at this point"),
        ({"smooth": "yes"}, "got 'yes', expected one of True, False"),
    ],
)
def test_a_point_outside_is_refused(space, values, message):
    with pytest.raises(SpaceError) as caught:
        space.point(values)
    assert message in str(caught.value)


def test_a_point_must_lie_in_the_narrowed_space(space):
    narrow = space.narrowed({"family": "conv", "rate": {"high": 1e-3}})
    with pytest.raises(SpaceError, match="got 'former', expected 'conv', which the sweep file pins it to"):
        narrow.point({"family": "former"})
    with pytest.raises(SpaceError, match=r"got 0.002, expected a number from 0.0001 to 0.001"):
        narrow.point({"rate": 2e-3})
    with pytest.raises(SpaceError, match=r"'former.heads' is not in the space that the sweep file leaves"):
        narrow.point({"former.heads": 2})


# --- declarations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda hp: hp.Int("x", 5, 1), "low is 5 and above high, 1"),
        (lambda hp: hp.Float("x", 0, 1, sampling="log"), "a log scale from 0"),
        (lambda hp: hp.Float("x", -1, 1, sampling="reverse_log"), "a log scale from -1"),
        (lambda hp: hp.Float("x", 0, 1, sampling="logarithmic"), "unknown scale 'logarithmic'"),
        (lambda hp: hp.Float("x", 0, 1, step=0), "step is 0, expected above 0"),
        (lambda hp: hp.Int("x", 1, 8, step=1, sampling="log"), "expected a factor above 1"),
        (lambda hp: hp.Int("x", 1.5, 8), "low is 1.5, expected a whole number"),
        (lambda hp: hp.Int("x", 1, 8, default="two"), "the default is 'two'"),
        (lambda hp: hp.Choice("x", []), "a choice of nothing"),
        (lambda hp: hp.Choice("x", [1, "a"]), "mixes types"),
        (lambda hp: hp.Choice("x", ["a"], default="b"), "the default is 'b'"),
        (lambda hp: hp.Choice("x", ["a"], ordered=True), "only numbers are"),
        (lambda hp: hp.Choice("x", [None]), "None is no value"),
        (lambda hp: hp.Int("x", 1, 2, parent_name="y", parent_values=[1]), "no such parameter so far"),
    ],
)
def test_a_declaration_that_is_none_is_refused(declare, message):
    with pytest.raises(SpaceError) as caught:
        Space.explore(declare)
    assert "'x'" in str(caught.value) or "'y'" in str(caught.value)
    assert message in str(caught.value)


@settings(max_examples=100)
@given(st.floats(0, 1, exclude_max=True), st.integers(1, 50), st.integers(0, 400), st.sampled_from([None, 1, 2, 7]))
def test_what_is_drawn_lies_in_the_range_and_is_known_again(share, low, width, step):
    hp = HyperParameters(answer=lambda parameter: parameter.at(share))
    for scale in ("linear", "log", "reverse_log"):
        values = [
            hp.Int(f"int {scale}", low, low + width, step=step if scale == "linear" else None, sampling=scale),
            hp.Float(f"float {scale}", low, low + width, step=step if scale == "linear" else None, sampling=scale),
        ]
        for value, parameter in zip(values, hp.space[-2:], strict=True):
            assert low <= value <= low + width
            assert parameter.fitted(value) == value


def test_steps_are_free_of_rounding_and_reach_the_end():
    hp = HyperParameters()
    hp.Float("x", 0.0, 0.5, step=0.05)
    hp.Int("y", 2, 32, step=2, sampling="log")
    hp.Float("z", 1e-4, 1e-1, step=10, sampling="log")
    x, y, z = hp.space
    assert isinstance(x, Options)
    assert x.values == (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
    assert isinstance(y, Options)
    assert y.values == (2, 4, 8, 16, 32)
    assert isinstance(z, Options)
    assert z.values == (1e-4, 1e-3, 1e-2, 1e-1)


# --- the same as KerasTuner -------------------------------------------------------------------------------------------


def plain(hp):
    return [
        hp.Int("units", 32, 512, step=32),
        hp.Choice("activation", ["relu", "tanh"]),
        hp.Float("lr", 1e-4, 1e-2, sampling="log"),
        hp.Boolean("dropout"),
        hp.Fixed("epochs", 10),
        hp.Int("log", 2, 32, step=2, sampling="log", default=8),
        hp.Float("back", 0.1, 10, sampling="reverse_log"),
        hp.get("units"),
        hp["lr"],
        "lr" in hp,
        "nothing" in hp,
    ]


def in_scopes(hp):
    told = [hp.Choice("model", ["mlp", "cnn"], default="cnn")]
    with hp.name_scope("block"):
        told.append(hp.Int("units", 1, 9))
        with hp.name_scope("inner"):
            told.append(hp.Boolean("deep", default=True))
            with hp.conditional_scope("deep", True):
                told.append(hp.Int("depth", 1, 4, default=2))
    with hp.conditional_scope("model", ["mlp"]):
        told.append(hp.Int("width", 1, 9))
        told.append("width" in hp)
    with hp.conditional_scope("model", ["cnn"]):
        told.append(hp.Choice("filters", [16, 32], default=32))
        with hp.conditional_scope("filters", [32]):
            told.append(hp.Float("drop", 0, 1, default=0.5))
    told.append(hp.Int("kernel", 3, 5, parent_name="model", parent_values=["cnn"]))
    told.append(hp.Int("width", 100, 200, parent_name="model", parent_values=["cnn"]))
    told.append(hp.Int("width", 100, 200, parent_name="model", parent_values=["cnn"]))
    return told


def of_bach(hp):
    from bach.models import FAMILIES
    from bach.settings import TrainingSettings

    family = hp.Choice("model.family", list(FAMILIES), default="relative_transformer")
    for name, layers in FAMILIES.items():
        with hp.conditional_scope("model.family", [name]):
            if family == name:
                layers(hp)
    TrainingSettings.from_hp(hp)
    return [family]


@pytest.fixture(scope="module")
def keras_tuner():
    import keras_tuner

    return keras_tuner


@pytest.mark.slow
@pytest.mark.parametrize("declare", [plain, in_scopes, of_bach])
def test_answers_and_declarations_are_keras_tuners(keras_tuner, declare):
    first = {"in_scopes": [{}, {"model": "mlp"}, {"filters": 16}, {"block/inner/deep": False}]}
    of_families = [{"model.family": name} for name in ("conv_lstm", "transformer", "relative_transformer")]
    for values in {"of_bach": of_families, **first}.get(declare.__name__, [{}]):
        theirs, ours = keras_tuner.HyperParameters(), HyperParameters(values)
        theirs.values.update(values)
        assert declare(theirs) == declare(ours)
        active = {p.name for p in theirs.space if theirs.is_active(p)}
        assert {n: v for n, v in theirs.values.items() if n in active} == ours.values
        assert [p.name for p in theirs.space] == [p.name for p in ours.space]
        for their, our in zip(theirs.space, ours.space, strict=True):
            assert [(c.name, tuple(c.values)) for c in their.conditions] == [
                (c.name, c.values) for c in our.conditions
            ], their.name
            assert their.default == pytest.approx(our.default), their.name
            assert theirs.is_active(their) == ours.is_active(our)
            for share in (0.0, 0.1, 0.37, 0.5, 0.81, 0.999):
                # Of 0 to 0.5 by 0.05 KerasTuner has ten values, we have eleven: there no draws are compared.
                if isinstance(our, Options) and len(our.values) != len(tuple(their.values)):
                    assert our.values[: len(our.values) - 1] == pytest.approx(tuple(their.values))
                elif not (isinstance(our, Options) and our.kind == "bool"):  # KerasTuner draws False first
                    assert our.at(share) == pytest.approx(their.prob_to_value(share)), their.name


@pytest.mark.slow
def test_an_inactive_or_unknown_name_is_told_apart_as_keras_tuner_does(keras_tuner):
    for hp in (keras_tuner.HyperParameters(), HyperParameters()):
        hp.Choice("a", ["x", "y"])
        hp.Int("b", 1, 2, parent_name="a", parent_values=["y"])
        with pytest.raises(ValueError, match="b"):
            hp.get("b")
        with pytest.raises(KeyError):
            hp.get("c")


@pytest.mark.slow
def test_bachs_own_space_is_explored_in_full(keras_tuner):
    space = Space.explore(of_bach)
    for family in ("conv_lstm", "transformer", "relative_transformer"):
        hp = keras_tuner.HyperParameters()
        hp.values["model.family"] = family
        of_bach(hp)
        assert {p.name for p in hp.space} <= space.parameters.keys()
    assert all(len(alike) == 1 for alike in space.parameters.values())
    assert isinstance(space.parameters["train.learning_rate"][0], Range)
    narrow = space.narrowed({"model.family": "transformer"})
    assert isinstance(narrow.parameters["model.family"][0], Fixed)
    assert not any(name.startswith(("conv_lstm.", "relative_")) for name in narrow.parameters)
