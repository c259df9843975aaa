"""The command line without a model: help, data, floors, measures, and mistakes that are told before Keras is loaded."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from bach.cli import main
from bach.cli.reference import reference
from bach.cli.terminal import Terminal, bar, duration, finite
from bach.corpus import SOURCES
from bach.formats import write_csv, write_midi

ROOT = Path(__file__).resolve().parents[2]
CHORDS = np.array([[72, 67, 60, 48], [74, 67, 59, 43], [76, 67, 60, 48], [72, 69, 60, 53], [71, 67, 62, 43]])


def bach(*arguments: object) -> Result:
    """Runs a command in this process; a traceback fails the test at once."""
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def strict_json(text: str):
    """JSON without NaN and Infinity."""

    def refuse(constant: str):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def chorale(seed: int, chords: int = 12) -> np.ndarray:
    return np.repeat(CHORDS[np.random.default_rng(seed).integers(0, len(CHORDS), chords)], 4, axis=0)


def write_folder(folder: Path, **counts: int) -> Path:
    seed = 0
    for split, count in counts.items():
        for number in range(count):
            write_csv(chorale(seed), folder / split / f"{number:03}.csv")
            seed += 1
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_folder(tmp_path_factory.mktemp("made up"), train=4, valid=2, test=2)


def every_command(group: click.Group = main, path: str = "bach") -> list[tuple[str, click.Command]]:
    found: list[tuple[str, click.Command]] = []
    for name, command in group.commands.items():
        found.append((f"{path} {name}", command))
        if isinstance(command, click.Group):
            found += every_command(command, f"{path} {name}")
    return found


@pytest.mark.parametrize(("path", "command"), every_command())
def test_help_is_a_sentence_and_lines_to_paste(path, command):
    result = bach(*path.split()[1:], "--help")
    assert result.exit_code == 0
    assert command.help.splitlines()[0].endswith(".")
    assert command.examples
    for example in command.examples:
        assert example.startswith(path)
        assert f"    {example}\n" in result.output
        assert "--help" in result.output


def test_the_reference_of_commands_is_current():
    told = "docs/cli.md is out of date: python -m bach.cli.reference > docs/cli.md"
    assert (ROOT / "docs" / "cli.md").read_text("utf-8") == reference(), told


def test_presets_are_listed_with_name_family_and_parameters():
    listed = strict_json(bach("presets", "--json").stdout)
    by_name = {preset["name"]: preset for preset in listed}
    assert by_name["seed-conv-lstm"]["parameters"] == 396_810
    assert by_name["seed-transformer"]["family"] == "transformer"
    assert {"small", "best"} <= set(by_name)
    text = bach("presets").stdout
    assert all(name in text for name in by_name)


def test_help_presets_and_mistakes_load_neither_keras_nor_music_libraries():
    code = """
import sys
from bach.cli import main
for words in (["--help"], ["presets"], ["train", "--out", "x", "--preset", "smal"], ["generate", "--hott"]):
    try:
        main(words)
    except SystemExit:
        pass
slow = {"keras", "tensorflow", "jax", "music21", "matplotlib", "verovio", "scipy"} & set(sys.modules)
assert not slow, slow
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


# --- data -------------------------------------------------------------------------------------------------------------


def test_good_data_is_passed_in_silence(data):
    result = bach("data", "check", "--data", data)
    assert (result.exit_code, result.output) == (0, "")


def test_a_voice_that_never_sings_is_printed_and_ends_with_1(data, tmp_path):
    folder = write_folder(tmp_path / "d", train=2, valid=1, test=1)
    silent = chorale(9)
    silent[:, 2] = 0
    write_csv(silent, folder / "train" / "silent.csv")
    result = bach("data", "check", "--data", folder)
    assert result.exit_code == 1
    assert "train/silent: the tenor never sings" in result.stdout
    findings = bach("data", "check", "--data", folder, "--json")
    assert findings.exit_code == 1
    assert [finding["kind"] for finding in strict_json(findings.stdout)] == ["silent_voice"]


def test_a_cell_that_is_no_pitch_is_named_with_file_and_line(data, tmp_path):
    folder = write_folder(tmp_path / "d", train=2, valid=1, test=1)
    (folder / "valid" / "000.csv").write_text("note0,note1,note2,note3\n72,67,60,48\n82,67,60,48\n")
    result = bach("data", "check", "--data", folder)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "000.csv, line 3, column 1: '82' is no pitch" in result.stderr
    assert "Traceback" not in result.stderr


def test_data_that_is_neither_source_nor_path_offers_the_nearest_source():
    result = bach("data", "show", "--data", "musik21")
    assert result.exit_code == 2
    assert f"did you mean '{SOURCES[0]}'?" in result.stderr


@pytest.mark.parametrize("words", [["data"], ["data", "show"]])
def test_data_is_shown_with_counts_ranges_duplicates_and_fingerprint(words, data):
    text = bach(*words, "--data", data).stdout
    shown = strict_json(bach(*words, "--data", data, "--json").stdout)
    assert shown["splits"]["all"]["num_chorales"] == 8
    assert shown["splits"]["train"]["voices"][0] == {"voice": "soprano", "lowest": 71, "highest": 76, "silence": 0.0}
    assert shown["fingerprint"] in text
    assert "71..76" in text
    assert "near-duplicates across splits" in text
    assert isinstance(shown["near_duplicates"], list)


def test_a_piece_in_two_splits_is_shown_with_its_transposition(tmp_path):
    folder = write_folder(tmp_path / "d", train=2, valid=1, test=1)
    write_csv(chorale(0) + 2, folder / "valid" / "again.csv")
    result = bach("data", "--data", folder)
    row = next(line for line in result.stdout.splitlines() if "valid/again" in line)
    assert row.split()[:3] == ["train/000", "valid/again", "+2"]


def test_options_before_a_subcommand_of_data_are_not_dropped_in_silence(data):
    result = bach("data", "--data", data, "check")
    assert result.exit_code == 2
    assert "behind the command" in result.stderr


def test_another_archive_is_not_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("BACH_CACHE", str(tmp_path / "cache"))
    wrong = tmp_path / "jsb.tgz"
    wrong.write_bytes(b"something else")
    result = bach("data", "fetch", "jsb", "--from", wrong)
    assert result.exit_code == 2
    assert "not the canonical archive" in result.stderr
    assert not list(tmp_path.glob("cache/*"))


def test_data_is_drawn(data, tmp_path):
    result = bach("data", "plot", "--data", data, "--out", tmp_path / "all.png")
    assert result.stdout == f"{tmp_path / 'all.png'}\n"
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")


# --- scores of floors -------------------------------------------------------------------------------------------------


def test_the_counting_floor_is_scored_by_both_protocols(data):
    result = bach("score", "--floor", "counting", "--data", data)
    assert result.exit_code == 0
    for word in (
        "whole pieces",
        "windows of 33 steps",
        "nats",
        "bits",
        "mean of pieces",
        "soprano",
        "on beat",
        "changed",
    ):
        assert word in result.stdout
    assert "test split" not in result.stderr


def test_scores_of_one_protocol_are_json_without_infinities(data):
    result = bach("score", "--floor", "repeat", "--data", data, "--protocol", "pieces", "--json")
    scores = strict_json(result.stdout)
    assert scores["val_nll"] is None  # repeating is certain, and wrong
    assert 0 < scores["val_accuracy"] < 1
    assert "windows" not in scores
    assert scores["model"]["floor"] == "repeat"


def test_opening_the_test_split_says_what_it_costs(data):
    result = bach("score", "--floor", "repeat", "--data", data, "--split", "test", "--by-piece")
    assert result.exit_code == 0
    assert "choose on valid" in result.stderr
    assert "test/001" in result.stdout


def test_a_floor_and_a_model_are_not_scored_at_once(data):
    result = bach("score", "--floor", "repeat", "--model", "x", "--data", data)
    assert result.exit_code == 2


# --- measures ---------------------------------------------------------------------------------------------------------


def test_music_files_are_measured_beside_bach(data, tmp_path):
    files = [write_midi(chorale(1), tmp_path / "a.mid"), write_csv(chorale(20), tmp_path / "b.csv")]
    table = bach("measure", *files, "--data", data).stdout.splitlines()
    assert table[0].split()[:5] == ["measure", "a.mid", "b.csv", "all", "2"]
    assert any(line.startswith("parallel_fifths") for line in table)
    found = strict_json(bach("measure", *files, "--data", data, "--json").stdout)
    assert found["files"][str(files[0])]["steps"] == 48
    assert found["files"][str(files[0])]["longest_copied_run"] == 47  # it is in train
    assert found["together"]["chorales"] == 2
    assert found["bach"]["split"] == "test"


def test_a_split_is_measured_alone(data):
    found = strict_json(bach("measure", "--data", data, "--split", "valid", "--json").stdout)
    assert found["files"] == {}
    assert found["bach"]["measures"]["chorales"] == 2


def test_a_file_that_is_no_music_is_refused(tmp_path, data):
    text = tmp_path / "notes.txt"
    text.write_text("la la")
    result = bach("measure", text, "--data", data)
    assert result.exit_code == 2
    assert "notes.txt" in result.stderr


# --- mistakes that are told at once -----------------------------------------------------------------------------------

MISTAKES = {
    "unknown preset": (["train", "--preset", "smal"], "did you mean 'small'?"),
    "unknown family": (["train", "--family", "conv_lstn"], "did you mean 'conv_lstm'?"),
    "preset and family": (["train", "--preset", "small", "--family", "conv_lstm"], "one of the two"),
    "no assignment": (["train", "--set", "train.batch_size"], "expected name=value"),
    "no epochs": (["train", "--epochs", "0"], "--epochs"),
    "nothing to go on with": (["train", "--resume"], "no training run in"),
    "temperature 0": (["generate", "--temperature", "0"], "finite number above 0"),
    "temperature below 0": (["generate", "--temperature", "-1"], "finite number above 0"),
    "temperature NaN": (["generate", "--temperature", "nan"], "finite number above 0"),
    "temperature infinite": (["generate", "--temperature", "inf"], "finite number above 0"),
    "two temperatures": (["generate", "--temperature", "1", "--hot"], "not both"),
    "negative steps": (["generate", "--steps", "-4"], "--steps"),
    "top p of 0": (["generate", "--top-p", "0"], "--top-p"),
    "no chorale": (["generate", "--count", "0"], "--count"),
    "negative seed": (["generate", "--seed", "-1"], "--seed"),
    "tempo NaN": (["generate", "--tempo", "nan"], "tempo"),
    "unknown format": (["generate", "--formats", "midi,mp3"], "unknown format 'mp3'"),
    "unknown voice": (["generate", "--fix", "sopran", "--prompt", "x.mid"], "did you mean 'soprano'?"),
    "voices of nothing": (["generate", "--fix", "soprano"], "name one with --prompt"),
    "missing prompt file": (["generate", "--prompt", "no-such.mid"], "no-such.mid"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_a_sentence(mistake, tmp_path):
    words, told = MISTAKES[mistake]
    result = bach(*words, "--out", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr
    assert not list(tmp_path.glob("out/*"))


def test_a_folder_with_a_run_is_not_written_over(tmp_path):
    (tmp_path / "checkpoint.json").write_text("{}")
    result = bach("train", "--out", tmp_path)
    assert result.exit_code == 2
    assert "holds a training run already; go on with --resume" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.json"]


@pytest.mark.parametrize("content", ["", "[]", '{"preset": "small"}', "{"])
def test_a_damaged_record_of_a_run_is_told(content, tmp_path):
    (tmp_path / "run.json").write_text(content)
    result = bach("train", "--out", tmp_path, "--resume")
    assert result.exit_code == 2
    assert "run.json: cannot be read" in result.stderr


def test_an_unknown_id_of_a_prompt_offers_the_nearest(data, tmp_path):
    result = bach("generate", "--out", tmp_path, "--prompt", "test/0011", "--data", data)
    assert result.exit_code == 2
    assert "did you mean 'test/001'?" in result.stderr


def test_a_prompt_longer_than_the_chorale_is_refused(data, tmp_path):
    words = ["generate", "--out", tmp_path, "--prompt", "test/001", "--data", data]
    too_long = bach(*words, "--prompt-steps", "40", "--steps", "16")
    assert too_long.exit_code == 2
    assert "longer than the chorale of 16" in too_long.stderr
    too_much = bach(*words, "--prompt-steps", "49")
    assert too_much.exit_code == 2
    assert "the prompt has only 48" in too_much.stderr


@pytest.mark.parametrize("content", ["", "note0\n", "0\n0\n0\n", "60\n60.5\n"])
def test_a_melody_without_notes_or_with_half_a_note_is_refused(content, tmp_path):
    melody = tmp_path / "melody.csv"
    melody.write_text(content)
    result = bach("harmonise", melody, "--out", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "melody.csv" in result.stderr


def test_a_place_that_cannot_be_written_is_told_before_anything_is_loaded(data, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for words in (["generate"], ["train", "--data", data], ["harmonise", data / "test" / "000.csv"]):
        result = bach(*words, "--out", tmp_path / "file" / "out")
        assert result.exit_code == 2
        assert f"cannot write {tmp_path / 'file' / 'out'}: Not a directory" in result.stderr


def test_a_full_disk_is_told_and_leaves_nothing(data, tmp_path, monkeypatch):
    def full(handle: int, mode: str):
        os.close(handle)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bach.formats.files.os.fdopen", full)
    result = bach("data", "plot", "--data", data, "--out", tmp_path / "x.png")
    assert result.exit_code == 2
    assert "there is no room" in result.stderr
    assert list(tmp_path.iterdir()) == []


# --- backends ---------------------------------------------------------------------------------------------------------


def test_a_backend_that_is_none_of_ours_is_refused(data, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    result = bach("generate", "--out", tmp_path)
    assert result.exit_code == 2
    assert "KERAS_BACKEND: got 'torch', expected tensorflow or jax" in result.stderr


def test_a_backend_that_is_not_installed_is_told_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("bach.cli.keras_start.importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    result = bach("generate", "--out", tmp_path)
    assert result.exit_code == 2
    assert "'tensorflow' is not installed; install it: pip install 'chorale-search[cpu]'" in result.stderr
    monkeypatch.delenv("KERAS_BACKEND")
    assert "none is installed" in bach("generate", "--out", tmp_path).stderr


# --- stopped, and nowhere to print to ---------------------------------------------------------------------------------


def test_ctrl_c_ends_with_130_and_without_a_traceback(data, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("bach.corpus.load", stopped)
    result = bach("data", "show", "--data", data)
    assert result.exit_code == 130
    assert result.stderr.strip() == "Stopped."


def run(*words: object, **options) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bach.cli", *map(str, words)]
    return subprocess.Popen(command, cwd=ROOT, text=True, stderr=subprocess.PIPE, **options)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_told():
    with open("/dev/full", "w") as full:
        process = run("presets", stdout=full)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors.strip() == "Error: cannot read or write: No space left on device"


def test_a_reader_that_stops_reading_gets_no_traceback():
    reading, writing = os.pipe()
    os.close(reading)
    process = run("presets", "--json", stdout=writing)
    os.close(writing)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert errors == ""


# --- the terminal -----------------------------------------------------------------------------------------------------


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_progress_on_a_terminal_is_one_line_that_goes_away():
    screen, clock = Screen(), Clock()
    terminal = Terminal(err=screen, clock=clock)
    clock.now = 1.0
    terminal.status("a long line")
    terminal.status("too soon")
    clock.now = 2.0
    terminal.status("short")
    terminal.note("done")
    assert screen.getvalue() == "\ra long line" + "\rshort      " + "\r     \r" + "done\n"


def test_progress_elsewhere_is_a_plain_line_now_and_then():
    stream, clock = io.StringIO(), Clock()
    terminal = Terminal(err=stream, clock=clock)
    for clock.now in range(25):
        terminal.progress("read", int(clock.now), 25)
    assert stream.getvalue().splitlines() == [
        "read [########............]  40% 10/25",
        "read [################....]  80% 20/25",
    ]


def test_bars_times_and_numbers_read_well():
    assert bar(0.5) == "[##########..........]  50%"
    assert bar(7) == "[####################] 100%"
    assert [duration(s) for s in (0.25, 9.97, 89, 100, 7500)] == ["0.2 s", "10 s", "89 s", "2 min", "2 h 05 min"]
    assert finite({"a": [float("nan"), 1.5, (float("inf"), "x")]}) == {"a": [None, 1.5, [None, "x"]]}
