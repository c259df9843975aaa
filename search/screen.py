"""A snapshot as a screen of text for any terminal: what matters most comes first, what finds no room is left out."""

import datetime
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from results.plain import duration
from search.snapshot import Failure, Snapshot, TrialView, Use

CURVE_WIDTH = 24
BAR_WIDTH = 24
LEAST = 12
"""A column that has less room than this, and less than it needs, is left out."""
FLUSH_LEFT = frozenset({"curve", "state", "node", "what sets it apart"})
LONGEST_MESSAGE = 1000

STYLES = {"completed": "green", "stopped": "yellow", "failed": "red", "running": "cyan", "paused": "magenta"}
CONDITIONS = {"running": "bold cyan", "finished": "bold green", "stopped": "bold yellow", "dead": "bold red"}


@dataclass(frozen=True, kw_only=True)
class Glyphs:
    """The signs that a terminal can show.

    Attributes:
        levels: of a sparkline, low to high.
        none: stands in a sparkline for a value that is not finite.
        ahead: stands in a sparkline for an epoch to come.
    """

    levels: str
    none: str
    ahead: str
    full: str
    empty: str
    dot: str
    dash: str
    more: str

    def fit(self, text: str) -> str:
        """Returns somebody's text on one line: nothing in it may steer the terminal, or be a sign that it lacks."""
        text = "".join(sign if sign.isprintable() else "?" for sign in " ".join(text[:LONGEST_MESSAGE].split()))
        return text if self is UNICODE else text.encode("ascii", "replace").decode("ascii")


UNICODE = Glyphs(levels="▁▂▃▄▅▆▇█", none="×", ahead="·", full="█", empty="░", dot=" · ", dash="–", more="…")
ASCII = Glyphs(levels="_.-~=+*#", none="x", ahead=" ", full="#", empty=".", dot=" | ", dash="-", more="~")


def glyphs_for(encoding: str | None) -> Glyphs:
    """Returns the signs that a stream of this encoding can take."""
    return UNICODE if (encoding or "").lower().replace("-", "").startswith("utf") else ASCII


def number(value: float | None, glyphs: Glyphs = UNICODE) -> str:
    """Returns a measured value with five significant digits; a dash for None."""
    return glyphs.dash if value is None else f"{value:.5g}"


def value_text(value: Any) -> str:
    """Returns a parameter's value, short."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def sparkline(
    curve: Sequence[float], width: int, *, low: float, high: float, epochs: int | None = None, glyphs: Glyphs = UNICODE
) -> str:
    """Returns a curve as a row of bars.

    Args:
        curve: a value an epoch.
        width: the most signs; a longer curve is thinned out, and each bar is the last value of its stretch.
        low: the value of the lowest bar.
        high: the value of the highest bar; values above it have it too.
        epochs: as many as there will be; those to come are marked.
        glyphs: what can be shown.
    """
    total = max(len(curve), epochs or 0)
    if not total or width < 1:
        return ""
    signs = min(total, width)
    line = ""
    for i in range(signs):
        stretch = curve[i * total // signs : (i + 1) * total // signs]
        if not stretch:
            line += glyphs.ahead
        elif not math.isfinite(stretch[-1]):
            line += glyphs.none
        else:
            share = (stretch[-1] - low) / (high - low) if high > low else 0.0
            line += glyphs.levels[round(min(max(share, 0.0), 1.0) * (len(glyphs.levels) - 1))]
    return line


def scale(curves: Iterable[Sequence[float]]) -> tuple[float, float]:
    """Returns the lowest and the highest value of a common scale.

    The quarter of the values that lies on the far side of the median does not count: a model's first epochs are often
    so bad that nothing else could be told apart beside them.
    """
    values = sorted(value for curve in curves for value in curve if math.isfinite(value))
    if not values:
        return 0.0, 1.0
    quarter = len(values) // 4
    middle = values[len(values) // 2]
    if values[-1] - middle > middle - values[0]:
        return values[0], values[-1 - quarter]
    return values[quarter], values[-1]


def bar(share: float, width: int, glyphs: Glyphs = UNICODE) -> str:
    """Returns a bar that is filled for a share of its width."""
    filled = round(min(max(share, 0.0), 1.0) * width)
    return glyphs.full * filled + glyphs.empty * (width - filled)


def used_text(use: Use) -> str:
    """Returns how much of a budget is used, in words; "" if nothing is and nothing may not be."""
    show = duration if use.name == "wall_time_s" else (lambda value: f"{value:.4g}")
    label = {"wall_time_s": "time", "gpu_hours": "GPU-hours"}.get(use.name, use.name)
    if use.limit is None:
        return f"{label} {show(use.used)}" if use.used else ""
    return f"{label} {show(use.used)} of {show(use.limit)}"


def summary(snapshot: Snapshot, glyphs: Glyphs = UNICODE) -> str:
    """Returns the sweep on one line."""
    limit = snapshot.use("trials").limit
    total = sum(snapshot.counts.values())
    states = ", ".join(f"{count} {state}" for state, count in snapshot.counts.items() if count)
    parts = [f"{total}{f' of {limit:g}' if limit else ''} trials" + (f" ({states})" if states else "")]
    if snapshot.best is not None:
        parts.append(f"best {snapshot.objectives[0][0]} {number(snapshot.best.value)} (trial {snapshot.best.trial})")
    if snapshot.condition == "running":
        parts.append(f"{snapshot.trials_per_min:.3g} trials/min, {snapshot.epochs_per_s:.3g} epochs/s")
        if snapshot.time_left_s is not None:
            parts.append(f"about {duration(snapshot.time_left_s)} left")
    return glyphs.fit("; ".join(parts))


@dataclass(frozen=True, kw_only=True)
class Screen:
    """Draws a snapshot with rich, in the size that the console has at that moment.

    Attributes:
        remark: a line of the program itself, such as what Ctrl-C has done; "" for none.
        height: the most lines; None is as many as the terminal has, less one.
    """

    snapshot: Snapshot
    glyphs: Glyphs = UNICODE
    remark: str = ""
    height: int | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yields the lines."""
        left = self.height if self.height is not None else max(1, console.size.height - 1)
        width = options.max_width
        head = [*self._head(width), *([Text(self.glyphs.fit(self.remark), style="bold yellow")] if self.remark else [])]
        for line in head[:left]:
            yield _one_line(line, width, self.glyphs)
        left -= len(head)
        for title, names, rows in self._sections(max(0, left)):
            room = left - (3 if names else 2)  # below a blank line, the title and the names
            if room < 1 or not rows:
                continue
            shown = rows[: max(1, room * 2 // 3) if title == "running" else room]
            yield Text()
            yield _one_line(Text(title, style="bold"), width, self.glyphs)
            for line in columns(names, shown, width, self.glyphs):
                yield _one_line(line, width, self.glyphs)
            left -= len(shown) + (3 if names else 2)

    def _head(self, width: int) -> list[Text]:
        shot, glyphs = self.snapshot, self.glyphs
        title = Text(glyphs.fit(shot.name), style="bold")
        title.append(f"  {shot.condition}", style=CONDITIONS[shot.condition])
        title.append(f" {duration(max(0.0, shot.elapsed_s))}", style="none")
        if shot.condition == "running":
            left = "time left unknown" if shot.time_left_s is None else f"about {duration(shot.time_left_s)} left"
            title.append(f"{glyphs.dot}{left}", style="none")
            how = f" ({glyphs.fit(shot.time_left_how)})"
            if title.cell_len + len(how) <= width:
                title.append(how, style="dim")
        lines = [title]
        if shot.best is not None:
            lines.append(self._best(shot.best))
        lines.append(self._progress(width))
        figures = [used_text(use) for use in shot.budget[1:]]
        if shot.condition == "running":
            figures = [f"{shot.trials_per_min:.3g} trials/min", f"{shot.epochs_per_s:.3g} epochs/s", *figures]
        lines.extend(Text(line) for line in _joined([text for text in figures if text], glyphs.dot, width)[:2])
        if shot.best is not None:
            values = "  ".join(f"{glyphs.fit(k)}={glyphs.fit(value_text(v))}" for k, v in shot.best.values.items())
            lines.append(Text(values or "no parameters", style="dim"))
        return lines + [self._failure(failure) for failure in shot.failures[:3]]

    def _failure(self, failure: Failure) -> Text:
        again = failure.attempts - failure.trials
        counted = [
            f"{failure.trials} failed" if failure.trials else "",
            f"{again} tried again" if again > 0 else "",
        ]
        text = Text(f"{self.glyphs.fit(failure.kind) or 'failure'}: ", style="red")
        text.append(", ".join(filter(None, counted)))
        text.append(f"  last trial {failure.trial}: {self.glyphs.fit(failure.message)}", style="dim")
        return text

    def _best(self, best: TrialView) -> Text:
        metrics = self.snapshot.objectives
        text = Text("best ")
        text.append(f"{self.glyphs.fit(metrics[0][0])} {number(best.value)}", style="bold green")
        for (name, _), value in list(zip(metrics, best.objectives, strict=False))[1:]:
            text.append(f"  {self.glyphs.fit(name)} {number(value)}")
        text.append(f"  trial {best.trial}, epoch {best.best_epoch}", style="none")
        low, high = scale([best.curve])
        curve = sparkline(best.curve, CURVE_WIDTH, low=low, high=high, glyphs=self.glyphs)
        text.append(f"  {curve}", style="green")
        return text

    def _progress(self, width: int) -> Text:
        shot = self.snapshot
        ended = sum(shot.counts[state] for state in ("completed", "stopped", "failed"))
        limit = shot.use("trials").limit
        text = Text(f"trials {ended}{f'/{limit:g}' if limit else ''}")
        states = Text()
        for state, count in shot.counts.items():
            if count:
                states.append(f"  {count} {state}", style=STYLES.get(state, "none"))
        room = min(BAR_WIDTH, width - text.cell_len - states.cell_len - 1)
        if limit and room > 3:
            text.append(f" {bar(ended / limit, room, self.glyphs)}", style="cyan")
        return text + states

    def _sections(self, most: int) -> list[tuple[str, tuple[str, ...], list[list[Text]]]]:
        """Returns sections: a title, the columns' names (none for lines of text), and rows of cells, `most` at most."""
        shot, glyphs = self.snapshot, self.glyphs
        low, high = scale([trial.curve for trial in (*shot.running, *shot.top)])

        def curve(trial: TrialView) -> Text:
            line = sparkline(trial.curve, CURVE_WIDTH, low=low, high=high, epochs=trial.epochs, glyphs=glyphs)
            return Text(line, style=STYLES.get(trial.state, "none"))

        def at(trial: TrialView) -> str:
            again = f" (attempt {trial.attempt})" if trial.attempt > 1 else ""
            return f"{trial.epoch}{f'/{trial.epochs}' if trial.epochs else ''}{again}"

        metric = glyphs.fit(shot.objectives[0][0])
        running = [
            [
                Text(str(trial.trial)),
                Text(at(trial)),
                Text(number(trial.last_value, glyphs)),
                Text(number(trial.value, glyphs)),
                curve(trial),
                Text(glyphs.dash if trial.quiet_s is None else duration(max(0.0, trial.quiet_s))),
                Text(glyphs.fit(trial.node)),
            ]
            for trial in shot.running[:most]
        ]
        top = [
            [
                Text(str(trial.trial)),
                Text(number(trial.value, glyphs)),
                Text(f"{trial.best_epoch}"),
                Text(trial.state, style=STYLES.get(trial.state, "none")),
                curve(trial),
                Text(glyphs.fit(_differing(trial, shot.top))),
            ]
            for trial in shot.top
        ]
        endings = [
            [
                Text()
                .append(f"{_clock(ending.time)} ", style="dim")
                .append(glyphs.fit(ending.text), style=STYLES[ending.state] if ending.state != "stopped" else "none")
            ]
            for ending in shot.endings[:most]
        ]
        return [
            ("running", ("trial", "epoch", f"last {metric}", "best", "curve", "quiet for", "node"), running),
            ("best", ("trial", metric, "at epoch", "state", "curve", "what sets it apart"), top),
            ("ended last", (), endings),
        ]


def columns(names: Sequence[str], rows: Sequence[Sequence[Text]], width: int, glyphs: Glyphs) -> list[Text]:
    """Returns rows as lines of text in columns; those without room, or with nothing in them, are left out.

    Args:
        names: of the columns, flush right unless `FLUSH_LEFT` has them; none for rows of one cell without heading.
        rows: cells.
        width: of the terminal.
        glyphs: what can be shown.
    """
    if not names:
        return [row[0] for row in rows]
    told = [i for i in range(len(names)) if any(row[i].plain for row in rows)]
    names, rows = [names[i] for i in told], [[row[i] for i in told] for row in rows]
    table = [[Text(name, style="dim") for name in names], *rows]
    widths = [max(row[i].cell_len for row in table) for i in range(len(names))]
    lines = []
    for row in table:
        line, used = Text(), 0
        for i, (cell, size) in enumerate(zip(row, widths, strict=True)):
            if i and used + min(size, LEAST) > width:
                break
            pad = " " * (size - cell.cell_len)
            line.append_text(cell + Text(pad) if names[i] in FLUSH_LEFT else Text(pad) + cell).append("  ")
            used += size + 2
        line.rstrip()
        lines.append(line)
    return lines


def _joined(parts: Sequence[str], between: str, width: int) -> list[str]:
    lines = [""]
    for part in parts:
        longer = f"{lines[-1]}{between}{part}" if lines[-1] else part
        if lines[-1] and cell_len(longer) > width:
            lines.append(part)
        else:
            lines[-1] = longer
    return lines


def _one_line(text: Text, width: int, glyphs: Glyphs) -> Text:
    line = text.copy()
    line.no_wrap = True
    line.truncate(width, overflow="ellipsis" if glyphs is UNICODE else "crop")
    return line


def _differing(trial: TrialView, others: Sequence[TrialView]) -> str:
    """Returns the values that not all of the trials have."""
    return "  ".join(
        f"{name.rpartition('.')[2]}={value_text(value)}"
        for name, value in trial.values.items()
        if any(other.values.get(name) != value for other in others)
    )


def _clock(time: float) -> str:
    return f"{datetime.datetime.fromtimestamp(time).astimezone():%H:%M:%S}"
