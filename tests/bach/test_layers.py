"""Each layer against its definition, written out in numpy."""

import keras
import numpy as np
import pytest
from keras import ops

from bach.layers import AbsoluteTransformer, CausalAttention, CausalConv, NoteEmbedding, TransformerBlock
from bach.notes import NUM_VOICES

HEADS, DIM, SPAN, WIDTH = 2, 4, 8, 6


def noisy(layer, shape):
    """Builds the layer and leaves no weight at its first value."""
    layer.build(shape)
    rng = np.random.default_rng(1)
    for variable in layer.weights:
        variable.assign(np.asarray(variable) + rng.normal(0, 0.3, variable.shape) ** 2)
    return layer


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def full_attention(layer, inputs):
    """The definition: every pair of notes looked at by itself, one masked matrix, no blocks and no skewing."""
    kernel, bias = np.asarray(layer.qkv_kernel, np.float64), np.asarray(layer.qkv_bias, np.float64)
    batch, length, _ = inputs.shape
    q, k, v = (
        (inputs @ kernel[:, part] + bias[part]).reshape(batch, length, layer.heads, layer.head_dim) for part in range(3)
    )
    if layer.positions == "rotary":
        q, k = rotated(q), rotated(k)
    logits = np.full((batch, layer.heads, length, length), -np.inf)
    for t in range(length):
        for s in range(max(0, t - layer.span + 1), t + 1):
            pair = np.einsum("bhd,bhd->bh", q[:, t], k[:, s]) / np.sqrt(layer.head_dim)
            distance = t - s
            if layer.positions == "skew":
                table = np.asarray(layer.table, np.float64)[:, layer.span - 1 - distance]
                pair = pair + np.einsum("bhd,hd->bh", q[:, t], table) / np.sqrt(layer.head_dim)
            elif layer.positions == "bias":
                table = np.asarray(layer.table, np.float64)[:, t % NUM_VOICES, layer.span - 1 - distance]
                slope = np.asarray(layer.slope, np.float64) - [
                    2 ** (-8 * (h + 1) / layer.heads) / NUM_VOICES for h in range(layer.heads)
                ]
                pair = pair + table + slope * distance
            logits[:, :, t, s] = pair
    heard = np.einsum("bhts,bshd->bthd", softmax(logits), v).reshape(batch, length, -1)
    return heard @ np.asarray(layer.out_kernel) + np.asarray(layer.out_bias)


def rotated(x):
    """Each pair (i, i + d / 2) as a complex number, turned by position * 10000 ** (-2 i / d)."""
    length, dim = x.shape[1], x.shape[-1]
    angles = np.arange(length)[:, None] * 10000.0 ** (-np.arange(0, dim, 2) / dim)
    turned = (x[..., : dim // 2] + 1j * x[..., dim // 2 :]) * np.exp(1j * angles)[None, :, None]
    return np.concatenate([turned.real, turned.imag], axis=-1)


@pytest.mark.parametrize("length", [1, 5, SPAN, SPAN + 1, 3 * SPAN, 29])
@pytest.mark.parametrize("positions", ["none", "skew", "bias", "rotary"])
def test_attention_is_that_of_the_full_masked_matrix(positions, length):
    layer = noisy(CausalAttention(HEADS, DIM, SPAN, positions), (None, None, WIDTH))
    inputs = np.random.default_rng(2).normal(size=(3, length, WIDTH))
    outputs = layer(inputs.astype(np.float32))
    np.testing.assert_allclose(outputs, full_attention(layer, inputs), atol=1e-4)


@pytest.mark.parametrize("positions", ["none", "skew", "bias", "rotary"])
def test_attention_in_a_compiled_function_of_any_length_is_the_same(positions):
    layer = noisy(CausalAttention(HEADS, DIM, SPAN, positions), (None, None, WIDTH))
    model = keras.Sequential([keras.Input((None, WIDTH)), layer])
    for length in (3, SPAN, 21):
        inputs = np.random.default_rng(2).normal(size=(2, length, WIDTH))
        outputs = model.predict(inputs.astype(np.float32), verbose=0)
        np.testing.assert_allclose(outputs, full_attention(layer, inputs), atol=1e-4)


@pytest.mark.parametrize("positions", ["skew", "bias", "rotary"])
def test_attention_filled_at_once_goes_on_like_attention_fed_note_by_note(positions):
    layer = noisy(CausalAttention(HEADS, DIM, SPAN, positions), (None, None, WIDTH))
    inputs = np.random.default_rng(3).normal(size=(1, SPAN - 1, WIDTH)).astype(np.float32)
    state = layer.fill(ops.convert_to_tensor(inputs[:, :5]))
    for t in (5, 6):
        outputs, state = layer.step(ops.convert_to_tensor(inputs[:, t]), state, t)
        np.testing.assert_allclose(outputs, layer(inputs[:, : t + 1])[:, -1], atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"span": 6}, "span must be a positive multiple of 4, got 6"),
        ({"span": 0}, "span must be a positive multiple of 4, got 0"),
        ({"positions": "learnt"}, "positions must be one of .*got 'learnt'"),
        ({"positions": "rotary", "head_dim": 3}, "even head_dim, got 3"),
    ],
)
def test_attention_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        CausalAttention(**{"heads": 2, "head_dim": 4, "span": 8, **arguments})


@pytest.mark.parametrize(("kernel_size", "dilation"), [(1, 1), (2, 1), (2, 4), (3, 4)])
def test_a_convolution_hears_the_inputs_one_dilation_apart(kernel_size, dilation):
    layer = CausalConv(4, kernel_size, dilation, normalization="none")
    layer = noisy(layer, (None, None, WIDTH))
    inputs = np.random.default_rng(4).normal(size=(2, 20, WIDTH))
    kernel, bias = np.asarray(layer.conv.kernel), np.asarray(layer.conv.bias)
    expected = np.tile(bias, (2, 20, 1)).astype(np.float64)
    for tap in range(kernel_size):  # the last tap is the present input
        back = (kernel_size - 1 - tap) * dilation
        expected[:, back:] += inputs[:, : 20 - back] @ kernel[tap]
    np.testing.assert_allclose(layer(inputs.astype(np.float32)), np.maximum(expected, 0), atol=1e-4)


def test_a_convolution_adds_its_input_only_where_the_widths_agree():
    for filters in (WIDTH, WIDTH + 1):
        plain = CausalConv(filters, normalization="none")
        residual = CausalConv(filters, normalization="none", residual=True)
        for layer in (plain, residual):
            noisy(layer, (None, None, WIDTH))
        residual.set_weights(plain.get_weights())
        inputs = np.random.default_rng(5).normal(size=(1, 7, WIDTH)).astype(np.float32)
        added = np.asarray(residual(inputs)) - np.asarray(plain(inputs))
        np.testing.assert_allclose(added, inputs if filters == WIDTH else np.zeros((1, 7, filters)), atol=1e-5)


def test_an_unknown_normalisation_is_refused():
    with pytest.raises(ValueError, match="normalization must be 'batch', 'layer' or 'none', got 'group'"):
        CausalConv(4, normalization="group")


def test_an_embedding_is_the_sum_of_its_tables_rows():
    layer = noisy(NoteEmbedding(5, notes=2, voice=True, beat=4, held=True, echo=True), (None, None, 9))
    # columns: previous_1..4, echo, voice, beat, held, echo_steps
    row = np.array([[[20, 47, 30, 31, 47, 3, 14, 79, 32]]], np.int32)
    rows = {"previous_1": 20, "previous_2": 47, "voice": 3, "beat": 14 % 4, "held": 79, "echo": 47, "echo_steps": 32}
    expected = sum(np.asarray(layer.tables[name])[index] for name, index in rows.items())
    assert set(layer.tables) == set(rows)
    np.testing.assert_allclose(layer(row)[0, 0], expected, atol=1e-5)
    np.testing.assert_allclose(layer.step(row[:, 0], (), 0)[0][0], expected, atol=1e-5)


@pytest.mark.parametrize("wrong", [{"notes": 0}, {"notes": 5}, {"beat": 8}])
def test_an_embedding_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=r"notes must be 1\.\.4 and beat 0, 4 or 16"):
        NoteEmbedding(4, **wrong)


def test_a_block_without_dropout_is_the_sum_of_its_parts():
    for norm_first in (True, False):
        block = TransformerBlock(HEADS, DIM, SPAN, 16, norm_first=norm_first, activation="relu")
        noisy(block, (None, None, WIDTH))
        x = np.random.default_rng(6).normal(size=(1, 12, WIDTH)).astype(np.float32)
        attend, dense = block.attentions[0], lambda y, block=block: block.out(block.hidden(y))
        if norm_first:
            heard = x + attend(block.norms[0](x))
            expected = heard + dense(block.norms[1](heard))
        else:
            heard = block.norms[0](x + attend(x))
            expected = block.norms[1](heard + dense(heard))
        np.testing.assert_allclose(block(x), expected, atol=1e-5)


def test_dropout_acts_in_training_only():
    block = noisy(TransformerBlock(HEADS, DIM, SPAN, 16, dropout=0.5), (None, None, WIDTH))
    x = np.ones((1, 12, WIDTH), np.float32)
    np.testing.assert_array_equal(block(x, training=False), block(x, training=False))
    assert np.abs(np.asarray(block(x, training=True)) - np.asarray(block(x, training=False))).max() > 1e-2


def sliding(layer, inputs):
    """The definition: each note computed at the end of a window that begins with the half before the note's own."""
    window, half = layer.window, layer.window // 2
    outputs = []
    for t in range(inputs.shape[1]):
        first = 0 if t < window else (t // half - 1) * half
        outputs.append(np.asarray(layer(inputs[:, first : t + 1]))[:, -1])
    return np.stack(outputs, axis=1)


@pytest.mark.slow
@pytest.mark.parametrize("length", [3, 16, 25, 41])
def test_longer_sequences_are_read_through_a_sliding_window(length):
    block = {"heads": HEADS, "head_dim": DIM, "feed_forward": 8}
    layer = noisy(AbsoluteTransformer(16, 2, block, normalize=True), (None, None, WIDTH))
    inputs = np.random.default_rng(7).normal(size=(2, length, WIDTH)).astype(np.float32)
    expected = sliding(layer, inputs)
    np.testing.assert_allclose(layer(inputs), expected, atol=1e-5)
    model = keras.Sequential([keras.Input((None, WIDTH)), layer])
    np.testing.assert_allclose(model.predict(inputs, verbose=0), expected, atol=1e-5)


@pytest.mark.parametrize("window", [0, 4, 12])
def test_a_window_that_cannot_be_halved_into_steps_is_refused(window):
    with pytest.raises(ValueError, match=f"window must be a positive multiple of 8, got {window}"):
        AbsoluteTransformer(window, 1, {})


@pytest.mark.parametrize(
    "layer",
    [
        CausalAttention(2, 4, 8, "skew"),
        CausalConv(3, 3, 4, normalization="layer", momentum=0.9, residual=True, dropout=0.1),
        NoteEmbedding(4, notes=3, voice=True, beat=16, held=True, echo=True),
        TransformerBlock(2, 4, 8, 16, positions="bias", attentions=2, norm_first=False, activation="relu", dropout=0.1),
        AbsoluteTransformer(16, 2, {"heads": 2, "head_dim": 4, "feed_forward": 8, "dropout": 0.2}, normalize=True),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_layer_comes_back_from_its_configuration(layer):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()
