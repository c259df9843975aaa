"""Files that appear whole or not at all, and the sentence that says why one did not."""

import contextlib
import errno
import os
import tempfile
from pathlib import Path

from bach.errors import FormatError, OutputError

MAX_BYTES = 16 * 2**20
"""Files larger than this (inclusive bound) are not read: a chorale of 640 steps is a hundredth of it in any format."""


def write_whole(path: str | Path, content: bytes | memoryview) -> Path:
    """Writes `content` to `path` so that no reader ever sees half of it, and returns the path.

    The bytes go to a temporary file of a unique name in the same folder, which then takes the place of `path`; two
    processes may write the same file at once. The folder is made if it is missing. What was written stays, even if the
    machine stops right after.

    Raises:
        OutputError: the place cannot be written to, or is full; nothing is left behind.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.", suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
        if isinstance(error, OSError):
            raise OutputError(_why(path, error, len(content))) from error
        raise
    return path


def _umask() -> int:
    """Returns the process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _why(path: Path, error: OSError, size: int) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = f"there is no room for {size:,} more bytes; free some, or choose another folder"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        advice = "this folder may not be written to; choose another one, or change its permissions"
    elif error.errno in (errno.ENOTDIR, errno.EEXIST):
        advice = "a file stands where a folder is needed; choose another folder"
    elif error.errno == errno.EISDIR:
        advice = "a folder has this name; choose another file name"
    else:
        advice = "choose another place"
    return f"cannot write {path}: {error.strerror or error}: {advice}"


def read_whole(path: str | Path) -> bytes:
    """Returns the content of a file that a user named.

    Raises:
        FormatError: there is no such file, it cannot be read, is empty, or is larger than `MAX_BYTES`.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise FormatError(f"{path} is a folder, expected a file")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror or error}") from error
    if not content:
        raise FormatError(f"{path} is empty")
    if len(content) > MAX_BYTES:
        raise FormatError(f"{path} is larger than {MAX_BYTES // 2**20} MiB, which no chorale is")
    return content
