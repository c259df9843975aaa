"""The page: it holds together without anything else, escapes what it is given, and copes with whatever a sweep left."""

import json
import math
import re

import pytest
from click.testing import CliRunner

import results
from results import report
from results.cli import main
from results.errors import CallerError
from results.report import advice, costs, facts, markup, scales
from results.storage import Storage
from tests.results import decided, ledgers
from tests.results.pages import Parsed, page_of

NASTY = "<script>alert('1')</script>&\"\x00\ud800"
SECTIONS = ("leaderboard", "samples", "learning", "parameters", "pareto", "time", "failures", "stops", "next")
LOADING = {"src", "href", "xlink:href", "data", "poster", "srcset", "action", "formaction"}


@pytest.fixture(scope="module")
def rich(tmp_path_factory) -> Storage:
    """A sweep in which everything has happened, with a bundle and the files of its samples."""
    storage = ledgers.laptop(tmp_path_factory.mktemp("rich"))
    for number in range(3):
        storage.write(f"samples/{number}.wav", decided.sound())
        storage.write(f"samples/{number}.svg", b'<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>')
        storage.write(f"samples/{number}.png", b"\x89PNG")
        storage.write(f"samples/{number}.mid", b"MThd")
    card = {"final": 1, "how_to_load": "load()", "limits": "- It is a toy.\n  Really.",
            "floors": {"counting": {"test_nll": 1.5}}}  # fmt: skip
    storage.write("bundle/card.json", json.dumps(card).encode())
    return storage


@pytest.fixture(scope="module")
def rich_page(rich) -> Parsed:
    return page_of(rich)


def test_a_rich_sweep_has_every_section_and_each_is_reached_from_the_top(rich_page):
    assert set(SECTIONS) <= set(rich_page.ids)
    assert {link["href"][1:] for link in rich_page.all("a") if link["href"].startswith("#")} <= set(rich_page.ids)
    assert len(rich_page.ids) == len(set(rich_page.ids))


def test_the_decision_and_its_reasons_come_first(rich_page):
    start = rich_page.text[:900]
    assert "The model of trial 1 is chosen" in start
    assert "configurations trained anew" in start
    assert "no interval can be given" in start, "one seed each"
    assert "opened 2 times" in start


def test_nothing_is_loaded_from_anywhere(rich, rich_page):
    for tag, attributes in rich_page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        for name in LOADING & set(attributes):
            assert attributes[name].startswith(("#", "data:")), (tag, name, attributes[name][:80])
    text = report.page(results.open(rich.uri))
    styles = re.findall(r"<style>(.*?)</style>", text, re.S)
    assert "url(" not in "".join(styles)
    assert "@import" not in "".join(styles)
    (policy,) = [meta["content"] for meta in rich_page.all("meta") if "content" in meta and "src" in meta["content"]]
    assert policy.startswith("default-src 'none'")


def test_scores_stand_beside_models_that_need_no_training(rich_page):
    assert "counting" in rich_page.text
    assert "It is a toy. Really." in rich_page.text


def test_what_a_trial_is_lights_up_in_rows_and_charts(rich_page):
    marked = [tag for tag, attributes in rich_page.elements if attributes.get("data-id") == "laptop/3"]
    assert {"tr", "g", "path", "circle", "rect"} <= set(marked)


def test_a_name_that_is_a_script_is_shown_and_not_run(tmp_path):
    sweep = ledgers.Sweep(tmp_path)
    for number in range(12):
        sweep.trial(number, values=sweep.values() | {"model.family": NASTY if number % 2 else "plain"})
    config = sweep.propose(12)
    sweep.begin(12)
    sweep.end(12, "failed", 0, kind="error", reason=NASTY.replace("\ud800", ""))
    sweep.finish(12, "failed", config, {}, kind="error", reason=NASTY.replace("\ud800", ""))
    sweep.add("finals", final=0, trial=1, seed=1, state="completed", chosen=True, model="", data="music21",
              data_fingerprint="f" * 64, val_nll=1.0)  # fmt: skip
    sweep.add("samples", sample=0, final=0, name=NASTY.replace("\ud800", ""), path="../../../etc/passwd")
    sweep.flush()
    found = page_of(sweep.storage)
    assert len(found.all("script")) == 1
    assert "<script>alert" in found.text
    assert "\x00" not in found.text
    assert "root:" not in found.text


def test_text_that_utf8_cannot_hold_is_replaced():
    assert markup.element("p", NASTY, title=NASTY).encode()
    assert "<script>" not in markup.element("p", NASTY, title=NASTY)


@pytest.mark.parametrize(
    ("value", "digits", "told"),
    [(9393.4, 3, "9\u2009393"), (0.12345, 3, "0.123"), (-1234.5, 4, "\u22121234"), (12345.6, 4, "12\u2009346"),
     (9999.7, 4, "10\u2009000"), (1e-7, 4, "1e\u221207")],
)  # fmt: skip
def test_numbers_are_written_as_people_read_them(value, digits, told):
    assert markup.number(value, digits) == told


def test_an_empty_sweep_says_so(tmp_path):
    sweep = ledgers.Sweep(tmp_path)
    sweep.flush()
    found = page_of(sweep.storage)
    assert "Nothing has been tried yet" in found.text
    assert set(SECTIONS) & set(found.ids) == set()


def test_a_sweep_whose_trials_all_failed_says_why(tmp_path):
    sweep = ledgers.Sweep(tmp_path)
    for number in range(4):
        config = sweep.propose(number)
        sweep.begin(number)
        sweep.end(number, "failed", 0, kind="build", reason="no such layer")
        sweep.finish(number, "failed", config, {}, kind="build", reason="no such layer")
    sweep.flush()
    found = page_of(sweep.storage)
    assert "All 4 trials failed" in found.text
    assert "no such layer" in found.text


@pytest.mark.parametrize("trials", [1, 2, 3])
def test_few_trials_are_enough_for_a_page(tmp_path, trials):
    storage = ledgers.plain(tmp_path, "few", trials, 4)
    assert "No model has been chosen yet" in page_of(storage).text


def test_several_sweeps_share_a_page(rich, tmp_path):
    found = page_of(rich, ledgers.plain(tmp_path, "families", 12, 6, seed=3))
    assert "Sweeps laptop, families" in found.text
    assert "families/0" in found.text


def test_sweeps_on_different_data_are_not_ranked_together(rich, tmp_path):
    other = ledgers.plain(tmp_path, "families", 4, 6, data=("jsb", "a" * 64))
    with pytest.raises(CallerError, match=r"different data.*laptop: music21.*families: jsb"):
        page_of(rich, other)


def test_a_better_trial_that_was_not_trained_anew_is_named(tmp_path):
    sweep = ledgers.Sweep(tmp_path)
    for number in range(4):
        sweep.trial(number)
    sweep.flush()
    gathered = facts.gather(results.open(sweep.storage.uri))
    best, second = gathered.ranked[0]["trial"], gathered.ranked[1]["trial"]
    sweep.add("finals", final=0, trial=second, seed=1, state="completed", chosen=True, model="", data="music21",
              data_fingerprint="f" * 64, val_nll=1.0)  # fmt: skip
    sweep.flush()
    assert f"laptop/{best} had a better val_nll" in page_of(sweep.storage).text


def test_attempts_that_ran_beside_each_other_have_lanes_of_their_own(rich):
    stretches = costs.stretches(facts.gather(results.open(rich.uri)))
    by_lane = {}
    for each in sorted(stretches, key=lambda stretch: stretch.begin):
        assert by_lane.get(each.lane, each.begin).timestamp() <= each.begin.timestamp() + 0.1
        by_lane[each.lane] = each.end


def test_values_at_the_edge_of_a_range_are_pointed_at(tmp_path):
    sweep = ledgers.Sweep(tmp_path)
    for number in range(20):
        # The nearer to 1e-3 the better; the range ends there.
        values = {"model.family": "transformer", "train.learning_rate": 10 ** (-3 + 2 * (number / 19) ** 2)}
        sweep.trial(number, values=values)
    sweep.flush()
    settings = {"space": {"train.learning_rate": {"low": 1e-3, "high": 1e-1, "scale": "log"}}}
    sweep.storage.write("sweep.json", json.dumps(settings).encode())
    found = dict(advice.advice(facts.gather(results.open(sweep.storage.uri))))
    assert any(what.startswith("Try smaller values of train.learning_rate") for what in found), found


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2, 3], "steps"), ([True, False], "steps"), (["a", None], "steps"), ([], "steps"), ([math.nan], "steps"),
        ([i / 10 for i in range(20)], "linear"), ([10.0**-i for i in range(9)], "log"),
    ],
)  # fmt: skip
def test_a_scale_has_room_for_all_its_values(values, kind):
    axis = scales.scale(values)
    assert axis.kind == kind
    assert all(0 <= place <= 1 for place, _ in axis.ticks)
    places = [place for place in map(axis.at, values) if place is not None]
    assert all(0 <= place <= 1 for place in places)
    assert len(places) == sum(value is not None and value == value for value in values)


def test_the_command_writes_into_the_sweeps_folder_or_where_it_is_told(tmp_path):
    storage = ledgers.laptop(tmp_path)
    ledgers.plain(tmp_path, "families", 4, 4)
    done = CliRunner().invoke(main, ["report", "laptop", "--storage", str(tmp_path)])
    assert (done.exit_code, done.stdout.strip()) == (0, storage.where("report.html"))
    assert storage.read("report.html").startswith(b"<!doctype html>")
    out = tmp_path / "sub" / "both.html"
    done = CliRunner().invoke(main, ["report", "laptop", "families", "--storage", str(tmp_path), "--out", str(out)])
    assert (done.exit_code, done.stdout.strip()) == (0, str(out))
    assert out.exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [(["report", "nowhere"], "no sweep 'nowhere'"), (["report", "laptop", "--out", "a.pdf"], ".html")],
)
def test_mistakes_end_in_a_sentence(tmp_path, words, told):
    ledgers.plain(tmp_path, "laptop", 2, 2)
    done = CliRunner().invoke(main, [*words, "--storage", str(tmp_path)])
    assert done.exit_code == 2
    assert told in done.output
    assert not (tmp_path / "laptop" / "report.html").exists()


def test_settings_and_a_card_that_make_no_sense_are_no_obstacle(tmp_path):
    storage = ledgers.laptop(tmp_path)
    storage.write("sweep.json", b'{"sweep": 3, "space": [], "final": {"rule": 5}}')
    storage.write("bundle/card.json", b'{"final": 1, "floors": [1], "references": {"x": 2}, "limits": 7}')
    assert "The model of trial 1 is chosen" in page_of(storage).text
