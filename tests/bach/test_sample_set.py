"""The chorales that show a model: which are made, that they are made again alike, and what of them is measured."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from bach.corpus import Chorale, Dataset
from bach.encoding import encode, transpose
from bach.generation import FREE, Generator, SamplingSettings
from bach.hypermodel import from_values
from bach.prediction import ModelPredictor
from bach.sample_set import TEMPERATURES, Sample, SampleSet, planned
from tests.bach.small import POINT

STEPS = 32


def pieces(split, count, seed, steps=40):
    draw = np.random.default_rng(seed)
    for number in range(count):
        chords = np.sort(draw.integers(50, 70, (steps // 4, 4)))[:, ::-1]
        yield Chorale(id=f"{split}/{number:03}", pitches=np.repeat(chords, 4, axis=0))


@pytest.fixture(scope="module")
def dataset():
    """Of valid, the first piece is one of train in another key, and the second is longer than a sample."""
    train = tuple(pieces("train", 6, 1))
    again = Chorale(id="valid/000", pitches=transpose(train[2].pitches, 3))
    valid = (again, *(dataclasses.replace(p, id=f"valid/1{p.id[-2:]}") for p in pieces("valid", 5, 2, 28)))
    return Dataset.of("toy", {"train": train, "valid": valid, "test": tuple(pieces("test", 4, 3))})


@pytest.fixture(scope="module")
def singers():
    keras.utils.set_random_seed(5)
    model = from_values(POINT)
    for variable in model.weights:
        variable.assign(np.asarray(variable) * 2)
    return Generator(model), ModelPredictor(model)


def a_set(singers, dataset):
    generator, predictor = singers
    return SampleSet(generator, predictor, dataset)


@pytest.fixture(scope="module")
def made(dataset, singers):
    return a_set(singers, dataset).make(count=2, split="valid", steps=STEPS, seed=7)


def test_a_set_has_its_kinds_at_every_temperature_and_one_harmony_beside_its_original(made):
    told = [(sample.name.partition("-")[0], sample.kind, sample.temperature) for sample in made]
    moods = [(mood, temperature) for mood, temperature in TEMPERATURES.items() for _ in range(2)]
    assert told == [
        *((mood, "free", temperature) for mood, temperature in moods),
        *((mood, "continued", temperature) for mood, temperature in moods),
        ("harmony", "harmony", 1.0),
        ("original", "original", None),
    ]
    assert len({sample.name for sample in made}) == len(made)
    assert [sample.name for sample in made[:3]] == ["cold", "cold-2", "medium"]


def test_beginnings_and_the_soprano_are_of_pieces_that_the_model_has_not_heard(made, dataset):
    by_id = {piece.id: piece.pitches for piece in dataset.splits["valid"]}
    origins = {sample.origin for sample in made if sample.kind != "free"}
    assert "valid/000" not in origins
    assert len({sample.origin for sample in made if sample.kind == "continued"}) == 2
    for sample in made:
        if sample.kind == "continued":
            np.testing.assert_array_equal(sample.pitches[:16], by_id[sample.origin][:16])  # half of a short sample
            assert len(sample.pitches) == STEPS
    harmony, original = made[-2:]
    np.testing.assert_array_equal(harmony.pitches[:, 0], original.pitches[:, 0])
    np.testing.assert_array_equal(original.pitches, by_id[original.origin])
    assert harmony.origin == original.origin not in {sample.origin for sample in made[:-2]}


def test_the_same_seed_makes_the_same_set_and_a_larger_set_holds_the_smaller(made, dataset, singers):
    again = a_set(singers, dataset).make(count=1, split="valid", steps=STEPS, seed=7)
    larger = {sample.name: sample for sample in made}
    for sample in again[:-2]:
        np.testing.assert_array_equal(sample.pitches, larger[sample.name].pitches)
        assert sample.nll == pytest.approx(larger[sample.name].nll, rel=1e-4)
    other = a_set(singers, dataset).make(count=1, split="valid", steps=STEPS, seed=8)
    assert other[0].pitches.tobytes() != again[0].pitches.tobytes()
    # One chorale by itself, as `bach generate` makes it.
    [alone] = singers[0].generate(seeds=[7], steps=STEPS, settings=SamplingSettings(temperature=0.8))
    np.testing.assert_array_equal(alone, again[0].pitches)


def test_nats_are_of_the_notes_that_were_not_given(made, singers):
    for sample in made:
        [logs] = singers[1].log_probabilities([encode(sample.pitches)])
        nll = -logs[np.arange(len(logs)), encode(sample.pitches)].reshape(-1, 4)
        own = {
            "free": nll,
            "continued": nll[sample.prompt_steps :],
            "harmony": nll[:, 1:],
            "original": nll[:, 1:],
        }[sample.kind]
        assert sample.nll == pytest.approx(own.mean(), rel=1e-4)


def test_a_given_beginning_that_stands_in_train_is_not_called_copied(dataset, singers, tmp_path):
    # The beginning is one of train, what follows is not: only the latter is the model's.
    heard = dataset.splits["train"][0].pitches
    samples = a_set(singers, dataset)
    [plan, *_] = [s for s in planned(dataset, count=1, split="valid", steps=STEPS, seed=7) if s.kind == "continued"]
    new = dataset.splits["test"][0].pitches[:16]
    sample = dataclasses.replace(plan, given=heard[:16], pitches=np.concatenate([heard[:16], new]), nll=1.0)
    _, measures = samples.write(sample, tmp_path)
    told = json.loads((tmp_path / f"{sample.name}.json").read_text())
    assert measures["longest_copied_run"] < 12
    assert told["with_prompt"]["longest_copied_run"] == 15
    assert told["longest_copied_run"] == measures["longest_copied_run"]
    assert (told["kind"], told["origin"], told["prompt_steps"]) == ("continued", sample.origin, 16)
    # What goes on with train after such a beginning is copied, from its first own step on.
    copied = dataclasses.replace(sample, pitches=heard[:32])
    assert samples.write(copied, tmp_path)[1]["longest_copied_run"] == 16


def test_what_was_learnt_beside_train_counts_as_heard(dataset, singers, tmp_path):
    learnt = dataset.learnt_from(["train", "valid"])
    assert len(learnt.splits["train"]) == 12
    assert learnt.fingerprint == dataset.fingerprint
    assert len({piece.id for piece in learnt.chorales()}) == len(learnt.chorales())
    piece = dataset.splits["valid"][1].pitches
    whole = Sample(
        name="whole", title="", kind="original", steps=len(piece), given=piece, pitches=piece, origin="valid/101"
    )
    told = [a_set(singers, data).write(whole, tmp_path)[1]["longest_copied_run"] for data in (dataset, learnt)]
    assert told[0] < len(piece) - 1 == told[1]


def test_a_set_of_none_is_empty_and_one_step_has_no_beginning(dataset):
    assert planned(dataset, count=0, split="valid", steps=STEPS, seed=7) == []
    kinds = {sample.kind for sample in planned(dataset, count=1, split="valid", steps=1, seed=7)}
    assert kinds == {"free", "harmony", "original"}


def test_a_long_piece_is_harmonised_as_far_as_a_sample_goes(dataset):
    plan = planned(dataset, count=1, split="valid", steps=8, seed=7)
    harmony, original = plan[-2:]
    assert harmony.steps == original.steps == len(original.pitches) == 8
    assert (harmony.given[:, 1:] == FREE).all()
