"""The page for everybody: colours that can be told apart, charts that are described, few bytes."""

import itertools
import json
import os
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

import results
from results import report
from results.report import attachments
from tests.results import decided, ledgers
from tests.results.pages import Parsed, page_of

CSS = files("results.report").joinpath("page.css").read_text("utf-8")
MODES: dict[str, str] = dict(zip(("light", "dark", "print"), re.findall(r":root \{(.*?)\}", CSS, re.S), strict=True))
TEXT, MARK = 4.5, 3.0
"""Least contrast of text and of marks, by WCAG 2.2, levels AA 1.4.3 and 1.4.11."""


def colours(mode: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+)", MODES[mode]))


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_is_as_the_standard_computes_it():
    assert contrast("#000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#fff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("mode", list(MODES))
def test_text_can_be_read_on_whatever_it_stands(mode):
    known = colours(mode)
    pairs = itertools.product(("ink", "soft", "accent", "bad"), ("paper", "card", "accent-soft", "hair"))
    poor = {pair: contrast(known[pair[0]], known[pair[1]]) for pair in pairs}
    assert {pair: ratio for pair, ratio in poor.items() if ratio < TEXT} == {}


@pytest.mark.parametrize("mode", list(MODES))
def test_marks_of_charts_can_be_seen(mode):
    known = colours(mode)
    pairs = itertools.product(("good", "blue", "warm", "bad", "grey", "plum", "sand", "accent"), ("paper", "card"))
    poor = {pair: contrast(known[pair[0]], known[pair[1]]) for pair in pairs}
    assert {pair: ratio for pair, ratio in poor.items() if ratio < MARK} == {}


def test_no_text_has_a_colour_that_was_not_checked():
    text = set(re.findall(r"(?<![-\w])color: var\(--([a-z-]+)\)", CSS))
    assert text == {"ink", "soft", "accent", "bad", "paper"}, "paper is the text of the tip, on ink"


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Parsed:
    storage = decided.decided(tmp_path_factory.mktemp("decided"), files={"seconds": 0.2})
    return page_of(storage)


def test_every_chart_has_a_name_a_description_and_its_section_a_table(page):
    charts = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert len(charts) > 8
    assert all(chart["role"] == "img" and chart["tabindex"] == "0" and chart["aria-label"] for chart in charts)
    assert {chart["aria-describedby"] for chart in charts} <= set(page.ids)
    section, tables, drawn = "", set(), set()
    for tag, attributes in page.elements:
        section = attributes["id"] if tag == "section" else section
        tables |= {section} if tag == "table" else set()
        drawn |= {section} if tag == "svg" else set()
    assert {"leaderboard", "learning", "parameters", "pareto", "time"} == drawn <= tables


def test_everything_that_sounds_or_shows_has_a_name(page):
    assert all(sound["aria-label"] for sound in page.all("audio"))
    assert all(picture["alt"] for picture in page.all("img"))
    headings = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert headings.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(headings)), "no level is left out"


def test_a_thousand_trials_are_small_and_the_best_stay_single_marks(tmp_path):
    storage = ledgers.plain(tmp_path, "many", 1000, 12)
    text = report.page(results.open(storage.uri))
    assert len(text.encode()) < 1_500_000
    best = results.open(storage.uri).trials().nsmallest(20, "val_nll")["trial"]
    for trial in best:
        assert text.count(f'data-id="many/{trial}"') >= 5, "a row, its curve, its line, its dots"


@pytest.mark.slow
def test_two_hundred_trials_stay_below_ten_megabytes_even_if_their_samples_take_all_room_there_is(tmp_path):
    sweep = decided.Decided(tmp_path)
    for number in range(200):
        sweep.trial(number, "completed" if number % 3 else "stopped", epochs=12 if number % 3 else 3)
    for trial in range(5):
        for seed in range(3):
            final = sweep.final(trial, 0.80 + 0.01 * seed + 0.001 * trial)
            for number in range(0 if seed else 10):
                sweep.sample(final, f"{number}", kind="free" if number % 2 else "harmony", files={"seconds": 0.5})
    sweep.flush()
    text = report.page(results.open(sweep.storage.uri))
    found = Parsed(text)
    assert len(found.all("article")) == len(found.all("audio")) == 50
    inside = [each for name in ("src", "data-packed") for _, attributes in found.elements
              if (each := attributes.get(name)) and len(each) > 40]  # fmt: skip
    assert len(inside) >= 150
    rest = len(text.encode()) - sum(map(len, inside))
    assert rest + sum(attachments.ROOM.values()) < 9_800_000


@pytest.mark.slow
def test_the_benchmark_of_the_page_runs():
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, str(root / "benchmarks" / "bench_page.py"), "--tiny", "--json"]
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert row["trials"] == 30
    assert 0 < row["megabytes"] < 1
