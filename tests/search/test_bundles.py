"""Any trial can be had again: trained again from its row, or as a bundle that says what it is and can be checked."""

import contextlib
import dataclasses
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from results.ledger import Ledger, Writer
from results.storage import Storage
from search import environment, rerun, trial_bundle, verification
from search.cli import main
from search.errors import SweepAborted, SweepError, TaskError
from search.spec import CheckpointSettings, SchedulerSettings
from tests.search import rig

TASK = f"{Path(__file__).parent / 'bundle_task.py'}:Watched"


def swept(folder, **options):
    """A finished sweep of four trials; its folder and where its task logs."""
    log = folder / "log"
    log.mkdir()
    given = rig.spec(
        folder / "runs",
        trials=4,
        epochs=5,
        scheduler=SchedulerSettings(kind="none"),
        checkpoints=CheckpointSettings(every_s=1e-6, keep_best=4),
        options={"log": str(log), **options},
    )
    rig.run(dataclasses.replace(given, task=TASK))
    return folder / "runs" / "rig", log


@pytest.fixture
def sweep(tmp_path):
    return swept(tmp_path)


def looked_at(log):
    return {path.name.partition("-")[0] for path in log.iterdir()}


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def search(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


# --- again ------------------------------------------------------------------------------------------------------------


def test_a_trial_trained_again_gives_the_same_and_changes_nothing_of_the_sweep(sweep):
    folder, _ = sweep
    before = contents(folder)
    ran = search("rerun", f"{folder}/2")
    assert ran.exit_code == 0, ran.output
    assert "gave the same again, to the last bit" in ran.output
    assert "not compared, because they are times or speeds: speed" in ran.output
    assert contents(folder) == before


def test_a_rerun_as_json_has_every_epoch_of_both(sweep):
    document = json.loads(search("rerun", f"{sweep[0]}/0", "--json").stdout)
    assert document["agrees"]
    assert [pair["epoch"] for pair in document["pairs"]] == [1, 2, 3, 4, 5]
    assert all(pair["ledger"]["loss"] == pair["again"]["loss"] for pair in document["pairs"])


def test_a_trial_that_differs_is_said_with_epoch_and_size_and_exit_status_1(tmp_path):
    (tmp_path / "drift").mkdir()
    folder, _ = swept(tmp_path, drift=str(tmp_path / "drift"))
    ran = search("rerun", f"{folder}/1")
    assert ran.exit_code == 1
    assert "did NOT give the same again" in ran.output
    assert "differs from epoch 1 on" in ran.output
    assert search("rerun", f"{folder}/1", "--tolerance", "0.1").exit_code == 0


def test_another_schedule_shows_as_a_difference(sweep):
    assert not rerun.rerun(rerun.find(f"{sweep[0]}/0"), epochs=9).agrees
    with pytest.raises(SweepError, match="has 5 epochs, more than a schedule of 3"):
        rerun.rerun(rerun.find(f"{sweep[0]}/0"), epochs=3)


def test_a_trial_that_failed_fails_again_at_the_same_place(tmp_path):
    folder, _ = swept(tmp_path, breaks=3)
    found = rerun.rerun(rerun.find(f"{folder}/0"))
    assert (found.failure, found.expected_failure) == ("ValueError: breaks", "ValueError: breaks")
    assert [pair.epoch for pair in found.pairs] == [1, 2]
    assert found.agrees


def test_what_is_no_trial_is_refused_in_a_sentence(sweep, tmp_path):
    folder, _ = sweep
    for where, said in (
        (f"{folder}", "expected a sweep and the number of a trial"),
        (f"{folder}/x", "expected a sweep and the number of a trial"),
        (f"{folder}/9", "has no trial 9; its trials are 0 to 3"),
        (f"{tmp_path}/none/1", "no sweep at"),
    ):
        ran = search("rerun", where)
        assert (ran.exit_code, said in ran.output) == (2, True), ran.output


def test_other_data_than_the_trial_had_are_refused(sweep):
    folder, _ = sweep
    document = json.loads((folder / "sweep.json").read_text())
    document["task"]["fingerprint"] = "a" * 64
    (folder / "sweep.json").write_text(json.dumps(document))
    ran = search("rerun", f"{folder}/0")
    assert ran.exit_code == 2
    assert "was trained on watched (ffffffffffff), but the task now has watched (aaaaaaaaaaaa)" in ran.output


def another_session(folder, *events, **row):
    """A session of the same sweep with other data, and what it wrote."""
    ledger = Ledger(Storage(folder))
    session = ledger.last_session + 1
    writer = Writer(Storage(folder), ledger.schema, session=session, next_seq=ledger.last_seq + 1)
    writer.append("sessions", {"session": session, "data": "letters", "data_fingerprint": "a" * 64, **row})
    for table, event in events:
        writer.append(table, event)
    writer.flush()


def test_a_trial_has_the_data_and_the_packages_of_the_session_that_scored_it(sweep, tmp_path, monkeypatch):
    folder, _ = sweep
    another_session(folder, commit="later")
    assert rerun.rerun(rerun.find(f"{folder}/0")).agrees
    monkeypatch.setattr(environment, "commit", lambda: "now")
    card = trial_bundle.make(rerun.find(f"{folder}/0"), tmp_path / "kept")
    first = Ledger(Storage(folder)).table("sessions").to_pylist()[0]
    assert card["data"] == {"name": "watched", "fingerprint": "f" * 64}
    assert card["environment"]["commit"] == first["commit"]
    assert card["packaged"]["commit"] == "now"
    shutil.rmtree(folder / "checkpoints")
    card = trial_bundle.make(rerun.find(f"{folder}/0"), tmp_path / "again")
    assert (card["environment"]["commit"], "packaged" in card) == ("now", False)


def test_a_trial_whose_epochs_had_other_data_says_so_when_it_differs(sweep):
    folder, _ = sweep
    another_session(folder, ("epochs", {"trial": 0, "attempt": 1, "epoch": 1, "duration_s": 0.1, "loss": 99.0}))
    found = rerun.rerun(rerun.find(f"{folder}/0"))
    assert not found.agrees
    assert found.changed["data"] == ("watched (ffffffffffff), then letters (aaaaaaaaaaaa)", "watched (ffffffffffff)")


# --- bundles of trials ------------------------------------------------------------------------------------------------


def test_a_bundle_of_a_trial_is_whole_and_says_that_test_stayed_closed(sweep, tmp_path):
    folder, log = sweep
    before = contents(folder)
    ran = search("bundle", "make", f"{folder}/1", "--out", tmp_path / "made", "--export", "text")
    assert ran.exit_code == 0, ran.output
    assert "test was not opened" in ran.output
    assert contents(folder) == before
    made = tmp_path / "made"
    assert subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=made, capture_output=True).returncode == 0
    card = json.loads((made / "card.json").read_text())
    assert (card["kind"], card["split"], card["trial"]) == ("trial", "valid", 1)
    assert card["scores"].keys() == {"valid_loss", "valid_loss_low", "valid_loss_high"}
    assert card["exports"] == {"text": {"path": "exports/text", "difference": 1e-7}}
    assert (made / "samples/hot.txt").read_text() == "hot"
    assert "The test split was not opened for this model" in (made / "card.md").read_text()
    assert looked_at(log) == {"train", "valid"}


def test_the_model_is_the_same_from_its_checkpoint_and_trained_again(sweep, tmp_path):
    folder, _ = sweep
    search("bundle", "make", f"{folder}/1", "--out", tmp_path / "kept")
    shutil.rmtree(folder / "checkpoints")
    search("bundle", "make", f"{folder}/1", "--out", tmp_path / "again")
    kept, again = (json.loads((tmp_path / name / "card.json").read_text()) for name in ("kept", "again"))
    assert kept["made_from"] == f"the checkpoint of epoch {kept['best_epoch']}"
    assert again["made_from"].startswith("a rerun of its")
    assert again["made_from"].endswith("agreeing with the ledger to the last bit")
    assert (tmp_path / "kept/model.json").read_bytes() == (tmp_path / "again/model.json").read_bytes()
    assert kept["metrics"]["loss"] == again["metrics"]["loss"]


def test_nothing_is_written_over_or_half_written(sweep, tmp_path):
    folder, _ = sweep
    (tmp_path / "there").mkdir()
    ran = search("bundle", "make", f"{folder}/1", "--out", tmp_path / "there")
    assert (ran.exit_code, "is there already" in ran.output) == (2, True)
    ran = search("bundle", "make", f"{folder}/1", "--out", tmp_path / "made", "--export", "wrong")
    assert (ran.exit_code, "the model as wrong is not the same: a probability differs by 0.5" in ran.output) == (
        1,
        True,
    )
    ran = search("bundle", "make", f"{folder}/1", "--out", tmp_path / "made", "--export", "tex")
    assert (ran.exit_code, "did you mean 'text'?" in ran.output) == (2, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "runs", "there"]


def test_a_trial_without_a_score_has_no_bundle(tmp_path):
    folder, _ = swept(tmp_path, breaks=1)
    with pytest.raises(SweepError, match="has no finite loss"):
        trial_bundle.make(rerun.find(f"{folder}/0"), tmp_path / "made")


def test_a_trial_that_cannot_be_trained_again_has_no_bundle(sweep, tmp_path):
    folder, _ = sweep
    shutil.rmtree(folder / "checkpoints")
    document = json.loads((folder / "sweep.json").read_text())
    document["task"]["breaks"] = 1
    (folder / "sweep.json").write_text(json.dumps(document))
    with pytest.raises(SweepAborted, match="could not be trained again up to there: ValueError: breaks"):
        trial_bundle.make(rerun.find(f"{folder}/0"), tmp_path / "made")


# --- what a bundle says -----------------------------------------------------------------------------------------------


@pytest.fixture
def made(sweep, tmp_path):
    trial_bundle.make(rerun.find(f"{sweep[0]}/1"), tmp_path / "made")
    return tmp_path / "made"


def test_the_card_has_space_scores_beside_others_samples_limits_and_seeds(made):
    card, text = json.loads((made / "card.json").read_text()), (made / "card.md").read_text()
    assert card["space"]["width"] == [{"range": "a whole number from 1 to 3", "when": {"kind": ["wide"]}}]
    assert card["sweep_seed"] == 4
    assert card["references"] == {"known": {"valid_loss": 5.0}}
    assert "|  | this model | guess | known |" in text
    score = card["scores"]["valid_loss"]
    assert f"| valid_loss | {score:.4g} [{score - 0.1:.4g}, {score + 0.1:.4g}] | 18 | 5 |" in text
    assert "|  | made from | size |\n|---|---|---|\n| `cold` | the beginning of valid/1 | 4 |\n" in text
    assert "| people | for comparison | 5 |" in text
    assert "- `hot` is marked: too short (size 3)" in text
    assert "It knows numbers alone." in text
    assert f"seed {card['seed']}" in text


def test_a_bundle_is_verified_wherever_it_lies_and_left_as_it_is(made, tmp_path):
    moved = shutil.move(made, tmp_path / "elsewhere")
    before = contents(moved)
    ran = search("bundle", "verify", moved, "--task", TASK)
    assert ran.exit_code == 0, ran.output
    assert "The bundle is what its card says." in ran.output
    assert contents(moved) == before


def test_a_task_in_a_file_is_never_run_because_a_bundle_says_so(made):
    ran = search("bundle", "verify", made)
    assert (ran.exit_code, "say where it lies here: --task" in ran.output) == (2, True)
    assert search("bundle", "verify", made, "--no-score").exit_code == 0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("model.json", "model.json was changed: its checksum differs"),
        ("card.json", "card.json was changed: its checksum differs"),
        ("samples/hot.txt", "samples/hot.txt was changed: its checksum differs"),
    ],
)
def test_one_changed_byte_is_found(made, name, said):
    data = bytearray((made / name).read_bytes())
    data[0] ^= 1
    (made / name).write_bytes(bytes(data))
    ran = search("bundle", "verify", made, "--task", TASK, "--json")
    assert ran.exit_code == 1
    assert json.loads(ran.stdout)["problems"] == [said]


def test_missing_and_added_files_are_found_and_nothing_outside_is_read(made):
    (made / "samples/hot.txt").unlink()
    (made / "more.txt").write_text("")
    sums = made / "SHA256SUMS"
    sums.write_text(sums.read_text() + f"{'0' * 64}  ../../log\n")
    found = verification.verify(made, task=TASK)
    assert set(found.problems) == {
        "samples/hot.txt is missing",
        "../../log is missing",
        "more.txt does not belong to it: SHA256SUMS does not list it",
    }


def rewritten(made, change):
    """The same bundle with another card, its checksums made to fit."""
    card = json.loads((made / "card.json").read_text())
    change(card)
    from search import bundle

    bundle.complete(made, card)


def test_a_score_that_is_not_the_models_is_found(made):
    rewritten(made, lambda card: card["scores"].update(valid_loss=0.5))
    found = verification.verify(made, task=TASK)
    [problem] = found.problems
    assert problem.endswith("the card says 0.500000")


def test_other_data_are_found_before_anything_is_scored(made):
    rewritten(made, lambda card: card["data"].update(fingerprint="b" * 64))
    found = verification.verify(made, task=TASK)
    assert "the card says watched (bbbbbbbbbbbb)" in found.problems[0]
    assert not found.scores


def test_a_model_that_does_not_load_is_found(made):
    (made / "model.json").write_text("{")
    rewritten(made, lambda card: None)
    assert "the model cannot be loaded and scored: JSONDecodeError" in verification.verify(made, task=TASK).problems[0]


def test_what_is_no_bundle_is_refused(made, tmp_path):
    assert search("bundle", "verify", tmp_path / "none").exit_code == 2
    (made / "SHA256SUMS").unlink()
    ran = search("bundle", "verify", made)
    assert (ran.exit_code, "no whole bundle" in ran.output) == (2, True)


def test_other_forms_are_added_to_a_bundle_that_stays_whole(made):
    ran = search("bundle", "export", made, "--export", "text", "--task", TASK)
    assert ran.exit_code == 0, ran.output
    assert verification.verify(made, task=TASK).problems == ()
    assert json.loads((made / "card.json").read_text())["exports"].keys() == {"text"}
    before = contents(made)
    with pytest.raises(SweepAborted, match="is not the same"):
        trial_bundle.add_exports(made, ["wrong"], verification.task_of(verification.read(made), task=TASK))
    with pytest.raises(TaskError, match="cannot export a model as 'onnx'"):
        trial_bundle.add_exports(made, ["onnx"], verification.task_of(verification.read(made), task=TASK))
    assert contents(made) == before
    (made / "model.json").write_text("{}")
    assert search("bundle", "export", made, "--export", "text", "--task", TASK).exit_code == 1


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_an_export_that_was_killed_leaves_a_bundle_that_the_next_one_takes_up(made, monkeypatch, renames):
    before, left, real = contents(made), [renames], trial_bundle.os.replace

    def replace(*names):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        real(*names)

    with monkeypatch.context() as patched:
        patched.setattr(trial_bundle.os, "replace", replace)
        patched.setattr(trial_bundle, "recover", lambda folder: None)  # as if killed, nothing after it is run
        with contextlib.suppress(KeyboardInterrupt):
            trial_bundle.add_exports(made, ["text"], verification.task_of(verification.read(made), task=TASK))
    if renames == 0:
        assert contents(made) == before
    ran = search("bundle", "export", made, "--export", "text", "--task", TASK)
    assert ran.exit_code == 0, ran.output
    assert verification.verify(made, task=TASK).problems == ()
    assert (made / "exports/text").is_dir()
    assert sorted(path.name for path in made.parent.iterdir()) == ["log", "made", "runs"]


# --- the door to the test split ---------------------------------------------------------------------------------------


def test_trials_reruns_and_bundles_of_trials_never_look_at_test(sweep, tmp_path):
    folder, log = sweep
    assert looked_at(log) == {"train", "valid"}
    rerun.rerun(rerun.find(f"{folder}/0"))
    trial_bundle.make(rerun.find(f"{folder}/0"), tmp_path / "made", exports=["text"])
    verification.verify(tmp_path / "made", task=TASK)
    assert looked_at(log) == {"train", "valid"}


def test_the_final_job_alone_opens_test_and_only_after_the_row_that_says_so(sweep):
    from search import folders, preparation
    from search.crews import Here
    from search.final_job import FinalJob
    from search.spec import FinalSettings
    from search.state import SweepState

    folder, log = sweep
    storage = Storage(folder)
    ledger = Ledger(storage)
    spec = dataclasses.replace(folders.read_spec(storage), final=FinalSettings(models=2, seeds=2))
    seen = []

    class Watching:
        """A crew that notes, as work begins, whether test was looked at before and how many openings have a row."""

        def width(self):
            return 1

        def run(self, work, arguments):
            seen.append((work.__name__, "test" in looked_at(log), len(Ledger(storage).table("openings"))))
            yield from Here().run(work, arguments)
            seen.append((work.__name__, "test" in looked_at(log), len(Ledger(storage).table("openings"))))

    job = FinalJob(
        spec=spec,
        state=SweepState(ledger.schema).replay(ledger.events()),
        writer=Writer(storage, ledger.schema, session=2, next_seq=ledger.last_seq + 1),
        storage=storage,
        task=preparation.prepare(spec).task,
        crew=Watching(),
    )
    job.note("sessions", {"session": 2})
    job.run()
    assert ("train", False, 0) in seen
    assert {opened for work, opened, _ in seen if work not in ("score", "sample")} == {False}
    assert next(entry for entry in seen if entry[0] == "score") == ("score", False, 1)
    assert "test" in looked_at(log)
    ran = search("bundle", "verify", folder / "bundle", "--task", TASK)
    assert ran.exit_code == 0, ran.output
    assert "This scores the model once more on test" in ran.stderr
