"""A model with all that belongs to it, in one folder: model, card, scores, samples, checksums.

`SHA256SUMS` is written last and removed first: a bundle without it is not whole.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from results.plain import finite
from results.storage import Storage
from search.card import SUMS, text
from search.final_work import files_of
from search.space import Space
from search.spec import SweepSpec
from search.task import TEST

FOLDER = "bundle"
SAMPLES = f"{FOLDER}/samples"
CARD, CARD_TEXT = "card.json", "card.md"
_SUM = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def begin(storage: Storage) -> None:
    """Removes the bundle of another model, or half of one."""
    storage.remove(f"{FOLDER}/{SUMS}")
    storage.remove(FOLDER)


def read_card(storage: Storage) -> dict[str, Any] | None:
    """Returns the card of a whole bundle; None if there is none."""
    if not storage.exists(f"{FOLDER}/{SUMS}"):
        return None
    try:
        return dict(json.loads(storage.read(f"{FOLDER}/{CARD}")))
    except (FileNotFoundError, ValueError):
        return None


def facts(task: Any, spec: SweepSpec, *, split: str = TEST) -> dict[str, Any]:
    """Returns what a card says of the task and the sweep, whichever model it is about.

    Args:
        task: may have `limits`, `how_to_load`, and `references(split)`, the scores of models known by name.
        spec: of the sweep.
        split: what the model is scored on.
    """
    space = Space.explore(task.space).narrowed(spec.space)
    return {
        "space": {
            name: [
                {"range": p.described(), "when": {c.name: list(c.values) for c in p.conditions}} for p in declarations
            ]
            for name, declarations in space.parameters.items()
        },
        "sweep_seed": spec.seed,
        "how_to_load": getattr(task, "how_to_load", ""),
        "limits": getattr(task, "limits", ""),
        "split": split,
        "references": task.references(split) if hasattr(task, "references") else {},
        "sample_limits": {
            name: {"low": low, "high": high, "text": text}
            for name, (low, high, text) in dict(getattr(task, "sample_limits", {})).items()
        },
    }


def environments(trained: Mapping[str, str], packaged: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Returns what a card says of code and packages: those that trained the model, and others that packaged it.

    Args:
        trained: from `search.environment`; empty if nobody knows.
        packaged: the same of the process that writes the bundle.
    """
    if not trained or trained == packaged:
        return {"environment": dict(packaged)}
    return {"environment": dict(trained), "packaged": dict(packaged)}


def card(about: Mapping[str, Any], *, scores: Mapping, floors: Mapping, samples: list) -> dict[str, Any]:
    """Returns all that is to be known of a model, as a document for JSON."""
    made = datetime.now(UTC).isoformat(timespec="seconds")
    return finite({**about, "scores": scores, "floors": floors, "samples": samples, "made": made})


def write(storage: Storage, model: str, card: Mapping[str, Any], samples: Mapping[str, str]) -> None:
    """Writes the bundle of a model of the final job.

    Args:
        storage: of the sweep.
        model: the model's folder there.
        card: from `card`.
        samples: the files below `SAMPLES`, which are there already, with their SHA-256.
    """
    sums = {f"{SAMPLES.removeprefix(f'{FOLDER}/')}/{name}": digest for name, digest in samples.items()}
    files = {name: storage.read(f"{model}/{name}") for name in files_of(storage, model)} | documents(card)
    for name, data in files.items():
        storage.write(f"{FOLDER}/{name}", data)
        sums[name] = hashlib.sha256(data).hexdigest()
    storage.write(f"{FOLDER}/{SUMS}", _list_of(sums))


COMPARISON = ("compared", "choice", "ensemble")
"""What a card says of how its model was chosen."""


def reword(storage: Storage, card: Mapping[str, Any], comparison: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the card of a whole bundle with another comparison; writes it, if it differs.

    Args:
        storage: of the sweep.
        card: from `read_card`.
        comparison: what it is to have of `COMPARISON`.
    """
    kept = {name: value for name, value in card.items() if name not in COMPARISON}
    made: dict[str, Any] = finite({**kept, **comparison})
    if made == card:
        return made
    sums = listed(storage.read(f"{FOLDER}/{SUMS}"))
    storage.remove(f"{FOLDER}/{SUMS}")
    for name, data in documents(made).items():
        storage.write(f"{FOLDER}/{name}", data)
        sums[name] = hashlib.sha256(data).hexdigest()
    storage.write(f"{FOLDER}/{SUMS}", _list_of(sums))
    return made


def complete(folder: Path, card: Mapping[str, Any]) -> None:
    """Makes a bundle of a local folder that holds all but the card and the checksums."""
    for name, data in documents(card).items():
        Storage(folder).write(name, data)
    sums = {name: digest(folder / name) for name in names(folder) if name != SUMS}
    Storage(folder).write(SUMS, _list_of(sums))


def documents(card: Mapping[str, Any]) -> dict[str, bytes]:
    """Returns the card's two files."""
    return {CARD: (json.dumps(card, indent=1, ensure_ascii=False) + "\n").encode(), CARD_TEXT: text(card).encode()}


def names(folder: Path) -> list[str]:
    """Returns the files below a local folder, by their path from there."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def digest(file: Path) -> str:
    """Returns the SHA-256 of a local file."""
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def listed(data: bytes) -> dict[str, str]:
    """Returns the files that a list of checksums names, each with its own; what is no such line is left out."""
    found = (_SUM.fullmatch(line) for line in data.decode("utf-8", errors="replace").splitlines())
    return {match[2]: match[1] for match in found if match}


def _list_of(sums: Mapping[str, str]) -> bytes:
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())).encode()
