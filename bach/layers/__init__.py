"""The layers that Keras does not have, one a file; each knows how to take a whole sequence or one note at a time.

Every layer maps `[batch, time, ...]` to `[batch, time, ...]` causally: output `t` depends on inputs `0..t` only.
Besides `call`, each has the two methods of `Stepwise`, so that generation feeds one note at a time and gets what `call`
would have given:

    state = layer.initial_state(batch)            # arrays, batch first
    output, state = layer.step(inputs, state, t)  # inputs [batch, ...] of time t

Importing this package registers the layers with Keras, so that saved models load in safe mode.
"""

from bach.layers.absolute_transformer import AbsoluteTransformer
from bach.layers.causal_attention import CausalAttention
from bach.layers.causal_conv import CausalConv
from bach.layers.ensemble import Ensemble
from bach.layers.note_embedding import NoteEmbedding
from bach.layers.note_inputs import NoteInputs, body
from bach.layers.transformer_block import TransformerBlock

__all__ = [
    "AbsoluteTransformer",
    "CausalConv",
    "Ensemble",
    "NoteEmbedding",
    "NoteInputs",
    "CausalAttention",
    "TransformerBlock",
    "body",
]
