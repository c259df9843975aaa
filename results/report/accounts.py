"""The page's sections that say what it took and what comes next: time, failures, stops, advice, samples, settings."""

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from results.report import charts
from results.report.advice import advice
from results.report.attachments import Attached, Attachment, attach
from results.report.costs import Share, audited, busy, stretches, time_shares
from results.report.facts import Facts, Row, finite
from results.report.markup import Markup, count, duration, element, joined, number, prose
from results.report.sections import MOST_ROWS, Section, details, figure, table

h = element


def time(facts: Facts) -> Section | None:
    """Returns where the time went."""
    shares = time_shares(facts)
    if not shares:
        return None
    total = sum(share.seconds for share in shares)
    bar = [
        h("span", class_=f"fill {s.kind}", style=f"flex-grow:{s.seconds / total:.4f}", title=_told(s))
        for s in shares
    ]  # fmt: skip
    rows = [
        [joined([h("span", class_=f"key {s.kind}"), h("span", s.name, h("small", s.meaning))]), duration(s.seconds),
         f"{s.seconds / total:.1%}"]
        for s in shares
    ]  # fmt: skip
    parts: list[Any] = [h("div", bar, class_="stack tall"), table(["what for", "time", "share"], rows, caption="Time")]
    worked = sum(s.seconds for s in shares if s.kind != "waiting")
    text = f"{duration(worked)} on workers, and {duration(total - worked)} of waiting for one."
    price = _price(facts)
    parts.append(h("p", text + price, class_="note"))
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
        parts.append(figure(charts.workers_chart(ran), text, keys))
    return "time", "Where time went", joined(parts)


def _told(share: Share) -> str:
    return f"{share.name}: {duration(share.seconds)}"


def _price(facts: Facts) -> str:
    """Returns what the time on workers cost, where one sweep file says what an hour of a GPU or a core costs."""
    prices = facts.asked("sweep", "price_per_hour")
    if len(facts.settings) != 1 or not prices or not finite(prices[0]):
        return ""
    held = {(row["id"], row["attempt"]): row["gpus"] or row["cpus"] or 0.0 for row in facts.tables["attempts"]}
    hours = sum(
        (row["wall_s"] or 0.0) / 3600 * held.get((row["id"], row["attempt"]), 0.0)
        for row in facts.tables["attempt_ends"]
    )
    return (
        f" At {number(prices[0])} an hour of a GPU, or of a core where there is none, that is {hours * prices[0]:.2f}."
    )


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
    found = audited(facts)
    text = f"The scheduler stopped {count(len(stopped), 'trial')} of {number(len(facts.trials))}. "
    if not found:
        text += "No trial that it would have stopped ran on to the end, so nothing is known of wrong stops; a larger "
        text += "`audit_share` in the sweep file finds out."
        return "stops", "Were the stops right?", h("p", prose(text))
    good = max(1, len(facts.ranked) // 10)
    wrong = [each for each in found if each.rank <= good]
    text += (
        f"{count(len(found), 'trial')} that it would have stopped ran on for the audit; {len(wrong)} of them came to "
    )
    text += f"be among the best tenth ({good} of {number(len(facts.ranked))} by rank). "
    text += "Few audits say little: `search audit` gives the share with its interval."
    rows = [
        [each.id, each.epoch, each.value, each.rank, "yes" if each.rank <= good else "no"] for each in found[:MOST_ROWS]
    ]
    head = ["trial", "would have stopped after epoch", f"{facts.metric} in the end", "rank", "would have been wrong"]
    return (
        "stops",
        "Were the stops right?",
        joined([h("p", prose(text)), table(head, rows, [e.id for e in found], "Audited")]),
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


def samples(facts: Facts) -> Section | None:
    """Returns what the final models produced: to hear, to see, and by its measures."""
    rows = _samples_shown(facts)
    if not rows:
        return None
    files: dict[str, dict[str, Attached]] = {}
    for sweep in facts.results.sweeps:
        paths = [row["path"] for row in rows if row["sweep"] == sweep.name and row["path"]]
        files[sweep.name] = attach(sweep.storage, paths) if paths else {}
    cards = [_sample(facts, row, files[row["sweep"]].get(row["path"] or "", Attached())) for row in rows]
    return "samples", "What it produces", joined([h("div", cards, class_="samples"), _measures(facts, rows)])


def _samples_shown(facts: Facts) -> list[dict[str, Any]]:
    """Returns the samples of the chosen models; of all, if none is chosen."""
    chosen = {(row["sweep"], row["final"]) for row in facts.chosen}
    rows = [row for row in facts.tables["samples"] if not chosen or (row["sweep"], row["final"]) in chosen]
    return rows[:MOST_ROWS]


def _sample(facts: Facts, row: Row, attached: Attached) -> Markup:
    by_kind: dict[str, list[Attachment]] = defaultdict(list)
    for each in attached.files:
        by_kind[each.kind].append(each)
    title = row["name"] if len(facts.chosen) < 2 else f"{row['sweep']}: {row['name']}"
    sounds = [h("audio", controls=True, preload="none", src=each.data, aria_label=f"{title}, sound") for each in
              by_kind["sound"]]  # fmt: skip
    pictures = sorted(by_kind["picture"], key=lambda each: each.name.endswith(".svg"))
    shown = [
        h("img", src=pictures[0].data, alt=f"{title}: {pictures[0].name}", loading="lazy", class_="paper")
        if pictures
        else None
    ]
    folded = [
        details(
            f"See {each.name}", h("img", src=each.data, alt=f"{title}: {each.name}", loading="lazy", class_="paper")
        )
        for each in pictures[1:]
    ]
    links = [h("a", each.name, href=each.data, download=each.name) for each in by_kind["download"]]
    text = (
        f"Too large for this page, in the sweep's folder: {', '.join(attached.left_out)}" if attached.left_out else ""
    )
    if not attached.files:
        text = f"Its files are not there: {row['path']}" if row["path"] else "It has no files."
    return h(
        "article",
        h("h3", title),
        sounds,
        shown,
        folded,
        h("p", "Download: ", [(link, " ") for link in links], class_="note") if links else None,
        h("p", text, class_="note") if text else None,
        class_="sample",
    )


def _measures(facts: Facts, rows: list[dict[str, Any]]) -> Markup | None:
    names = dict.fromkeys(name for sweep in facts.results.sweeps for name in sweep.schema.measures)
    names = [name for name in names if any(finite(row.get(name)) for row in rows)]
    if not names:
        return None
    references = _references(facts, rows, names)
    body = []
    for name in names:
        measure = facts.measure(name)
        meaning = " · ".join(filter(None, [measure.meaning, measure.unit]))
        body.append(
            [h("span", name, h("small", meaning)), *(each.get(name) for each in (*rows, *references.values()))]
        )  # fmt: skip
    head = ["measure", *(str(row["name"]) for row in rows), *references]
    return joined([h("h3", "Measures"), table(head, body, caption="Measures of the samples")])


def _references(facts: Facts, rows: list[dict[str, Any]], names: list[str]) -> dict[str, Mapping[str, Any]]:
    """Returns what the samples may be compared with, where the card of their model says so."""
    cards = {row["sweep"]: facts.cards.get(row["sweep"], {}) for row in rows}
    found: dict[str, Mapping[str, Any]] = {}
    for card in cards.values():
        values = card.get("references")
        if isinstance(values, Mapping):
            kept = {str(name): each for name, each in values.items() if isinstance(each, Mapping)}
            found |= {name: each for name, each in kept.items() if any(finite(each.get(measure)) for measure in names)}
    return found


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
