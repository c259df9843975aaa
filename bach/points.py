"""From what a user types to a point of the search space: a preset or family, and single values changed."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from bach.errors import SettingError, did_you_mean
from bach.models import FAMILIES
from bach.models.presets import preset

FAMILY_EPOCHS = 30
"""Epochs of a training that begins with a family's defaults."""
FAMILY = "model.family"

_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """Where a training starts from.

    Attributes:
        values: as `bach.hypermodel.parameters` takes them.
        epochs: how many are meant.
        preset: its name, or `""`.
    """

    values: dict[str, Any]
    epochs: int
    preset: str


def starting_point(*, preset_name: str | None, family: str | None) -> Point:
    """Returns the point of a preset, or of a family's defaults.

    Raises:
        SettingError: an unknown name (the nearest is offered), or not exactly one of the two.
    """
    if (preset_name is None) == (family is None):
        raise SettingError("a training starts from a preset or from a family; name one of the two")
    if preset_name is not None:
        chosen = preset(preset_name)
        return Point(values=chosen.point(), epochs=chosen.epochs, preset=chosen.name)
    if family not in FAMILIES:
        raise SettingError(f"unknown family {family!r}{did_you_mean(str(family), FAMILIES)}")
    return Point(values={FAMILY: family}, epochs=FAMILY_EPOCHS, preset="")


def split_assignments(assignments: Iterable[str]) -> dict[str, str]:
    """Returns names and texts of assignments such as `train.batch_size=32`; of equal names the last stands.

    Raises:
        SettingError: one of them is no assignment.
    """
    found: dict[str, str] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not (equals and name.strip() and text.strip()):
            raise SettingError(f"cannot set {assignment!r}; expected name=value, such as train.batch_size=32")
        found[name.strip()] = text.strip()
    return found


def assign(values: dict[str, Any], texts: dict[str, str]) -> dict[str, Any]:
    """Returns `values` with those of `texts`, each read as its parameter's type.

    Raises:
        SettingError: an unknown name (the nearest is offered), or a text that is no value of this parameter.
    """
    from bach.hypermodel import parameters

    if FAMILY in texts:
        values = {**values, **starting_point(preset_name=None, family=texts[FAMILY]).values}
    hp = parameters(values)
    known = {parameter.name: parameter for parameter in hp.space if parameter.name in hp.values}
    for name in texts:
        if name not in known:
            raise SettingError(f"unknown parameter {name!r} of family {hp.get(FAMILY)!r}{did_you_mean(name, known)}")
    read = {name: _read(known[name], text) for name, text in texts.items()}
    assigned = {**values, **read}
    parameters(assigned)
    return assigned


def _read(parameter: Any, text: str) -> Any:
    """Returns `text` as a value of the parameter's type; the text itself where it is none, for others to refuse."""
    kind = type(parameter.default)
    if kind is bool:
        return _WORDS.get(text.lower(), text)
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            expected = "a whole number" if kind is int else "a number"
            raise SettingError(f"parameter {parameter.name!r}: got {text!r}, expected {expected}") from None
    return text
