"""`python -m search.cli` is the command `search`."""

from search.cli import main

main(prog_name="search")
