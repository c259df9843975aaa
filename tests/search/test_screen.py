import io
import math

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from search.screen import ASCII, UNICODE, Screen, glyphs_for, scale, sparkline, summary
from search.snapshot import Limits, take
from tests.search.event_book import START, Book

LIMITS = Limits(trials=9, epochs=4, wall_time_s=600.0, gpu_hours=1.0, money=2.0, price_per_hour=1.0)
EVIL = "[red]no[/red] \x1b[2J\x1b]0;title\x07 \r\n\t :smile: [/] \u202e \ud800 字字字"


def evil_sweep():
    book = Book()
    book.add("sessions", command="run")
    for trial in range(4):
        book.proposal(trial, width=trial, kind=EVIL)
        book.attempt(trial, 1, gpus=0.5)
        book.epochs(trial, 1, [3.0, 2.0 - trial, math.nan])
    book.attempt_end(0, 1, "failed", reason_kind=EVIL, reason=EVIL, wall_s=2.0)
    book.end(0, "failed", reason_kind=EVIL, reason=EVIL)
    book.attempt_end(1, 1, "completed", node=EVIL, wall_s=2.0)
    book.end(1, "completed")
    return take(book.state, LIMITS, now=START.timestamp() + 60, storage="runs/toy", condition="running")


def lines(screen: Screen, width: int, height: int, *, colour: bool = False) -> list[str]:
    out = io.StringIO()
    console = Console(
        file=out,
        width=width,
        height=height,
        force_terminal=colour,
        color_system="standard" if colour else None,
        highlight=False,
        markup=False,
        emoji=False,
    )
    console.print(screen)
    return out.getvalue().rstrip("\n").split("\n")


def test_the_most_important_comes_first():
    shown = lines(Screen(snapshot=evil_sweep()), 100, 40)
    assert shown[0].startswith("toy  running 60 s · about ")
    assert shown[1].startswith("best loss -1  speed 1  trial 3, epoch 2")
    assert shown[2].startswith("trials 2/9 █")
    assert "3 " not in shown[2].split("█")[0]
    assert "2 running" in shown[2]
    assert "time 60 s of 10 min" in shown[3]
    titles = [line for line in shown if line in ("running", "best", "ended last")]
    assert titles == ["running", "best", "ended last"]


def test_numbers_stand_below_each_other():
    shown = lines(Screen(snapshot=evil_sweep()), 100, 40)
    head = next(line for line in shown if line.startswith("trial  epoch"))
    row = shown[shown.index(head) + 1]
    assert row[: head.index("epoch") + 5].endswith("3/4")
    assert head.index("curve") == row.index(next(sign for sign in row if sign in UNICODE.levels))


@settings(max_examples=40)
@given(width=st.integers(1, 400), height=st.integers(1, 120))
def test_it_fits_any_terminal(width, height):
    shown = lines(Screen(snapshot=evil_sweep(), remark=EVIL), width, height)
    assert len(shown) <= max(1, height - 1)
    assert max(map(cell_len, shown)) <= width
    assert "\x1b" not in "".join(shown)


def test_what_a_task_says_steers_nothing():
    text = "\n".join(lines(Screen(snapshot=evil_sweep(), remark=EVIL), 300, 60))
    assert "[red]no[/red] ?[2J?]0;title?" in text
    for sign in "\x1b\x07\r\t\u202e\ud800":
        assert sign not in text


def test_a_terminal_without_unicode_gets_ascii():
    assert glyphs_for("utf8") is glyphs_for("UTF-8") is UNICODE
    assert glyphs_for("ANSI_X3.4-1968") is glyphs_for(None) is ASCII
    "\n".join(lines(Screen(snapshot=evil_sweep(), glyphs=ASCII, remark=EVIL), 60, 40)).encode("ascii")


def test_no_color_is_respected(monkeypatch):
    coloured = "".join(lines(Screen(snapshot=evil_sweep()), 100, 40, colour=True))
    assert "\x1b[36m" in coloured
    monkeypatch.setenv("NO_COLOR", "1")
    plain = "".join(lines(Screen(snapshot=evil_sweep()), 100, 40, colour=True))
    assert "\x1b[36m" not in plain


def test_a_sparkline_goes_from_low_to_high():
    assert sparkline([0.0, 1.0, 2.0, 7.0], 9, low=0.0, high=7.0) == "▁▂▃█"
    assert sparkline([9.0, -9.0, math.nan, math.inf], 9, low=0.0, high=7.0) == "█▁××"
    assert sparkline([5.0], 9, low=5.0, high=5.0) == "▁"
    assert sparkline([], 9, low=0.0, high=1.0) == ""


def test_a_sparkline_marks_epochs_to_come_and_keeps_its_width():
    assert sparkline([0.0, 7.0], 9, low=0.0, high=7.0, epochs=4) == "▁█··"
    assert sparkline([float(i) for i in range(8)], 4, low=0.0, high=7.0) == "▂▄▆█"  # the last of each pair
    assert len(sparkline([0.0] * 7, 5, low=0.0, high=1.0, epochs=1000)) == 5


def test_the_scale_leaves_out_the_far_quarter():
    assert scale([[90.0, 80.0, 3.0, 2.0], [2.0, 1.0, 1.5, math.nan, 2.5]]) == (1.0, 3.0)
    assert scale([[0.1, 0.8, 0.9, 0.9]]) == (0.8, 0.9)  # higher is better: the first epochs are low
    assert scale([[], [math.nan]]) == (0.0, 1.0)


def test_a_summary_is_one_line():
    text = summary(evil_sweep())
    assert text.startswith("4 of 9 trials (2 running, 1 completed, 1 failed); best loss -1 (trial 3); ")
    assert "epochs/s; about " in text
