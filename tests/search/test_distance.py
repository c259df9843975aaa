"""Configurations are as far apart as their values are on the scales of the space."""

import math

import pytest

from search.distance import apart
from search.space import Space


def declare(hp):
    family = hp.Choice("family", ["conv", "former"])
    with hp.conditional_scope("family", ["conv"]):
        if family == "conv":
            hp.Int("width", 8, 128, sampling="log")
    hp.Float("rate", 1e-4, 1e-2, sampling="log")
    hp.Float("keep", 0.9, 0.999, sampling="reverse_log")
    hp.Choice("clip", [0.0, 0.5, 1.0], ordered=True)
    hp.Fixed("seed", 3)


SPACE = Space.explore(declare)


def at(**values):
    return SPACE.point({"family": "conv", "width": 32, "rate": 1e-3, "keep": 0.99, "clip": 0.5} | values)


def are_apart(one, other, least):
    return apart(SPACE, [(0, one), (1, other)], count=2, least=least) == [0, 1]


@pytest.mark.parametrize(
    ("values", "gap"),
    [
        ({}, 0.0),
        ({"width": 128}, 0.5),  # two of four doublings
        ({"rate": 1e-2}, 0.5),
        ({"rate": 1e-4}, 0.5),
        ({"clip": 1.0}, 0.5),  # one option of two on
    ],
)
def test_a_difference_is_measured_on_the_parameters_own_scale(values, gap):
    for one, other in ((at(), at(**values)), (at(**values), at())):
        assert are_apart(one, other, gap / math.sqrt(5) - 1e-9) == (gap > 0)
        assert not are_apart(one, other, gap / math.sqrt(5) + 1e-9)


def test_a_scale_that_is_turned_round_is_finest_at_its_upper_end():
    near_one, further_off = (at(keep=0.99), at(keep=0.999)), (at(keep=0.9), at(keep=0.909))
    assert are_apart(*near_one, 0.04)
    assert not are_apart(*further_off, 0.04)
    assert are_apart(*further_off, 0.0)


def test_the_ends_of_all_scales_and_another_family_are_as_far_apart_as_can_be():
    one = at(width=8, rate=1e-4, keep=0.9, clip=0.0)
    other = SPACE.point({"family": "former", "rate": 1e-2, "keep": 0.999, "clip": 1.0})
    assert are_apart(one, other, 1 - 1e-9)
    assert not are_apart(one, other, 1 + 1e-9)


def test_a_value_outside_the_range_counts_as_its_end():
    values = at(rate=1e-2)
    assert not are_apart(values, values | {"rate": 5.0}, 0.0)


def test_copies_of_one_point_do_not_fill_the_list():
    copies = [(n, at(rate=1e-3 * 1.02**n)) for n in range(5)]
    others = [(5, at(rate=1e-4)), (6, at(clip=1.0))]
    assert apart(SPACE, [*copies, *others], count=3, least=0.05) == [0, 5, 6]
    assert apart(SPACE, [*copies, *others], count=2, least=0.05) == [0, 5]
    assert apart(SPACE, [*copies, (9, at())], count=9, least=0.0) == [0, 1, 2, 3, 4]
    assert apart(SPACE, others, count=9, least=1.0) == [5]


def test_a_space_in_which_nothing_varies_has_one_point():
    space = Space.explore(lambda hp: hp.Fixed("seed", 3))
    assert apart(space, [(0, {"seed": 3}), (1, {"seed": 3})], count=2, least=0.0) == [0]
