"""A point of the space whose model trains in a moment."""

POINT = {
    "model.family": "transformer",
    "transformer.embedding_dim": 64,
    "transformer.layers": 1,
    "transformer.attention_heads": 2,
    "transformer.head_dim": 16,
    "transformer.feed_forward": 128,
    "transformer.window_steps": 32,
    "inputs.echo": False,
    "train.window_steps": 32,
}
