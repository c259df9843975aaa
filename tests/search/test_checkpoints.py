"""Checkpoints are whole or not there, and a damaged one gives way to the one before."""

import json

import pytest

from results.errors import StorageError
from results.storage import Storage
from search.checkpoints import MANIFEST, SPEC_FILE, Checkpoints, identity

IDENTITY = identity("module:Task", {}, {"x": 1.0}, 3)


@pytest.fixture
def sweep(tmp_path):
    (tmp_path / "a sweep").mkdir()
    (tmp_path / "a sweep" / SPEC_FILE).touch()
    return Storage(tmp_path / "a sweep")


def test_nothing_is_saved_in_place_of_a_folder_that_is_gone(sweep, tmp_path):
    sweep.remove(SPEC_FILE)
    with pytest.raises(StorageError, match="is gone"):
        save(place(sweep), tmp_path, 1)
    assert sweep.names() == []


def place(sweep, trial=17, who=IDENTITY):
    return Checkpoints(sweep, trial, who)


def save(checkpoints, tmp_path, epoch, *, attempt=1, best=None, text=None):
    def write(folder):
        (folder / "weights").mkdir()
        (folder / "weights" / "a.txt").write_text(text or f"after {epoch}")

    checkpoints.save(
        write,
        epoch=epoch,
        attempt=attempt,
        history=[{"epoch": e, "metrics": {"loss": 1 / e}} for e in range(1, epoch + 1)],
        best_epoch=best,
        scratch=tmp_path / "scratch",
    )


def test_what_was_saved_last_comes_back_with_its_history(sweep, tmp_path):
    checkpoints = place(sweep)
    save(checkpoints, tmp_path, 1)
    save(checkpoints, tmp_path, 2, attempt=2)
    found = checkpoints.fetch(tmp_path / "back")
    assert found is not None
    assert (found.epoch, found.attempt) == (2, 2)
    assert [row["epoch"] for row in found.history] == [1, 2]
    assert (tmp_path / "back" / "weights" / "a.txt").read_text() == "after 2"


def test_the_last_two_and_the_best_are_kept(sweep, tmp_path):
    checkpoints = place(sweep)
    for epoch in range(1, 6):
        save(checkpoints, tmp_path, epoch, best=min(epoch, 2))
    assert checkpoints.names() == ["e00002-a1", "e00004-a1", "e00005-a1"]


def test_nothing_is_found_where_nothing_was_saved(sweep, tmp_path):
    assert place(sweep).fetch(tmp_path / "back") is None


def damage_content(folder):
    (folder / "weights" / "a.txt").write_text("AFTER 2")


def cut_manifest(folder):
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text[: len(text) // 2])


def lose_file(folder):
    (folder / "weights" / "a.txt").unlink()


def lose_manifest(folder):
    (folder / MANIFEST).unlink()


def make_newer(folder):
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"version": 99}))


@pytest.mark.parametrize("harm", [damage_content, cut_manifest, lose_file, lose_manifest, make_newer])
def test_of_a_damaged_one_the_one_before_is_taken(sweep, tmp_path, harm, caplog):
    checkpoints = place(sweep)
    save(checkpoints, tmp_path, 1)
    save(checkpoints, tmp_path, 2)
    harm(tmp_path / "a sweep" / "checkpoints" / "00017" / "e00002-a1")
    found = checkpoints.fetch(tmp_path / "back")
    assert found is not None
    assert found.epoch == 1
    assert (tmp_path / "back" / "weights" / "a.txt").read_text() == "after 1"
    assert "e00002-a1" in caplog.text


def test_a_checkpoint_of_another_configuration_is_not_used(sweep, tmp_path):
    save(place(sweep), tmp_path, 1)
    other = identity("module:Task", {}, {"x": 2.0}, 3)
    assert place(sweep, who=other).fetch(tmp_path / "back") is None


@pytest.mark.parametrize("in_the_way", ["manifest.json", "weights"])
def test_what_could_not_be_saved_whole_takes_no_room(sweep, tmp_path, in_the_way):
    checkpoints = place(sweep)
    save(checkpoints, tmp_path, 1)
    folder = tmp_path / "a sweep" / "checkpoints" / "00017"
    for epoch in (2, 3):
        if in_the_way == "weights":
            (folder / f"e0000{epoch}-a1").mkdir()
            (folder / f"e0000{epoch}-a1" / "weights").write_text("a file where a folder is to be")
        else:
            (folder / f"e0000{epoch}-a1" / "manifest.json" / "x").mkdir(parents=True)
        with pytest.raises(StorageError):
            save(checkpoints, tmp_path, epoch)
    assert checkpoints.names() == ["e00001-a1"]
    assert not (tmp_path / "scratch").exists()
    save(checkpoints, tmp_path, 4)
    assert checkpoints.names() == ["e00001-a1", "e00004-a1"]


def test_a_state_that_cannot_be_written_leaves_the_one_before(sweep, tmp_path):
    checkpoints = place(sweep)
    save(checkpoints, tmp_path, 1)

    def fail(folder):
        (folder / "half").write_text("half")
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        checkpoints.save(fail, epoch=2, attempt=1, history=[], best_epoch=None, scratch=tmp_path / "scratch")
    found = checkpoints.fetch(tmp_path / "back")
    assert found is not None
    assert found.epoch == 1
