"""What of a folder travels to a cluster: small, and without secrets.

Where git keeps files of the folder, that is what it tracks, as it lies there now; elsewhere all that is not hidden, a
cache, an environment of Python's or results. Besides, what is asked for by name. Whatever looks like a secret stays
behind, by its name or by what it holds, and so do links that lead out.
"""

import fnmatch
import os
import re
import subprocess
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
        SweepError: it is too large, or one of those asked for looks like a secret.
        OSError: a file cannot be read.
    """
    tracked = _git(root, "--cached")
    wanted = tracked or list(_walked(root))
    secrets = tuple(secret for secret in secrets if secret)
    sizes: dict[str, int] = {}
    left_out: dict[str, str] = {}
    for name in sorted({*wanted, *asked_for}):
        path = root / name
        if not path.is_symlink() and not path.exists():
            continue  # git knows it, but it was removed
        why = _reason(root, path, name, secrets)
        if not why:
            sizes[name] = path.stat().st_size
        elif name in asked_for:
            raise SweepError(f"{path} has to travel to the cluster, but {why}; give it another name, or mend it")
        else:
            left_out[name] = why
    parcel = Parcel(
        root=root,
        sizes=sizes,
        left_out=left_out,
        untracked=tuple(
            name for name in (tracked and _git(root, "--others", "--exclude-standard")) or () if name not in sizes
        ),
    )
    _check_size(parcel)
    return parcel


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


def _reason(root: Path, path: Path, name: str, secrets: Sequence[bytes]) -> str:
    """Returns why a file stays behind, "" if it travels."""
    if any(fnmatch.fnmatchcase(part.lower(), pattern) for part in Path(name).parts for pattern in SECRET_NAMES):
        return "its name is that of a secret"
    if not path.resolve().is_relative_to(root.resolve()):
        return "it is a link that leads out of the folder"
    if not path.is_file():
        return "it is a folder behind a link, or a repository of its own"
    data = path.read_bytes() if path.stat().st_size <= LIMIT_BYTES else b""
    if SECRET_WORDS.search(data):
        return "it holds a key"
    if any(secret in data for secret in secrets):
        return "it holds the cluster's token"
    return ""


def _git(root: Path, *which: str) -> list[str] | None:
    """Returns files as git lists them, relative to the folder; None where git does not keep it."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", *which, "--", "."]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    if done.returncode != 0:
        return None
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
