"""What a search sees of all this: chorale models as a task that is trained one epoch at a time.

    task = ChoraleTask(data="music21")
    run = task.start({"model.family": "conv_lstm"}, epochs=12, seed=1)
    run.epoch()["val_nll"]
    task.export(run, folder)
    task.score(folder, "test")

A sweep file names it as `task = "bach.task:ChoraleTask"`, and its `[task]` table holds the arguments. The class keeps
the shape of a task by itself; nothing here knows who runs it. Measures are given as pairs of unit and meaning.
"""

import contextlib
import functools
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bach.errors import SettingError, did_you_mean
from bach.models.presets import PRESETS
from bach.notes import SPLITS, Split
from bach.task_card import LIMITS, references
from bach.task_columns import MEASURES, METRICS, SCORES, SPEED, Columns, named_scores
from bach.windows import num_windows

if TYPE_CHECKING:
    import keras_tuner

    from bach.corpus import Dataset
    from bach.task_runs import ChoraleRun

LARGEST_SEED = 2**32 - 1
"""Seeds go up to here, inclusive: numpy's own generator takes no larger one."""
TEMPERATURES = {"cold": 0.8, "medium": 1.0, "hot": 1.5}
"""The chorales that show a model, by name."""
SAMPLE_FORMATS = ("midi", "musicxml", "wav", "png", "svg", "json")
FIRST_RUNG = 2
"""Epochs after which a configuration without a slow start can be judged."""
SLOW_START_STEPS = 375
"""Training steps that a post-norm Transformer, or the notebook's head, needs before its score says anything."""
LAG_STEPS = {0.9: 75, 0.99: 750}
"""The same for stacked batch normalisations, by the momentum of their running averages."""


class ChoraleTask:
    """Models of chorales: what may vary, how one is trained and scored, and what it sings.

    Attributes:
        metrics: what an epoch returns.
        costs: of two models, which is cheaper to run: the one that writes faster, then the smaller one.
        scores: what `score` returns.
        measures: what is told of each sample chorale.
        how_to_load: lines of Python that load the model from its folder.
        limits: what a user of the model should not expect of it.
        forms: what `convert` can make of a model.
    """

    limits = LIMITS
    forms = ("saved_model", "onnx")
    costs = ("notes_per_s max", "num_parameters min")
    how_to_load = 'import bach, keras\n\nmodel = keras.models.load_model("model.keras")'

    def __init__(
        self,
        *,
        data: str = "music21",
        limit: int | Mapping[str, int] = 0,
        measure_speed: bool = False,
        sample_steps: int = 256,
        sample_seed: int = 1685,
    ):
        """Takes the options of a sweep file's `[task]`; nothing is loaded yet.

        Args:
            data: the chorales, as `bach.corpus.load` takes them.
            limit: use only so many pieces, the first ones, of every split, or of the splits named; 0 for all. The data
                then have another name and fingerprint.
            measure_speed: measure, once a trial, how fast the model writes, as the metric `notes_per_s`.
            sample_steps: length of the sample chorales in sixteenths, 1 or more.
            sample_seed: of the sample chorales, 0 or more.

        Raises:
            SettingError: an option has an impossible value.
        """
        if not isinstance(data, str) or not data:
            raise SettingError(f"task option data: got {data!r}, expected a source of chorales, such as 'music21'")
        if not isinstance(measure_speed, bool):
            raise SettingError(f"task option measure_speed: got {measure_speed!r}, expected true or false")
        self._source = data
        self._limit = _checked_limit(limit)
        self._measure_speed = measure_speed
        self._sample_steps = _checked_number("sample_steps", sample_steps, 1)
        self._sample_seed = _checked_number("sample_seed", sample_seed, 0)
        self.metrics: Columns = {**METRICS, **(SPEED if measure_speed else {})}
        self.scores: Columns = SCORES
        self.measures: Columns = MEASURES

    # --- training -----------------------------------------------------------------------------------------------------

    def space(self, hp: "keras_tuner.HyperParameters") -> None:
        """Declares all that may vary to `hp`; no model is built."""
        from bach.hypermodel import declare

        declare(hp)

    def points(self) -> dict[str, dict[str, Any]]:
        """Returns the presets' points of the space by name."""
        return {name: preset.point() for name, preset in PRESETS.items()}

    def data(self) -> tuple[str, str]:
        """Returns name and fingerprint of the chorales; scores on others do not compare.

        Raises:
            DataError: the chorales cannot be had.
            SettingError: `limit` asks for more than there are.
        """
        return self.dataset.name, self.dataset.fingerprint

    @property
    def dataset(self) -> "Dataset":
        """The chorales, loaded once a process and shared by all its trials."""
        return _dataset(self._source, self._limit)

    def first_rung(self, values: Mapping[str, Any]) -> int:
        """Returns the epoch from which on a configuration can be compared with others.

        What is slow for a reason that has nothing to do with how good it will be shall not be judged by it:

        - A stack of batch normalisations validates with running averages that lag behind the weights. With momentum
          0.99, as in the notebook, accuracy is 0.05 at epoch 1, 0.34 at 5 and 0.73 at 6, at 96 steps an epoch; from
          epoch 8 on the score is the model's own. The lag counts in steps, so larger batches wait for more epochs.
        - A Transformer that normalises after adding, or that has the notebook's head (one batch normalisation), stays
          where it is through epoch 3 of the same.
        - All others are compared from epoch 2 on: the first is mostly warm-up.

        It may be more than the sweep has epochs; such a configuration cannot be stopped fairly at all.
        """

        def value(name: str, default: Any) -> Any:
            return values.get(name, default)

        batches = self._batches(value)
        family = value("model.family", "relative_transformer")
        steps = 0
        if family == "conv_lstm":
            stacked = value("conv_lstm.normalization", "layer") == "batch" and value("conv_lstm.dilation_depth", 2)
            steps = LAG_STEPS.get(value("conv_lstm.batch_momentum", 0.9), max(LAG_STEPS.values())) if stacked else 0
        elif family == "transformer":
            slow = not value("transformer.norm_first", True) or value("transformer.head", "linear") == "seed"
            steps = SLOW_START_STEPS if slow else 0
        return max(FIRST_RUNG, math.ceil(steps / batches))

    def _batches(self, value: Any) -> int:
        lengths = [len(chorale.pitches) for chorale in self.dataset.splits["train"]]
        windows = num_windows(lengths, steps=value("train.window_steps", 64), shift=value("train.window_shift", 0))
        return max(1, math.ceil(windows / value("train.batch_size", 16)))

    def start(self, values: Mapping[str, Any], *, epochs: int, seed: int) -> "ChoraleRun":
        """Returns a run at the point `values`, before its first epoch.

        Values, epochs and seed decide what comes out, as they do with `bach train`.

        Args:
            values: a point of the space; what is not named has its default.
            epochs: what the learning-rate schedule spans, 1 or more.
            seed: of all that is drawn, in 0..`LARGEST_SEED`.

        Raises:
            SettingError: an unknown parameter, an impossible value, number of epochs or seed.
            DataError: the chorales cannot be had, or no window fits into them.
        """
        _checked_number("seed", seed, 0, LARGEST_SEED, what="task")
        _checked_number("epochs", epochs, 1, what="task")
        data = self.dataset
        import keras

        from bach.task_runs import ChoraleRun

        keras.utils.set_random_seed(seed)
        return ChoraleRun(values, data, epochs=epochs, seed=seed, measure_speed=self._measure_speed)

    # --- a finished model ---------------------------------------------------------------------------------------------

    def export(self, run: "ChoraleRun", folder: Path) -> None:
        """Writes the model of the run's best epoch to `folder`: `model.keras` and its record `model.json`.

        Raises:
            OutputError: the folder cannot be written.
        """
        run.export(folder)

    def score(self, folder: Path, split: Split) -> dict[str, float]:
        """Returns the scores of the model in `folder` on a split; more of them go to its `scores-<split>.json`.

        Scores of the validation split that an epoch has measured already (`val_nll`, `val_accuracy`) are left out.

        Raises:
            SettingError: an unknown split.
            ModelError: there is no model in `folder`.
            OutputError: the folder cannot be written.
        """
        from bach import model_files, scoring
        from bach.formats import write_json
        from bach.prediction import ModelPredictor

        _checked_split(split)
        predictor = ModelPredictor(model_files.load(folder))
        report = scoring.score(predictor, self.dataset, split, leave_out=self._seen(split))
        write_json(report.to_json(), Path(folder) / f"scores-{split}.json")
        return named_scores(report)

    def score_pieces(self, folder: Path, split: Split) -> dict[str, tuple[float, float]]:
        """Returns nats per note and number of notes of each chorale of a split, by the model in `folder`.

        What `export` and `score` have left there is read and not worked out again.

        Raises:
            SettingError: an unknown split.
            ModelError: there is no model in `folder`.
        """
        from bach import model_files, scoring
        from bach.prediction import ModelPredictor

        _checked_split(split)
        for name in (f"pieces-{split}.json", f"scores-{split}.json"):
            with contextlib.suppress(FileNotFoundError):
                known = json.loads((Path(folder) / name).read_text("utf-8"))
                if known["fingerprint"] == self.dataset.fingerprint:
                    by_piece = known.get("pieces", known)["by_piece"].items()
                    # No number stands for an infinite score.
                    return {
                        piece: (math.inf if told["nll_nats"] is None else told["nll_nats"], float(told["count"]))
                        for piece, told in by_piece
                    }
        pieces = scoring.score_chorales(ModelPredictor(model_files.load(folder)), self.dataset.splits[split])
        return {piece.id: (float(piece.nll.mean()), float(len(piece.nll))) for piece in pieces}

    def floors(self, split: Split) -> dict[str, dict[str, float]]:
        """Returns the scores of models that need no training, by the models' names: what a trained one must beat.

        Raises:
            SettingError: an unknown split.
        """
        from bach import scoring
        from bach.floors import CountingFloor, RepeatFloor

        _checked_split(split)
        seen = self._seen(split)
        floors = {"counting": CountingFloor.fit(self.dataset.splits["train"]), "repeat": RepeatFloor()}
        return {
            name: {
                score: value
                for score, value in named_scores(
                    scoring.score(floor, self.dataset, split, leave_out=seen), all_of_valid=True
                ).items()
                if math.isfinite(value)
            }
            for name, floor in floors.items()
        }

    def references(self, split: Split) -> dict[str, dict[str, float]]:
        """Returns the scores of the presets on a split of the same chorales, by their names; empty if none are known.

        Raises:
            SettingError: an unknown split.
        """
        _checked_split(split)
        return references(self.dataset.fingerprint, split)

    def check_form(self, form: str) -> None:
        """Checks that `convert` can make this form here.

        Raises:
            SettingError: there is no such form, or what it needs is not installed.
        """
        from bach import exports

        exports.check(form)

    def convert(self, folder: Path, form: str, out: Path) -> float:
        """Writes the model in `folder` in another form to the empty folder `out`, and compares both.

        Args:
            folder: of the model.
            form: `saved_model` or `onnx`.
            out: `model.onnx` goes there, or it becomes the SavedModel.

        Returns:
            The largest difference between probabilities that both give.

        Raises:
            SettingError: see `check_form`.
            ModelError: there is no model in `folder`.
            OutputError: `out` cannot be written.
        """
        from bach import exports, model_files

        return exports.export(model_files.load(folder), form, Path(out))

    def next_steps(self, folder: str) -> list[str]:
        """Returns lines to type that do something with the model in `folder`."""
        return [f"bach generate --model {folder} --out chorales", f"bach score --model {folder} --data {self._source}"]

    def _seen(self, split: Split) -> frozenset[str]:
        """Chorales of the split that stand in train, too; none if all do, for then nothing would be left."""
        from bach.duplicates import seen_in_train

        seen = seen_in_train(self.dataset, split)
        return seen if len(seen) < len(self.dataset.splits[split]) else frozenset()

    def samples(self, folder: Path, out: Path) -> Iterator[tuple[str, Path, dict[str, float]]]:
        """Writes three chorales by the model in `folder` to `out`, cold, medium and hot, in all formats.

        Yields:
            Of each its name, its MIDI file (the others lie beside it under the same name), and its measures.

        Raises:
            ModelError: there is no model in `folder`.
            OutputError: `out` cannot be written.
        """
        from bach import model_files
        from bach.encoding import encode
        from bach.formats import write_all
        from bach.generation import Generator, SamplingSettings
        from bach.measures import Reference, measure
        from bach.prediction import ModelPredictor

        model = model_files.load(folder)
        generator, predictor = Generator(model), ModelPredictor(model)
        try:
            reference = Reference(chorale.pitches for chorale in self.dataset.splits["train"])
        except ValueError:  # too few chorales to compare with
            reference = None
        for name, temperature in TEMPERATURES.items():
            settings = SamplingSettings(temperature=temperature)
            [pitches] = generator.generate(seeds=[self._sample_seed], steps=self._sample_steps, settings=settings)
            tokens = encode(pitches)
            [logs] = predictor.log_probabilities([tokens])
            about = {
                "temperature": temperature,
                "seed": float(self._sample_seed),
                "nll": -float(logs[np.arange(len(tokens)), tokens].mean()),
                **measure(pitches, reference),
            }
            told = {measure: about[measure] for measure in self.measures if measure in about}
            paths = write_all(pitches, Path(out) / name, formats=SAMPLE_FORMATS, title=name.title(), measures=about)
            yield name, paths["midi"], told


def _checked_number(
    name: str, value: Any, lowest: int, highest: int | None = None, *, what: str = "task option"
) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < lowest or (highest and value > highest):
        bounds = f"{lowest} or more" if highest is None else f"{lowest}..{highest}"
        raise SettingError(f"{what} {name}: got {value!r}, expected a whole number, {bounds}")
    return value


def _checked_limit(limit: Any) -> tuple[int, ...]:
    """The number of pieces of each of `SPLITS`, 0 for all."""
    if isinstance(limit, Mapping):
        for split in limit:
            if split not in SPLITS:
                raise SettingError(f"task option limit: unknown split {split!r}{did_you_mean(str(split), SPLITS)}")
        return tuple(_checked_number(f"limit.{split}", limit.get(split, 0), 0) for split in SPLITS)
    return (_checked_number("limit", limit, 0),) * len(SPLITS)


def _checked_split(split: str) -> None:
    if split not in SPLITS:
        raise SettingError(f"unknown split {split!r}{did_you_mean(str(split), SPLITS)}")


@functools.lru_cache(maxsize=2)
def _dataset(source: str, limit: tuple[int, ...]) -> "Dataset":
    """The chorales of a source, of each split as many as `limit` says."""
    from bach.corpus import Chorale, Dataset, load

    if not any(limit):
        return load(source)
    whole = _dataset(source, (0,) * len(SPLITS))
    for split, count in zip(SPLITS, limit, strict=True):
        if count > len(whole.splits[split]):
            raise SettingError(
                f"task option limit: {count} pieces of {split!r} are asked for, but {whole.name} has "
                f"{len(whole.splits[split])}; ask for fewer"
            )
    chosen: dict[Split, tuple[Chorale, ...]] = {
        split: whole.splits[split][: count or None] for split, count in zip(SPLITS, limit, strict=True)
    }
    counts = "-".join(str(len(chosen[split])) for split in SPLITS)
    return Dataset.of(f"{whole.name}-{counts}", chosen)
