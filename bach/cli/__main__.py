"""`python -m bach.cli` is the command `bach`."""

from bach.cli import main

main(prog_name="bach")
