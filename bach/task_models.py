"""What a search asks of finished models in folders: scores, samples, other forms, several as one."""

import contextlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bach.errors import ModelError
from bach.human_values import LIMITS as SAMPLE_LIMITS
from bach.human_values import human_values
from bach.notes import Split
from bach.task_card import LIMITS, references
from bach.task_columns import MEASURES, SCORES, Columns, named_scores
from bach.task_options import checked_number, checked_split, dataset

if TYPE_CHECKING:
    from bach.corpus import Dataset


class FinishedModels:
    """Exported models of one source of chorales.

    Attributes:
        costs: of two models, which is cheaper to run: the one that writes faster, then the smaller one.
        scores: what `score` returns.
        measures: what is told of each sample chorale.
        sample_limits: measures with their lowest and highest usual value (None for any), and what it says of a sample
            to be beyond.
        how_to_load: lines of Python that load a model from its folder.
        limits: what a user of a model should not expect of it.
        forms: what `convert` can make of a model.
    """

    limits = LIMITS
    sample_limits = SAMPLE_LIMITS
    forms = ("saved_model", "onnx")
    costs = ("notes_per_s max", "num_parameters min")
    how_to_load = 'import bach, keras\n\nmodel = keras.models.load_model("model.keras")'
    scores: Columns = SCORES
    measures: Columns = MEASURES

    def __init__(
        self, source: str, limit: tuple[int, ...], *, measure_speed: bool, sample_steps: int, sample_seed: int
    ):
        """Takes options that were checked; nothing is loaded yet. For their meaning see `bach.task.ChoraleTask`."""
        self._source, self._limit, self._measure_speed = source, limit, measure_speed
        self._sample_steps, self._sample_seed = sample_steps, sample_seed

    @property
    def dataset(self) -> "Dataset":
        """The chorales, loaded once a process and shared by all its trials."""
        return dataset(self._source, self._limit)

    def score(self, folder: Path, split: Split) -> dict[str, float]:
        """Returns the scores of the model in `folder` on a split; more of them go to its `scores-<split>.json`.

        Scores of the validation split that an epoch has measured already (`val_nll`, `val_accuracy`) are left out; an
        ensemble has had no epoch, so it has them all.

        Raises:
            SettingError: an unknown split.
            ModelError: there is no model in `folder`, or it was trained on the split.
            OutputError: the folder cannot be written.
        """
        from bach import model_files, scoring
        from bach.formats import write_json
        from bach.prediction import ModelPredictor

        record = _checked_unheard(folder, split)
        predictor = ModelPredictor(model_files.load(folder))
        seen = self._seen(split, model_files.trained_on(record))
        report = scoring.score(predictor, self.dataset, split, leave_out=seen)
        write_json(report.to_json(), Path(folder) / f"scores-{split}.json")
        return named_scores(report, all_of_valid="members" in record)

    def score_pieces(self, folder: Path, split: Split) -> dict[str, tuple[float, float]]:
        """Returns nats per note and number of notes of each chorale of a split, by the model in `folder`.

        What `export` and `score` have left there is read and not worked out again.

        Raises:
            SettingError: an unknown split.
            ModelError: there is no model in `folder`, or it was trained on the split.
        """
        from bach import model_files, scoring
        from bach.prediction import ModelPredictor

        _checked_unheard(folder, split)
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

        checked_split(split)
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
        checked_split(split)
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

    def _seen(self, split: Split, learnt: Sequence[Split] = ("train",)) -> frozenset[str]:
        """Chorales of the split that stand in train, too; none if all do, for then nothing would be left.

        Args:
            split: the split.
            learnt: what counts as train.
        """
        from bach.duplicates import seen_in_train

        seen = seen_in_train(self.dataset.learnt_from(learnt), split)
        return seen if len(seen) < len(self.dataset.splits[split]) else frozenset()

    def combine(self, folders: Sequence[Path], out: Path) -> None:
        """Writes one model whose probabilities are the mean of those of the models in `folders`, to `out`.

        Raises:
            ModelError: fewer than two folders, no model in one of them, or they were trained on different chorales.
            OutputError: `out` cannot be written.
        """
        from bach.ensemble import combine

        combine(folders, out)

    def costs_of(self, folder: Path) -> dict[str, float]:
        """Returns what the model in `folder` costs to run, under the names of `costs`; speed if it is to be measured.

        Raises:
            ModelError: there is no model in `folder`.
        """
        from bach import model_files
        from bach.task_runs import notes_per_s

        model = model_files.load(folder)
        found = {"num_parameters": float(model.count_params())}
        return found | ({"notes_per_s": notes_per_s(model)} if self._measure_speed else {})

    def samples(
        self, folder: Path, out: Path, *, count: int = 1, split: Split = "valid"
    ) -> Iterator[tuple[str, Path, dict[str, float], dict[str, str]]]:
        """Writes chorales by the model in `folder` to `out`, in all formats: see `bach.sample_set`.

        Args:
            folder: of the model.
            out: where they go.
            count: chorales of each kind and temperature, 0 or more.
            split: whose pieces the model is given beginnings and a soprano of; no other but train is read.

        Yields:
            Of each its name, its MIDI file (the others lie beside it under the same name), its measures, and its `kind`
            and `origin`, the id of the piece that was given in part ("" for none).

        Raises:
            SettingError: an unknown split or an impossible count.
            ModelError: there is no model in `folder`.
            OutputError: `out` cannot be written.
        """
        from bach import model_files
        from bach.generation import Generator
        from bach.prediction import ModelPredictor
        from bach.sample_set import SampleSet

        checked_split(split)
        checked_number("count", count, 0, what="task")
        model = model_files.load(folder)
        learnt = model_files.trained_on(model_files.record(folder))
        made = SampleSet(Generator(model), ModelPredictor(model), self.dataset.learnt_from(learnt))
        for sample in made.make(count=count, split=split, steps=self._sample_steps, seed=self._sample_seed):
            path, measures = made.write(sample, Path(out))
            told = {measure: measures[measure] for measure in self.measures if measure in measures}
            yield sample.name, path, told, {"kind": sample.kind, "origin": sample.origin}

    def sample_references(self, splits: Sequence[Split] = ("train", "valid")) -> dict[str, dict[str, float]]:
        """Returns the measures of Bach's own chorales, by names such as `Bach, valid`; see `bach.human_values`.

        Args:
            splits: those to measure. Test is read only if it is among them; no model is scored.

        Raises:
            SettingError: an unknown split.
        """
        for split in splits:
            checked_split(split)
        return human_values(self.dataset, tuple(splits))


def _checked_unheard(folder: Path, split: str) -> dict[str, Any]:
    """The record of the model in `folder`, whose score on the split says something."""
    from bach import model_files

    checked_split(split)
    record = model_files.record(folder)
    if split in model_files.trained_on(record) and split != "train":
        raise ModelError(
            f"{folder}: this model was trained on {split}, too, so that a score there says nothing; score it on test"
        )
    return record
