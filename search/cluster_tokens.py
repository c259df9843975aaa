"""Whether every node of a cluster asks for the token, has it, and nobody else does."""

import re
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from search.cluster_file import ClusterFile, Finding, Manifest, RayFile, Start, items, mapping

TOKEN_PLACE = "~/.ray/auth_token"
"""Where Ray looks for the token if `RAY_AUTH_TOKEN_PATH` names no other place."""
MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
_LITERAL = re.compile(rf"\b{TOKEN}=[\"']?[^\s\"'$`]")


def findings(file: ClusterFile) -> Iterator[Finding]:
    """Yields nodes that would run without a token or not have it, and tokens that stand where others see them."""
    for where, text in file.values():
        if _LITERAL.search(text):
            yield _exposed(where)
    for start in file.starts():
        yield from _asks(file, start)
    if isinstance(file, RayFile):
        yield from _arrives(file)
    elif isinstance(file, Manifest):
        for where, container in file.containers():
            if any(mapping(e).get("name") == TOKEN and mapping(e).get("value") for e in items(container.get("env"))):
                yield _exposed(f"{where}.env")
    elif not any(start.environment.get(TOKEN_PATH) for start in file.starts()):
        yield Finding(
            where="the script",
            what="no token reaches the machines",
            advice=f"write one to a file that only you can read, and export {TOKEN_PATH}",
        )


def places(file: RayFile) -> set[str]:
    """Returns where the machines look for the token."""
    return {start.environment.get(TOKEN_PATH) or TOKEN_PLACE for start in file.starts()} or {TOKEN_PLACE}


def file_findings(where: str, local: str, path: Path) -> Iterator[Finding]:
    """Yields what is wrong with the file on this machine that travels to the token's place.

    Args:
        where: the mount.
        local: the path as the user knows it.
        path: the same, absolute.
    """
    if not path.is_file():
        yield Finding(where=where, what=f"{local} is no file, so no token", advice=f"mount {TOKEN_PLACE} there")
        return
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        yield Finding(where=where, what=f"others can read the token {local}", advice=f"chmod 600 {local}")
    if len(path.read_bytes().split()) != 1:
        yield Finding(
            where=where,
            what=f"{local} holds no token: it is empty, or has several words",
            advice=f"make one: rm {local} && ray get-auth-token --generate > /dev/null && chmod 600 {local}",
        )


def _asks(file: ClusterFile, start: Start) -> Iterator[Finding]:
    mode = start.environment.get(MODE)
    if mode != "token":
        advice = f'set {MODE}=token for every `ray start`; docs/cluster.md, "The token"'
        if isinstance(file, Manifest):
            advice = f"set spec.authOptions.mode: token (KubeRay 1.6 or newer), and no {MODE} beside it"
        said = f": {MODE} is {mode!r} there" if mode else ""
        yield Finding(where=start.where, what=f"it would run without a token{said}", advice=advice)


def _exposed(where: str) -> Finding:
    return Finding(
        where=where,
        what="the token itself stands in the file and in process lists",
        advice=f"keep it in a file ({TOKEN_PATH}, or {TOKEN_PLACE} through file_mounts), or in a secret of Kubernetes",
    )


def _arrives(file: RayFile) -> Iterator[Finding]:
    mounts = mapping(file.document.get("file_mounts"))
    for place in sorted(places(file)):
        carried = any(_carries(str(remote), str(local), place) for remote, local in mounts.items())
        written = any(_writes(text, place) for _, text in file.values())
        if not carried and not written:
            yield Finding(
                where="file_mounts",
                what=f"no token reaches the machines at {place}",
                advice=f"file_mounts: {{ {place}: {TOKEN_PLACE} }}",
            )


def below(remote: str, place: str) -> tuple[str, ...] | None:
    """Returns the way from a mount down to a place on the machines, () for the same; None if it is not below.

    `~` is any user's home there.
    """
    parts, wanted = _parts(remote), _parts(place)
    return wanted[len(parts) :] if wanted[: len(parts)] == parts else None


def _carries(remote: str, local: str, place: str) -> bool:
    way = below(remote, place)
    try:
        return way == () or (way is not None and Path(local).expanduser().joinpath(*way).exists())
    except (OSError, RuntimeError):
        return False  # said of the mount


def _parts(remote: str) -> tuple[str, ...]:
    return PurePosixPath(re.sub(r"^(\$HOME|\$\{HOME\}|/root|/home/[^/]+)(?=/|$)", "~", remote)).parts


def _writes(command: str, place: str) -> bool:
    return bool(re.search(rf"(?:>|\btee\b)\s*[\"']?{re.escape(place)}", command))
