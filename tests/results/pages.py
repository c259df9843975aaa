"""Pages as tests read them."""

import html.parser

import results
from results import report
from results.storage import Storage


class Parsed(html.parser.HTMLParser):
    """What stands in a page: elements with their attributes, ids, and text outside of style and script."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)
        self.ids = [attributes["id"] for _, attributes in self.elements if "id" in attributes]

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.elements and self.elements[-1][0] not in ("style", "script"):
            self.text += data

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(*storages: Storage) -> Parsed:
    return Parsed(report.page(results.open(*(storage.uri for storage in storages))))
