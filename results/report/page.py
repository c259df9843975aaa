"""The page around the sections: one file that needs nothing else, whatever is in the tables."""

import base64
import hashlib
from importlib.resources import files

from results.opening import Results
from results.report import accounts, samples, sections
from results.report.facts import gather
from results.report.markup import Markup, element, joined, prose

h = element

_FOOTER = (
    "Made by `results report` from the sweep's own files. A trial lights up wherever it is; a click keeps it lit. In a "
    "chart or a table, the arrow keys go from one to the next, Enter keeps it lit, Escape lets go."
)


def page(results: Results) -> str:
    """Returns the page of one or several sweeps as HTML.

    It loads nothing: styles, script, charts, sound and pictures stand in it, and its policy forbids the rest, so that
    nothing which a table holds can run or fetch anything.

    Raises:
        CallerError: the sweeps cannot be on one page.
        SchemaError: a ledger cannot be understood.
    """
    facts = gather(results)
    found = [
        sections.leaderboard(facts),
        samples.samples(facts),
        sections.learning(facts),
        sections.parameters(facts),
        sections.pareto(facts),
        accounts.time(facts),
        accounts.failures(facts),
        accounts.stops(facts),
        accounts.following(facts),
        accounts.background(facts),
    ]
    shown = [each for each in found if each is not None]
    if not facts.trials:
        shown = shown[-1:]
    links = [h("a", title, href=f"#{anchor}") for anchor, title, _ in shown]
    body = [
        h("a", "Skip to the content", href="#content", class_="skip"),
        h(
            "main",
            sections.top(facts),
            h("nav", links, aria_label="Sections"),
            [_section(*each) for each in shown],
            id="content",
        ),
        h("footer", h("p", prose(_FOOTER))),
        h("div", id="tip", role="status", aria_live="polite"),
        h("button", h("b"), " is marked; let go", id="pin", type="button", hidden=True),
    ]  # fmt: skip
    script = _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "img-src data: blob:; media-src data:; base-uri 'none'; form-action 'none'"
    )
    head = h(
        "head",
        h("meta", charset="utf-8"),
        h("meta", http_equiv="Content-Security-Policy", content=policy),
        h("meta", name="viewport", content="width=device-width, initial-scale=1"),
        h("meta", name="color-scheme", content="light dark"),
        h("meta", name="referrer", content="no-referrer"),
        h("title", f"{', '.join(facts.names[:3])}: results"),
        h("style", Markup(_asset("page.css"))),
    )
    return "<!doctype html>\n" + h("html", head, h("body", joined(body), h("script", Markup(script))), lang="en")


def _section(anchor: str, title: str, content: Markup) -> Markup:
    return h("section", h("h2", title, id=f"{anchor}-title"), content, id=anchor, aria_labelledby=f"{anchor}-title")


def _asset(name: str) -> str:
    return files("results.report").joinpath(name).read_text("utf-8")
