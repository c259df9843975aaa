"""The columns as a page: `python -m results.columns docs/columns.md` writes it anew."""

import sys
from collections.abc import Iterable
from pathlib import Path

from results.schema import COMMON, SCHEMA_VERSION, TABLES, Column, Table

_GROUPS = {
    "config": (
        "`config.<parameter>`",
        "int64, double, string or bool",
        "",
        "the configuration, a column for each parameter of the space; missing where the parameter is inactive",
    ),
    "metrics": ("`<metric>`", "double", "as the task says", "what an epoch returns, a column each"),
    "scores": ("`<score>`", "double", "as the task says", "what is measured on a finished model, a column each"),
    "measures": ("`<measure>`", "double", "as the task says", "what is measured on a sample, a column each"),
}

_INTRODUCTION = f"""\
# Tables and columns

Written by `python -m results.columns docs/columns.md` from `results.schema`; version {SCHEMA_VERSION} of the schema.

A sweep leaves its ledger in `<storage>/<sweep>/ledger/<table>/*.parquet`. Every event is one row in one table. Beside
the tables lies `schema.json`, which has the columns of this one sweep, those of its parameters and metrics too, with
unit and meaning. [results.md](results.md) shows how to read them.

In the files a *key* may stand more than once: an epoch is trained again after a worker was lost, an unfinished trial
ends after all. Of several rows with equal keys, the one with the greatest `seq` counts; `results` shows only that one.
A trial may also go on from a checkpoint before its last epoch: an epoch of an earlier attempt counts only if no later
attempt began at or before it, and `results` shows no other one.

## Every table
"""


def page() -> str:
    """Returns the page as Markdown."""
    parts = [_INTRODUCTION, _rows(COMMON)]
    for table in TABLES.values():
        parts += ["", f"## {table.name}", "", _sentence(table), "", _rows(table.columns, table.varying)]
    return "\n".join(parts) + "\n"


def _sentence(table: Table) -> str:
    meaning = table.meaning[0].upper() + table.meaning[1:]
    extra = {
        "trials": " From Python and in `results`, the table also has the trials that have not ended (`proposed`, "
        "`running`, `paused`), and the columns `data` and `data_fingerprint`: on what the best epoch was scored.",
    }
    return f"{meaning}. Key: {', '.join(f'`{name}`' for name in table.key)}.{extra.get(table.name, '')}"


def _rows(columns: Iterable[Column], varying: Iterable[str] = ()) -> str:
    cells = [(f"`{c.name}`", str(c.type), c.unit, c.meaning) for c in columns]
    cells += [_GROUPS[group] for group in varying]
    return "\n".join(["| column | type | unit | meaning |", "|---|---|---|---|", *map(_line, cells)])


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in cells) + " |"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("expected the page to write: python -m results.columns docs/columns.md")
    Path(sys.argv[1]).write_text(page(), "utf-8")
