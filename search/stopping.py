"""The request to stop: a file in a sweep's folder, which its workers and its driver look for."""

import json
import time

from results.errors import StorageError
from results.storage import Storage

FILE = "stop.json"


def request(storage: Storage, kind: str = "user", reason: str = "the sweep was stopped") -> None:
    """Asks what runs for the sweep in a folder to save and return.

    Args:
        storage: the sweep's.
        kind: for what, in the ledger's word.
        reason: the same, as a sentence.

    Raises:
        StorageError: the folder cannot be written.
    """
    storage.write(FILE, json.dumps({"time": time.time(), "kind": kind, "reason": reason}).encode())


def requested(storage: Storage) -> tuple[str, str] | None:
    """Returns for what it was asked, in the ledger's word and as a sentence, or None.

    Raises:
        StorageError: the folder cannot be read.
    """
    text = as_written(storage)
    if text is None:
        return None
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    document = document if isinstance(document, dict) else {}
    return document.get("kind", "user"), document.get("reason", "the sweep was stopped")


def is_requested(storage: Storage, kind: str) -> bool:
    """Returns whether it was asked for this, in the ledger's word.

    Raises:
        StorageError: the folder cannot be read.
    """
    found = requested(storage)
    return found is not None and found[0] == kind


def request_for_budget(storage: Storage, reason: str) -> bool:
    """Asks for it since a budget is used up, if nobody did; returns whether it is asked for now."""
    try:
        if requested(storage) is None:
            request(storage, "budget", reason)
    except StorageError:  # the conductor's flush sees to a storage that is away
        return False
    return True


def as_written(storage: Storage) -> bytes | None:
    """Returns the request that lies there, each of which is written otherwise, or None.

    Raises:
        StorageError: the folder cannot be read.
    """
    try:
        return storage.read(FILE)
    except FileNotFoundError:
        return None


def withdraw(storage: Storage, former: bytes | None) -> None:
    """Removes the request of a former session; one that was written since then stays.

    Args:
        storage: the sweep's.
        former: what `as_written` gave before this session took the sweep up.

    Raises:
        StorageError: the folder cannot be read or written.
    """
    if former is not None and as_written(storage) == former:
        storage.remove(FILE)
