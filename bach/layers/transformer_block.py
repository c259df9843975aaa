"""Attention and feed-forward with their residual paths."""

import keras

from bach.layers.causal_attention import CausalAttention


@keras.saving.register_keras_serializable(package="bach")
class TransformerBlock(keras.layers.Layer):
    """One layer of a causal Transformer.

    Args:
        heads, head_dim, span, positions: of the attention; see `CausalAttention`.
        feed_forward: width of the hidden layer between the two dense ones.
        attentions: how many attentions follow each other before the feed-forward, each with its own residual path.
        norm_first: normalise before each part (pre-norm) or after adding it (post-norm).
        activation: of the hidden layer.
        dropout: rate in [0, 1), on what each part adds.

    Call arguments:
        inputs: `[batch, time, width]`.

    Returns:
        `[batch, time, width]`.
    """

    def __init__(
        self,
        heads: int,
        head_dim: int,
        span: int,
        feed_forward: int,
        positions: str = "none",
        attentions: int = 1,
        norm_first: bool = True,
        activation: str = "gelu",
        dropout: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "heads": heads,
            "head_dim": head_dim,
            "span": span,
            "feed_forward": feed_forward,
            "positions": positions,
            "attentions": attentions,
            "norm_first": norm_first,
            "activation": activation,
            "dropout": dropout,
        }
        self.norm_first = norm_first
        self.attentions = [
            CausalAttention(heads, head_dim, span, positions, name=f"attention_{i}") for i in range(attentions)
        ]
        self.norms = [keras.layers.LayerNormalization(name=f"norm_{i}") for i in range(attentions + 1)]
        self.drops = [keras.layers.Dropout(dropout, name=f"drop_{i}") for i in range(attentions + 1)]
        self.hidden = keras.layers.Dense(feed_forward, activation=activation, name="hidden")

    def build(self, input_shape):
        self.out = keras.layers.Dense(input_shape[-1], name="out")
        for part in (*self.attentions, *self.norms, self.hidden):
            part.build(input_shape)
        self.out.build((*input_shape[:-1], self.settings["feed_forward"]))

    def _feed_forward(self, inputs):
        return self.out(self.hidden(inputs))

    def _add(self, i, inputs, part, training):
        """Returns `inputs` with what `part` makes of them added, normalised before or after."""
        if self.norm_first:
            return inputs + self.drops[i](part(self.norms[i](inputs)), training=training)
        return self.norms[i](inputs + self.drops[i](part(inputs), training=training))

    def call(self, inputs, training=None):
        for i, part in enumerate([*self.attentions, self._feed_forward]):
            inputs = self._add(i, inputs, part, training)
        return inputs

    def initial_state(self, batch):
        return tuple(attention.initial_state(batch) for attention in self.attentions)

    def step(self, inputs, state, t):
        after = []
        for i, attention in enumerate(self.attentions):

            def attend(x, attention=attention, past=state[i]):
                heard, present = attention.step(x, past, t)
                after.append(present)
                return heard

            inputs = self._add(i, inputs, attend, False)
        return self._add(len(self.attentions), inputs, self._feed_forward, False), tuple(after)

    def fill(self, inputs):
        """Returns the outputs for the first `[batch, time, width]` notes, at most `span`, and the state they leave."""
        state = []
        for i, attention in enumerate(self.attentions):

            def attend(x, attention=attention):
                state.append(attention.fill(x))
                return attention(x)

            inputs = self._add(i, inputs, attend, False)
        return self._add(len(self.attentions), inputs, self._feed_forward, False), tuple(state)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), **self.settings}
