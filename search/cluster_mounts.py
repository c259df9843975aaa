"""What of this machine would travel to those of a cluster, and what of it should not."""

import fnmatch
import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from results.plain import several
from search import cluster_tokens
from search.cluster_file import Finding, RayFile, items, mapping, unfilled
from search.parcel import SECRET_WORDS, is_called_secret

HEAVY = (".git", ".venv", ".cache", "runs")
"""Folders that are large and of no use there."""
LIMIT_FILES = 20_000
"""How many files of a mount are looked at; one with more is no working tree."""
SHOWN = 5
"""So many names stand in a finding."""
READ_BYTES = 1_000_000
"""How much of a file is searched for keys; they are short, and data is not."""


def findings(file: RayFile, *, tokens: set[str]) -> Iterator[Finding]:
    """Yields files that are to travel but are not here, and what should stay: secrets, and large folders.

    Args:
        file: the cluster's file.
        tokens: where the machines look for the token, which is the one secret that travels.
    """
    excluded = [str(pattern) for pattern in items(file.document.get("rsync_exclude"))]
    filters = [str(name) for name in items(file.document.get("rsync_filter"))]
    mounts = [
        (f"file_mounts.{remote}", str(remote), local)
        for remote, local in mapping(file.document.get("file_mounts")).items()
    ]
    # Those go from the head on, where they may come from elsewhere: that they are not here says nothing.
    synced = [
        (f"cluster_synced_files[{i}]", str(path), path)
        for i, path in enumerate(items(file.document.get("cluster_synced_files")))
    ]
    walked = functools.partial(_walked, excluded=excluded, filters=filters)
    for where, remote, local in [*mounts, *synced]:
        if unfilled(local):
            continue
        try:
            place = Path(str(local)).expanduser()
            if place.exists():
                yield from _travels(where, remote, str(local), place, tokens, walked(place))
            elif (where, remote, local) in mounts:
                yield _missing(where, remote, str(local), tokens)
            elif _is_secret(PurePosixPath(str(local)).parts) and not _is_token(remote, tokens):
                yield _secrets(where, [str(local)])
        except (OSError, RuntimeError, ValueError) as error:
            yield Finding(where=where, what=f"{local} cannot be read: {error}", advice="name a path that you can read")


def _missing(where: str, remote: str, local: str, tokens: set[str]) -> Finding:
    advice = "run this where `ray up` will run, in the folder of the project"
    if any(cluster_tokens.below(remote, token) is not None for token in tokens):
        advice = f"make one: ray get-auth-token --generate > /dev/null && chmod 600 {cluster_tokens.TOKEN_PLACE}"
    return Finding(where=where, what=f"{local} is not there, seen from {Path.cwd()}", advice=advice)


def _travels(
    where: str,
    remote: str,
    local: str,
    place: Path,
    tokens: set[str],
    walked: Iterator[tuple[str, bool]],
) -> Iterator[Finding]:
    """Yields what is wrong with a file or folder that is here."""
    secrets, heavy = [], []
    if _is_secret(_named(local, place)) and not _is_token(remote, tokens):
        yield _secrets(where, [local])
        return
    for number, (name, is_heavy) in enumerate(walked):
        if number == LIMIT_FILES:
            yield Finding(
                where=where,
                what=f"takes more than {LIMIT_FILES} files along to every machine",
                advice="mount the folders that are needed; data belongs into the storage. The rest was not looked at",
            )
            break
        path = place / name if name else place
        if _is_token(f"{remote}/{name}" if name else remote, tokens):
            yield from cluster_tokens.file_findings(where, f"{local}/{name}" if name else local, path)
        elif is_heavy:
            heavy.append(name)
        elif _is_secret(PurePosixPath(name).parts) or _holds_key(path):
            secrets.append(name or local)
    if heavy:
        yield Finding(
            where=where,
            what=f"takes {several(heavy, SHOWN)} along to every machine",
            advice="mount the folders that are needed, or name these in rsync_exclude",
        )
    if secrets:
        yield _secrets(where, secrets)


def _is_token(remote: str, tokens: set[str]) -> bool:
    return any(cluster_tokens.below(remote, token) == () for token in tokens)


def _secrets(where: str, names: Sequence[str]) -> Finding:
    return Finding(
        where=where,
        what=f"takes secrets along to every machine: {several(names, SHOWN)}",
        advice="mount the folders that are needed, or name these in rsync_exclude; machines get their rights from "
        "their profile or account",
    )


def _named(local: str, place: Path) -> tuple[str, ...]:
    """Returns the parts of a path as it is written, and as it is without links where it lies at home."""
    real, home = place.resolve(), Path.home().resolve()
    return (*PurePosixPath(local).parts, *(real.relative_to(home).parts if real.is_relative_to(home) else ()))


def _is_secret(parts: Sequence[str]) -> bool:
    return is_called_secret(part for part in parts if not part.endswith(".pub"))


def _holds_key(path: Path) -> bool:
    try:
        # Pipes, devices and what the kernel makes up, which has no size, would be waited for.
        if not path.is_file() or not path.stat().st_size:
            return False
        with path.open("rb") as file:
            return bool(SECRET_WORDS.search(file.read(READ_BYTES)))
    except OSError:
        return False  # rsync cannot read it either


def _walked(place: Path, excluded: Sequence[str], filters: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Yields what rsync would take of a folder, and whether it is one of the heavy folders, which are not looked into.

    Secret folders are not looked into either. For a file, yields "" alone. Links stay links there, and lead nowhere.

    Args:
        place: the file or folder.
        excluded: patterns as rsync reads them.
        filters: names of files with more such patterns, each for its folder and those below.
    """
    if not place.is_dir():
        yield "", False
        return
    patterns = {Path(): [(Path(), pattern) for pattern in excluded]}
    for folder, folders, files in os.walk(place):
        inside = Path(folder).relative_to(place)
        here = patterns[inside] = [*patterns[inside.parent], *((inside, p) for p in _filtered(Path(folder), filters))]
        left = []
        for name in sorted(folders + files):
            path = inside / name
            if (place / path).is_symlink() or _is_excluded(path, here, is_folder=name in folders):
                continue
            if name in files:
                yield path.as_posix(), False
            elif name in HEAVY or _is_secret([name]):
                yield path.as_posix(), name in HEAVY
            else:
                left.append(name)
        folders[:] = left


def _filtered(folder: Path, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        if (folder / name).is_file():
            lines = (folder / name).read_text("utf-8", errors="replace").splitlines()
            yield from (line.strip() for line in lines if line.strip() and not line.startswith(("#", "!")))


def _is_excluded(path: Path, patterns: Sequence[tuple[Path, str]], *, is_folder: bool) -> bool:
    """Returns whether rsync leaves out what lies at a path, by patterns each of which begins at a folder above."""
    for base, pattern in patterns:
        bare = pattern.strip("/").removesuffix("/**").removesuffix("/*")
        if not bare or (pattern.endswith("/") and not is_folder):
            continue
        whole = path.relative_to(base).as_posix()
        anywhere = not pattern.startswith("/")
        if fnmatch.fnmatchcase(whole, bare) or (anywhere and fnmatch.fnmatchcase(whole, f"*/{bare}")):
            return True
    return False
