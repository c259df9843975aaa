"""Bach's own values, and where a sample's value is marked."""

import re
from pathlib import Path

import numpy as np
import pytest

from bach.corpus import load
from bach.human_values import LIMITS, human_values
from bach.measures import COPIED_RUN, Reference, measure

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "measures.md"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "digits", "expected"),
    [
        ("parallel_fifths", 2, {"train": 0.77, "valid": 0.88, "test": 0.91}),
        ("parallel_octaves", 2, {"train": 0.59, "valid": 0.38, "test": 0.34}),
        ("voice_crossings", 3, {"train": 0.024, "valid": 0.030, "test": 0.020}),
        ("wide_spacings", 3, {"train": 0.013, "valid": 0.011, "test": 0.016}),
        ("voice_overlaps", 0, {"train": 28, "valid": 31, "test": 25}),
        ("stepwise_soprano", 2, {"test": 0.84}),
        ("stepwise_bass", 2, {"test": 0.67}),
        ("ends_major", 2, {"train": 0.92, "valid": 0.91, "test": 0.96}),
        ("longest_copied_run", 0, {"valid": 18, "test": 16}),
    ],
)
def test_bachs_own_values_are_those_that_were_measured_for_the_canonical_chorales(jsb_archive, name, digits, expected):
    found = human_values(load(str(jsb_archive)), ("train", "valid", "test"))
    assert {split: round(found[f"Bach, {split}"][name], digits) for split in expected} == expected


def test_a_limit_is_the_95th_percentile_of_single_chorales_as_the_document_has_it():
    dataset = load("music21")
    reference = Reference(chorale.pitches for chorale in dataset.splits["train"])
    told = {
        split: [measure(chorale.pitches, reference) for chorale in dataset.splits[split]]
        for split in ("train", "valid")
    }
    document = DOCUMENT.read_text("utf-8")
    for name, (low, high, text) in LIMITS.items():
        assert low is None
        assert text
        if name == "longest_copied_run":
            assert high == COPIED_RUN == np.quantile([each[name] for each in told["valid"]], 0.9)
        else:
            percentile = np.nanquantile([each[name] for each in told["train"] + told["valid"]], 0.95)
            assert high == pytest.approx(percentile, rel=0.015), name
        assert re.search(rf"^\| `{name}` \| {high:g} \|", document, re.M), f"{name}: {high:g} in {DOCUMENT.name}"


def test_no_split_is_read_but_those_asked_for(monkeypatch):
    dataset = load("music21")
    test = {chorale.id for chorale in dataset.splits["test"]}
    measured = []
    monkeypatch.setattr("bach.human_values.measure", lambda pitches, reference: measured.append(pitches) or {})
    assert human_values(dataset, ("valid",)).keys() == {"Bach, valid"}
    ids = {chorale.id for chorale in dataset.chorales() if any(chorale.pitches is pitches for pitches in measured)}
    assert len(ids) == 73
    assert not ids & test
