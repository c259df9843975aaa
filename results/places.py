"""Where files can lie: a folder of this machine's file system, or a bucket of an object store.

Both do the same with paths that `results.storage` has looked at; errors leave here as the system reports them.
"""

# ruff: noqa: D102 (`Place` says what the methods do)

import contextlib
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, TypeVar

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.fs as pafs

TEMPORARY = ".tmp-"
"""What the names of unfinished files begin with. They have no ending, so no pattern like `*.parquet` meets them."""
THREADS = 16
"""Requests to an object store that are under way at once."""
CHUNK = 1 << 20

Given = TypeVar("Given")
Made = TypeVar("Made")


class Place(Protocol):
    """What a kind of storage can do; paths are relative to it and free of `..`."""

    @property
    def files(self) -> "pafs.FileSystem":
        """The file system that it lies in, for pyarrow."""
        ...

    def where(self, path: str) -> str:
        """Returns the full address, for people to read."""
        ...

    def write_all(self, files: Mapping[str, bytes]) -> None:
        """Writes files, each whole or not at all."""
        ...

    def upload(self, local: Path, path: str) -> None:
        """Copies a file of this machine, whole or not at all."""
        ...

    def open(self, path: str) -> "pa.NativeFile":
        """Returns a file opened for reading."""
        ...

    def exists(self, path: str) -> bool:
        """Returns whether a file or folder is there."""
        ...

    def names(self, folder: str) -> list[str]:
        """Returns what lies directly inside, in any order; nothing if there is no folder."""
        ...

    def size(self, path: str) -> int:
        """Returns the bytes at or below a path."""
        ...

    def remove(self, path: str) -> None:
        """Removes a file or a folder with all in it."""
        ...

    def rename(self, path: str, new: str) -> None:
        """Gives a file another name, over an older one."""
        ...

    def each(self, function: Callable[[Given], Made], items: Iterable[Given]) -> list[Made]:
        """Returns what a function that works with this place gives for every item, in their order."""
        ...


class Folder:
    """A folder of this machine's file system, or of one that it has mounted."""

    def __init__(self, root: Path):
        """Takes the absolute path."""
        self.root = root

    @property
    def files(self) -> "pafs.FileSystem":
        from pyarrow import fs as pafs

        return pafs.LocalFileSystem()

    def where(self, path: str) -> str:
        return str(self.root / path)

    def write_all(self, files: Mapping[str, bytes]) -> None:
        self.fill({path: lambda to, data=data: to.write(data) for path, data in files.items()})

    def upload(self, local: Path, path: str) -> None:
        with local.open("rb") as source:
            self.fill({path: lambda to: shutil.copyfileobj(source, to, CHUNK)})

    def fill(self, files: Mapping[str, Callable[[BinaryIO], object]]) -> None:
        """Writes every file under a temporary name, then renames all, so that a crash hardly ever comes between two."""
        written: dict[Path, Path] = {}
        try:
            for path, write in files.items():
                target = self.root / path
                target.parent.mkdir(parents=True, exist_ok=True)
                written[target] = temporary = target.parent / (TEMPORARY + secrets.token_hex(8))
                with temporary.open("wb") as stream:
                    write(stream)
                    stream.flush()
                    os.fsync(stream.fileno())
            folders = {target.parent for target in written}
            for target in list(written):
                written[target].replace(target)
                del written[target]
            for folder in folders:
                _flush_folder(folder)
        finally:
            for temporary in written.values():
                with contextlib.suppress(OSError):
                    temporary.unlink()

    def open(self, path: str) -> "pa.NativeFile":
        import pyarrow as pa

        return pa.OSFile(str(self.root / path))

    def exists(self, path: str) -> bool:
        try:
            (self.root / path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def names(self, folder: str) -> list[str]:
        try:
            return [path.name for path in (self.root / folder).iterdir()]
        except FileNotFoundError:
            return []

    def size(self, path: str) -> int:
        top, total = self.root / path, 0
        if not top.is_dir():
            return top.stat().st_size if self.exists(path) else 0
        for folder, _, names in os.walk(top):
            for name in names:
                with contextlib.suppress(FileNotFoundError):  # another process may tidy up meanwhile
                    total += Path(folder, name).lstat().st_size
        return total

    def remove(self, path: str) -> None:
        target = self.root / path
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            else:
                target.unlink()

    def rename(self, path: str, new: str) -> None:
        (self.root / path).replace(self.root / new)

    def each(self, function: Callable[[Given], Made], items: Iterable[Given]) -> list[Made]:
        return [function(item) for item in items]


class Bucket:
    """A bucket of an object store, or a folder in it; reached when first asked for something."""

    def __init__(self, service: str, root: str, options: str):
        """Takes the address in its parts.

        Args:
            service: such as `s3`.
            root: bucket and path.
            options: for pyarrow, as they stand in an address, with the `?`.
        """
        self.root = root
        self._service, self._options = service, options
        self._opened: pafs.FileSystem | None = None
        self._lock = threading.Lock()

    @property
    def files(self) -> "pafs.FileSystem":
        """The file system that holds the bucket."""
        with self._lock:
            if self._opened is None:
                from pyarrow import fs as pafs

                # Only the bucket goes through the address: in a whole one, spaces, % and # of a path are taken apart.
                bucket, options = self.root.partition("/")[0], self._options
                if self._service == "s3" and "allow_delayed_open" not in options:
                    # A small file is one request then; otherwise it is begun, sent in parts and ended, in three.
                    options += f"{'&' if options else '?'}allow_delayed_open=true"
                self._opened, _ = pafs.FileSystem.from_uri(f"{self._service}://{bucket}{options}")
            return self._opened

    def where(self, path: str) -> str:
        return f"{self._service}://{self._at(path)}"

    def write_all(self, files: Mapping[str, bytes]) -> None:
        def put(path: str) -> None:
            with self.files.open_output_stream(self._at(path)) as stream:
                stream.write(files[path])

        self.each(put, files)

    def upload(self, local: Path, path: str) -> None:
        from pyarrow import fs as pafs

        pafs.copy_files(str(local), self._at(path), pafs.LocalFileSystem(), self.files, chunk_size=CHUNK)

    def open(self, path: str) -> "pa.NativeFile":
        return self.files.open_input_file(self._at(path))

    def exists(self, path: str) -> bool:
        from pyarrow import fs as pafs

        return self.files.get_file_info(self._at(path)).type != pafs.FileType.NotFound

    def names(self, folder: str) -> list[str]:
        from pyarrow import fs as pafs

        found = self.files.get_file_info(pafs.FileSelector(self._at(folder), allow_not_found=True))
        return [info.base_name for info in found if info.base_name]

    def size(self, path: str) -> int:
        from pyarrow import fs as pafs

        own = self.files.get_file_info(self._at(path))
        below = pafs.FileSelector(self._at(path), recursive=True, allow_not_found=True)
        found = [own] if own.is_file else self.files.get_file_info(below)
        return sum(info.size or 0 for info in found if info.is_file)

    def remove(self, path: str) -> None:
        info = self.files.get_file_info(self._at(path))
        with contextlib.suppress(FileNotFoundError):
            if info.is_file:
                self.files.delete_file(info.path)
            else:
                self.files.delete_dir(info.path)

    def rename(self, path: str, new: str) -> None:
        if not self.exists(path):
            raise FileNotFoundError(path)
        self.files.move(self._at(path), self._at(new))

    def each(self, function: Callable[[Given], Made], items: Iterable[Given]) -> list[Made]:
        items = list(items)
        if len(items) < 2:
            return [function(item) for item in items]
        with ThreadPoolExecutor(min(THREADS, len(items))) as pool:
            return list(pool.map(function, items))

    def _at(self, path: str) -> str:
        return f"{self.root}/{path}" if path else self.root


def _flush_folder(folder: Path) -> None:
    """Sees to it that new names in a folder stay after a crash of the machine, where the system can do that."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
