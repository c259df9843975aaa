"""Puts part files together: many small ones slow readers down.

Both ways write the new part before they remove what is in it, so a crash in between leaves rows that stand there twice
and none that is gone; readers count a sequence number once. Only the one who writes to a ledger may compact it.
"""

from collections.abc import Sequence

import pyarrow as pa

from results.parts import SUPERSEDED, Part, Parts, compacted_name, encode, once, seen
from results.schema import TABLES, SweepSchema

LARGE = 1_000_000
"""A writer leaves parts of so many rows as they are: to write them again would keep its sweep waiting for seconds."""


def compact_all(parts: Parts, schema: SweepSchema) -> None:
    """Makes each table one part in which every key stands once; what was superseded goes to a folder of its own."""
    listing = parts.whole()
    for table in TABLES:
        old = listing[table]
        read = parts.storage.each(lambda part: parts.read(part, schema), old)
        tables = [rows for rows in read if rows is not None]
        if not tables:
            continue
        rows = once(pa.concat_tables(tables))
        # What cannot be read stays where it is.
        old = [part for part, rows in zip(old, read, strict=True) if rows is not None]
        latest = seen(rows, table)
        flush = max(part.flush for part in old)
        # The rows that readers leave out go first: the other way round, a crash in between would lose them.
        chosen = {f"{SUPERSEDED}/{table}": rows.filter(pa.array(~latest)), table: rows.filter(pa.array(latest))}
        new = {f"{folder}/{compacted_name(flush, part)}": part for folder, part in chosen.items() if len(part)}
        if new.keys() == {part.path for part in old} and all(parts.current(part) for part in old):
            continue
        for path, part in new.items():
            _write(parts, path, part)
        _remove(parts, [part for part in old if part.path not in new])


def merge_small(
    parts: Parts, schema: SweepSchema, table: str, old: Sequence[Part], fresh: Sequence[tuple[Part, pa.Table]]
) -> list[Part]:
    """Puts a writer's own fresh parts of a table together, with older compacted ones that are no larger.

    So a row is rewritten as often as the number of rows doubles, not with every call, and never once it stands in a
    part of `LARGE` rows.

    Args:
        parts: the files.
        schema: of the sweep.
        table: name of the table.
        old: its compacted parts, oldest first.
        fresh: parts with their rows, at least one.

    Returns:
        The table's compacted parts, oldest first.
    """
    size, merged = sum(len(rows) for _, rows in fresh), []
    for part in reversed(old):
        if part.rows > min(size, LARGE - 1):
            break
        merged.append(part)
        size += part.rows
    tables = [parts.read(part, schema) for part in merged]
    sound = [part for part, rows in zip(merged, tables, strict=True) if rows is not None]
    rows = once(pa.concat_tables([*(rows for rows in tables if rows is not None), *(rows for _, rows in fresh)]))
    flush = max(part.flush for part, _ in fresh)
    path = f"{table}/{compacted_name(flush, rows)}"
    _write(parts, path, rows)
    _remove(parts, [*sound, *(part for part, _ in fresh)])
    new = Part(table=table, path=path, flush=flush, compacted=True, rows=len(rows))
    return [*(part for part in old if part not in merged), new]


def _write(parts: Parts, path: str, rows: pa.Table) -> None:
    seq = rows.column("seq")
    parts.storage.write(path, encode(rows, seq[0].as_py(), seq[-1].as_py()))


def _remove(parts: Parts, old: Sequence[Part]) -> None:
    parts.storage.each(lambda part: parts.storage.remove(part.path), old)
