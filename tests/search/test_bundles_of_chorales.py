"""The real thing: a sweep of small chorale models, a trial's bundle, moved, used and checked; test stays closed."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from bach.cli import main as bach
from bach.corpus import load
from bach.formats import write_csv
from bach.task import ChoraleTask
from search.cli import main as search
from search.spec import SchedulerSettings
from tests.search import rig

pytestmark = pytest.mark.slow

SMALL = {
    "model.family": "transformer",
    "transformer.embedding_dim": 64,
    "transformer.layers": 1,
    "transformer.attention_heads": 2,
    "transformer.head_dim": 16,
    "transformer.feed_forward": 128,
    "transformer.activation": "gelu",
    "train.window_steps": 32,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of small chorales in three splits."""
    folder, draw = tmp_path_factory.mktemp("toy"), np.random.default_rng(0)
    for split, count in (("train", 6), ("valid", 2), ("test", 2)):
        for number in range(count):
            chords = np.sort(draw.integers(48, 70, (10, 4)))[:, ::-1]
            write_csv(np.repeat(chords, 4, axis=0).astype(np.int16), folder / split / f"{number:03}.csv")
    return folder


@pytest.fixture(scope="module")
def sweep(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweeps")
    given = rig.spec(
        folder,
        trials=1,
        epochs=2,
        scheduler=SchedulerSettings(kind="none"),
        options={"data": str(data), "sample_steps": 16},
        space=SMALL,
    )
    given = dataclasses.replace(
        given,
        task="bach.task:ChoraleTask",
        objectives=(dataclasses.replace(given.objectives[0], metric="val_nll"),),
    )
    rig.run(given, workers=1)
    return folder / "rig"


def test_a_trial_gives_the_same_again_and_its_bundle_works_from_wherever_it_lies(sweep, data, tmp_path):
    run = CliRunner().invoke
    again = run(search, ["rerun", f"{sweep}/0", "--tolerance", "0"])
    assert again.exit_code == 0, again.output
    assert "to the last bit" in again.output
    made = run(
        search,
        [
            "bundle",
            "make",
            f"{sweep}/0",
            "--out",
            str(tmp_path / "made"),
            "--export",
            "saved_model,onnx",
            "--samples",
            "1",
        ],
    )
    assert made.exit_code == 0, made.output
    shutil.rmtree(sweep)
    moved = (tmp_path / "made").rename(tmp_path / "elsewhere")
    card = json.loads((moved / "card.json").read_text())
    assert card["exports"].keys() == {"saved_model", "onnx"}
    assert max(made["difference"] for made in card["exports"].values()) < 1e-5
    assert "val_window_nll" in card["scores"]
    assert not any(name.startswith("test") for name in card["scores"])
    assert "four-part chorales" in card["limits"]
    assert (moved / "samples/cold.mid").is_file()
    written = run(bach, ["generate", "--model", str(moved), "--steps", "16", "--out", str(tmp_path / "first")])
    assert written.exit_code == 0, written.output
    scored = run(bach, ["score", "--model", str(moved), "--data", str(data), "--json"])
    assert scored.exit_code == 0, scored.output
    assert json.loads(scored.stdout)["val_nll"] == pytest.approx(card["metrics"]["val_nll"], rel=1e-5)
    verified = run(search, ["bundle", "verify", str(moved)])
    assert verified.exit_code == 0, verified.output
    weights = moved / "model.keras"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert run(search, ["bundle", "verify", str(moved)]).exit_code == 1


class Closed:
    """A chorale of the test split whose notes nobody shall read."""

    def __init__(self, chorale, read):
        self.id, self._chorale, self._read = chorale.id, chorale, read

    @property
    def pitches(self):
        self._read.append(self.id)
        return self._chorale.pitches


def test_training_saving_exporting_and_scoring_valid_read_no_note_of_test(data, tmp_path, monkeypatch):
    dataset, read = load(str(data)), []
    test = tuple(Closed(chorale, read) for chorale in dataset.splits["test"])
    monkeypatch.setattr(ChoraleTask, "dataset", dataclasses.replace(dataset, splits={**dataset.splits, "test": test}))
    task = ChoraleTask(data=str(data), sample_steps=16)
    task.data()
    task.first_rung(SMALL)
    run = task.start(SMALL, epochs=1, seed=1)
    run.epoch()
    (tmp_path / "state").mkdir()
    run.save(tmp_path / "state")
    task.export(run, tmp_path / "model")
    task.score(tmp_path / "model", "valid")
    task.floors("valid")
    next(iter(task.samples(tmp_path / "model", tmp_path)))
    assert read == []
    task.score(tmp_path / "model", "test")
    assert set(read) == {chorale.id for chorale in test}
