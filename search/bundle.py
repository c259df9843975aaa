"""The chosen model with all that belongs to it, in one folder: model, card, scores, samples, checksums.

`SHA256SUMS` is written last and removed first: a bundle without it is not whole.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from results.storage import Storage
from search.final_work import files_of

FOLDER = "bundle"
SAMPLES = f"{FOLDER}/samples"
CARD, CARD_TEXT, SUMS = "card.json", "card.md", "SHA256SUMS"


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


def card(about: Mapping[str, Any], *, scores: Mapping, floors: Mapping, samples: list) -> dict[str, Any]:
    """Returns all that is to be known of a model, as a document for JSON."""
    made = datetime.now(UTC).isoformat(timespec="seconds")
    return _finite({**about, "scores": scores, "floors": floors, "samples": samples, "made": made})


def write(storage: Storage, model: str, card: Mapping[str, Any], samples: Mapping[str, str]) -> None:
    """Writes the bundle of a model.

    Args:
        storage: of the sweep.
        model: the model's folder there.
        card: from `card`.
        samples: the files below `SAMPLES`, which are there already, with their SHA-256.
    """
    sums = {f"{SAMPLES.removeprefix(f'{FOLDER}/')}/{name}": digest for name, digest in samples.items()}
    files = {name: storage.read(f"{model}/{name}") for name in files_of(storage, model)}
    files[CARD] = (json.dumps(card, indent=1, ensure_ascii=False) + "\n").encode()
    files[CARD_TEXT] = text(card).encode()
    for name, data in files.items():
        storage.write(f"{FOLDER}/{name}", data)
        sums[name] = hashlib.sha256(data).hexdigest()
    lines = [f"{digest}  {name}\n" for name, digest in sorted(sums.items())]
    storage.write(f"{FOLDER}/{SUMS}", "".join(lines).encode())


def text(card: Mapping[str, Any]) -> str:
    """Returns the card as Markdown."""
    data, environment = card["data"], card["environment"]
    lines = [
        f"# The model that sweep {card['sweep']} chose",
        "",
        f"Made {card['made']} by `{card['task']}`, the configuration of trial {card['trial']}, trained anew with seed "
        f"{card['seed']} for {card['epochs']} epochs; the weights are those of epoch {card['best_epoch']}.",
        "",
        *(
            [f"Data: {data['name']}, fingerprint `{data['fingerprint']}`. Scores on other data do not compare.", ""]
            if data["name"]
            else []
        ),
    ]
    if card["how_to_load"]:
        lines += ["## How to load it", "", "```python", card["how_to_load"], "```", ""]
    for title, values in (("Scores", card["scores"]), ("At the best epoch", card["metrics"])):
        if values:
            lines += [f"## {title}", "", "| name | value |", "|---|---|"]
            lines += [f"| {name} | {_number(value)} |" for name, value in values.items()] + [""]
    for name, scores in card["floors"].items():
        told = ", ".join(f"{score} {_number(value)}" for score, value in scores.items() if score in card["scores"])
        lines += [f"For comparison, the model {name!r}, which needs no training: {told}.", ""]
    lines += [
        "## What it was chosen from",
        "",
        f"The configurations that were trained anew, by the mean of {card['objective']} ({card['goal']}):",
        "",
        "| trial | mean | trainings | in the sweep |",
        "|---|---|---|---|",
    ]
    for contender in card["compared"]:
        each = ", ".join(_number(value) for value in contender["scores"])
        row = (contender["trial"], _number(contender["mean"]), each, _number(contender["in_sweep"]))
        lines.append(f"| {' | '.join(map(str, row))} |")
    lines += ["", "## Configuration", "", "| parameter | value |", "|---|---|"]
    lines += [f"| `{name}` | `{value}` |" for name, value in sorted(card["configuration"].items())]
    if environment:
        lines += ["", "## Environment", "", *(f"- {name}: {_listed(value)}" for name, value in environment.items())]
    return "\n".join([*lines, "", f"`sha256sum -c {SUMS}` checks the files.", ""])


def _listed(value: Any) -> str:
    return ", ".join(f"{name} {each}" for name, each in value.items()) if isinstance(value, Mapping) else str(value)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) and abs(value) < 1000 else str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
