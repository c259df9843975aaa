import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from results.cli.commands import Command, Commands
from results.cli.reference import reference as commands_of
from search.cli import COMMANDS, main
from search.cli.reference import with_key_tables

ROOT = Path(__file__).resolve().parents[3]
FAKE = ROOT / "tests" / "search" / "fake_task.py"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(
        f'[sweep]\ntask = "{FAKE}:FakeTask"\nobjectives = ["loss min"]\ntrials = 6\nepochs = 9\n'
        f'storage = "{tmp_path}/runs"\n[space]\nkind = "wide"\n[[points]]\npreset = "good"\n'
    )
    return path


def search(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="search")


def test_plan_tells_people_what_would_run(file):
    told = search("plan", file)
    assert told.exit_code == 0, told.output
    for part in (
        "Sweep small:",
        "6 trials",
        "judges after epochs 1, 3",
        "unknown: no earlier sweep",
        "point:good: rate 0.01",
    ):
        assert part in told.stdout
    assert "Space: 2 of 3 parameters vary" in told.stdout


def test_plan_tells_machines(file):
    plan = json.loads(search("plan", file, "--json", "--proposals", 2).stdout)
    assert plan["spec"]["sweep"]["trials"] == 6
    assert plan["configurations"] is None, "infinite"
    assert [proposal["trial"] for proposal in plan["proposals"]] == [0, 1, 2]
    assert plan["forecast"]["epochs_most"] == 54


def test_a_bad_file_is_the_callers_mistake(file):
    file.write_text(file.read_text().replace("trials = 6", "trails = 6\nseed = -1"))
    told = search("plan", file)
    assert told.exit_code == 2
    assert told.stdout == ""
    assert "did you mean 'trials'" in told.stderr
    assert "no budget" in told.stderr
    assert "Traceback" not in told.stderr


def test_doctor_ends_with_1_on_a_problem(file, tmp_path):
    assert search("doctor", file).exit_code == 0
    file.write_text(file.read_text().replace("FakeTask", "RaisesInSpace"))
    told = search("doctor", file, "--json")
    assert told.exit_code == 1
    assert [c["name"] for c in json.loads(told.stdout) if c["state"] == "problem"] == ["task"]
    told = search("doctor", file)
    assert "PROBLEM  task" in told.stdout
    assert "-> mend the task" in told.stdout


def test_doctor_needs_a_file_to_look_at_nodes():
    told = search("doctor", "--address", "auto")
    assert told.exit_code == 2
    assert "--address needs a FILE" in told.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_and_a_line_to_paste(name):
    command = main.commands[name]
    assert isinstance(command, Command | Commands)
    assert command.help
    assert command.name == name
    assert all(example.startswith(f"search {name}") for example in command.examples)
    assert command.examples


def test_the_references_are_up_to_date():
    told = "out of date: python -m search.cli.reference > docs/cli-search.md"
    assert (ROOT / "docs" / "cli-search.md").read_text("utf-8") == commands_of(main, "search"), told
    sweeps = (ROOT / "docs" / "sweeps.md").read_text("utf-8")
    assert sweeps == with_key_tables(sweeps), "out of date: python -m search.cli.reference docs/sweeps.md"


def test_the_reference_of_results_is_up_to_date():
    from results.cli import main as results

    told = "out of date: python -m results.cli.reference > docs/cli-results.md"
    assert (ROOT / "docs" / "cli-results.md").read_text("utf-8") == commands_of(results, "results"), told
