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
from results.ledger import Ledger, Writer
from results.storage import Storage
from search.cli import main as search
from search.crews import Here
from search.final_job import FinalJob
from search.spec import FinalSettings, SchedulerSettings
from search.state import SweepState
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
    return folder / "rig", given


def test_a_trial_gives_the_same_again_and_its_bundle_works_from_wherever_it_lies(sweep, data, tmp_path):
    run = CliRunner().invoke
    sweep = shutil.copytree(sweep[0], tmp_path / "rig")
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
    assert len(card["samples"]) == len(list((moved / "samples").glob("*.mid"))) == 8
    assert [sample["kind"] for sample in card["samples"][-2:]] == ["harmony", "original"]
    assert card["samples"][-1]["origin"].startswith("valid/")
    assert card["sample_references"].keys() == {"Bach, train", "Bach, valid"}
    assert card["sample_limits"]["longest_copied_run"]["high"] == 24
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


def end(folder, given, **final):
    """Runs the final job of a sweep in this process."""
    settings = FinalSettings(models=1, seeds=2, samples=1, **final)
    spec = dataclasses.replace(given, storage=str(folder.parent), final=settings)
    storage = Storage(folder)
    ledger = Ledger(storage)
    session = ledger.last_session + 1
    job = FinalJob(
        spec=spec,
        state=SweepState(ledger.schema).replay(ledger.events()),
        writer=Writer(storage, ledger.schema, session=session, next_seq=ledger.last_seq + 1),
        storage=storage,
        task=ChoraleTask(**spec.options),
        crew=Here(),
    )
    job.note("sessions", {"session": session})
    job.run()


def test_several_models_as_one_and_one_of_all_data_leave_the_final_job_as_any_other(sweep, data, tmp_path, monkeypatch):
    folder, given = shutil.copytree(sweep[0], tmp_path / "rig"), sweep[1]
    end(folder, given, ensemble="seeds")
    end(folder, given, whole=True)
    finals = {row["kind"]: row for row in Ledger(Storage(folder)).table("finals").to_pylist()}
    assert finals.keys() == {"single", "ensemble", "whole"}
    assert finals["ensemble"]["num_parameters"] == 2 * finals["single"]["num_parameters"]
    records = {kind: json.loads((folder / row["model"] / "model.json").read_text()) for kind, row in finals.items()}
    assert records["ensemble"]["family"] == "ensemble"
    assert len(records["ensemble"]["members"]) == 2
    assert records["whole"]["trained_on"] == ["train", "valid"]
    card = json.loads((folder / "bundle/card.json").read_text())
    assert {sample["origin"].partition("/")[0] for sample in card["samples"]} == {"", "test"}
    verified = CliRunner().invoke(search, ["bundle", "verify", f"{folder}/bundle"])
    assert verified.exit_code == 0, verified.output
    # Each works where nothing of the sweep is left.
    shutil.copytree(folder / finals["ensemble"]["model"], tmp_path / "elsewhere" / "ensemble")
    (folder / "bundle").rename(tmp_path / "elsewhere" / "whole")
    shutil.rmtree(folder)
    monkeypatch.chdir(tmp_path / "elsewhere")
    for model in ("ensemble", "whole"):
        written = CliRunner().invoke(
            bach, ["generate", "--model", model, "--steps", "8", "--out", f"by-{model}", "--formats", "midi"]
        )
        assert written.exit_code == 0, written.output
        scored = CliRunner().invoke(bach, ["score", "--model", model, "--data", str(data), "--protocol", "pieces"])
        assert scored.exit_code == 0, scored.output
        assert ("trained on valid, too" in scored.stderr) == (model == "whole")


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
    assert len(list(task.samples(tmp_path / "model", tmp_path, count=1, split="valid"))) == 8
    task.sample_references()
    task.combine([tmp_path / "model", tmp_path / "model"], tmp_path / "twice")
    task.score(tmp_path / "twice", "valid")
    whole = task.start_whole(SMALL, epochs=1, seed=1)
    whole.epoch()
    task.export(whole, tmp_path / "whole")
    assert read == []
    task.score(tmp_path / "model", "test")
    assert set(read) == {chorale.id for chorale in test}
