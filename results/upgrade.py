"""Brings what older versions wrote up to the present schema, one version at a time.

Every part file carries the version that it was written with, so a ledger may hold parts of several. A new version adds
an entry to `UPGRADES` and keeps a ledger of the old one as a test.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from results.errors import SchemaError

if TYPE_CHECKING:
    import pyarrow as pa

Document = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Upgrade:
    """One step from a version to the next.

    Attributes:
        document: takes what `schema.json` held and returns what it holds in the next version.
        table: takes a table's name and rows and returns the rows as the next version has them.
    """

    document: Callable[[Document], Document]
    table: "Callable[[str, pa.Table], pa.Table]"


Upgrades = Mapping[int, Upgrade]
"""Steps by the version that they start from."""

# In version 1 a final job knew one sweep, and its models were single ones: columns, their types and values.
_NEW_IN_2: Mapping[str, Mapping[str, tuple[str, Any]]] = {
    "finals": {
        "source": ("string", ""),
        "kind": ("string", "single"),
        "members": ("string", ""),
        "round": ("int32", 0),
        "job_s": ("float64", None),
    },
    "samples": {"kind": ("string", ""), "origin": ("string", "")},
}


def _to_2(name: str, rows: "pa.Table") -> "pa.Table":
    import pyarrow as pa

    for column, (kind, value) in _NEW_IN_2.get(name, {}).items():
        rows = rows.append_column(column, pa.array([value] * len(rows), pa.type_for_alias(kind)))
    return rows


def _same(document: Document) -> Document:
    return document


UPGRADES: Upgrades = MappingProxyType(
    {
        1: Upgrade(document=_same, table=_to_2),
        2: Upgrade(document=_same, table=lambda name, rows: rows),  # version 3 has one table more, `choices`
    }
)


def document(document: Document, version: int, present: int, upgrades: Upgrades = UPGRADES) -> Document:
    """Returns what `schema.json` would hold had it been written with version `present`."""
    for step in _path(version, present, upgrades):
        document = step.document(document)
    return document


def table(name: str, rows: "pa.Table", version: int, present: int, upgrades: Upgrades = UPGRADES) -> "pa.Table":
    """Returns rows of a table as if they had been written with version `present`."""
    for step in _path(version, present, upgrades):
        rows = step.table(name, rows)
    return rows


def _path(version: object, present: int, upgrades: Upgrades) -> list[Upgrade]:
    if not isinstance(version, int):
        raise SchemaError(f"the schema's version is {version!r}, a whole number was expected; restore it from a copy")
    if version > present:
        raise SchemaError(
            f"the ledger was written with version {version} of the schema, this software knows versions up to "
            f"{present}; update it (pip install --upgrade chorale-search)"
        )
    missing = [step for step in range(version, present) if step not in upgrades]
    if missing:
        raise SchemaError(
            f"the ledger was written with version {version} of the schema, and this software no longer knows how to go "
            f"on from version {missing[0]}; read it with the software that wrote it"
        )
    return [upgrades[step] for step in range(version, present)]
