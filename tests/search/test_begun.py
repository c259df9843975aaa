"""What is refused before a sweep begins, or is gone on with, leaves nothing behind."""

import dataclasses

import pytest

from results.ledger import Ledger
from search import folders, sweep
from search.errors import SpecError, SweepError, TaskError
from search.spec import SchedulerSettings
from tests.search import rig

DATA_TASK = """
import pathlib
from tests.search.fake_task import FakeTask

class OnSomeData(FakeTask):
    def data(self):
        return pathlib.Path(__file__).with_name("data.txt").read_text(), self.fingerprint()

    def fingerprint(self):
        return pathlib.Path(__file__).with_name("data.txt").read_text()[0] * 64
"""


def test_a_sweep_is_not_gone_on_with_nor_learnt_from_on_other_data(tmp_path):
    (tmp_path / "task.py").write_text(DATA_TASK)
    (tmp_path / "data.txt").write_text("jsb")
    given = dataclasses.replace(rig.spec(tmp_path, trials=4), task=f"{tmp_path}/task.py:OnSomeData")
    rig.run(given)
    (tmp_path / "data.txt").write_text("music21")
    more = dataclasses.replace(given, trials=8)
    with pytest.raises(TaskError, match=r"was trained on jsb \(jjj.*the task has music21 \(mmm.*bring back the data"):
        sweep.run(more, go_on=True)
    other = dataclasses.replace(given, name="other", warm_start=(folders.folder_of(given).uri,))
    with pytest.raises(SpecError, match=r"warm_start: .* was trained on jsb .*leave it out"):
        sweep.run(other)
    assert not folders.folder_of(other).exists(sweep.SPEC_FILE)
    assert Ledger(folders.folder_of(given)).last_session == 1


@pytest.mark.parametrize("settings", [{"scheduler": SchedulerSettings(kind="asha", brackets=9, first_rung=1)}])
def test_what_the_scheduler_refuses_leaves_nothing_behind(settings, tmp_path):
    given = dataclasses.replace(rig.spec(tmp_path, trials=2, epochs=4), **settings)
    with pytest.raises(SpecError, match="bracket"):
        sweep.run(given)
    assert not folders.folder_of(given).names()


@pytest.mark.parametrize("where", ["nowhere", "file:///nowhere/at/all"])
def test_a_sweep_that_is_not_there_is_told_with_those_that_are(where, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rig.run(rig.spec(tmp_path / "runs", name="here", trials=1))
    with pytest.raises(SweepError, match=rf"no sweep at '{where}'.*in runs there are: here"):
        folders.find(where)


def test_advice_names_a_sweep_elsewhere_by_its_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for storage, named in (("runs", "rig"), ("else", f"{tmp_path}/else/rig")):
        given = rig.spec(storage, trials=1)
        rig.run(given)
        with pytest.raises(SweepError, match=f"`search resume {named}` goes on with it, `search extend {named}` gives"):
            sweep.run(given)
        assert folders.find(named) == folders.folder_of(given)
