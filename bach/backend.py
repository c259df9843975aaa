"""The two things that Keras leaves to its backends: a compiled function and a compiled training step.

All else in `bach` is written in `keras.ops`. TensorFlow is the default; `KERAS_BACKEND=jax` runs the same models.
"""

import abc
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

BACKENDS = ("tensorflow", "jax")

Tensor = Any
"""A tensor of the present backend; the backends share no type."""


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

        def pure(values, *arguments: Any):
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                return function(*arguments)

        jitted = jax.jit(pure)
        return lambda *arguments: jitted([v.value for v in variables], *arguments)
    import tensorflow as tf

    return tf.function(function, reduce_retracing=False, autograph=False)


Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


class TrainingStep(abc.ABC):
    """One compiled update of a model: forward, loss, gradients, optimizer, moving average of the weights.

    Attributes:
        average: the moving average of the trainable weights as of the last `publish`, or `[]`.
    """

    def __init__(self, model: keras.Model, optimizer: keras.optimizers.Optimizer, loss: Loss, ema: float):
        """Takes the present variables as the state.

        Args:
            model: built; called as `model(inputs, training=True)`.
            optimizer: built on the model's trainable variables, its learning rate a plain number.
            loss: `(logits, targets, weights) -> scalar`.
            ema: momentum of the moving average of the weights in [0, 1); 0 keeps none.
        """
        self.model, self.optimizer, self.loss, self.ema = model, optimizer, loss, ema
        self.average: list[np.ndarray] = []
        self._compile()
        self.restart()
        self.publish()

    def __call__(self, inputs: np.ndarray, targets: np.ndarray, weights: np.ndarray, rate: float, step: int) -> Tensor:
        """Updates the model on one batch and returns the loss, a scalar still on the device.

        Args:
            inputs: `[batch, time, 9]` int32.
            targets: `[batch, time]` int32.
            weights: `[batch, time]` float32.
            rate: learning rate of this step.
            step: number of steps before this one; the average trusts early weights less.
        """
        momentum = min(self.ema, (1 + step) / (10 + step))
        return self._update(inputs, targets, weights, np.float32(rate), np.float32(momentum))

    def restart(self, average: Sequence[np.ndarray] | None = None) -> None:
        """Takes the present variables, and `average` (default: the weights) as their average, as the state."""
        weights = [ops.convert_to_numpy(v) for v in self.model.trainable_variables]
        self._restart((weights if average is None else list(average)) if self.ema else [])

    @abc.abstractmethod
    def publish(self) -> None:
        """Writes the state to the variables of model and optimizer, and to `average`."""

    @abc.abstractmethod
    def _compile(self) -> None: ...

    @abc.abstractmethod
    def _restart(self, average: list[np.ndarray]) -> None: ...

    @abc.abstractmethod
    def _update(self, inputs: Any, targets: Any, weights: Any, rate: Any, momentum: Any) -> Tensor: ...


class _JaxStep(TrainingStep):
    """Carries the state as arrays from step to step, and hands them to Keras when they are asked for."""

    def _compile(self) -> None:
        import jax

        model, optimizer = self.model, self.optimizer
        rate_at = next(i for i, v in enumerate(optimizer.variables) if v is optimizer.learning_rate)

        def loss_of(trainable, fixed, inputs, targets, weights):
            logits, fixed = model.stateless_call(trainable, fixed, inputs, training=True)
            return self.loss(logits, targets, weights), fixed

        def update(state, inputs, targets, weights, rate, momentum):
            trainable, fixed, slots, average = state
            slots = [rate if i == rate_at else slot for i, slot in enumerate(slots)]
            (loss, fixed), gradients = jax.value_and_grad(loss_of, has_aux=True)(
                trainable, fixed, inputs, targets, weights
            )
            trainable, slots = optimizer.stateless_apply(slots, gradients, trainable)
            average = [a * momentum + w * (1 - momentum) for a, w in zip(average, trainable, strict=False)]
            return loss, (list(trainable), list(fixed), list(slots), average)

        self._jitted = jax.jit(update, donate_argnums=0)

    def _variables(self) -> tuple[Sequence[keras.Variable], ...]:
        return self.model.trainable_variables, self.model.non_trainable_variables, self.optimizer.variables

    def _restart(self, average: list[np.ndarray]) -> None:
        import jax.numpy as jnp

        # Copies: the compiled step takes its arguments' memory for its results.
        state = [[jnp.array(v.value) for v in variables] for variables in self._variables()]
        self._state = (*state, [jnp.array(value) for value in average])

    def _update(self, inputs: Any, targets: Any, weights: Any, rate: Any, momentum: Any) -> Tensor:
        loss, self._state = self._jitted(self._state, inputs, targets, weights, rate, momentum)
        return loss

    def publish(self) -> None:
        *state, average = ([np.array(value) for value in part] for part in self._state)
        for variables, values in zip(self._variables(), state, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        self.average = average


class _TensorflowStep(TrainingStep):
    """Changes the variables in place; only the average is kept here."""

    def _compile(self) -> None:
        import tensorflow as tf

        model, optimizer = self.model, self.optimizer
        self._averages: list[Any] = []

        @tf.function(reduce_retracing=False, autograph=False)
        def update(inputs, targets, weights, rate, momentum):
            optimizer.learning_rate = rate
            with tf.GradientTape() as tape:
                loss = self.loss(model(inputs, training=True), targets, weights)
            trainable = model.trainable_variables
            optimizer.apply(tape.gradient(loss, [v.value for v in trainable]), trainable)
            for average, variable in zip(self._averages, trainable, strict=False):
                average.assign(average * momentum + variable.value * (1 - momentum))
            return loss

        self._graph = update

    def _restart(self, average: list[np.ndarray]) -> None:
        import tensorflow as tf

        if not self._averages:
            self._averages = [tf.Variable(tf.constant(value), trainable=False) for value in average]
        for variable, value in zip(self._averages, average, strict=True):
            variable.assign(value)

    def _update(self, inputs: Any, targets: Any, weights: Any, rate: Any, momentum: Any) -> Tensor:
        return self._graph(inputs, targets, weights, rate, momentum)

    def publish(self) -> None:
        self.average = [variable.numpy() for variable in self._averages]


def training_step(model: keras.Model, optimizer: keras.optimizers.Optimizer, loss: Loss, ema: float) -> TrainingStep:
    """Returns the training step of the present backend; see `TrainingStep`."""
    return (_JaxStep if name() == "jax" else _TensorflowStep)(model, optimizer, loss, ema)
