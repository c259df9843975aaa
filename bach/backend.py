"""The two things that Keras leaves to its backends: a compiled function and a compiled training step.

All else in `bach` is written in `keras.ops`. TensorFlow is the default; `KERAS_BACKEND=jax` runs the same models.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

BACKENDS = ("tensorflow", "jax")


def name() -> str:
    """Returns the backend that Keras runs on.

    Raises:
        RuntimeError: it is neither of `BACKENDS`.
    """
    backend = keras.backend.backend()
    if backend not in BACKENDS:
        raise RuntimeError(f"bach runs on the Keras backends {BACKENDS}, got {backend!r}; set KERAS_BACKEND")
    return backend


def versions() -> dict[str, str]:
    """Returns the versions that a result may depend on: Keras, numpy and the backend."""
    import importlib

    module = importlib.import_module(name())
    return {"keras": keras.__version__, "numpy": np.__version__, name(): module.__version__}


def compiled(function: Callable, variables: Sequence) -> Callable:
    """Returns `function` compiled: once per shape of its arguments, reading the present values of `variables`.

    Args:
        function: takes and returns (nested) tensors; uses no variables but `variables`, and changes none.
        variables: all Keras variables that `function` reads.

    On TensorFlow this is a graph without XLA: for the loop over notes that was 30 times faster on a CPU than with it.
    """
    if name() == "jax":
        import jax

        def pure(values, *arguments):
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                return function(*arguments)

        jitted = jax.jit(pure)
        return lambda *arguments: jitted([v.value for v in variables], *arguments)
    import tensorflow as tf

    return tf.function(function, reduce_retracing=False, autograph=False)


Loss = Callable[[Any, Any, Any], Any]


class TrainingStep:
    """One compiled update of a model: forward, loss, gradients, optimizer, moving average of the weights.

    Attributes:
        average: the moving average of the trainable weights (arrays in the order of `model.trainable_variables`), or `[]`.
    """

    def __init__(self, model: keras.Model, optimizer: keras.optimizers.Optimizer, loss: Loss, ema: float):
        """Args:
        model: built; called as `model(inputs, training=True)`.
        optimizer: built on the model's trainable variables, its learning rate a plain number.
        loss: `(logits, targets, weights) -> scalar`.
        ema: momentum of the moving average of the weights in [0, 1); 0 keeps none.
        """
        self.model, self.optimizer, self.loss, self.ema = model, optimizer, loss, ema
        self._run = self._jax() if name() == "jax" else self._tensorflow()

    def __call__(self, inputs: np.ndarray, targets: np.ndarray, weights: np.ndarray, rate: float, step: int):
        """Updates the model on one batch and returns the loss, a scalar still on the device.

        Args:
            rate: learning rate of this step.
            step: number of steps before this one; the average trusts early weights less.
        """
        momentum = min(self.ema, (1 + step) / (10 + step))
        return self._run(inputs, targets, weights, np.float32(rate), np.float32(momentum))

    def restart(self, average: Sequence[np.ndarray] | None = None) -> None:
        """Takes the model's and the optimizer's present variables, and `average` (default: the weights), as the state."""
        weights = [ops.convert_to_numpy(v) for v in self.model.trainable_variables]
        self._set_average((weights if average is None else list(average)) if self.ema else [])

    def _jax(self):
        import jax

        model, optimizer = self.model, self.optimizer

        def loss_of(trainable, fixed, inputs, targets, weights):
            logits, fixed = model.stateless_call(trainable, fixed, inputs, training=True)
            return self.loss(logits, targets, weights), fixed

        rate_at = next(i for i, v in enumerate(optimizer.variables) if v is optimizer.learning_rate)

        def update(state, inputs, targets, weights, rate, momentum):
            trainable, fixed, slots, average = state
            slots = list(slots)
            slots[rate_at] = rate
            (loss, fixed), gradients = jax.value_and_grad(loss_of, has_aux=True)(
                trainable, fixed, inputs, targets, weights
            )
            trainable, slots = optimizer.stateless_apply(slots, gradients, trainable)
            average = [a * momentum + w * (1 - momentum) for a, w in zip(average, trainable, strict=False)]
            return loss, (list(trainable), list(fixed), list(slots), average)

        jitted = jax.jit(update, donate_argnums=0)

        def set_average(values):
            self._state = (
                [jax.numpy.array(v.value) for v in model.trainable_variables],
                [jax.numpy.array(v.value) for v in model.non_trainable_variables],
                [jax.numpy.array(v.value) for v in optimizer.variables],
                [jax.numpy.array(v) for v in values],
            )

        def run(inputs, targets, weights, rate, momentum):
            loss, self._state = jitted(self._state, inputs, targets, weights, rate, momentum)
            return loss

        def publish():
            trainable, fixed, slots, self.average = (list(map(jax.numpy.array, part)) for part in self._state)
            for variables, values in (
                (model.trainable_variables, trainable),
                (model.non_trainable_variables, fixed),
                (optimizer.variables, slots),
            ):
                for variable, value in zip(variables, values, strict=True):
                    variable.assign(value)

        self._set_average, self.publish = set_average, publish
        return run

    def _tensorflow(self):
        import tensorflow as tf

        model, optimizer = self.model, self.optimizer
        averages: list = []

        @tf.function(reduce_retracing=False, autograph=False)
        def update(inputs, targets, weights, rate, momentum):
            optimizer.learning_rate = rate
            with tf.GradientTape() as tape:
                loss = self.loss(model(inputs, training=True), targets, weights)
            trainable = model.trainable_variables
            optimizer.apply(tape.gradient(loss, [v.value for v in trainable]), trainable)
            for average, variable in zip(averages, trainable, strict=False):
                average.assign(average * momentum + variable.value * (1 - momentum))
            return loss

        def set_average(values):
            if averages:
                for average, value in zip(averages, values, strict=True):
                    average.assign(value)
            else:
                averages.extend(tf.Variable(value, trainable=False) for value in values)

        def publish():
            self.average = [a.numpy() for a in averages]

        self._set_average, self.publish = set_average, publish
        return update
