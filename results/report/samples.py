"""The section on what the final models make: samples of all models that may be the best, beside each other.

What a sample is of, only its task knows. The tables say of which `kind` it is and from which `origin`, which measures
it has, and where its files lie; the card of the bundle says what these measures are of what people made.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from results.report.attachments import Attached, Attachment, attach, kinds
from results.report.facts import WHOLE, Facts, Row, finite
from results.report.makers import KINDS, ORIGINAL, Maker, makers, outside, references
from results.report.markup import Markup, Numeral, count, element, joined, number, prose
from results.report.tables import Section, details, table

h = element

MOST_CARDS = 60
"""Samples of a page; more of them are named with their paths."""
_TITLES = {
    "free": ("Made from nothing", ""),
    "continued": ("Gone on from a beginning", "The beginning is given, the rest is the model's."),
    "harmony": ("Completed", "One part is given, the others are the model's."),
    ORIGINAL: ("For comparison", "What people made."),
    "": ("Samples", ""),
}


def samples(facts: Facts) -> Section | None:
    """Returns what the final models made: to hear, to see, and by its measures."""
    known = makers(facts)
    if not known:
        return None
    chosen = _in_turn(known)
    shown, rest = chosen[:MOST_CARDS], chosen[MOST_CARDS:]
    storages = {sweep.name: sweep.storage for sweep in facts.results.sweeps}
    files = attach([(storages[row["sweep"]], row["path"] or "") for _, row in shown])
    attached = {_key(row): each for (_, row), each in zip(shown, files, strict=True)}
    by_maker = {_key(row): maker for maker, row in shown}
    ordered = [row for maker in known for row in maker.samples if _key(row) in attached]
    by_kind: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in _moved_beside(ordered):
        by_kind[row["group"]].append(row)
    parts: list[Any] = [_compared(facts, known) if len(known) > 1 else None, _marked(facts, ordered)]
    headed = len(by_kind) > 1 or any(by_kind)
    for kind in sorted(by_kind, key=lambda kind: KINDS.index(kind) if kind in KINDS else len(KINDS)):
        title, text = _TITLES.get(kind, (kind.capitalize(), ""))
        cards = [(row, _card(facts, row, by_maker[_key(row)], attached[_key(row)], known)) for row in by_kind[kind]]
        parts += [
            h("h3", title) if headed else None,
            h("p", text, class_="note above") if text else None,
            _grouped(cards, kind, several=len(known) > 1),
            _measures(facts, by_kind[kind], by_maker, title if headed else ""),
        ]
    if rest:
        items = [h("li", f"{maker.name}: {row['name']}, {row['path']}") for maker, row in rest]
        parts.append(details(f"{count(len(rest), 'more sample')} for which this page has no room", h("ul", items)))
    return "samples", "What they produce" if len(known) > 1 else "What it produces", joined(parts)


def _key(row: Row) -> tuple[str, int]:
    return row["sweep"], row["sample"]


def _in_turn(known: Sequence[Maker]) -> list[tuple[Maker, dict[str, Any]]]:
    """Returns all samples in the order in which the page has room for them: one of each model in turn.

    The chosen model comes first, and of each model one of each kind in turn. An original is taken once.
    """
    originals: set[tuple[str, str]] = set()
    queues: list[list[tuple[Maker, dict[str, Any]]]] = []
    for maker in known:
        by_kind: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in maker.samples:
            origin = (row.get("kind") or "", row.get("origin") or row["name"])
            if origin[0] == ORIGINAL:
                if origin in originals:
                    continue
                originals.add(origin)
            by_kind[origin[0]].append(row)
        ordered = [by_kind[kind] for kind in (*KINDS, *(k for k in by_kind if k not in KINDS)) if kind in by_kind]
        queues.append([(maker, row) for row in _alternating(ordered)])
    return list(_alternating(queues))


def _alternating(lists: Sequence[Sequence[Any]]) -> Iterator[Any]:
    """Yields the first of each list, then the second of each, and so on."""
    for place in range(max(map(len, lists), default=0)):
        yield from (each[place] for each in lists if place < len(each))


def _moved_beside(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yields rows with the kind that they are shown under: an original stands beside what was made from it."""
    made = {(row.get("kind"), row.get("origin")) for row in rows}
    for row in rows:
        kind, origin = row.get("kind") or "", row.get("origin")
        beside = [each for each in ("harmony", "continued") if kind == ORIGINAL and origin and (each, origin) in made]
        yield row | {"group": (beside or [kind])[0]}


def _grouped(cards: Sequence[tuple[dict[str, Any], Markup]], kind: str, *, several: bool) -> Markup:
    """Returns cards in rows: what belongs to one origin, or what several models made under one name, in one row."""
    groups: dict[str, list[tuple[dict[str, Any], Markup]]] = defaultdict(list)
    for row, card in cards:
        groups[str(row.get("origin") or (row["name"] if several and kind != ORIGINAL else ""))].append((row, card))
    return joined([
        [
            h("h4", name) if name else None,
            h("div", [card for _, card in sorted(group, key=lambda each: each[0].get("kind") == ORIGINAL)],
              class_="samples"),
        ]
        for name, group in groups.items()
    ])  # fmt: skip


def _compared(facts: Facts, known: Sequence[Maker]) -> Markup:
    """Returns the models side by side: their scores, their costs, and how many of their samples are marked."""
    spent = [name for name, _ in facts.costs if any(finite(maker.row.get(name)) for maker in known)]
    rows = []
    for maker in known:
        contender = maker.contender
        own = [row for row in maker.samples if row.get("kind") != ORIGINAL]
        marked = sum(bool(outside(facts, row)) for row in own)
        rows.append([
            _who(maker),
            contender.mean if contender else maker.row.get(facts.metric) if maker.row.get("kind") != WHOLE else None,
            f"{number(contender.interval[0])} to {number(contender.interval[1])}"
            if contender and contender.interval else "–",
            *(maker.row.get(name) for name in spent),
            len(own),
            marked,
        ])  # fmt: skip
    head = ["model", f"mean {facts.metric}", "95 % interval", *spent, "samples", "of them marked"]
    if len({maker.row["sweep"] for maker in known}) > 1:
        text = (
            "Each sweep chose by itself, and models of different sweeps were not compared. Hear and see what they make."
        )
    elif all(maker.contender and maker.contender.tied for maker in known):
        text = "These models cannot be told apart by their scores, so hear and see what each of them makes."
    else:
        text = "Hear and see what each of these models makes."
    ids = [facts.trial_of(maker.row) for maker in known]
    return joined([h("p", text), table(head, rows, ids, "The models whose samples follow")])


def _who(maker: Maker) -> Markup:
    return joined([maker.name, [" ", h("span", maker.badge, class_="badge")] if maker.badge else None])


def _marked(facts: Facts, rows: Sequence[Row]) -> Markup | None:
    """Returns in a sentence how many samples lie outside of the limits, if there are any limits."""
    if not any(isinstance(card.get("sample_limits"), dict) and card["sample_limits"] for card in facts.cards.values()):
        return None
    made = [row for row in rows if row.get("kind") != ORIGINAL]
    marks = [each for row in made for each in outside(facts, row)]
    if not marks:
        return h("p", "No sample lies outside of the limits that the task names.", class_="note")
    kinds_of = dict.fromkeys(each.text for each in marks)
    num = sum(bool(outside(facts, row)) for row in made)
    text = f"{num} of {count(len(made), 'sample')} {'is' if num == 1 else 'are'} marked: {'; '.join(kinds_of)}."
    return h("p", h("span", "▲", class_="warn", aria_hidden="true"), " ", text)


def _card(facts: Facts, row: Row, maker: Maker, attached: Attached, known: Sequence[Maker]) -> Markup:
    original = row.get("kind") == ORIGINAL
    # Below the heading of its kind, and below that of its row, if there are such.
    level = 3 + bool(row.get("kind")) + bool(row.get("origin") or (len(known) > 1 and not original))
    title = f"{maker.name}: {row['name']}" if len(known) > 1 and not original else str(row["name"])
    by_kind = kinds(attached)
    sounds = [h("audio", controls=True, preload="metadata", src=each.address, aria_label=f"{title}, sound")
              for each in by_kind["sound"]]  # fmt: skip
    pictures = [_picture(each, title) for each in by_kind["picture"]]
    more = [
        details(f"See {each.name}", picture, screen=not maker.badge)
        for each, picture in zip(by_kind["picture"], pictures, strict=True)
    ]
    plain = bool(pictures) and not by_kind["picture"][0].packed
    links = [h("a", each.name, href="#samples", download=each.name, **_content(each)) for each in by_kind["download"]]
    note = ""
    if attached.left_out:
        note = f"Not in this page, for want of room: {', '.join(attached.left_out)}"
    elif not attached.files:
        note = f"Its files are not there: {row['path']}" if row["path"] else "It has no files."
    who: Any = "original" if original else _who(maker) if len(known) > 1 else row["name"]
    under = row["name"] if original or (len(known) > 1 and row.get("origin")) else ""
    return h(
        "article",
        h(f"h{level}", who),
        h("p", under, class_="note") if under else None,
        [
            h(
                "p",
                h("b", f"▲ {each.text}"),
                h("small", f"{each.measure} {number(each.value)}, {each.told} {number(each.limit)}"),
                class_="warn",
            )
            for each in outside(facts, row)
        ],
        sounds,
        pictures[0] if plain else None,
        more[1:] if plain else more,
        h("p", "Download: ", [(link, " ") for link in links], class_="note") if links else None,
        h("p", note, class_="note") if note else None,
        class_="sample original" if original else "sample",
        data_id=None if original else facts.trial_of(maker.row),
    )


def _picture(each: Attachment, title: str) -> Markup:
    source = {} if each.packed else {"src": each.address}
    return h("img", alt=f"{title}: {each.name}", loading="lazy", class_="paper", **source, **_content(each))


def _content(each: Attachment) -> dict[str, str]:
    """Returns the attributes from which the page's script unpacks a file."""
    return {"data_packed": each.data, "data_type": each.type} if each.packed else {}


def _measures(
    facts: Facts, rows: Sequence[dict[str, Any]], by_maker: dict[tuple[str, int], Maker], title: str
) -> Markup | None:
    names = list(dict.fromkeys(name for sweep in facts.results.sweeps for name in sweep.schema.measures))
    names = [name for name in names if any(finite(row.get(name)) for row in rows)]
    if not names:
        return None
    human = references(facts, [row["sweep"] for row in rows], names)
    models = {maker.name for maker in by_maker.values()}
    marks = {(_key(row), each.measure): each for row in rows for each in outside(facts, row)}
    body = []
    for name in names:
        measure = facts.measure(name)
        meaning = " · ".join(filter(None, [measure.meaning, measure.unit]))
        cells: list[Any] = [h("span", name, h("small", meaning))]
        cells += [values.get(name) if finite(values.get(name)) else None for values in human.values()]
        for row in rows:
            mark = marks.get((_key(row), name))
            cells.append(
                Numeral(h("span", f"{number(row.get(name))} ▲", title=mark.text, class_="warn"))
                if mark else row.get(name)
            )  # fmt: skip
        body.append(cells)
    head: list[Any] = ["measure", *human]
    for row in rows:
        who = by_maker[_key(row)].name if len(models) > 1 and row.get("kind") != ORIGINAL else ""
        head.append(joined([row["name"], h("small", who) if who else ""]))
    caption = f"Measures{f': {title}' if title else ''}"
    said = "What people made comes first; ▲ marks what lies outside of the limits." if human else ""
    return joined([
        h("h4" if title else "h3", "Measures"),
        table(head, body, caption=caption, sticky=True),
        h("p", prose(said), class_="note") if said else None,
    ])  # fmt: skip
