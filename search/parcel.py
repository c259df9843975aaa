"""What of a folder travels to a cluster: small, and without secrets.

Where git keeps files of the folder, that is what it tracks, as it lies there now; elsewhere all that is not hidden, a
cache, an environment of Python's, results, or ignored by a git that tracks nothing yet. Besides, what is asked for by
name. Whatever looks like a secret stays behind, by its name or by what it holds, and so do links that lead out, or to
what stays behind.
"""

import fnmatch
import os
import re
import subprocess
import zipfile
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from search.errors import SweepError

LIMIT_BYTES = 50_000_000
"""A tree above this size is not what a sweep needs; every machine would fetch it."""
SECRET_NAMES = (
    *(".env", ".env.*", "*.env", ".envrc", ".netrc", "_netrc", ".pgpass", ".htpasswd", ".git-credentials"),
    *(".npmrc", ".pypirc", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.ppk", "*.gpg"),
    *("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "auth_token*", "token", "*.token", "*_token", "*_token.txt"),
    *("credentials*", "*credentials.json", "client_secret*", "secret", "secret.*", "secrets", "secrets.*", "*.secret"),
    *("service?account*.json", "*-service?account*.json", "kubeconfig*", "*.kubeconfig", "application_default_*.json"),
    *(".ssh", ".aws", ".azure", ".gnupg", ".kube", ".docker", "gcloud"),
)
"""Names of files and folders, in small letters, that stay behind."""
SECRET_WORDS = re.compile(
    rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----\s|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|aws_secret_access_key\s*="
)
"""What the beginning of a private key and keys of Amazon's look like."""
NOT_WORK = frozenset({"runs", "node_modules", "venv", "build", "dist", "__pycache__"})
"""Folders that stay behind where no git says what belongs to the work; hidden ones do as well."""
_STAMP = (1980, 1, 1, 0, 0, 0)
"""The time that all files in the archive have: the same files make the same archive."""


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """What travels, and what does not.

    Attributes:
        root: the folder.
        sizes: path below it, with `/` between its parts -> bytes.
        left_out: path -> why it stays behind although it belongs to the work.
        untracked: files that git neither tracks nor ignores; they stay behind.
    """

    root: Path
    sizes: Mapping[str, int]
    left_out: Mapping[str, str]
    untracked: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        """All files together."""
        return sum(self.sizes.values())


def gather(root: Path, *, asked_for: Sequence[str] = (), secrets: Iterable[bytes] = ()) -> Parcel:
    """Returns what of a folder travels.

    Args:
        root: the folder.
        asked_for: paths below it of files that must travel, tracked or not.
        secrets: texts that no file that travels may hold, such as a token.

    Raises:
        SweepError: it is too large, one of those asked for is not there or looks like a secret, or git cannot say what
            it tracks.
        OSError: a file cannot be read.
    """
    tracked, untracked = _git(root, "--cached"), _git(root, "--others", "--exclude-standard")
    wanted = set(tracked or _walked(root))
    if untracked is not None and not tracked:
        wanted &= set(untracked)
    wanted |= set(asked_for)
    may_be_read = wanted | {_target(root, name) for name in asked_for}
    secrets = tuple(secret for secret in secrets if secret)
    sizes: dict[str, int] = {}
    left_out: dict[str, str] = {}
    for name in sorted(wanted):
        path = root / name
        if name not in asked_for and not os.path.lexists(path):
            continue  # git knows it, but it was removed
        why = _reason(root, name, may_be_read, secrets)
        if not why:
            sizes[name] = path.stat().st_size
        elif name in asked_for:
            raise SweepError(f"{path} has to travel to the cluster, but {why}; mend that, or give it another name")
        else:
            left_out[name] = why
    loose = tuple(name for name in untracked or () if name not in sizes) if tracked else ()
    parcel = Parcel(root=root, sizes=sizes, left_out=left_out, untracked=loose)
    _check_size(parcel)
    return parcel


def from_here(file: Path) -> str:
    """Returns how a file is named from the current folder, which is what travels.

    Raises:
        SweepError: it lies elsewhere.
    """
    root = Path.cwd()
    named = Path(os.path.normpath(file.absolute()))  # a link keeps its own name
    try:
        return (named if named.is_relative_to(root) else file.resolve()).relative_to(root).as_posix()
    except ValueError:
        raise SweepError(
            f"{file} lies outside of {root}, which is what travels to the cluster; "
            "start from a folder that holds it as well as the code"
        ) from None


def pack(parcel: Parcel, archive: Path) -> None:
    """Writes the files of a parcel into a ZIP archive; the same files always make the same bytes."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name in sorted(parcel.sizes):
            path = parcel.root / name
            info = zipfile.ZipInfo(name, _STAMP)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (0o755 if os.access(path, os.X_OK) else 0o644) << 16
            file.writestr(info, path.read_bytes())


def _check_size(parcel: Parcel) -> None:
    if parcel.size_bytes <= LIMIT_BYTES:
        return
    largest = sorted(parcel.sizes.items(), key=lambda item: -item[1])[:5]
    named = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in largest)
    raise SweepError(
        f"{parcel.root} has {parcel.size_bytes / 1e6:.0f} MB that would travel to every machine, expected at most "
        f"{LIMIT_BYTES / 1e6:.0f} MB; the largest: {named}. Put large files into the storage, or where git ignores them"
    )


def _reason(root: Path, name: str, may_be_read: Container[str | None], secrets: Sequence[bytes]) -> str:
    """Returns why a file stays behind, "" if it travels."""
    path, target = root / name, _target(root, name)
    if not os.path.lexists(path):
        return "it is not there"
    if is_called_secret(Path(name).parts):
        return "its name is that of a secret"
    if target is None:
        return "it is a link that leads out of the folder"
    if is_called_secret(Path(target).parts):
        return f"it is a link to {target}, whose name is that of a secret"
    if not path.is_file():
        return "it is a folder behind a link, or a repository of its own"
    if target not in may_be_read:
        return f"it is a link to {target}, which stays behind"
    data = path.read_bytes() if path.stat().st_size <= LIMIT_BYTES else b""
    if SECRET_WORDS.search(data):
        return "it holds a key"
    if any(secret in data for secret in secrets):
        return "it holds the cluster's token"
    return ""


def _target(root: Path, name: str) -> str | None:
    """Returns what a name leads to by way of links, as a path below the folder too; None for what lies outside."""
    real = Path(os.path.realpath(root / name))
    top = Path(os.path.realpath(root))
    return real.relative_to(top).as_posix() if real.is_relative_to(top) else None


def is_called_secret(names: Iterable[str]) -> bool:
    """Returns whether one of the names of files or folders is that of a secret."""
    return any(fnmatch.fnmatchcase(name.lower(), pattern) for name in names for pattern in SECRET_NAMES)


def _git(root: Path, *which: str) -> list[str] | None:
    """Returns files as git lists them, relative to the folder; None where there is no repository.

    Raises:
        SweepError: there is one, but git cannot be asked: what it ignores may be secret.
    """
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", *which, "--", "."]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        top = root.resolve()
        if not any((folder / ".git").exists() for folder in (top, *top.parents)):
            return None
        said = error.stderr.decode("utf-8", "replace") if isinstance(error, subprocess.CalledProcessError) else ""
        raise SweepError(
            f"git cannot say what belongs to {root}: {said.strip() or error}; mend that, or send from a folder without "
            "a repository"
        ) from error
    return [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]


def _walked(root: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(root):
        folders[:] = [
            name
            for name in folders
            if name not in NOT_WORK and not name.startswith(".") and not (Path(folder, name) / "pyvenv.cfg").exists()
        ]
        for name in files:
            if not name.startswith("."):
                yield Path(folder, name).relative_to(root).as_posix()
