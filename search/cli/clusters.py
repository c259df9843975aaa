"""`search cluster`: what is to be known of a cluster before it costs money."""

import dataclasses
from pathlib import Path

import click

from results.cli.commands import FAILED, Commands, pass_terminal
from results.cli.terminal import Terminal


@click.group(cls=Commands, examples=["search cluster check cluster.yaml"])
def cluster() -> None:
    """Looks at the files that start clusters."""


@cluster.command(examples=["search cluster check cluster.yaml", "search cluster check clusters/local.yaml --json"])
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--constraints", metavar="FILE", type=click.Path(path_type=Path),
    help="Versions that the cluster has to run; otherwise constraints.txt beside the FILE, above it or here.",
)  # fmt: skip
@click.option("--storage", metavar="URI", help="Where the sweeps will lie, if the FILE does not say or says otherwise.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines to read.")
@pass_terminal
@click.pass_context
def check(
    ctx: click.Context,
    terminal: Terminal,
    file: Path,
    constraints: Path | None,
    storage: str | None,
    as_json: bool,
) -> None:
    """Finds what is wrong with a cluster's FILE, offline and before any money is spent.

    FILE is one for `ray up`, a manifest for KubeRay, or a shell script for Slurm. Found are what Ray's own validation
    finds, misspelt settings of machines, a missing region, ports open to the world, a head that would run trials,
    missing tokens, versions that differ from the constraints, a storage that not all machines share, and what is still
    to be filled in. Run it where `ray up` will run. Exit status 1 if anything was found.
    """
    from search.cluster_check import check as examine

    found = examine(file, constraints=constraints, storage=storage)
    if as_json:
        terminal.json({"file": str(file), "findings": [dataclasses.asdict(finding) for finding in found]})
    elif found:
        for finding in found:
            terminal.out(f"{finding.where}\n    {finding.what}\n    -> {finding.advice}")
        terminal.note(f"{file}: {len(found)} to see to")
    else:
        terminal.out(f"{file}: nothing found; names and prices only the cloud itself can check")
    if found:
        ctx.exit(FAILED)
