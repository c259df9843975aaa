"""The options that several commands share, and the ways in which a table leaves."""

import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from results.cli.terminal import Terminal
from results.plain import json_text

if TYPE_CHECKING:
    import pyarrow as pa

    from results.filters import Condition
    from results.opening import Results

Command = Callable[..., Any]

STORAGE = "runs"
FORMATS = ("table", "csv", "json", "parquet")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines to read.")
metric_option = click.option("--metric", metavar="NAME", help="Which metric; the sweep's first objective if not given.")
goal_option = click.option(
    "--goal", type=click.Choice(["min", "max"]), help="What is better; as declared if not given."
)
where_option = click.option(
    "--where",
    "conditions",
    metavar="CONDITION",
    multiple=True,
    help="Only rows with, for example, model.family=conv_lstm or 'val_nll<0.9'; may be given several times.",
)
columns_option = click.option(
    "--columns", metavar="NAMES", help="Which columns, with commas between; train.* stands for all that begin so."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Where to read, as it was typed.

    Attributes:
        names: sweeps or folders of sweeps; empty: all of the storage.
        storage: where a sweep is looked for that is given by its name alone.
    """

    names: tuple[str, ...]
    storage: str

    def open(self) -> "Results":
        """Returns the sweeps."""
        return self.opened(self.names)

    def opened(self, names: Sequence[str]) -> "Results":
        """Returns the sweeps of these names; all of the storage if there are none."""
        _spare_pandas()
        from results.opening import locate
        from results.opening import open as open_results

        return open_results(*([locate(name, self.storage) for name in names] or [self.storage]))


class _NoPandas:
    """Says that there is no pandas."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        """Refuses it; all else is found by others."""
        if name == "pandas":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _spare_pandas() -> None:
    """Lets pyarrow believe that there is no pandas until a table is to become a frame, for which it looks again.

    Otherwise it imports pandas to see whether the first value that it is given is a series, and that takes longer than
    all the rest of `results top`.
    """
    import pyarrow as pa

    if "pandas" in sys.modules:
        return
    sys.meta_path.insert(0, _NoPandas)
    try:
        pa.scalar(0)
    finally:
        sys.meta_path.remove(_NoPandas)


def source_options(command: Command) -> Command:
    """Gives a command the sweeps to read, as one argument `source`."""

    @functools.wraps(command)
    def collected(*args: Any, names: tuple[str, ...], storage: str, **kwargs: Any) -> Any:
        return command(*args, source=Source(names=names, storage=storage), **kwargs)

    argument = click.argument("names", metavar="[SWEEP]...", nargs=-1)
    return argument(storage_option(collected))


def storage_option(command: Command) -> Command:
    """Gives a command the option `--storage`."""
    return click.option(
        "--storage",
        metavar="URI",
        default=STORAGE,
        show_default=True,
        help="Folder of the sweeps, also s3:// or gs://; a sweep may also be given by its place.",
    )(command)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Output:
    """How a table leaves.

    Attributes:
        format: one of `FORMATS`.
        out: a file; None: stdout.
    """

    format: str
    out: Path | None

    @property
    def as_table(self) -> bool:
        """Whether it is for people."""
        return self.format == "table"

    def write(self, terminal: Terminal, rows: "pa.Table", document: object = None) -> None:
        """Writes rows for machines.

        Args:
            terminal: where they go if there is no file.
            rows: the table.
            document: what JSON shall hold instead of a list of rows.
        """
        from results.output import encoded, write_whole

        if self.format == "json" and document is not None:
            data = f"{json_text(document)}\n".encode()
        else:
            data = encoded(rows, self.format)
        if self.out is not None:
            write_whole(self.out, data)
            terminal.note(f"written: {self.out}")
        elif self.format == "parquet":
            if sys.stdout.isatty():
                raise click.UsageError("--format parquet is not for a terminal; add --out FILE")
            sys.stdout.buffer.write(data)
        else:
            terminal.out(data.decode().rstrip("\n"))


def output_options(command: Command) -> Command:
    """Gives a command `--json`, `--format` and `--out`, as one argument `output`."""

    @functools.wraps(command)
    def collected(*args: Any, as_json: bool, kind: str | None, out: Path | None, **kwargs: Any) -> Any:
        return command(*args, output=chosen_output(as_json=as_json, kind=kind, out=out), **kwargs)

    options = [
        json_option,
        click.option(
            "--format", "kind", type=click.Choice(FORMATS), help="A table for people if nothing else is said."
        ),
        click.option(
            "--out", type=click.Path(path_type=Path), help="Write to this file; its ending may choose the format."
        ),
    ]
    return functools.reduce(lambda decorated, option: option(decorated), reversed(options), collected)


def chosen_output(*, as_json: bool, kind: str | None, out: Path | None) -> Output:
    """Returns what `--json`, `--format` and `--out` mean together.

    Raises:
        click.UsageError: they contradict each other.
    """
    if as_json and kind not in (None, "json"):
        raise click.UsageError(f"--json or --format {kind}, not both")
    kind = "json" if as_json else kind
    if kind is None and out is not None:
        kind = out.suffix.lower().removeprefix(".")
    if out is not None and kind not in FORMATS[1:]:
        raise click.UsageError(f"--out {out}: expected a name that ends in .csv, .json or .parquet, or --format")
    return Output(format=kind or "table", out=out)


def parsed(conditions: Sequence[str]) -> "list[Condition]":
    """Returns the conditions that were typed."""
    from results.filters import condition

    return [condition(text) for text in conditions]


def listed(names: str | None) -> list[str] | None:
    """Returns names that were typed with commas between; None if there are none."""
    return [name.strip() for name in names.split(",") if name.strip()] if names else None
