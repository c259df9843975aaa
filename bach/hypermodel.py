"""Models at the points of the search space, and the space as KerasTuner takes it."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import keras_tuner

from bach.corpus import Dataset
from bach.declaration import declare
from bach.errors import BachError, SettingError, did_you_mean
from bach.layers import NoteInputs
from bach.settings import TrainingSettings
from bach.training import Training

Values = Mapping[str, Any]
"""A point of the space: hyperparameter names and their values."""


def build(hp: keras_tuner.HyperParameters) -> keras.Model:
    """Returns the compiled model at the point that `hp` answers with, and declares the space to `hp`.

    The model maps tokens `[batch, time]`, time counted from the start of a piece, to logits `[batch, time, 47]` of
    the next token, causally.
    """
    family, layers, settings = declare(hp)
    chain: list[Any] = [layer.make() for layer in layers]
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    model = keras.Sequential([tokens, NoteInputs(echo=chain[0].echo, name="note_inputs"), *chain], name=family)
    model.compile(
        optimizer=settings.optimizer(),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def parameters(values: Values) -> keras_tuner.HyperParameters:
    """Returns the hyperparameters that answer with `values`, and with their defaults where `values` is silent.

    Raises:
        SettingError: a name that the space does not have at this point, or a value outside its range.
    """
    hp = _Checked()
    hp.values.update(values)
    # Not `declare`: building draws random numbers, and with one seed a run shall have the weights that it always had.
    build(hp)
    known = {p.name: p for p in hp.space if hp._conditions_are_active(p.conditions)}
    for name in values:
        if name not in known:
            raise SettingError(
                f"unknown parameter {name!r} of family {hp.get('model.family')!r}{did_you_mean(name, known)}"
            )
    return hp


def from_values(values: Values) -> keras.Model:
    """Returns the compiled, untrained model at the point `values`; see `parameters`."""
    return build(parameters(values))


class ChoraleHyperModel(keras_tuner.HyperModel):
    """The search space as KerasTuner takes it: every tuner runs on it unchanged.

    tuner = keras_tuner.Hyperband(ChoraleHyperModel(), objective=keras_tuner.Objective("val_nll", "min"), max_epochs=27)
    tuner.search(bach.corpus.load("music21"), seed=1685)

    With a `Dataset` all of the space counts, how to train included. With arrays, as in `tuner.search(x, y,
    validation_data=...)`, Keras trains the compiled model in its own way: of the settings under `train.`, only the
    optimizer's, `train.learning_rate` and `train.batch_size` count, and the objective is one of Keras's (`val_loss`).
    """

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Returns the compiled, untrained model; see `bach.hypermodel.build`."""
        return build(hp)

    def fit(
        self,
        hp: keras_tuner.HyperParameters,
        model: keras.Model,
        *args: Any,
        epochs: int = 1,
        initial_epoch: int = 0,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        seed: int = 0,
        verbose: int | str = "auto",
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Trains `model` in place and returns its history, one value an epoch for each name.

        With a `Dataset` the names are `loss`, `val_nll` and `val_accuracy`, and the model is left with the weights of
        the epoch with the lowest `val_nll`. Callbacks hear of the whole training and of each epoch, not of batches; at
        the end of an epoch the model has the weights that were scored (the moving average, where there is one), so that
        a callback that saves them saves what the score belongs to. A callback may stop training; one that sets the
        learning rate changes nothing, since the schedule is part of the space.

        A tuner such as Hyperband goes on with a former trial: it loads that trial's weights into `model` and passes
        `initial_epoch`. Then the epochs `initial_epoch + 1 .. epochs` are run, on the schedule of all `epochs` from
        that place on. The former schedule was shorter and had come down; the rate goes up again, and the optimizer
        begins without the past that KerasTuner does not keep.

        Args:
            hp: the point that `model` was built at.
            model: from `build`.
            *args: one `Dataset`; its splits `train` and `valid` are used. Otherwise what `keras.Model.fit` takes.
            epochs: where the schedule ends, in epochs counted from the start of the first trial.
            initial_epoch: epochs that `model` has behind it.
            callbacks: of Keras, run in order.
            seed: of the windows' cuts, order and transpositions.
            verbose: of `keras.Model.fit`; training on a `Dataset` logs instead.
            **kwargs: of `keras.Model.fit`.

        Raises:
            keras_tuner.errors.FailedTrialError: training on a `Dataset` cannot go on at this point of the space: the
                loss is no finite number, or no piece is as long as a window. The tuner goes on to its next trial.
            keras_tuner.errors.FatalTypeError: arguments that training on a `Dataset` does not know.
        """
        if not (args and isinstance(args[0], Dataset)):
            if not {"batch_size", "steps_per_epoch"} & kwargs.keys() and _are_arrays(*args, **kwargs):
                kwargs["batch_size"] = hp.get("train.batch_size")
            own = {"epochs": epochs, "initial_epoch": initial_epoch, "callbacks": list(callbacks), "verbose": verbose}
            return model.fit(*args, **own, **kwargs)
        if args[1:] or kwargs:
            unknown = [*(f"a second {type(a).__name__}" for a in args[1:]), *kwargs]
            raise keras_tuner.errors.FatalTypeError(
                f"search on a Dataset: got {', '.join(unknown)}, expected no more than epochs, callbacks, seed and "
                "verbose; the rest is in the space, as train.batch_size is"
            )
        try:
            return _fit_chorales(hp, model, args[0], epochs, initial_epoch, callbacks, seed)
        except BachError as error:
            raise keras_tuner.errors.FailedTrialError(str(error)) from error


def _fit_chorales(
    hp: keras_tuner.HyperParameters,
    model: keras.Model,
    data: Dataset,
    epochs: int,
    initial_epoch: int,
    callbacks: Sequence[keras.callbacks.Callback],
    seed: int,
) -> keras.callbacks.History:
    train, valid = ([chorale.pitches for chorale in data.splits[split]] for split in ("train", "valid"))
    training = Training(
        model, TrainingSettings.from_hp(hp), train, valid, epochs=epochs, seed=seed, first_epoch=initial_epoch + 1
    )
    history = keras.callbacks.History()
    heard = keras.callbacks.CallbackList([*callbacks, history], model=model, epochs=epochs, verbose=0)
    model.stop_training = False
    heard.on_train_begin()
    while training.epochs_done < epochs and not model.stop_training:
        heard.on_epoch_begin(training.epochs_done)
        result = training.run_epoch()
        logs = {"loss": result.train_loss, "val_nll": result.val_nll, "val_accuracy": result.val_accuracy}
        with training.scored_weights():
            heard.on_epoch_end(result.epoch - 1, logs)
    training.best_weights().__enter__()
    heard.on_train_end()
    return history


def _are_arrays(*args: Any, **kwargs: Any) -> bool:
    """Whether `keras.Model.fit` is given arrays, which have no batches of their own."""
    x = args[0] if args else kwargs.get("x")
    return hasattr(x, "shape")


class _Checked(keras_tuner.HyperParameters):
    """Answers with given values; one that its parameter does not allow is refused before a model is made of it."""

    def _retrieve(self, hp: Any) -> Any:
        if hp.name in self.values and not _allows(hp, self.values[hp.name]):
            raise SettingError(f"parameter {hp.name!r}: got {self.values[hp.name]!r}, expected {_range(hp)}")
        return super()._retrieve(hp)


def _allows(parameter: Any, value: Any) -> bool:
    if isinstance(parameter, keras_tuner.engine.hyperparameters.Choice):
        return any(value == option and _same_kind(value, option) for option in parameter.values)
    if isinstance(parameter, keras_tuner.engine.hyperparameters.Boolean):
        return isinstance(value, bool)
    if isinstance(parameter, keras_tuner.engine.hyperparameters.Fixed):
        return value == parameter.value
    whole = isinstance(parameter, keras_tuner.engine.hyperparameters.Int)
    return _same_kind(value, 0 if whole else 0.0) and parameter.min_value <= value <= parameter.max_value


def _same_kind(value: Any, option: Any) -> bool:
    """Whether a value may stand where `option` is expected: a whole number for a decimal, but no truth for a number."""
    if isinstance(value, bool) or isinstance(option, bool):
        return isinstance(value, bool) and isinstance(option, bool)
    return isinstance(value, int | float if isinstance(option, float) else type(option))


def _range(parameter: Any) -> str:
    if hasattr(parameter, "min_value"):
        return f"{parameter.min_value}..{parameter.max_value}"
    return f"one of {list(parameter.values)}"
