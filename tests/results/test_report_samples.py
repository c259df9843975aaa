"""Samples on the page: of all models that may be the best, beside each other, with what lies outside of the usual."""

import base64
import gzip
import io
import json

import numpy as np
import pytest

import results
from results import report
from results.report import attachments, facts, makers, samples, sounds
from results.storage import Storage
from tests.results import decided
from tests.results.pages import Parsed, page_of

HARMLESS = "<script>window.ran = 1</script>"


@pytest.fixture(scope="module")
def storage(tmp_path_factory) -> Storage:
    return decided.decided(tmp_path_factory.mktemp("decided"), files={"seconds": 1.0})


@pytest.fixture(scope="module")
def gathered(storage) -> facts.Facts:
    return facts.gather(results.open(storage.uri))


@pytest.fixture(scope="module")
def page(storage) -> Parsed:
    return page_of(storage)


def articles(storage: Storage) -> list[str]:
    """The text of each sample on the page."""
    text = report.page(results.open(storage.uri))
    return [Parsed(part.split("</article>")[0]).text for part in text.split("<article")[1:]]


def test_the_chosen_models_samples_come_first_and_those_of_tied_ones_follow(gathered):
    assert [(each.name, each.badge, len(each.samples)) for each in makers.makers(gathered)] == [
        ("laptop/0", "chosen", 5),
        ("laptop/1", "", 5),
    ]


def test_samples_of_the_model_that_is_shipped_come_first(tmp_path):
    sweep = decided.begun(tmp_path)
    sweep.sample(10, "cold", kind="free", path="bundle/samples/cold.mid")  # trained on train and valid
    sweep.flush()
    sweep.storage.write("bundle/card.json", b'{"final": 0, "shipped": 10}')
    found = makers.makers(facts.gather(results.open(sweep.storage.uri)))
    assert {each.name: each.badge for each in found[:2]} == {
        "laptop/0": "chosen",
        "laptop/0 of train and valid": "shipped",
    }
    assert "In the bundle lies final 10" in page_of(sweep.storage).text


def test_a_model_that_has_been_ruled_out_shows_no_samples(tmp_path):
    sweep = decided.begun(tmp_path)
    sweep.sample(6, "cold", kind="free")  # of trial 2, which is far behind
    sweep.flush()
    found = makers.makers(facts.gather(results.open(sweep.storage.uri)))
    assert {each.name for each in found} == {"laptop/0", "laptop/1"}


def test_samples_stand_under_their_kind_and_an_original_beside_what_was_made_from_it(page):
    places = [page.text.index(title) for title in ("Made from nothing", "Gone on from a beginning", "Completed")]
    assert places == sorted(places)
    completed = page.text[places[-1] :]
    assert completed.index("harmony-bwv1") < completed.index("original-bwv1") < completed.index("harmony-bwv2")
    assert "For comparison" not in page.text


def test_models_are_named_by_their_trial_with_score_and_cost(page):
    table = page.text[page.text.index("cannot be told apart") :][:400]
    assert "laptop/0 chosen0.82" in table
    assert "notes_per_s" in table
    assert "1\u2009050" in table, "notes per second of trial 1"


def test_a_sample_outside_of_the_limits_is_marked_with_the_reason(storage, page):
    marked = [text for text in articles(storage) if "copies the training set" in text]
    assert len(marked) == 1
    assert "laptop/1" in marked[0]
    assert "copied 31, above 24" in marked[0]
    assert "1 of 8 samples is marked: copies the training set." in page.text
    assert "31 ▲" in page.text, "in the table of measures, too"


def test_an_original_is_not_marked(gathered):
    rows = [row for row in gathered.tables["samples"] if row["kind"] == "original"]
    assert [row["copied"] for row in rows] == [200, 200]
    assert [makers.outside(gathered, row) for row in rows] == [[], []]


@pytest.mark.parametrize(
    ("low", "high", "value", "beyond"),
    [(1, 2, 0.5, 1), (1, 2, 1, None), (1, 2, 2, None), (1, 2, 3, 2), (None, 2, -9, None), (None, "x", 3, None)],
)
def test_limits_are_the_last_values_within(tmp_path, low, high, value, beyond):
    storage = decided.decided(tmp_path)
    limits = {"fifths": {"low": low, "high": high, "text": "odd"}, "copied": 3}
    storage.write("bundle/card.json", json.dumps({"final": 0, "sample_limits": limits}).encode())
    found = makers.outside(
        facts.gather(results.open(storage.uri)), {"sweep": "laptop", "fifths": value, "kind": "free"}
    )
    assert [each.limit for each in found] == ([] if beyond is None else [beyond])


def test_measures_stand_beside_those_of_people(page):
    header = page.text[page.text.index("Measures: Made from nothing") :][:120]
    assert header.index("Bach, test") < header.index("cold")


def test_sound_pictures_and_small_files_are_inside(page):
    assert {sound["src"][:23] for sound in page.all("audio")} == {"data:audio/mpeg;base64,"}
    assert len(page.all("audio")) == 10
    pictures = page.all("img")
    assert sorted(picture.get("src", picture.get("data-type"))[:14] for picture in pictures) == sorted(
        ["data:image/png", "image/svg+xml"] * 10
    )
    packed = next(each["data-packed"] for each in pictures if "data-packed" in each)
    assert gzip.decompress(base64.b64decode(packed)) == decided.SVG
    links = [link for link in page.all("a") if "download" in link]
    assert links[0]["download"] == "cold.mid"
    assert gzip.decompress(base64.b64decode(links[0]["data-packed"])) == b"MThd"


def test_room_is_given_to_one_sample_of_each_model_in_turn(gathered):
    order = [(maker.name, row["name"]) for maker, row in samples._in_turn(makers.makers(gathered))]
    assert order[:4] == [
        ("laptop/0", "cold"),
        ("laptop/1", "cold"),
        ("laptop/0", "cold-after-bwv1"),
        ("laptop/1", "cold-after-bwv2"),
    ]
    assert len(order) == 10


def test_an_original_that_two_models_were_given_is_shown_once(tmp_path):
    sweep = decided.Decided(tmp_path)
    sweep.trial(0)
    for final, trial in enumerate((0, 0)):
        sweep.final(trial, 0.8, chosen=final == 0)
        sweep.sample(final, "harmony-a", kind="harmony", origin="a")
        sweep.sample(final, "original-a", kind="original", origin="a")
    sweep.flush()
    titles = [text for text in articles(sweep.storage) if "original-a" in text]
    assert len(titles) == 1


def test_samples_beyond_the_room_of_a_page_are_named_with_their_place(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "MOST_CARDS", 3)
    storage = decided.decided(tmp_path)
    found = page_of(storage)
    assert len(found.all("article")) == 3
    assert "7 more samples for which this page has no room" in found.text
    assert "finals/samples/3/harmony-bwv2.mid" in found.text


def test_what_an_older_ledger_says_of_samples_is_enough(tmp_path):
    sweep = decided.Decided(tmp_path)
    sweep.trial(0)
    sweep.final(0, 0.8, chosen=True)
    sweep.sample(0, "cold", path="samples/cold.mid", files={"seconds": 0.2})
    sweep.flush()
    found = page_of(sweep.storage)
    assert "What it produces" in found.text
    assert len(found.all("audio")) == 1


def test_nothing_in_a_sample_or_a_card_becomes_an_element(tmp_path):
    sweep = decided.Decided(tmp_path)
    sweep.trial(0)
    sweep.final(0, 0.8, chosen=True)
    sweep.sample(0, HARMLESS, kind=HARMLESS, origin=f'"{HARMLESS}', path="../../etc/passwd", fifths=1.0)
    sweep.flush()
    card = {"final": 0, "sample_references": {HARMLESS: {"fifths": 1}}, "limits": HARMLESS, "how_to_load": HARMLESS,
            "sample_limits": {"fifths": {"high": 0, "text": HARMLESS}}}  # fmt: skip
    sweep.storage.write("bundle/card.json", json.dumps(card).encode())
    found = page_of(sweep.storage)
    assert len(found.all("script")) == 1
    assert found.text.count(HARMLESS) > 5
    assert "root:" not in found.text


def test_sound_is_one_channel_and_stays_the_same_tone():
    soundfile = pytest.importorskip("soundfile")
    samples, rate = sounds.mono(decided.sound(1.0))
    data = sounds.mp3(sounds.resampled(samples, rate, sounds.RATE), 40)
    assert data is not None
    heard, own_rate = soundfile.read(io.BytesIO(data))
    assert (own_rate, heard.ndim) == (sounds.RATE, 1)
    middle = heard[len(heard) // 4 :][: own_rate // 2]
    assert np.argmax(np.abs(np.fft.rfft(middle))) == 220, "440 Hz in half a second"
    assert np.abs(middle).max() == pytest.approx(0.5, abs=0.05)


def test_sounds_are_as_good_as_their_number_allows():
    wav = decided.sound(4.0)
    many = dict.fromkeys(range(4), wav)
    good = sounds.mp3s(many.items(), 100_000)
    poor = sounds.mp3s(many.items(), 40_000)
    few = sounds.mp3s(many.items(), 20_000)
    assert sum(map(len, good.values())) > 1.5 * sum(map(len, poor.values()))
    assert len(good) == len(poor) == 4
    assert list(few) == [0, 1], "the first ones are served first"
    for made, room in ((good, 100_000), (poor, 40_000), (few, 20_000)):
        assert sum(map(len, made.values())) < 1.1 * room


def test_what_finds_no_room_is_named_instead(tmp_path, monkeypatch):
    storage = Storage(tmp_path)
    for name in ("a", "b"):
        storage.write(f"samples/{name}.wav", decided.sound(2.0))
        storage.write(f"samples/{name}.mid", b"MThd" * 100)
    monkeypatch.setattr(attachments, "ROOM", {"sound": 7_000, "picture": 0, "download": 50})
    first, second = attachments.attach([(storage, "samples/a.mid"), (storage, "samples/b.mid")])
    assert [each.kind for each in first.files] == ["download", "sound"]
    assert second.left_out == ("samples/b.mid", "samples/b.wav")


@pytest.mark.parametrize("data", [b"", b"RIFF", b"not a sound at all"])
def test_a_sound_that_is_none_is_left_out(tmp_path, data):
    storage = Storage(tmp_path)
    storage.write("samples/a.wav", data)
    assert attachments.attach([(storage, "samples/a.wav")])[0].files == ()


def test_a_drawn_picture_is_made_smaller_and_a_photograph_is_not(tmp_path):
    drawn = decided.picture(400, 100)
    assert len(attachments._fewer_colours(drawn)) < len(drawn) / 10
    rows = np.random.default_rng(1).integers(0, 255, (90, 90, 3), np.uint8)
    image = pytest.importorskip("PIL.Image")
    out = io.BytesIO()
    image.fromarray(rows).save(out, "PNG")
    assert attachments._fewer_colours(out.getvalue()) == out.getvalue()
    assert attachments._fewer_colours(b"no picture") == b"no picture"
