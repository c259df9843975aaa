"""Layers that are not made yet, so that the space can be told without Keras, whose import takes seconds.

A family writes `later.CausalConv(64, 2, name="conv_0")` where it would write `CausalConv(64, 2, name="conv_0")` or
`keras.layers.Dense(47)`. The names are those of `bach.layers`, then those of `keras.layers`.
"""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class LaterLayer:
    """A layer that is not made yet.

    Attributes:
        kind: the name of its class.
        args: it is made with.
        kwargs: it is made with.
    """

    kind: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def make(self) -> "keras.layers.Layer":
        """Returns a new layer, not built."""
        import keras

        import bach.layers

        made = getattr(bach.layers, self.kind, None) or getattr(keras.layers, self.kind)
        return made(*self.args, **self.kwargs)


class _Later:
    """Makes a `LaterLayer` of the class that is asked for."""

    def __getattr__(self, kind: str) -> Any:
        if kind.startswith("_"):
            raise AttributeError(kind)
        return lambda *args, **kwargs: LaterLayer(kind, args, kwargs)


later = _Later()
"""Has an attribute for each class of layers, which is called with what the class is."""
