"""Where sweeps lie, and what they were asked to do."""

import dataclasses
import json

from results.opening import RUNS, places
from results.storage import Storage
from search import sweep_file
from search.checkpoints import SPEC_FILE
from search.errors import SweepError
from search.spec import SweepSpec


def folder_of(spec: SweepSpec) -> Storage:
    """Returns where a sweep lies."""
    return Storage(spec.storage).child(spec.name)


def find(where: str) -> Storage:
    """Returns the folder of the sweep that a user means: a path or URI, or a name below `runs`.

    Raises:
        SweepError: there is no such sweep; the message names those that there are.
    """
    candidates = places(where)
    for storage in candidates:
        if storage.exists(SPEC_FILE):
            return storage
    there = [name for name in Storage(RUNS).names() if Storage(RUNS).child(name).exists(SPEC_FILE)]
    known = f"in {RUNS} there are: {', '.join(there)}" if there else f"there are none in {RUNS}"
    looked = " or ".join(map(repr, [where, f"{RUNS}/{where}"][: len(candidates)]))
    raise SweepError(f"no sweep at {looked} ({known}); `search run FILE` begins one")


def read_spec(storage: Storage) -> SweepSpec:
    """Returns what the sweep in a folder was last asked to do.

    Raises:
        SweepError: its file cannot be read.
    """
    try:
        document = json.loads(storage.read(SPEC_FILE))
    except FileNotFoundError:
        raise SweepError(f"no sweep at {storage.uri}: it has no {SPEC_FILE}") from None
    except ValueError as error:
        raise SweepError(f"{storage.uri}/{SPEC_FILE} is damaged: {error}") from error
    spec = sweep_file.read(document, source=f"{storage.uri}/{SPEC_FILE}")
    # The folder may have been moved, or be reached by another way, since.
    base, _, name = storage.uri.partition("?")[0].rstrip("/").rpartition("/")
    if name != spec.name:
        raise SweepError(
            f"the folder {storage.uri} holds the sweep {spec.name!r}; a sweep's folder has its name: rename it back"
        )
    options = storage.uri.partition("?")[1:]
    return dataclasses.replace(spec, storage=(base or "/") + "".join(options))
