"""What was learned: the ledger of a sweep, and all that is read from it.

A sweep writes down every event as one row of a table (`results.schema`), in Parquet files that appear whole or not at
all (`results.storage`, `results.ledger`). That is the only record; whatever a sweep is said to have come to is read
from it, by `search` when it resumes, by the functions here, or by any reader of Parquet.

    >>> import results
    >>> found = results.open("runs/laptop")                      # or s3://bucket/sweeps, for all sweeps in it
    >>> found.trials().nsmallest(5, "val_nll")                   # a pandas frame
    >>> found.arrow("epochs")                                    # an Arrow table

Importing `results` is cheap: what a name needs is loaded when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from results.errors import ResultsError
    from results.ledger import Ledger, Writer
    from results.opening import Results, open  # noqa: A004 (meant to be read as `results.open`)
    from results.schema import SCHEMA_VERSION, TABLES, Measure, Parameter, SweepSchema
    from results.storage import Storage

_MODULES = {
    "open": "results.opening",
    "Results": "results.opening",
    "Ledger": "results.ledger",
    "Writer": "results.ledger",
    "Storage": "results.storage",
    "SweepSchema": "results.schema",
    "Parameter": "results.schema",
    "Measure": "results.schema",
    "TABLES": "results.schema",
    "SCHEMA_VERSION": "results.schema",
    "ResultsError": "results.errors",
}

__all__ = [
    "open",
    "Results",
    "Ledger",
    "Writer",
    "Storage",
    "SweepSchema",
    "Parameter",
    "Measure",
    "TABLES",
    "SCHEMA_VERSION",
    "ResultsError",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'results' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
