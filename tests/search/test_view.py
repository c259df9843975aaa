import fcntl
import io
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from search.snapshot import Limits, take
from search.view import LiveView, PlainView, shown, view_of
from tests.search.event_book import START, Book

SHOW = """
import sys, time
from search.view import view_of
from search.snapshot import Limits, take
from tests.search.event_book import START, Book
book = Book()
book.proposal(0, width=3)
book.attempt(0, 1)
view = view_of(book.state, lambda: take(
    book.state, Limits(trials=2, epochs=5), now=START.timestamp() + 9, storage="runs/toy", condition="running"))
for epoch in range(1, 6):
    book.epoch(0, 1, epoch, 5.0 - epoch)
    view.tick(now=True)
print("a warning", file=sys.stderr)
print("a result")
view.note("stopping")
view.close()
print("after", file=sys.stderr)
"""


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def told(book, view, table, **row):
    book.add(table, **row)
    view.event(table, book.rows[-1][1])


def snapshot_of(book):
    return lambda: take(
        book.state, Limits(trials=9), now=START.timestamp() + 60, storage="runs/toy", condition="running"
    )


@pytest.fixture
def plain():
    book, clock, stream = Book(), Clock(), io.StringIO()
    return book, clock, stream, PlainView(book.state, snapshot_of(book), stream=stream, clock=clock)


def on_a_terminal(code, *, size=(30, 90), **environment):
    """Returns what a program writes to a terminal (its stderr) and elsewhere (its stdout)."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    env = {"TERM": "xterm-256color", **{k: v for k, v in os.environ.items() if k in ("PATH", "HOME")}, **environment}
    env = {"LC_ALL": "C.UTF-8", "PYTHONPATH": str(Path.cwd())} | env
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=theirs,
        stderr=theirs,
        stdout=subprocess.PIPE,
        env=env,
        start_new_session=True,
    )
    os.close(theirs)
    said = b""
    until = time.monotonic() + 120
    while time.monotonic() < until and select.select([ours], [], [], 120)[0]:
        try:
            more = os.read(ours, 65536)
        except OSError:
            break
        if not more:
            break
        said += more
    os.close(ours)
    assert process.stdout
    out = process.stdout.read().decode()
    assert process.wait() == 0
    return said.decode(), out


def test_the_stream_decides_which_view_it_is(monkeypatch):
    book = Book()
    assert isinstance(view_of(book.state, snapshot_of(book), stream=io.StringIO()), PlainView)
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(view_of(book.state, snapshot_of(book), stream=terminal), LiveView)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(view_of(book.state, snapshot_of(book), stream=terminal), PlainView)


def test_each_event_worth_it_is_a_line(plain):
    book, _, stream, view = plain
    told(book, view, "proposals", trial=0)
    told(book, view, "attempts", trial=0, attempt=1, cause="first")
    told(book, view, "epochs", trial=0, attempt=1, epoch=1, loss=3.0)
    told(book, view, "epochs", trial=0, attempt=1, epoch=2, loss=4.0)  # no better
    told(book, view, "epochs", trial=0, attempt=1, epoch=3, loss=float("nan"))
    told(book, view, "attempt_ends", trial=0, attempt=1, outcome="lost", reason="its node\n\x1b[2J is gone")
    told(book, view, "trials", trial=0, state="stopped", reason_kind="scheduler", reason="4 is above 2")
    assert stream.getvalue().splitlines() == [
        "0:00:02 new best: loss 3, trial 0 at epoch 1",
        "0:00:05 trial 0, attempt 1 lost: its node ?[2J is gone",
        "0:00:06 trial 0 stopped after epoch 3, loss 3 at epoch 1: 4 is above 2",
    ]


def test_after_a_resume_only_what_is_better_is_a_new_best():
    book, stream = Book(), io.StringIO()
    book.epoch(0, 1, 1, 2.0)
    view = PlainView(book.state, snapshot_of(book), stream=stream)
    told(book, view, "epochs", trial=1, attempt=1, epoch=1, loss=3.0)
    assert stream.getvalue() == ""
    told(book, view, "epochs", trial=1, attempt=1, epoch=2, loss=1.0)
    assert "new best: loss 1" in stream.getvalue()


def test_a_summary_comes_every_thirty_seconds(plain):
    book, clock, stream, view = plain
    book.epoch(0, 1, 1, 2.0)
    for second in range(100):
        clock.now = float(second)
        view.tick()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("0:01:00 1 of 9 trials (1 proposed); best loss 2 (trial 0); ")


def test_a_burst_of_events_is_cut_short_and_counted(plain):
    book, clock, stream, view = plain
    for trial in range(50):
        told(book, view, "trials", trial=trial, state="completed")
    assert len(stream.getvalue().splitlines()) == 20
    clock.now = 31.0
    view.tick()
    assert stream.getvalue().endswith("; 30 more events not shown\n")
    told(book, view, "trials", trial=50, state="completed")
    assert stream.getvalue().splitlines()[-1].endswith("trial 50 completed after epoch 0")


@pytest.mark.parametrize("kind", ["pipe", "terminal"])
def test_a_view_that_nobody_can_see_any_more_goes_quiet(kind):
    book = Book()
    book.epoch(0, 1, 1, 2.0)
    ours, theirs = os.pipe() if kind == "pipe" else pty.openpty()
    with open(theirs, "w", closefd=False) as stream:
        live = LiveView(snapshot_of(book), stream=stream)
        plain = PlainView(book.state, snapshot_of(book), stream=stream)
        with shown(live), shown(plain):
            live.tick(now=True)
            os.close(ours)  # the terminal is closed, or `head` has seen enough
            for view in (live, plain):
                view.tick(now=True)
                view.note("hello")
        os.dup2(os.open(os.devnull, os.O_WRONLY), theirs)
    os.close(theirs)
    view = PlainView(book.state, snapshot_of(book), stream=stream)
    view.tick(now=True)


def test_an_error_of_the_program_is_not_kept_quiet(plain):
    book, _, stream, _ = plain

    def broken():
        raise ValueError("a mistake")

    with pytest.raises(ValueError, match="a mistake"):
        PlainView(book.state, broken, stream=stream).tick(now=True)


def test_a_screen_is_drawn_no_more_than_it_may_take():
    clock, drawn = Clock(), []
    book = Book()

    def slow():
        drawn.append(clock.now)
        clock.now += 0.1  # a snapshot of a very large sweep
        return snapshot_of(book)()

    view = LiveView(slow, stream=io.StringIO(), clock=clock)
    while clock.now < 10.0:
        view.tick()
        clock.now += 0.01
    view.close()
    assert len(drawn) <= 10.0 * 0.05 / 0.1 + 2


def test_a_quick_screen_is_drawn_four_times_a_second():
    clock, drawn = Clock(), []
    book = Book()

    def quick():
        drawn.append(clock.now)
        return snapshot_of(book)()

    view = LiveView(quick, stream=io.StringIO(), clock=clock)
    for tick in range(1000):
        clock.now = tick / 100
        view.tick()
    view.close()
    assert 39 <= len(drawn) <= 42


@pytest.mark.parametrize("size", [(30, 90), (1, 1), (3, 10), (200, 400)])
def test_on_a_terminal_the_screen_is_drawn_over_itself(size):
    said, out = on_a_terminal(SHOW, size=size)
    assert out == "a result\n"  # results stay on stdout
    assert said.count("\x1b[?25l") == said.count("\x1b[?25h") == 1  # the cursor comes back
    if size[1] >= 90:
        text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said)
        assert "a warning" in text
        last = text[text.rindex("toy  running") :]
        assert "best loss 0" in last
        assert "stopping" in last
        assert last.rstrip().endswith("after")


def test_on_a_terminal_without_colour_there_is_none():
    said, _ = on_a_terminal(SHOW, NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", said)
    assert re.search(r"\x1b\[[0-9;]*3[0-7]m", on_a_terminal(SHOW)[0])


def test_a_dumb_terminal_gets_lines():
    said, _ = on_a_terminal(SHOW, TERM="dumb")
    assert "\x1b" not in said
    assert "0:00:06 stopping" in said
