"""The convolutional-recurrent family: dilated causal convolutions, then LSTM or GRU layers."""

from bach.models.inputs import embedding
from bach.models.later import LaterLayer, later
from bach.notes import NUM_TOKENS

WIDENING = (1, 1.5, 2, 3, 4, 6)
"""Filters of the successive convolutions over those of the first, when they widen; the seed's are 32, 48, 64, 96."""


def layers(hp) -> list[LaterLayer]:
    """Returns the family's layers at the point that `hp` answers with."""
    chain: list[LaterLayer] = [embedding(hp, hp.Int("conv_lstm.embedding_dim", 5, 256, sampling="log", default=32))]
    depth = hp.Int("conv_lstm.dilation_depth", 0, 6, default=2)
    filters = hp.Choice("conv_lstm.filters", [32, 48, 64, 96, 128], default=64)
    widening = hp.Boolean("conv_lstm.widening", default=False)
    kernel_size = hp.Choice("conv_lstm.kernel_size", [2, 3], default=2)
    first_dilation = hp.Choice("conv_lstm.first_dilation", [1, 4], default=4)
    normalization = hp.Choice("conv_lstm.normalization", ["layer", "batch", "none"], default="layer")
    momentum = hp.Choice("conv_lstm.batch_momentum", [0.9, 0.99], default=0.9)
    residual = hp.Boolean("conv_lstm.residual", default=True)
    dropout = hp.Float("conv_lstm.dropout", 0.0, 0.5, step=0.05, default=0.15)
    chain += [
        later.CausalConv(
            int(filters * WIDENING[i]) if widening else filters,
            kernel_size,
            dilation=first_dilation * 2**i,
            normalization=normalization,
            momentum=momentum,
            residual=residual,
            dropout=dropout,
            name=f"conv_{i}",
        )
        for i in range(depth)
    ]
    cell = hp.Choice("conv_lstm.cell", ["lstm", "gru"], default="lstm")
    units = hp.Choice("conv_lstm.lstm_width", [64, 128, 192, 256, 384, 512], default=256)
    recurrent = later.LSTM if cell == "lstm" else later.GRU
    for i in range(hp.Int("conv_lstm.recurrent_layers", 1, 3, default=1)):
        chain.append(recurrent(units, return_sequences=True, name=f"{cell}_{i}"))
        if dropout:
            chain.append(later.Dropout(dropout, name=f"drop_{i}"))
    return [*chain, later.Dense(NUM_TOKENS, name="logits")]
