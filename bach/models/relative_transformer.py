"""The Transformer that hears distances: skewed relative attention, learnt biases, or rotary positions."""

from bach.models.inputs import embedding
from bach.models.later import LaterLayer, later
from bach.notes import NUM_TOKENS, NUM_VOICES


def layers(hp) -> list[LaterLayer]:
    """Returns the family's layers at the point that `hp` answers with."""
    width = hp.Choice("relative_transformer.embedding_dim", [64, 96, 128, 192, 256], default=128)
    heads = hp.Choice("relative_transformer.attention_heads", [2, 4, 8], default=4)
    depth = hp.Int("relative_transformer.layers", 2, 6, default=4)
    feed_forward = hp.Choice("relative_transformer.feed_forward", [2, 4], default=4)
    positions = hp.Choice("relative_transformer.positions", ["bias", "skew", "rotary"], default="bias")
    span_steps = hp.Choice("relative_transformer.span_steps", [32, 64, 128], default=64)
    dropout = hp.Float("relative_transformer.dropout", 0.0, 0.4, step=0.05, default=0.2)
    activation = hp.Choice("relative_transformer.activation", ["relu", "gelu"], default="relu")
    blocks = [
        later.TransformerBlock(
            heads,
            width // heads,
            span=span_steps * NUM_VOICES,
            feed_forward=feed_forward * width,
            positions=positions,
            activation=activation,
            dropout=dropout,
            name=f"block_{i}",
        )
        for i in range(depth)
    ]
    return [
        embedding(hp, width),
        later.Dropout(dropout, name="drop"),
        *blocks,
        later.LayerNormalization(name="norm"),
        later.Dense(NUM_TOKENS, name="logits"),
    ]
