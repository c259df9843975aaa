"""A dilated causal convolution with its normalisation."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="bach")
class CausalConv(keras.layers.Layer):
    """Convolution over past inputs, ReLU, normalisation, dropout, and a residual path where the widths agree.

    Args:
        filters: width of the output.
        kernel_size: how many inputs each output sees, 1 or more.
        dilation: distance between them in time steps; 4 tokens back is the same voice one step earlier.
        normalization: `"batch"` (over batch and time), `"layer"` or `"none"`.
        momentum: of the running averages of batch normalisation.
        residual: add the input to the output where `filters` equals the input's width.
        dropout: rate in [0, 1).

    Call arguments:
        inputs: `[batch, time, width]`.

    Returns:
        `[batch, time, filters]`; output `t` sees the inputs `t, t - dilation, ..., t - (kernel_size - 1) * dilation`.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int = 2,
        dilation: int = 1,
        normalization: str = "batch",
        momentum: float = 0.99,
        residual: bool = False,
        dropout: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters, self.kernel_size, self.dilation = filters, kernel_size, dilation
        self.normalization, self.momentum, self.residual, self.dropout = normalization, momentum, residual, dropout
        self.conv = keras.layers.Conv1D(
            filters, kernel_size, dilation_rate=dilation, padding="causal", activation="relu", name="conv"
        )
        if normalization == "batch":
            self.norm = keras.layers.BatchNormalization(momentum=momentum, name="norm")
        elif normalization == "layer":
            self.norm = keras.layers.LayerNormalization(name="norm")
        elif normalization == "none":
            self.norm = None
        else:
            raise ValueError(f"normalization must be 'batch', 'layer' or 'none', got {normalization!r}")
        self.drop = keras.layers.Dropout(dropout, name="drop") if dropout else None

    def build(self, input_shape):
        self.width = input_shape[-1]
        self.conv.build(input_shape)
        if self.norm is not None:
            self.norm.build((*input_shape[:-1], self.filters))

    def call(self, inputs, training=None):
        return self._finish(inputs, self.conv(inputs), training)

    def _finish(self, inputs, outputs, training=None):
        if self.norm is not None:
            outputs = self.norm(outputs, training=training) if self.normalization == "batch" else self.norm(outputs)
        if self.drop is not None:
            outputs = self.drop(outputs, training=training)
        return outputs + inputs if self.residual and self.filters == self.width else outputs

    def initial_state(self, batch):
        past = (self.kernel_size - 1) * self.dilation
        return (ops.zeros((batch, past, self.width), dtype=self.compute_dtype),)

    def step(self, inputs, state, t):
        (past,) = state
        seen = ops.concatenate([past, inputs[:, None]], axis=1)  # [B, past + 1, width]
        taps = ops.reshape(seen[:, :: self.dilation], (-1, self.kernel_size * self.width))
        kernel = ops.reshape(self.conv.kernel, (self.kernel_size * self.width, self.filters))
        outputs = ops.relu(ops.matmul(taps, kernel) + self.conv.bias)
        finished = self._finish(inputs[:, None], outputs[:, None], training=False)  # norms expect a time axis
        return finished[:, 0], (seen[:, 1:],)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.filters)

    def get_config(self):
        config = {
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "dilation": self.dilation,
            "normalization": self.normalization,
            "momentum": self.momentum,
            "residual": self.residual,
            "dropout": self.dropout,
        }
        return {**super().get_config(), **config}
