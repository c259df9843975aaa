"""The page that a person decides on: one HTML file, made of the tables alone, that opens anywhere.

>>> import results
>>> from results import report
>>> html = report.page(results.open("runs/laptop"))
>>> report.write(results.Storage("runs/laptop"))             # runs/laptop/report.html
"""

from results import opening
from results.report.page import page
from results.storage import Storage

__all__ = ["FILE", "page", "write"]

FILE = "report.html"
"""Name of the page in a sweep's folder."""


def write(storage: Storage) -> str:
    """Writes the page of one sweep into its folder, whole or not at all, and returns where it lies.

    Args:
        storage: the sweep's folder.

    Raises:
        LedgerError: there is no ledger.
        CallerError: the sweep has no objective.
        StorageError: the place cannot be read or written.
    """
    storage.write(FILE, page(opening.open(storage.uri)).encode())
    return storage.where(FILE)
