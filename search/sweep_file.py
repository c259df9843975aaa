"""Sweep files: TOML to `SweepSpec` and back, and what differs between two of them."""

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from search.errors import SpecError, did_you_mean
from search.fields import Key, When, is_number, keys, shown
from search.spec import FREE_TABLES, TABLES, Point, SweepSpec, conflicts, narrowing_problems

LARGEST_FILE_BYTES = 1_000_000
"""A sweep file above this size is something else."""


def load(path: str | os.PathLike) -> SweepSpec:
    """Returns the sweep that a file describes. Whether the task and its parameters exist is not looked at yet.

    Args:
        path: a TOML file; `docs/sweeps.md` has its keys.

    Raises:
        SpecError: it cannot be read, or what it asks for cannot be; the message has every mistake found.
    """
    path = Path(path)
    text = _text(path)
    try:
        document = tomllib.loads(text)
    except ValueError as error:  # a number with thousands of digits is TOML, but Python does not read it
        raise SpecError(f"{path} is not TOML: {error}; docs/sweeps.md has an example") from error
    except RecursionError as error:
        raise SpecError(f"{path} is not a sweep file: its lists are nested too deeply") from error
    return read(document, source=str(path), name=path.stem, folder=str(path.parent))


def read(document: Mapping[str, Any], *, source: str, name: str | None = None, folder: str | None = None) -> SweepSpec:
    """Returns the sweep that a document describes: a sweep file's content, or what `document` has written.

    Args:
        document: tables as in a sweep file; `folder` may stand beside them.
        source: where it comes from, for messages.
        name: of the sweep, if the document has none.
        folder: see `SweepSpec`; `None` is the document's own.

    Raises:
        SpecError: what it asks for cannot be; the message has every mistake found.
    """
    reading = _Reading()
    tables = {table: content for table, content in document.items() if table != "folder"}
    for table in tables:
        if table not in TABLES and table not in FREE_TABLES:
            reading.problems.append(f"[{table}]: unknown table{did_you_mean(table, [*TABLES, *FREE_TABLES])}")
    top = reading.table(tables, "sweep")
    if name is not None and "name" not in top and isinstance(document.get("sweep", {}), Mapping):
        top = {"name": name, **top}
    values = reading.fields(top, "sweep")
    for table, part in TABLES.items():
        if table != "sweep":
            found = reading.fields(reading.table(tables, table), table)
            values[table] = part(**found)
    values["options"] = reading.options(reading.table(tables, "task"))
    values["space"] = reading.space(reading.table(tables, "space"))
    values["points"] = reading.points(tables.get("points", []))
    values["folder"] = document.get("folder", "") if folder is None else folder
    reading.find_conflicts(values)
    if reading.problems:
        count = len(reading.problems)
        raise SpecError(f"{source}: {count} mistake{'s' if count > 1 else ''}; nothing was started", reading.problems)
    return SweepSpec(**values)


def document(spec: SweepSpec) -> dict[str, Any]:
    """Returns a sweep as a JSON document in the form of a sweep file; `read` makes the same sweep of it.

    Keys without a value are left out; all others are there, defaults too.
    """
    tables: dict[str, Any] = {}
    for table, part in TABLES.items():
        owner = spec if table == "sweep" else getattr(spec, table)
        tables[table] = {
            declared.name: declared.kind.write(value)
            for declared in keys(part)
            if (value := getattr(owner, declared.field)) is not None
        }
    tables["task"] = _plain(spec.options)
    tables["space"] = _plain(spec.space)
    tables["points"] = [
        ({"preset": point.preset} if point.preset is not None else {}) | _plain(point.values) for point in spec.points
    ]
    return tables | {"folder": spec.folder}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A key that two sweeps have different values for.

    Attributes:
        key: such as `[sweep] trials`.
        before: the first sweep's value as the file has it; `None` if it has none.
        after: the second's.
        change: when such a change is allowed.
    """

    key: str
    before: Any
    after: Any
    change: When

    def __str__(self) -> str:
        return f"{self.key}: {_or_nothing(self.before)} -> {_or_nothing(self.after)}"


def differences(before: SweepSpec, after: SweepSpec) -> list[Difference]:
    """Returns what differs between two sweeps, in the order of the file. The folder of the file is left out."""
    old, new = document(before), document(after)
    found = []
    for table in [*TABLES, *FREE_TABLES]:
        if table == "points":
            pairs = [("[[points]]", old[table], new[table], When.NEVER)]
        else:
            allowed = {declared.name: declared.change for declared in keys(TABLES[table])} if table in TABLES else {}
            names = dict.fromkeys([*allowed, *old[table], *new[table]])
            pairs = [
                (f"[{table}] {name}", old[table].get(name), new[table].get(name), allowed.get(name, When.NEVER))
                for name in names
            ]
        found += [Difference(key=k, before=b, after=a, change=when) for k, b, a, when in pairs if not _same(b, a)]
    return found


def check_resumable(before: SweepSpec, after: SweepSpec, *, extend: bool = False) -> list[Difference]:
    """Returns what has changed in a sweep file since the sweep was begun, if all of it may.

    Args:
        before: the sweep as it was begun, or last resumed.
        after: as it is wanted now.
        extend: whether the sweep is to be extended, which allows more epochs.

    Raises:
        SpecError: something changed that may not; the message shows what, and names what may.
    """
    found = differences(before, after)
    fine = {When.RESUME, When.EXTEND} if extend else {When.RESUME}
    refused = [difference for difference in found if difference.change not in fine]
    epochs = next((d for d in found if d.key == "[sweep] epochs"), None)
    if extend and epochs is not None and epochs.after < epochs.before:
        refused.append(epochs)
    if not refused:
        return found
    allowed = ", ".join(changeable(fine))
    advice = [f"may change: {allowed}"]
    if any(difference.change is When.EXTEND for difference in refused):
        advice.append("epochs can grow with search extend, never shrink")
    advice.append("put the rest back as it was, or give the sweep another name to begin a new one (see warm_start)")
    raise SpecError(
        f"sweep {shown(before.name)} was begun otherwise; changed, but must stay as it was:",
        [*map(str, refused), *advice],
    )


def changeable(fine: set[When]) -> Iterator[str]:
    """Yields the keys that may change at one of the times in `fine`; a table all of whose keys may is `[table]`."""
    for table, part in TABLES.items():
        declared = list(keys(part))
        names = [one.name for one in declared if one.change in fine]
        if len(names) == len(declared):
            yield f"[{table}]"
        else:
            yield from (names if table == "sweep" else (f"{name} of [{table}]" for name in names))


class _Reading:
    """Reads tables and gathers what is wrong with them."""

    def __init__(self):
        self.problems: list[str] = []
        self._bad: set[str] = set()

    def table(self, tables: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        content = tables.get(name, {})
        if isinstance(content, Mapping):
            return content
        self.problems.append(f"[{name}]: got {shown(content)}, expected a table; write [{name}] on a line of its own")
        self._bad.add(name)
        return {}

    def fields(self, content: Mapping[str, Any], table: str) -> dict[str, Any]:
        declared = {one.name: one for one in keys(TABLES[table])}
        for name in content:
            if name not in declared:
                self.problems.append(f"[{table}] {name}: unknown key{_nearest_key(name, table, declared)}")
        values = {}
        for name, one in declared.items():
            if name in content:
                try:
                    values[one.field] = one.kind.read(content[name])
                    continue
                except ValueError as error:
                    self.problems.append(f"[{table}] {name}: {error}")
            elif one.required:
                self.problems.append(f"[{table}] {name}: missing; expected {one.kind.name}: {one.meaning}")
            else:
                continue
            self._bad.add(one.field if table == "sweep" else table)
        return values

    def options(self, content: Mapping[str, Any]) -> dict[str, Any]:
        for name, value in content.items():
            if not _is_plain(value):
                self.problems.append(f"[task] {name}: got {shown(value)}, expected a text, number, true, false or list")
        return dict(content)

    def space(self, content: Mapping[str, Any]) -> dict[str, Any]:
        for name, wanted in content.items():
            self.problems += [f"[space] {name}: {problem}" for problem in narrowing_problems(wanted)]
        return dict(content)

    def points(self, content: Any) -> tuple[Point, ...]:
        if not isinstance(content, list | tuple) or not all(isinstance(point, Mapping) for point in content):
            self.problems.append("[[points]]: expected tables, each under a line [[points]] of its own")
            return ()
        points = []
        for position, point in enumerate(content, 1):
            preset = point.get("preset")
            if preset is not None and not isinstance(preset, str):
                self.problems.append(f"[[points]] {position}: preset: got {shown(preset)}, expected a text in quotes")
            values = {name: value for name, value in point.items() if name != "preset"}
            for name, value in values.items():
                if isinstance(value, Mapping):
                    self.problems.append(
                        f'[[points]] {position}: {name}: got a table; put names with dots in quotes: "{name}.…" = …'
                    )
                elif not (isinstance(value, str | bool) or is_number(value)):
                    self.problems.append(
                        f"[[points]] {position}: {name}: got {shown(value)}, expected a text, a finite number, "
                        "true or false"
                    )
            points.append(Point(preset=preset if isinstance(preset, str) else None, values=values))
        return tuple(points)

    def find_conflicts(self, values: Mapping[str, Any]) -> None:
        """Adds what does not go together, unless a mistake in one of its keys is known already."""
        defaults = {field.name: field.default for field in fields(SweepSpec) if field.default is not MISSING}
        spec = SimpleNamespace(**{"objectives": (), **defaults, **values})
        self.problems += [sentence for about, sentence in conflicts(spec) if not about & self._bad]


def _text(path: Path) -> str:
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise SpecError(f"{path} is a folder, expected a sweep file; sweeps/ has some to begin with")
        if size > LARGEST_FILE_BYTES:
            raise SpecError(f"{path} has {size:,} bytes, expected a sweep file, which is short")
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        near = difflib.get_close_matches(path.stem, _names_beside(path), n=1)
        nearest = f"did you mean '{path.with_name(near[0] + '.toml')}'?" if near else "sweeps/ has some to begin with"
        raise SpecError(f"{path}: no such sweep file; {nearest}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SpecError(f"{path} is not UTF-8 text: line {line} has other bytes; save it as UTF-8") from error
    except (OSError, ValueError) as error:
        raise SpecError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _names_beside(path: Path) -> list[str]:
    try:
        return [other.stem for other in path.parent.iterdir() if other.suffix == ".toml"]
    except OSError:
        return []


def _nearest_key(name: str, table: str, declared: Mapping[str, Key]) -> str:
    elsewhere = [other for other, part in TABLES.items() if other != table and name in {k.name for k in keys(part)}]
    if elsewhere:
        return f"; it belongs to [{elsewhere[0]}]"
    return did_you_mean(name, declared)


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(name, str) and _is_plain(item) for name, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return isinstance(value, str | bool) or is_number(value)


def _plain(value: Any) -> Any:
    """The value in lists and dictionaries of its own."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _same(one: Any, other: Any) -> bool:
    """Whether two values are equal; true is not 1."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(value, other[name]) for name, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def _or_nothing(value: Any) -> str:
    return "nothing" if value is None else shown(value)
