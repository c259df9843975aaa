"""What is written of `search` in the documents from the code itself; tests compare the two.

python -m search.cli.reference > docs/cli-search.md     the commands
python -m search.cli.reference docs/sweeps.md           the keys of a sweep file, between their marks in that document
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from results.cli.reference import reference
from search.cli import main
from search.fields import Key, When, keys
from search.spec import TABLES

CHANGES = {When.NEVER: "no", When.RESUME: "yes", When.EXTEND: "only upwards, with `search extend`"}


def key_tables() -> str:
    """Returns a table of the keys of each table of a sweep file, as Markdown."""
    return "\n".join(_table(name, (part.__doc__ or "").partition("\n")[0], keys(part)) for name, part in TABLES.items())


def with_key_tables(text: str) -> str:
    """Returns a document with the tables of keys between its marks `<!-- keys: begin -->` and `<!-- keys: end -->`."""
    begin, end = "<!-- keys: begin -->", "<!-- keys: end -->"
    return re.sub(f"{begin}.*{end}", lambda _: f"{begin}\n{key_tables()}{end}", text, flags=re.S)


def _table(name: str, purpose: str, declared: Iterator[Key]) -> str:
    said = purpose.partition(": ")[2] if purpose.startswith("`[") else "what, how much and where."
    lines = [f"### `[{name}]`", "", said[:1].upper() + said[1:], ""]
    lines += ["| key | value | default | meaning | may change later |", "|---|---|---|---|---|"]
    for key in declared:
        lines.append(
            f"| `{key.name}` | {_cell(key.kind.name)} | {_default(key)} | {_cell(key.meaning)} "
            f"| {CHANGES[key.change]} |"
        )
    return "\n".join([*lines, "", ""])


def _default(key: Key) -> str:
    if key.required:
        return "must be given" if key.name != "name" else "the file's name"
    if key.default is None:
        return "none"
    written = key.kind.write(key.default)
    if isinstance(written, bool):
        return f"`{str(written).lower()}`"
    return f'`"{written}"`' if isinstance(written, str) else f"`{written}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        document = Path(sys.argv[1])
        document.write_text(with_key_tables(document.read_text("utf-8")), "utf-8")
    else:
        click.echo(reference(main, "search"), nl=False)
