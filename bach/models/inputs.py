"""What every family may be told about the coming note."""

from bach.models.later import LaterLayer, later


def embedding(hp, dim: int) -> LaterLayer:
    """Returns the embedding layer of width `dim` with the inputs that `hp` chooses."""
    return later.NoteEmbedding(
        dim,
        notes=hp.Choice("inputs.notes", [1, 2, 4], default=4),
        voice=hp.Boolean("inputs.voice", default=True),
        beat=hp.Choice("inputs.beat", [0, 4, 16], default=16),
        held=hp.Boolean("inputs.held", default=True),
        echo=hp.Boolean("inputs.echo", default=True),
        name="embedding",
    )
