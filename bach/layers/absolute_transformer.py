"""A stack of Transformer blocks over learnt absolute positions, for sequences longer than the table."""

import keras
from keras import ops

from bach.layers.transformer_block import TransformerBlock


@keras.saving.register_keras_serializable(package="bach")
class AbsoluteTransformer(keras.layers.Layer):
    """Adds a learnt vector per position, then runs Transformer blocks; reads long sequences through a sliding window.

    The table knows `window` positions. A longer sequence is cut into halves of a window; each half is computed at the
    end of a window that begins with the half before it, so that every note but the first `window / 2` sees `window / 2`
    to `window` notes, at positions that were trained.

    Args:
        window: rows of the position table; a multiple of 8.
        layers: number of blocks.
        normalize: whether a layer normalisation follows the last block.
        block: the settings of `TransformerBlock`, less `span` and `positions`.

    Call arguments:
        inputs: `[batch, time, width]`.

    Returns:
        `[batch, time, width]`.
    """

    def __init__(self, window: int, layers: int, block: dict, normalize: bool = False, **kwargs):
        super().__init__(**kwargs)
        if window < 8 or window % 8:
            raise ValueError(f"window must be a positive multiple of 8, got {window}")
        self.window, self.num_layers, self.block, self.normalize = window, layers, dict(block), normalize
        self.blocks = [
            TransformerBlock(**self.block, span=window, positions="none", name=f"block_{i}") for i in range(layers)
        ]
        self.norm = keras.layers.LayerNormalization(name="norm") if normalize else None

    def build(self, input_shape):
        self.positions = self.add_weight(name="positions", shape=(self.window, input_shape[-1]), initializer="uniform")
        for block in self.blocks:
            block.build(input_shape)
        if self.norm is not None:
            self.norm.build(input_shape)

    def call(self, inputs, training=None):
        length = ops.shape(inputs)[1]
        if isinstance(length, int) and length <= self.window:
            return self._run(inputs, training)
        half, width = self.window // 2, inputs.shape[-1]
        halves = ops.maximum((length + half - 1) // half, 2) if not isinstance(length, int) else -(-length // half)
        padded = ops.pad(inputs, [[0, 0], [0, self.window], [0, 0]])[:, : halves * half]
        cut = ops.reshape(padded, (-1, halves, half, width))
        windows = ops.concatenate([cut[:, :-1], cut[:, 1:]], axis=2)  # [B, halves - 1, window, width]
        outputs = self._run(ops.reshape(windows, (-1, self.window, width)), training)
        outputs = ops.reshape(outputs, (-1, halves - 1, 2, half, width))
        joined = ops.concatenate([outputs[:, :1, 0], outputs[:, :, 1]], axis=1)  # [B, halves, half, width]
        return ops.reshape(joined, (-1, halves * half, width))[:, :length]

    def _run(self, inputs, training=None):
        inputs = inputs + self.positions[: inputs.shape[1]]
        for block in self.blocks:
            inputs = block(inputs, training=training)
        return inputs if self.norm is None else self.norm(inputs)

    def initial_state(self, batch):
        past = ops.zeros((batch, self.window // 2, self.positions.shape[-1]), dtype=self.compute_dtype)
        return past, tuple(block.initial_state(batch) for block in self.blocks)

    def step(self, inputs, state, t):
        half = self.window // 2
        past, caches = state
        # A new window begins: what the half before it left is computed again at the window's first positions.
        caches = ops.cond(ops.logical_and(t >= self.window, t % half == 0), lambda: self._refill(past), lambda: caches)
        position = ops.where(t < self.window, t, half + t % half)
        x = inputs + ops.take(self.positions, position, axis=0)
        after = []
        for block, cache in zip(self.blocks, caches, strict=True):
            x, present = block.step(x, cache, position)
            after.append(present)
        past = ops.concatenate([past[:, 1:], inputs[:, None]], axis=1)
        return x if self.norm is None else self.norm(x), (past, tuple(after))

    def _refill(self, past):
        """Returns the caches as the half window `past` `[B, window / 2, width]` leaves them."""
        x = past + self.positions[: self.window // 2]
        caches = []
        for block in self.blocks:
            x, cache = block.fill(x)
            caches.append(cache)
        return tuple(caches)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        config = {
            "window": self.window,
            "layers": self.num_layers,
            "block": dict(self.block),
            "normalize": self.normalize,
        }
        return {**super().get_config(), **config}
