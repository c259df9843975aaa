"""A folder that a sweep lives in: on a disk, or in an object store (`s3://`, `gs://`).

What is written appears whole or not at all, and stays after a crash of the machine. Locally that is a temporary file,
flushed to the disk and renamed; in an object store it is one upload, which nobody sees before it is complete.
"""

import contextlib
import errno
import os
import re
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from results.errors import StorageError
from results.places import CHUNK, TEMPORARY, Bucket, Folder, Given, Made, Place

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.fs as pafs

_ADVICE = {
    errno.ENOSPC: "the disk is full: make room there, or choose another storage",
    errno.EDQUOT: "your quota is used up: make room there, or choose another storage",
    errno.EFBIG: "the file may not become so large: raise the limit (ulimit -f), or choose another storage",
    errno.EACCES: "this user may not do that there: change the permissions, or choose another storage",
    errno.EPERM: "this user may not do that there: change the permissions, or choose another storage",
    errno.EROFS: "the file system is read-only: choose another storage",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
    errno.ENOTDIR: "a file stands where a folder was expected: choose another storage",
    errno.EEXIST: "a file stands where a folder was expected: choose another storage",
    errno.EISDIR: "a folder stands where a file was expected: choose another storage",
    errno.ESTALE: "the network file system has gone away: mount it again",
    errno.EIO: "the disk reports an error: check it, or choose another storage",
}
_SECRET_OPTION = re.compile("key|secret|token|passw|credential|sig", re.IGNORECASE)
"""Options of an address that are called so hold what only its owner may know."""
_LOCAL_ADVICE = "check the place, or choose another storage"
_REMOTE_ADVICE = "check the address, the credentials and the network"


class Storage:
    """A folder, local or in an object store.

    Paths are relative to it, with `/` between the parts and no `..`; any other character is taken as it is. It may be
    sent to other processes.

    Attributes:
        uri: what leads back here; a local folder's absolute path.
        is_local: whether it is a folder of this machine's file system.
    """

    uri: str
    is_local: bool

    def __init__(self, uri: str | os.PathLike[str]):
        """Takes a folder, which need not exist.

        Args:
            uri: a path, `file:///path`, `s3://bucket/path` or `gs://bucket/path`. Behind a `?` may stand what pyarrow
                takes as options, such as `endpoint_override=127.0.0.1:9000&scheme=http`.

        Raises:
            StorageError: the address is empty, names no bucket, or holds a user's name, a password or a key: addresses
                are printed, written down and sent on.
        """
        text = os.fspath(uri)
        scheme, separator, rest = text.partition("://")
        self.is_local = not separator or scheme == "file"
        self._place: Place
        if self.is_local:
            path = urllib.parse.unquote(rest) if separator else text
            if not path or "\0" in path:
                raise StorageError(f"a storage was expected, such as runs or s3://bucket/path, not {text!r}")
            with self._speaking("find", path):
                self._root = str(Path(path).expanduser().absolute())
            self._place, self._options = Folder(Path(self._root)), ""
            self.uri = self._root
            return
        # The last question mark, for one may stand in a path; see `uri` below.
        path, mark, options = rest.rpartition("?") if "?" in rest else (rest, "", "")
        _refuse_keys(scheme, path, options)
        self._root = "/".join(part for part in path.split("/") if part)
        if not self._root or "\0" in text:
            raise StorageError(f"storage {text!r} names no bucket; {scheme}://bucket/path was expected")
        self._service, self._options = scheme, f"?{options}" if mark else ""
        self._place = Bucket(scheme, self._root, self._options)
        self.uri = f"{scheme}://{self._root}{self._options}"

    def __repr__(self) -> str:
        return f"Storage({self.uri!r})"

    def __str__(self) -> str:
        return self.uri

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Storage) and other.uri == self.uri

    def __hash__(self) -> int:
        return hash(self.uri)

    def __reduce__(self) -> tuple[type["Storage"], tuple[str]]:
        return Storage, (self.uri,)

    def child(self, *parts: str) -> "Storage":
        """Returns a folder below this one."""
        path = self._checked("/".join(parts))
        if self.is_local:
            return Storage(Path(self._root, path))
        return Storage(self._place.where(path) + (self._options or "?" * ("?" in path)))

    def for_arrow(self) -> "tuple[pafs.FileSystem, str]":
        """Returns what pyarrow, and who builds on it, reaches this folder by: the file system and the path in it.

        The `uri` does not serve there: in an address, spaces, `%` and `#` of a path are taken apart.

        Raises:
            StorageError: pyarrow does not know the service or its options.
        """
        with self._speaking("reach", ""):
            return self._place.files, self._root

    def where(self, path: str = "") -> str:
        """Returns the address of what lies at `path`, for people to read."""
        return self._place.where(self._checked(path))

    def write(self, path: str, data: bytes) -> None:
        """Writes a file whole or not at all, and over an older one."""
        self.write_all({path: data})

    def write_all(self, files: Mapping[str, bytes]) -> None:
        """Writes several files, each whole or not at all, and all of them within a short moment.

        Locally everything is on the disk before the first file gets its name. After an error some may be there.
        """
        if files:
            with self._speaking("write", next(iter(files)) if len(files) == 1 else ""):
                self._place.write_all({self._checked(path): data for path, data in files.items()})

    def upload(self, local: Path, path: str) -> None:
        """Copies a file of this machine here, whole or not at all.

        Raises:
            FileNotFoundError: there is no such file on this machine.
            StorageError: it cannot be written.
        """
        if not local.is_file():
            raise FileNotFoundError(f"{local} is not there to be copied")
        with self._speaking("write", path):
            self._place.upload(local, self._checked(path))

    def download(self, path: str, local: Path) -> None:
        """Copies a file to this machine, whole or not at all.

        Raises:
            FileNotFoundError: there is no such file here.
            StorageError: it cannot be read, or not be written there.
        """
        here = Storage(local.absolute().parent)
        with self.open(path) as source:

            def copy(target: BinaryIO) -> None:
                with self._speaking("read", path):
                    while chunk := source.read(CHUNK):
                        target.write(chunk)

            with here._speaking("write", local.name):
                Folder(local.absolute().parent).fill({local.name: copy})

    def read(self, path: str) -> bytes:
        """Returns a file's bytes.

        Raises:
            FileNotFoundError: there is none.
            StorageError: it cannot be read.
        """
        with self._speaking("read", path), self._place.open(self._checked(path)) as stream:
            return stream.read()

    def open(self, path: str) -> "pa.NativeFile":
        """Returns a file opened to be read from any place; raises what `read` raises."""
        with self._speaking("read", path):
            return self._place.open(self._checked(path))

    def exists(self, path: str = "") -> bool:
        """Returns whether a file or folder is there."""
        with self._speaking("look for", path):
            return self._place.exists(self._checked(path))

    def names(self, folder: str = "") -> list[str]:
        """Returns the sorted names of files and folders directly inside, without those that begin with a dot."""
        return sorted(name for name in self._all_names(folder) if not name.startswith("."))

    def size(self, folder: str = "") -> int:
        """Returns how many bytes the files at or below `folder` take; 0 if there is nothing."""
        with self._speaking("measure", folder):
            return self._place.size(self._checked(folder))

    def remove(self, path: str) -> None:
        """Removes a file, or a folder with all that is in it; does nothing if there is none."""
        with self._speaking("remove", path):
            self._place.remove(self._checked(path))

    def rename(self, path: str, new: str) -> None:
        """Gives a file another name, over an older one; raises FileNotFoundError if there is none."""
        with self._speaking("rename", path):
            self._place.rename(self._checked(path), self._checked(new))

    def remove_temporaries(self, folder: str = "") -> None:
        """Removes what writers that died left unfinished directly inside; only for the one who writes there."""
        for name in self._all_names(folder):
            if name.startswith(TEMPORARY):
                self.remove(f"{folder}/{name}" if folder else name)

    def each(self, function: Callable[[Given], Made], items: Iterable[Given]) -> list[Made]:
        """Returns what a function that uses this storage gives for every item, several at once over a network."""
        return self._place.each(function, items)

    def _all_names(self, folder: str) -> list[str]:
        with self._speaking("list", folder):
            return self._place.names(self._checked(folder))

    def _checked(self, path: str) -> str:
        parts = PurePosixPath(path).parts
        if path.startswith("/") or ".." in parts or "\0" in path:
            raise StorageError(f"{path!r} leads out of {self.uri}; a path below it was expected")
        return "/".join(parts)

    @contextlib.contextmanager
    def _speaking(self, verb: str, path: str) -> Iterator[None]:
        """Turns what the system reports into a sentence; FileNotFoundError passes, except from writing."""
        try:
            yield
        except FileNotFoundError as error:
            if verb != "write":
                raise FileNotFoundError(errno.ENOENT, "not there", self.where(path)) from error
            raise StorageError(f"cannot write {self.where(path)}: {_first_line(error)}; {_REMOTE_ADVICE}") from error
        except (OSError, RuntimeError, ValueError, NotImplementedError) as error:  # Arrow's errors are among these
            number = error.errno or 0 if isinstance(error, OSError) else 0
            advice = _ADVICE.get(number, _LOCAL_ADVICE if self.is_local else _REMOTE_ADVICE)
            what = os.strerror(number).lower() if number in _ADVICE else _first_line(error)
            where = self.where(path) if hasattr(self, "_place") else path
            raise StorageError(f"cannot {verb} {where}: {what}; {advice}") from error


def _refuse_keys(scheme: str, path: str, options: str) -> None:
    """Returns if the parts of an address hold no keys; none is shown if they do."""
    bucket = path.lstrip("/").partition("/")[0]
    if any(
        _SECRET_OPTION.search(name) or (name == "endpoint_override" and "@" in value)
        for name, value in urllib.parse.parse_qsl(options, keep_blank_values=True)
    ):
        found = "a key or password among its options"
    elif {"@", ":"} & set(bucket):  # a key may have a / in it, and then only its beginning stands here
        found = "a user's name, a key or a port beside the bucket's name"
    else:
        return
    variables = {
        "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE",
        "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    }
    raise StorageError(
        f"a storage's address {scheme}://… has {found} (not shown here), expected {scheme}://bucket/path; "
        f"keys belong into the environment ({variables.get(scheme, ' or '.join(variables.values()))}) or to the "
        "machine's role"
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
