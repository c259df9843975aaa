"""The page's sections that say what it took and what comes next: time, failures, stops, advice, settings."""

import json
from typing import Any

from results.plain import duration
from results.report import charts
from results.report.advice import advice
from results.report.costs import Share, audit, busy, prices, stretches, time_shares
from results.report.facts import Facts
from results.report.markup import count, element, joined, number, prose
from results.report.tables import MOST_ROWS, Section, details, figure, table

h = element


def time(facts: Facts) -> Section | None:
    """Returns where the time went."""
    shares = time_shares(facts)
    if not shares:
        return None
    total, price = sum(share.seconds for share in shares), prices(facts)
    bar = [
        h("span", class_=f"fill {s.kind}", style=f"flex-grow:{s.seconds / total:.4f}", title=_told(s))
        for s in shares
    ]  # fmt: skip
    rows = [
        [joined([h("span", class_=f"key {s.kind}"), h("span", s.name, h("small", s.meaning))]), duration(s.seconds),
         f"{s.seconds / total:.1%}", *([f"{s.money:.2f}"] if price else [])]
        for s in shares
    ]  # fmt: skip
    head = ["what for", "time", "share", *(["money"] if price else [])]
    parts: list[Any] = [h("div", bar, class_="stack tall"), table(head, rows, caption="Time")]
    worked = sum(s.seconds for s in shares if s.kind != "waiting")
    text = f"{duration(worked)} on workers, and {duration(total - worked)} of waiting for one."
    if price:
        alike = len(set(price.values())) == 1 and len(price) == len(facts.names)
        each = [number(value) if alike else f"{number(value)} ({name})" for name, value in price.items()]
        told = ", ".join(dict.fromkeys(each))
        text += f" At {told} an hour of a GPU, or of a core where there is none, that is "
        text += f"{sum(s.money for s in shares):.2f}; waiting costs nothing."
        text += "".join(f" What {name} cost is not known." for name in facts.names if name not in price)
    parts.append(h("p", text, class_="note"))
    ran = stretches(facts)
    if ran:
        lanes = 1 + max(each.lane for each in ran)
        keys = [
            ("completed", "completed"),
            ("stopped", "stopped"),
            ("failed", "failed or lost"),
            ("unfinished", "paused"),
        ]
        outcomes = {"failed" if each.outcome == "lost" else each.outcome for each in ran}
        keys = [key for key in keys if key[0] in outcomes or (key[0] == "unfinished" and "paused" in outcomes)]
        text = (
            f"At most {count(lanes, 'trial')} ran at a time; these places were {busy(ran):.0%} busy. Long breaks are "
        )
        text += "cut out."
        parts.append(figure(charts.workers_chart(ran), text, keys, about="workers"))
    return "time", "Where time went", joined(parts)


def _told(share: Share) -> str:
    return f"{share.name}: {duration(share.seconds)}"


def failures(facts: Facts) -> Section | None:
    """Returns what failed, by reason."""
    if not facts.trials:
        return None
    if not facts.failures:
        return "failures", "What failed", h("p", "Nothing failed.")
    rows = [
        [
            h("b", each.kind),
            each.num_trials,
            each.num_attempts,
            duration(each.lost_s),
            h("span", each.reason, h("small", each.shared) if each.shared else None),
        ]
        for each in facts.failures
    ]
    head = ["kind", "trials ended", "attempts", "time lost", "most frequent reason"]
    traces = [
        details(f"Last traceback of {each.kind}", h("pre", _ending(each.detail), tabindex="0"))
        for each in facts.failures
        if each.detail
    ]
    return "failures", "What failed", joined([table(head, rows, caption="Failures by kind"), *traces])


def _ending(text: str, most: int = 4000) -> str:
    return text if len(text) <= most else "…\n" + text[-most:]


def stops(facts: Facts) -> Section | None:
    """Returns the audit of stopping: what became of trials that ran on to find out whether it is right."""
    stopped = [row for row in facts.trials if row["state"] == "stopped" and row["reason_kind"] == "scheduler"]
    if not stopped and not any(row["audited"] for row in facts.tables["decisions"]):
        return None
    found = audit(facts)
    text = f"The scheduler stopped {count(len(stopped), 'trial')} of {number(len(facts.trials))}. "
    if not found.trials:
        text += "No trial that it would have stopped ran on to the end, so nothing is known of wrong stops; a larger "
        text += "`audit_share` in the sweep file finds out."
        return "stops", "Were the stops right?", h("p", prose(text))
    text += f"{count(len(found.trials), 'trial')} that it would have stopped ran on for the audit. "
    if found.interval is None:
        text += "No other trial has completed, so there is nothing to compare them with."
    else:
        text += f"{found.num_wrong} of them came to be as good as the best {found.num_good} of "
        text += f"{number(found.num_by_right)} that went on by right: the 95 % interval of the share of wrong stops is "
        text += f"{found.interval[0]:.0%} to {found.interval[1]:.0%}."
    rows = [
        [each.id, each.epoch, each.value, each.rank, "yes" if each.wrong else "no"] for each in found.trials[:MOST_ROWS]
    ]
    head = ["trial", "would have stopped after epoch", f"{facts.metric} in the end", "rank", "would have been wrong"]
    return (
        "stops",
        "Were the stops right?",
        joined([h("p", prose(text)), table(head, rows, [e.id for e in found.trials], "Audited")]),
    )


def following(facts: Facts) -> Section | None:
    """Returns what the next sweep should look at."""
    if not facts.trials:
        return None
    found = advice(facts)
    if not found:
        return "next", "What to look at next", h("p", "Nothing stands out in the tables.")
    items = [h("li", h("b", what), h("span", prose(why))) for what, why in found]
    return "next", "What to look at next", h("ul", items, class_="advice")


def background(facts: Facts) -> Section:
    """Returns what the sweeps were asked for and ran with."""
    parts: list[Any] = []
    rows = [
        [row["sweep"], row["session"], f"{row['time']:%Y-%m-%d %H:%M}", row["command"], row["host"], row["commit"],
         row["backend"], row["python"]]
        for row in facts.tables["sessions"]
    ]  # fmt: skip
    if rows:
        head = ["sweep", "session", "began (UTC)", "command", "host", "commit", "backend", "python"]
        parts.append(table(head, rows[-MOST_ROWS:], caption="Sessions"))
        parts.append(h("p", f"Packages of the last: {facts.tables['sessions'][-1]['packages']}", class_="note"))
    if facts.data[1]:
        parts.append(h("p", "Data: ", facts.data[0] or "without a name", ", fingerprint ", h("code", facts.data[1])))
    opened = [[row["sweep"], f"{row['time']:%Y-%m-%d %H:%M}", row["who"], row["command"], row["split"], row["model"]]
              for row in facts.tables["openings"]]  # fmt: skip
    if opened:
        head = ["sweep", "when (UTC)", "who", "command", "split", "model"]
        parts.append(details(f"Openings of a held-back split ({len(opened)})", table(head, opened, caption="Openings")))
    for name, settings in facts.settings.items():
        text = json.dumps(settings, indent=1, ensure_ascii=False)
        parts.append(details(f"Settings of {name}", h("pre", _beginning(text), tabindex="0")))
    return "background", "Where this comes from", joined(parts or [h("p", "The ledger names no session.")])


def _beginning(text: str, most: int = 20_000) -> str:
    return text if len(text) <= most else text[:most] + "\n…"
