"""One note at a time gives what the whole sequence gives, for every model."""

import numpy as np
import pytest

from bach.notes import NUM_TOKENS


@pytest.fixture(scope="module")
def step_by_step(model):
    """All logits of tokens `[B, T]`, each from the state that the notes before left, as the generator carries it."""
    import keras
    from keras import ops

    from bach.backend import compiled
    from bach.layers.stepwise import initial_states, step

    def forward(tokens):
        batch, length = tokens.shape
        states = initial_states(model.layers, batch, length)

        def note(t, states, logits):
            x, states = step(model.layers, ops.take(tokens, t, axis=1), states, t)
            return t + 1, states, ops.slice_update(logits, (0, t, 0), x[:, None])

        start = (ops.convert_to_tensor(np.int32(0)), states, ops.zeros((batch, length, NUM_TOKENS)))
        return ops.while_loop(lambda t, *_: t < length, note, start)[2]

    stepwise = compiled(forward, model.variables)
    return lambda tokens: keras.ops.convert_to_numpy(stepwise(np.asarray(tokens, np.int32)))


def furthest_reach(model):
    """The longest window or span of the model in notes; 0 where there is none."""
    reach = 0
    for layer in model.layers:
        within = max(map(furthest_reach, getattr(layer, "members", ())), default=0)
        reach = max(reach, within, getattr(layer, "window", 0), getattr(layer, "settings", {}).get("span", 0))
    return reach


def test_one_note_at_a_time_gives_the_logits_of_the_whole_sequence(model, run, step_by_step):
    # Past the window or span and back to the start of its memory: half a window, a whole one and some more.
    length = max(200, furthest_reach(model) * 7 // 4 + 9)
    tokens = np.random.default_rng(3).integers(0, NUM_TOKENS, (2, length))
    tokens[1, 100:190] = tokens[1, 4:94]  # an echo, 24 steps later
    tokens[1, 30:60] = 0
    np.testing.assert_allclose(step_by_step(tokens), run(tokens), atol=5e-4)


def test_greedy_generation_takes_the_most_probable_note_of_the_whole_forward_pass(model, run):
    from bach.encoding import encode
    from bach.generation import FREE, Generator, SamplingSettings

    prompt = np.random.default_rng(4).integers(36, 82, (40, 4))
    given = np.full((52, 4), FREE)
    given[:33] = prompt[:33]
    given[33, :2] = prompt[33, :2]  # the prompt ends within a step
    given[:, 2] = prompt[3, 2]  # and the tenor stands
    settings = SamplingSettings(greedy=True, ranges=None, max_still_steps=0)
    [chorale] = Generator(model).generate(seeds=[1], steps=52, given=given, settings=settings)
    np.testing.assert_array_equal(chorale[given != FREE], given[given != FREE])
    tokens = encode(chorale)
    logits = run(tokens[None])[0]
    chosen = np.flatnonzero((given == FREE).reshape(-1))
    taken = logits[chosen - 1, tokens[chosen]]
    np.testing.assert_array_less(logits[chosen - 1].max(axis=-1) - taken, 5e-4)
