"""Checkpoints of one trial in the sweep's storage: whole or not there, checked when read, the one before at hand.

    checkpoints/00017/e00007-a1/<what the task wrote>      a trial's state after its epoch 7, written by its attempt 1
    checkpoints/00017/e00007-a1/manifest.json              written last: without it, the folder does not count

The manifest carries every file's size and SHA-256, and the results of all epochs up to this one: if the driver died
before it could write them down, they are told again and not trained again. It has the configuration too: if the driver
died before it could write down what it had proposed, the next one proposes the same.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import re
import shutil
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from results.errors import StorageError
from results.storage import Storage

_log = logging.getLogger(__name__)

FOLDER, MANIFEST = "checkpoints", "manifest.json"
SPEC_FILE = "sweep.json"
"""What the sweep is asked to do; lies in every sweep's folder, so one without it is not the folder that it seems."""
MANIFEST_VERSION = 1
KEPT = 2
"""How many of the newest are kept: the last, and the one before in case the last is damaged."""

_NAME = re.compile(r"e(\d{5,})-a(\d+)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint that was found whole.

    Attributes:
        epoch: the state is that after this epoch.
        attempt: which attempt wrote it.
        history: what each epoch from 1 to `epoch` gave, as the worker reported it.
    """

    epoch: int
    attempt: int
    history: tuple[Mapping[str, Any], ...]


def identity(task: str, options: Mapping[str, Any], values: Mapping[str, Any], seed: int) -> str:
    """Returns what a checkpoint and a trial must have in common, as a short digest."""
    text = json.dumps([task, options, values, seed], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def folder_of(trial: int) -> str:
    """Returns the folder of a trial's checkpoints below the sweep's."""
    return f"{FOLDER}/{trial:05d}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unrecorded:
    """A trial that has saved a state, but that the ledger does not know.

    Attributes:
        trial: its number.
        values: its configuration.
        identity: see `identity`.
    """

    trial: int
    values: Mapping[str, Any]
    identity: str


def unrecorded(storage: Storage, known: Container[int]) -> Iterator[Unrecorded]:
    """Yields the trials of a sweep that are not among the `known` ones and whose newest checkpoint can be read."""
    for folder in storage.child(FOLDER).names():
        if not folder.isdecimal() or int(folder) in known:
            continue
        for name in reversed(Checkpoints(storage, int(folder), "").names()):
            try:
                manifest = json.loads(storage.read(f"{FOLDER}/{folder}/{name}/{MANIFEST}"))
                yield Unrecorded(trial=int(folder), values=dict(manifest["values"]), identity=str(manifest["identity"]))
                break
            except (OSError, StorageError, ValueError, KeyError, TypeError) as error:
                _log.debug("checkpoint %s of trial %s is not read: %s", name, folder, error)


class Checkpoints:
    """The checkpoints of one trial."""

    def __init__(self, storage: Storage, trial: int, identity: str, values: Mapping[str, Any] | None = None):
        """Takes where they lie.

        Args:
            storage: of the sweep.
            trial: its number.
            identity: from `identity`; checkpoints of another are not looked at.
            values: the trial's configuration, which is noted in what is saved.
        """
        self._values = dict(values or {})
        self._sweep, self._storage = storage, storage.child(folder_of(trial))
        self._identity = identity

    def save(
        self,
        write: Callable[[Path], None],
        *,
        epoch: int,
        attempt: int,
        history: Sequence[Mapping[str, Any]],
        best_epoch: int | None,
        scratch: Path,
    ) -> None:
        """Writes the state after `epoch`, then removes those that are no longer wanted.

        Args:
            write: writes the state into the empty folder that it is given.
            epoch: counts from 1.
            attempt: the attempt that writes.
            history: what each epoch so far gave.
            best_epoch: the trial's best so far; its checkpoint is kept beside the newest.
            scratch: a local folder that is emptied and used.

        Raises:
            StorageError: it cannot be written; the checkpoints before stand.
        """
        self._check_there()
        name = f"e{epoch:05d}-a{attempt}"
        facts = {
            "version": MANIFEST_VERSION,
            "identity": self._identity,
            "epoch": epoch,
            "attempt": attempt,
            "values": self._values,
            "history": list(history),
        }
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            scratch.mkdir(parents=True)
            write(scratch)
            self._upload(scratch, name, facts)
            if self._sweep.is_local:  # it may have gone away meanwhile, and then writing has made it anew
                self._check_there()
        except (OSError, StorageError):
            with contextlib.suppress(OSError, StorageError):
                self._storage.remove(name)  # on a disk that is full, half a checkpoint would be in the way
            raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        self.prune(best_epoch=best_epoch)

    def _check_there(self) -> None:
        """Returns if the sweep's folder is there: to write without it would hide that a disk is not mounted any more.

        Raises:
            StorageError: it is gone.
        """
        if not self._sweep.exists(SPEC_FILE):
            raise StorageError(f"the sweep's folder {self._sweep.uri} is gone; bring it back")

    def _upload(self, scratch: Path, name: str, facts: Mapping[str, Any]) -> None:
        """Writes the files of a folder, and last the manifest."""
        files = {}
        for path in sorted(p for p in scratch.rglob("*") if p.is_file()):
            relative = path.relative_to(scratch).as_posix()
            files[relative] = {"size": path.stat().st_size, "sha256": _digest(path)}
            self._storage.upload(path, f"{name}/{relative}")
        self._storage.write(f"{name}/{MANIFEST}", json.dumps({**facts, "files": files}).encode())

    def prune(self, *, best_epoch: int | None, newest: int = KEPT) -> None:
        """Removes all but the `newest` ones and that of `best_epoch`."""
        names = self.names()
        keep = set(names[-newest:]) if newest else set()
        keep |= set([name for name in names if _epoch(name) == best_epoch][-1:])
        for name in names:
            if name not in keep:
                self._storage.remove(name)

    def clear(self) -> None:
        """Removes all of them."""
        self._storage.remove("")

    def names(self) -> list[str]:
        """Returns the names of all checkpoint folders, whole or not, those of later epochs last."""
        found = [name for name in self._storage.names() if _NAME.fullmatch(name)]
        return sorted(found, key=lambda name: tuple(int(part) for part in _NAME.fullmatch(name).groups()))  # type: ignore[union-attr]

    def fetch(self, folder: Path) -> Checkpoint | None:
        """Brings the newest whole checkpoint into a local folder.

        A damaged one is reported and removed, and the one before is taken.

        Args:
            folder: emptied and filled.

        Returns:
            What it holds, or None if there is none.
        """
        for name in reversed(self.names()):
            try:
                return self._fetch(name, folder)
            except (OSError, StorageError) as error:
                _log.warning("checkpoint %s/%s cannot be read: %s", self._storage.uri, name, error)
            except (ValueError, KeyError, TypeError) as error:
                _log.warning("checkpoint %s/%s is not used and removed: %s", self._storage.uri, name, error)
                self._storage.remove(name)
        return None

    def fetch_epoch(self, epoch: int, folder: Path) -> Checkpoint | None:
        """Brings the checkpoint of one epoch into a local folder; nothing is removed here.

        Args:
            epoch: counts from 1.
            folder: emptied and filled.

        Returns:
            What it holds, or None if there is none that is whole.
        """
        for name in reversed(self.names()):
            if _epoch(name) == epoch:
                try:
                    return self._fetch(name, folder)
                except (OSError, StorageError, ValueError, KeyError, TypeError) as error:
                    _log.warning("checkpoint %s/%s is not used: %s", self._storage.uri, name, error)
        return None

    def _fetch(self, name: str, folder: Path) -> Checkpoint:
        if not self._storage.exists(f"{name}/{MANIFEST}"):
            raise ValueError("it has no manifest: it was never finished")
        manifest = json.loads(self._storage.read(f"{name}/{MANIFEST}"))
        if manifest["version"] != MANIFEST_VERSION:
            raise ValueError(f"its version is {manifest['version']}, expected {MANIFEST_VERSION}")
        if manifest["identity"] != self._identity:
            raise ValueError("it belongs to another configuration")
        shutil.rmtree(folder, ignore_errors=True)
        for relative, facts in manifest["files"].items():
            path = folder / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            self._storage.download(f"{name}/{relative}", path)
            if path.stat().st_size != facts["size"] or _digest(path) != facts["sha256"]:
                raise ValueError(f"its file {relative} is damaged (checksum differs)")
        return Checkpoint(epoch=manifest["epoch"], attempt=manifest["attempt"], history=tuple(manifest["history"]))


def _epoch(name: str) -> int:
    match = _NAME.fullmatch(name)
    return int(match.group(1)) if match else 0


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
