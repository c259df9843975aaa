"""The canonical chorales as they are published: an archive of CSV files with a known SHA-256.

Aurélien Géron's `jsb_chorales.tgz` holds the split of Boulanger-Lewandowski, Bengio and Vincent (2012) at sixteenth
resolution. Archives are read in memory; nothing of them is unpacked to disk.
"""

import gzip
import hashlib
import io
import logging
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from bach.corpus.cache import cache_folder
from bach.corpus.dataset import Chorale, checked_pitches
from bach.corpus.progress import Progress
from bach.errors import DataError, FormatError
from bach.formats.files import write_whole
from bach.formats.table import parse_csv
from bach.notes import SPLITS, Pitches, Split

JSB_URL = "https://github.com/ageron/data/raw/main/jsb_chorales.tgz"
JSB_SHA256 = "e722fbc866fc1ba0bac56a6fcad95d7e3e584da80173e13932e3da441440efd7"
JSB_FILE = "jsb_chorales.tgz"

MAX_ARCHIVE_BYTES = 16 * 1024 * 1024
"""No archive larger than this is read, packed or unpacked; the canonical one has 0.1 MB, unpacked 1.1 MB."""

_CHUNK = 16 * 1024

logger = logging.getLogger(__name__)


def fetch_jsb(
    from_file: Path | str | None = None,
    *,
    cache: Path | None = None,
    progress: Progress | None = None,
    url: str = JSB_URL,
    timeout_s: float = 30.0,
) -> Path:
    """Puts the canonical archive into the cache and returns its path there.

    Does nothing if the archive is there already and whole. Nothing is kept whose SHA-256 is not `JSB_SHA256`.

    Args:
        from_file: A copy of the archive; `None` downloads it.
        cache: The cache folder; `None` as in `cache_folder`.
        progress: Told the bytes that have arrived.
        url: Where to download from.
        timeout_s: How long to wait for the server's next bytes.

    Raises:
        DataError: no network, or the file is missing, truncated or another one.
        OutputError: the cache cannot be written.
    """
    target = cache_folder(cache) / JSB_FILE
    if from_file is not None:
        data = read_archive_file(Path(from_file))
    else:
        if target.is_file():
            try:
                read_archive_file(target)
                return target
            except DataError as error:
                logger.warning("the archive in the cache is not usable and is fetched again: %s", error)
        data = _download(url, progress, timeout_s)
        check_archive(data, where=url)
    return write_whole(target, data)


def _download(url: str, progress: Progress | None, timeout_s: float) -> bytes:
    from http.client import HTTPException  # only here: these take longer to import than a corpus takes to load
    from urllib.request import urlopen

    data = io.BytesIO()
    try:
        with urlopen(url, timeout=timeout_s) as response:
            length = response.headers.get("Content-Length")
            total = int(length) if length and length.isdecimal() else None
            while chunk := response.read(_CHUNK):
                data.write(chunk)
                if data.tell() > MAX_ARCHIVE_BYTES:
                    raise DataError(f"{url}: more than {MAX_ARCHIVE_BYTES} bytes came; expected about 118,000")
                if progress:
                    progress("download", data.tell(), total)
    except (HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(
            f"cannot download {url} ({reason}); get the file {JSB_FILE} some other way and either give it "
            f"with `--data PATH` or put it into the cache with `bach data fetch jsb --from PATH`"
        ) from error
    return data.getvalue()


def read_archive_file(path: Path) -> bytes:
    """Returns the bytes of the canonical archive.

    Raises:
        DataError: the file cannot be read, or is not the canonical archive; see `check_archive`.
    """
    try:
        size = path.stat().st_size
        if size > MAX_ARCHIVE_BYTES:
            raise DataError(f"{path}: {size} bytes; the archive of the chorales has 117,793")
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot read the archive ({error.strerror or error})") from error
    check_archive(data, where=str(path))
    return data


def check_archive(data: bytes, *, where: str) -> None:
    """Returns if `data` is the canonical archive, byte for byte.

    Raises:
        DataError: it is not; the message names the file, the SHA-256 that was found and the one expected, and, where it
            can be seen, what is wrong: truncated, no archive at all, or members that are unsafe to unpack.
    """
    found = hashlib.sha256(data).hexdigest()
    if found == JSB_SHA256:
        return
    try:
        for _ in archive_members(data, where=where):
            pass
        reason = "it is another file"
    except DataError as error:
        reason = str(error).removeprefix(f"{where}: ")
    raise DataError(
        f"{where}: not the canonical archive: {reason} (SHA-256 {found}, expected {JSB_SHA256}); fetch it again with "
        "`bach data fetch jsb`, or, if these are chorales of your own, unpack them and give the folder"
    )


def archive_members(data: bytes, *, where: str) -> Iterator[tuple[str, bytes]]:
    """Yields name and contents of each file in a tar archive (plain or gzip), without touching the disk.

    Raises:
        DataError: the archive is truncated, not an archive, unpacks to more than `MAX_ARCHIVE_BYTES`, or has a member
            with an absolute name, with `..` in its name, or that is a link, a device or anything else but file or
            folder.
    """
    try:
        if data.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
                data = packed.read(MAX_ARCHIVE_BYTES + 1)
        if len(data) > MAX_ARCHIVE_BYTES:
            raise DataError(f"{where}: unpacks to more than {MAX_ARCHIVE_BYTES} bytes; refused")
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                if name.is_absolute() or ".." in name.parts or "\\" in member.name or ":" in member.name:
                    raise DataError(
                        f"{where}: member {member.name!r} would leave the folder it is unpacked in; refused"
                    )
                if member.isdir():
                    continue
                contents = archive.extractfile(member) if member.isreg() else None
                if contents is None:
                    raise DataError(
                        f"{where}: member {member.name!r} is a link or a device, expected files only; refused"
                    )
                yield member.name, contents.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{where}: truncated, or not a tar archive ({error})") from error


def archive_chorales(data: bytes, *, where: str) -> dict[Split, list[Chorale]]:
    """Returns the chorales in an archive of folders `train`, `valid` and `test` of CSV files, by the order of names.

    Raises:
        DataError: see `archive_members`; or a file is not a chorale.
    """
    splits: dict[Split, list[Chorale]] = {split: [] for split in SPLITS}
    for name, contents in sorted(archive_members(data, where=where)):
        path = PurePosixPath(name)
        for split in SPLITS:
            if path.suffix == ".csv" and path.parent.name == split:
                splits[split].append(
                    Chorale(id=chorale_id(split, path.stem), pitches=_table(contents, f"{where}, {name}"))
                )
    return splits


def _table(contents: bytes, where: str) -> Pitches:
    try:
        return checked_pitches(parse_csv(contents, where), where=where)
    except FormatError as error:
        raise DataError(str(error)) from error


def chorale_id(split: Split, stem: str) -> str:
    """Returns `train/003` for `chorale_003` of train; other stems stay as they are."""
    numbered = re.fullmatch(r"chorale_([0-9]+)", stem)
    return f"{split}/{numbered[1] if numbered else stem}"
