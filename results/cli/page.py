"""`results report`: the page that a person decides on."""

import webbrowser
from pathlib import Path

import click

from results.cli.commands import Command, pass_terminal
from results.cli.options import Source, source_options
from results.cli.terminal import Terminal


@click.command(
    cls=Command,
    examples=[
        "results report laptop",
        "results report laptop families --out both.html",
        "results report laptop --open",
    ],
)
@source_options
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The file; report.html in the folder of the sweep if not given, here for several sweeps.",
)
@click.option("--open", "show", is_flag=True, help="Open it in a browser.")
@pass_terminal
def report(terminal: Terminal, source: Source, out: Path | None, show: bool) -> None:
    """Writes a page to decide by: the choice and why, what was tried, what it took, samples to hear and see.

    It is one file that needs no network and no other file.
    """
    from results import report as pages
    from results.errors import CallerError
    from results.output import write_whole

    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        raise click.UsageError(f"--out {out}: expected a name that ends in .html")
    results = source.open()
    if out is None and len(results.sweeps) == 1:
        storage = results.sweeps[0].storage
        place = pages.write(storage)
        if show and not storage.is_local:
            raise CallerError(f"{place} is written, but no local file to open; add --out report.html")
    else:
        out = out or Path(pages.FILE)
        write_whole(out, pages.page(results).encode())
        place = str(out)
    terminal.out(place)
    if show:
        webbrowser.open(Path(place).absolute().as_uri())
