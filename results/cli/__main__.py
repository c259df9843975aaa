"""`python -m results.cli` is the command `results`."""

from results.cli import main

main(prog_name="results")
