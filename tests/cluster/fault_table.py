"""The table of faults in docs/cluster.md: made by the tests, between two marks."""

import os
import platform
from datetime import UTC, datetime

from search.environment import commit
from tests.cluster.lab import ROOT

PAGE = ROOT / "docs" / "cluster.md"
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
FAULTS = (
    "a worker loses its power",
    "a cable is pulled for 5 s",
    "a cable is pulled until the machine is missed",
    "a worker is added",
    "the driver is killed",
    "a worker loses its power in the final job",
    "the head loses its power",
    "the storage is gone for 30 s",
    "a worker's clock is ten minutes ahead",
)


class FaultTable:
    """What each fault cost."""

    def __init__(self, say):
        self.rows, self._say = {}, say

    def add(self, fault, *, done, recovery, lost):
        """Takes in a row, and tells it.

        Args:
            fault: one of `FAULTS`.
            done: what brought the sweep back, beside waiting.
            recovery: how long it took.
            lost: what was lost.
        """
        assert fault in FAULTS
        self.rows[fault] = (done, recovery, lost)
        self._say(f"{fault}: {recovery}; trained again: {lost}")

    def lines(self):
        """The table in Markdown."""
        yield "| fault | what was done | back at work | trained again |"
        yield "|---|---|---|---|"
        for fault in FAULTS:
            if fault in self.rows:
                yield f"| {' | '.join([fault, *self.rows[fault]])} |"

    def write(self):
        """Writes it into the page.

        Raises:
            AssertionError: a fault is missing from it.
        """
        assert set(self.rows) == set(FAULTS), f"not tried: {set(FAULTS) - set(self.rows)}"
        before, _, rest = PAGE.read_text().partition(BEGIN)
        _, mark, after = rest.partition(END)
        assert mark, f"{PAGE} has no {BEGIN} … {END}"
        today = f"{datetime.now(UTC):%d %B %Y}"
        made = f"Made by `make test-cluster ARGS=--write-table` on {today}, {_machine()}, commit {commit()}."
        PAGE.write_text(f"{before}{BEGIN}\n{made}\n\n" + "\n".join(self.lines()) + f"\n{END}{after}")


def _machine():
    return f"one machine with {os.cpu_count()} cores ({platform.system()} {platform.machine()})"
