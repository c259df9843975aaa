"""What a new chorale is given to begin with: the opening of another one, or some of its voices."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from bach.corpus import Dataset
from bach.errors import DataError, SettingError, did_you_mean
from bach.formats import read_pitches
from bach.formats.reading import READABLE
from bach.notes import NUM_VOICES, VOICES, Pitches

PROMPT_STEPS = 32
"""How much of a prompt is given unless said otherwise: two bars of 4/4."""


def find_prompt(name: str, data: Callable[[], Dataset]) -> Pitches:
    """Returns the chorale that `name` means: that of a music file, or one of the data by its id.

    Args:
        name: a path that ends as music files do, or an id such as `test/003`.
        data: gives the data; called only if `name` is no file.

    Raises:
        FormatError: the file is missing or holds no chorale.
        DataError: the data has no chorale of this id; the nearest is offered.
    """
    if Path(name).suffix.lower() in READABLE or Path(name).is_file():
        return read_pitches(name)
    dataset = data()
    chorales = {chorale.id: chorale for chorale in dataset.chorales()}
    if name not in chorales:
        nearest = did_you_mean(name, chorales) if len(chorales) < 20 or "/" in name else ""
        raise DataError(
            f"no chorale {name!r} in data {dataset.name!r}, and no music file of this name{nearest}; "
            f"ids read like {next(iter(chorales))!r}"
        )
    return chorales[name].pitches


def voice_numbers(names: str) -> tuple[int, ...]:
    """Returns the numbers (0 is the soprano) of voices named with commas between them, such as `soprano,bass`.

    Raises:
        SettingError: an unknown voice; the nearest is offered.
    """
    found: list[int] = []
    for name in filter(None, (part.strip().lower() for part in names.split(","))):
        if name not in VOICES:
            raise SettingError(f"unknown voice {name!r}{did_you_mean(name, VOICES)}")
        found.append(VOICES.index(name))
    return tuple(sorted(set(found)))


def given_notes(prompt: Pitches, *, steps: int, prompt_steps: int | None = None, fixed: Sequence[int] = ()) -> Pitches:
    """Returns what `bach.generation.Generator.generate` takes as given: `[T, 4]`, `FREE` where the model chooses.

    Args:
        prompt: the chorale `[T, 4]` that the notes are taken from.
        steps: of the chorale that is to be made.
        prompt_steps: how many steps at the start are given in all voices; `None` for `PROMPT_STEPS`, or the whole
            prompt if that is shorter, and for 0 where voices are fixed.
        fixed: numbers of the voices that are given to the prompt's end.

    Raises:
        SettingError: `prompt_steps` is more than the prompt has, or more than `steps`.
    """
    from bach.generation import FREE

    if prompt_steps is None:
        prompt_steps = 0 if fixed else min(PROMPT_STEPS, len(prompt))
    check_prompt(prompt, steps=steps, prompt_steps=prompt_steps)
    given = np.full((len(prompt), NUM_VOICES), FREE, np.int16)
    given[:prompt_steps] = prompt[:prompt_steps]
    given[:, list(fixed)] = prompt[:, list(fixed)]
    return given


def check_prompt(prompt: Pitches, *, steps: int, prompt_steps: int) -> None:
    """Returns if `prompt_steps` of the prompt can begin a chorale of `steps` steps.

    Raises:
        SettingError: they cannot.
    """
    if prompt_steps < 0:
        raise SettingError(f"prompt steps: got {prompt_steps}, expected 0 or more")
    if prompt_steps > len(prompt):
        raise SettingError(f"prompt steps: got {prompt_steps}, but the prompt has only {len(prompt)}; ask for fewer")
    if prompt_steps > steps:
        raise SettingError(
            f"the prompt of {prompt_steps} steps is longer than the chorale of {steps}; ask for more steps or a "
            "shorter prompt"
        )
