"""`results export`, `check`, `compact`: tables for other tools, and a ledger that is in order."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from results.cli.commands import FAILED, Command, pass_terminal
from results.cli.options import (
    Source,
    chosen_output,
    columns_option,
    json_option,
    listed,
    parsed,
    source_options,
    where_option,
)
from results.cli.terminal import Terminal
from results.errors import CallerError

if TYPE_CHECKING:
    from results.opening import Results


@click.command(
    cls=Command,
    examples=[
        "results export laptop --table trials --where state=completed --out trials.csv",
        "results export laptop --out tables --format parquet",
        "results export laptop --optuna sqlite:///laptop.db",
    ],
)
@source_options
@click.option(
    "--table", metavar="NAME", help="Only this table, such as trials or epochs; all into a folder if not given."
)
@where_option
@columns_option
@click.option("--format", "kind", type=click.Choice(["csv", "json", "parquet"]), help="Of the files.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--out", type=click.Path(path_type=Path), help="The file, or without --table the folder.")
@click.option(
    "--optuna", "url", metavar="URL", help="Write Optuna studies to sqlite:///FILE, or to a journal FILE.log."
)
@click.option("--name", "study", metavar="NAME", help="Of the study; the sweep's if not given.")
@pass_terminal
def export(
    terminal: Terminal,
    source: Source,
    table: str | None,
    conditions: tuple[str, ...],
    columns: str | None,
    kind: str | None,
    as_json: bool,
    out: Path | None,
    url: str | None,
    study: str | None,
) -> None:
    """Writes tables for other tools, or studies that optuna-dashboard opens."""
    results = source.open()
    if url is not None:
        if table or conditions or columns or kind or as_json or out:
            raise click.UsageError(
                "--optuna writes whole sweeps: leave out --table, --where, --columns, --format and --out"
            )
        _to_optuna(terminal, results, url, study)
        return
    if study is not None:
        raise click.UsageError("--name names a study; it belongs to --optuna")
    if table is None:
        if conditions or columns:
            raise click.UsageError("--where and --columns are for one table; add --table")
        _all_tables(terminal, results, "json" if as_json else kind or "csv", out)
        return
    output = chosen_output(as_json=as_json, kind=kind or ("csv" if out is None and not as_json else None), out=out)
    from results.filters import chosen_rows

    output.write(terminal, chosen_rows(results, table, parsed(conditions), listed(columns)))


def _all_tables(terminal: Terminal, results: "Results", kind: str, out: Path | None) -> None:
    from results.errors import StorageError
    from results.output import encoded, write_whole
    from results.schema import TABLES

    if out is None:
        raise click.UsageError("all tables go into a folder: add --out FOLDER, or --table NAME for one")
    if out.exists() and not out.is_dir():
        raise StorageError(f"{out} is a file; name a folder for the tables, or one of them with --table")
    for name in TABLES:
        rows = results.arrow(name)
        write_whole(out / f"{name}.{kind}", encoded(rows, kind))
        terminal.note(f"{out / name}.{kind}: {len(rows)} rows")


def _to_optuna(terminal: Terminal, results: "Results", url: str, study: str | None) -> None:
    from results.optuna_study import write_study

    if study is not None and len(results.sweeps) > 1:
        raise click.UsageError(f"one name for {len(results.sweeps)} sweeps: leave --name out, or name one sweep")
    for sweep in results.sweeps:
        count = write_study(sweep, url, name=study, progress=terminal.progress)
        terminal.note(f"study {study or sweep.name}: {count} trials. Look at them with: optuna-dashboard {url}")


@click.command(cls=Command, examples=["results check laptop", "results check --json"])
@source_options
@json_option
@pass_terminal
@click.pass_context
def check(ctx: click.Context, terminal: Terminal, source: Source, as_json: bool) -> None:
    """Verifies every promise of the ledger, and says which row breaks one.

    Exit status 1 if something was found.
    """
    from results.checking import check as check_ledger

    results = source.open()
    found = {sweep.name: check_ledger(sweep.ledger) for sweep in results.sweeps}
    if as_json:
        terminal.json({name: [dataclasses.asdict(each) for each in problems] for name, problems in found.items()})
    else:
        for name, problems in found.items():
            for each in problems:
                terminal.out(f"{name}: {each}")
            terminal.note(f"{name}: {len(problems) or 'no'} problem{'s' if len(problems) != 1 else ''}")
    if any(found.values()):
        ctx.exit(FAILED)


@click.command(cls=Command, examples=["results compact laptop"])
@source_options
@click.option(
    "--force", is_flag=True, help="Even if a driver seems to work on the sweep; only if you know that it died."
)
@pass_terminal
def compact(terminal: Terminal, source: Source, force: bool) -> None:
    """Puts the many small files of finished sweeps together, so that they read faster.

    Not while a sweep is running: only its driver may change its files then.
    """
    results = source.open()
    for sweep in results.sweeps:
        if sweep.driver and not force:
            raise CallerError(
                f"sweep {sweep.name!r} is in use by {sweep.driver}; compact it when that has ended, "
                "or with --force if you know that it died"
            )
    for sweep in results.sweeps:
        before = sweep.storage.size("ledger")
        sweep.ledger.compact()
        after = sweep.storage.size("ledger")
        terminal.note(f"{sweep.name}: {before / 1e6:.2f} MB before, {after / 1e6:.2f} MB now")
