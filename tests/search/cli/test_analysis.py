import json

import pytest
from click.testing import CliRunner

from search.cli import main
from search.scheduler import SchedulerSettings
from search.simulation import Curve
from tests.search.recorded import sweep


@pytest.fixture
def runs(tmp_path):
    curves = [Curve(losses=tuple(float(t * 7 % 20) - 0.1 * e for e in range(9)), costs=2.0) for t in range(20)]
    sweep(tmp_path, curves, SchedulerSettings(kind="asha", max_epochs=9, audit_share=0.3))
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_replay_shows_what_happened_beside_what_if(runs):
    done = run("replay", "toy", "--storage", runs, "--scheduler", "hyperband", "--workers", 2)
    assert done.exit_code == 0, done.output
    assert "happened" in done.stdout
    assert "best score" in done.stdout
    assert "hyperband over 20 recorded trials of toy" in done.stderr


def test_replay_gives_json(runs):
    done = run("replay", runs / "toy", "--order", "random", "--orders", 3, "--reduction", 4, "--json")
    document = json.loads(done.stdout)
    assert document["scheduler"]["reduction"] == 4
    assert len(document["outcomes"]) == 3


def test_audit_lists_stops_and_says_how_often_they_were_wrong(runs):
    done = run("audit", "toy", "--storage", runs)
    assert done.exit_code == 0, done.output
    assert "the cutoff of" in done.stdout
    assert "audited trials ended as good as" in done.stdout
    document = json.loads(run("audit", runs / "toy", "--json").stdout)
    assert document["wrong"]["of"] == len(document["audited"]) > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["replay", "toy", "--reduction", "1"], "reduction: got 1.0, expected a finite number above 1"),
        (["replay", "toy", "--brackets", "9"], "brackets: got 9, expected at most 2"),
        (["replay", "toy", "--first-rung", "0"], "first_rung: got 0"),
        (["replay", "tyo"], "did you mean 'toy'"),
        (["replay", "toy", "--scheduler", "ahsa"], "ahsa"),
        (["audit", "toy", "--top", "0"], "0"),
        (["audit", "nothing"], "no sweep 'nothing'"),
    ],
)
def test_mistakes_end_in_a_sentence_and_status_2(runs, arguments, message):
    done = run(*arguments, "--storage", runs)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.output
