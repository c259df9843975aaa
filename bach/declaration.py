"""The search space, written once: all that may vary, as one function of `hp`. No model is made of it here."""

from typing import Any

from bach.models import FAMILIES
from bach.models.later import LaterLayer
from bach.settings import TrainingSettings


def declare(hp: Any) -> tuple[str, list[LaterLayer], TrainingSettings]:
    """Returns the family at the point that `hp` answers with, its layers, not yet made, and how to train them.

    This is all of the space: whatever is asked of `hp` is asked here. It needs no Keras.

    Args:
        hp: KerasTuner's `HyperParameters`, or what answers as they do.
    """
    family = hp.Choice("model.family", list(FAMILIES), default="relative_transformer")
    chain: list[LaterLayer] = []
    for name, layers in FAMILIES.items():
        with hp.conditional_scope("model.family", [name]):
            if family == name:
                chain = layers(hp)
    return family, chain, TrainingSettings.from_hp(hp)
