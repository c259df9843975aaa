"""The page in a real browser: it asks for nothing, can be used by pointer and keyboard, sounds, unfolds and prints."""

import pathlib
import re
import shutil

import pytest

from results import report
from tests.results import decided

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = ("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync",
         "--disable-component-update", "--no-sandbox", "--autoplay-policy=no-user-gesture-required")  # fmt: skip
SIZES = {"phone": (390, 844), "tablet": (820, 1180), "desktop": (1440, 900)}
NASTY = "\"'><img src=x onerror='window.ran=1'><script>window.ran=1</script>"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt install chromium)"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    """A page with all there is, and with text that would like to be a script wherever text can stand."""
    sweep = decided.begun(tmp_path_factory.mktemp("decided"), files={"seconds": 2.0})
    config = sweep.propose(15, sweep.values() | {"model.family": NASTY})
    sweep.begin(15)
    sweep.end(15, "failed", 0, kind="error", reason=NASTY)
    sweep.finish(15, "failed", config, {}, kind="error", reason=NASTY)
    sweep.trial(16, values=sweep.values() | {"model.family": NASTY})
    sweep.sample(0, NASTY, kind=NASTY, origin=NASTY, path=f"{NASTY}.mid", fifths=0.1)
    sweep.flush()
    place = pathlib.Path(report.write(sweep.storage))
    text = place.read_text("utf-8")
    assert NASTY not in text
    assert "window.ran=1" in text
    return place.as_uri()


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright (extra dev)")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield launched
        launched.close()


@pytest.fixture
def opened(browser, address):
    """Opens the page, and sees to it in the end that it asked for nothing, complained of nothing and ran nothing."""
    contexts, asked, complaints = [], [], []

    def open_page(size: str = "desktop", **settings):
        width, height = SIZES[size]
        context = browser.new_context(viewport={"width": width, "height": height}, **settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        assert context.pages[0].evaluate("window.ran") is None
        context.close()
    assert complaints == []
    assert {url for url in asked if url != address and not url.startswith(("data:", "blob:"))} == set()


def lit(page) -> set[str]:
    """The kinds of elements that are lit."""
    return set(page.evaluate("[...document.querySelectorAll('.lit')].map((one) => one.tagName.toLowerCase())"))


def until(page, expression: str, arg=None) -> None:
    """Waits until something is so; the page's own policy forbids playwright's way of waiting."""
    for _ in range(1200):
        if page.evaluate(expression, arg):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"not so after 60 s: {expression}")


def point(page, locator, expression: str) -> None:
    """Points at something until something is so: scrolling puts the light out, and goes on for a while."""
    locator.scroll_into_view_if_needed()
    for _ in range(60):
        locator.hover()
        page.wait_for_timeout(500)
        if page.evaluate(expression):
            return
        page.mouse.move(1, 1)
    raise AssertionError(f"not so however often it is pointed at: {expression}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", list(SIZES))
def test_it_fits_at_every_size_light_and_dark(opened, size, scheme):
    page = opened(size, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == SIZES[size][0]
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == SIZES[size][0]
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, re.findall(r"\d+", paper)[:3]))
    assert (brightness < 200) == (scheme == "dark"), paper
    heading = page.locator("h1").bounding_box()
    assert heading["y"] + heading["height"] < SIZES[size][1], "the decision is in the first screen"
    assert page.locator(".reasons li").first.bounding_box()["y"] < SIZES[size][1], "and so is why"


def test_a_trial_that_is_pointed_at_lights_up_everywhere_and_a_click_keeps_it(opened):
    page = opened()
    row = page.locator("#leaderboard tr[data-id='laptop/3']").first
    point(page, row, "document.querySelectorAll('.lit').length > 4")
    assert {"tr", "g", "path", "circle", "rect"} <= lit(page)
    page.mouse.move(1, 1)
    until(page, "!document.querySelector('.lit')")
    row.click()
    assert page.locator("#pin").inner_text() == "laptop/3 is marked; let go"
    kept = page.locator("#learning .kept")
    kept.scroll_into_view_if_needed()
    assert kept.count() == 1, "it stays lit when the page is scrolled"
    page.locator("#pin").click()
    assert page.locator(".kept").count() == 0


def test_a_mark_says_what_it_is(opened):
    page = opened()
    mark = page.locator("#leaderboard svg g.mark[data-id='laptop/1']").first
    point(page, mark.locator("circle").first, "document.querySelector('#tip').matches('.on')")
    told = page.locator("#tip").inner_text()
    assert told.startswith("laptop/1: mean")
    assert "chance to be the best" in told


def test_the_keyboard_reaches_every_chart_and_its_trials(opened):
    page = opened()
    charts = page.locator("svg.chart").count()
    reached, first = 0, True
    for _ in range(400):
        page.keyboard.press("Tab")
        focus = page.evaluate("document.activeElement.tagName + '.' + document.activeElement.getAttribute('class')")
        if first:
            assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
            first = False
        if focus == "BODY.null":
            break
        if focus.lower().startswith("svg.chart"):
            reached += 1
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline == "solid", "the focus is seen"
    assert reached == charts > 5


def test_arrows_go_from_trial_to_trial_and_enter_keeps_one(opened):
    page = opened()
    page.locator("#learning svg.chart").focus()
    told = [""]
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
        until(page, "(before) => document.querySelector('#tip').textContent !== before", told[-1])
        told.append(page.locator("#tip").inner_text())
    assert told[1] == told[3] != told[2]
    assert "g" in lit(page)
    page.keyboard.press("Enter")
    assert page.locator("#pin").is_visible()
    page.keyboard.press("Escape")
    assert page.locator("#pin").is_hidden()
    page.locator("#leaderboard .scroll", has=page.locator("tr[data-id='laptop/5']")).last.focus()
    page.keyboard.press("ArrowDown")
    until(page, "document.querySelector('tr.lit')")
    assert {"tr", "g"} <= lit(page)


def test_sound_plays_one_at_a_time(opened):
    page = opened()
    play = "(one) => one.play().then(() => one.duration)"
    first, second = page.locator("audio").nth(0), page.locator("audio").nth(1)
    assert first.evaluate(play) == pytest.approx(2.0, abs=0.2)
    until(page, "document.querySelectorAll('audio')[0].currentTime > 0.1")
    second.evaluate(play)
    until(page, "document.querySelectorAll('audio')[0].paused")


def test_pictures_unfold_and_files_are_handed_over(opened):
    page = opened()
    sample = page.locator("article.sample").first
    picture = sample.locator("img").first
    picture.scroll_into_view_if_needed()
    until(page, "(one) => one.complete && one.naturalWidth > 0", picture.element_handle())
    sample.locator("summary").click()
    score = sample.locator("details img")
    until(page, "(one) => one.complete && one.naturalWidth === 400", score.element_handle())
    with page.expect_download() as download:
        sample.locator("a[download]").click()
    assert download.value.suggested_filename == "cold.mid"
    assert pathlib.Path(download.value.path()).read_bytes() == b"MThd"


def test_what_copies_is_seen_to_do_so(opened):
    page = opened("phone")
    mark = page.locator("article p.warn")
    assert mark.count() == 1
    assert mark.inner_text().startswith("▲ copies the training set")
    assert mark.is_visible()


def test_paper_has_what_is_folded_and_not_what_needs_a_screen(opened):
    page = opened()
    page.emulate_media(media="print")
    assert page.locator("nav").is_hidden()
    assert page.locator("audio").first.is_hidden()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    table = page.get_by_role("region", name="Judgements of the scheduler")
    assert table.is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert table.is_hidden()
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= SIZES["desktop"][0]
    assert page.pdf(format="A4").startswith(b"%PDF")
