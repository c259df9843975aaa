"""The Transformer with learnt absolute positions."""

from bach.models.inputs import embedding
from bach.models.later import LaterLayer, later
from bach.notes import NUM_TOKENS, NUM_VOICES


def layers(hp) -> list[LaterLayer]:
    """Returns the family's layers at the point that `hp` answers with."""
    width = hp.Choice("transformer.embedding_dim", [64, 96, 128, 192, 256], default=128)
    norm_first = hp.Boolean("transformer.norm_first", default=True)
    dropout = hp.Float("transformer.dropout", 0.0, 0.5, step=0.05, default=0.2)
    stack = later.AbsoluteTransformer(
        window=hp.Choice("transformer.window_steps", [32, 64, 128], default=64) * NUM_VOICES,
        layers=hp.Int("transformer.layers", 1, 6, default=4),
        block={
            "heads": hp.Choice("transformer.attention_heads", [2, 4, 8, 16], default=4),
            "head_dim": hp.Choice("transformer.head_dim", [16, 32, 64], default=32),
            "feed_forward": hp.Choice("transformer.feed_forward", [128, 256, 512, 1024], default=512),
            "attentions": hp.Choice("transformer.attentions", [1, 2], default=1),
            "activation": hp.Choice("transformer.activation", ["relu", "gelu"], default="relu"),
            "norm_first": norm_first,
            "dropout": dropout,
        },
        normalize=norm_first,
        name="transformer",
    )
    chain: list[LaterLayer] = [embedding(hp, width), stack]
    if hp.Choice("transformer.head", ["linear", "seed"], default="linear") == "seed":
        chain += [
            later.Dense(64, activation="relu", name="head_0"),
            later.Dense(256, activation="relu", name="head_1"),
            later.BatchNormalization(name="head_norm"),
        ]
    return [*chain, later.Dense(NUM_TOKENS, name="logits")]
