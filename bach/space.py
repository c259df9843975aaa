"""The search space as a table, as docs/space.md shows it: `python -m bach.space docs/space.md` writes it there anew."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras_tuner

from bach.declaration import declare
from bach.models import FAMILIES

MEANINGS: Mapping[str, str] = {
    "model.family": "the kind of model",
    "inputs.notes": "how many of the last notes are embedded, each with a table of its own",
    "inputs.voice": "the voice of the coming note is embedded",
    "inputs.beat": "its step modulo this number is embedded; 0: not",
    "inputs.held": "for how many steps its voice has held its last pitch is embedded",
    "inputs.echo": "what followed the last passage like the present one is embedded",
    "conv_lstm.embedding_dim": "width of the embedding",
    "conv_lstm.dilation_depth": "number of convolutions; each reaches back twice as far as the one before",
    "conv_lstm.filters": "width of the first convolution",
    "conv_lstm.widening": "later convolutions are 1.5, 2, 3, 4 and 6 times as wide as the first",
    "conv_lstm.kernel_size": "notes that a convolution joins",
    "conv_lstm.first_dilation": "distance between them in the first convolution, in notes; 4 is one step",
    "conv_lstm.normalization": "after each convolution",
    "conv_lstm.batch_momentum": "of batch normalisation's running averages; matters with `batch` alone",
    "conv_lstm.residual": "a convolution's input is added to its output where the widths agree",
    "conv_lstm.dropout": "after each convolution and recurrent layer",
    "conv_lstm.cell": "kind of the recurrent layers",
    "conv_lstm.lstm_width": "units of a recurrent layer",
    "conv_lstm.recurrent_layers": "number of them",
    "transformer.embedding_dim": "width of the embedding and of the blocks",
    "transformer.norm_first": "normalise before each part (pre-norm) or after adding it (post-norm)",
    "transformer.dropout": "on what each part adds",
    "transformer.window_steps": "steps that the table of positions covers",
    "transformer.layers": "number of blocks",
    "transformer.attention_heads": "heads of an attention",
    "transformer.head_dim": "width of a head",
    "transformer.feed_forward": "width of a block's hidden layer",
    "transformer.attentions": "attentions in a row in each block",
    "transformer.activation": "of the hidden layer",
    "transformer.head": "one layer to the logits, or the notebook's two dense layers and batch normalisation before it",
    "relative_transformer.embedding_dim": "width of the embedding and of the blocks",
    "relative_transformer.attention_heads": "heads of an attention; a head is the embedding's width over this",
    "relative_transformer.layers": "number of blocks",
    "relative_transformer.feed_forward": "width of a block's hidden layer, in widths of the embedding",
    "relative_transformer.positions": "a learnt bias a distance, relative attention by the skew trick, or rotary",
    "relative_transformer.span_steps": "steps that an attention looks back",
    "relative_transformer.dropout": "on the embedding and on what each part adds",
    "relative_transformer.activation": "of the hidden layer",
    "train.optimizer": "which one updates the weights",
    "train.learning_rate": "highest rate of the schedule",
    "train.schedule": "`cosine`: 5 % up, then down to 0; `one_cycle`: 30 % up, then down; or the same throughout",
    "train.weight_decay": "of kernels; AdamW alone uses it",
    "train.clip_norm": "largest norm of all gradients together; 0: no clipping",
    "train.batch_size": "windows in a batch",
    "train.label_smoothing": "share of each target spread over all tokens; scores are never smoothed",
    "train.ema": "momentum of the average of the weights that is scored and kept; 0: the weights themselves",
    "train.window_steps": "length of a training window in steps",
    "train.window_shift": "steps between the starts of windows; 0: each piece is covered anew every epoch",
    "train.transposition": "largest random transposition in semitones, within each voice's range",
}
"""What each parameter means, in half a line."""

MARKS = ("<!-- space: begin -->\n", "<!-- space: end -->\n")
"""Between these two lines a document holds the table."""


def parameters_of_all_families() -> list[tuple[Any, tuple[str, ...]]]:
    """Returns each parameter of KerasTuner's with the families that have it, in the order of their declaration."""
    found: dict[str, tuple[Any, tuple[str, ...]]] = {}
    for family in FAMILIES:
        hp = keras_tuner.HyperParameters()
        hp.values["model.family"] = family
        declare(hp)
        for parameter in hp.space:
            key = f"{parameter.name} {_kind(parameter)} {_range(parameter)} {_default(parameter)}"
            _, families = found.get(key, (parameter, ()))
            found[key] = parameter, (*families, family)
    order = ["model.family", "inputs.", *(f"{family}." for family in FAMILIES), "train."]
    return sorted(
        found.values(), key=lambda row: next(i for i, start in enumerate(order) if row[0].name.startswith(start))
    )


def table() -> str:
    """Returns the whole space as a Markdown table: name, kind, range, default, condition, meaning."""
    lines = ["| name | kind | range | default | only if | meaning |", "|---|---|---|---|---|---|"]
    for parameter, families in parameters_of_all_families():
        only = "" if len(families) == len(FAMILIES) else "family is " + " or ".join(f"`{f}`" for f in families)
        cells = (_kind(parameter), _range(parameter), _default(parameter), only, MEANINGS[parameter.name])
        lines.append(f"| `{parameter.name}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def with_table(document: str) -> str:
    """Returns the document with the present table between its `MARKS`.

    Raises:
        ValueError: the document has no such place.
    """
    begin, end = MARKS
    renewed, count = re.subn(f"{begin}.*?{end}", lambda _: f"{begin}{table()}{end}", document, flags=re.S)
    if count != 1:
        raise ValueError(f"the document has {count} places for the table, expected 1, between {begin!r} and {end!r}")
    return renewed


def _kind(parameter: Any) -> str:
    return {"Choice": "choice", "Int": "whole number", "Float": "number", "Boolean": "yes or no"}[
        type(parameter).__name__
    ]


def _range(parameter: Any) -> str:
    if _kind(parameter) == "choice":
        return ", ".join(f"`{value}`" for value in parameter.values)
    if _kind(parameter) == "yes or no":
        return "`True`, `False`"
    step = f" by {parameter.step:g}" if parameter.step and _kind(parameter) == "number" else ""
    return f"{parameter.min_value:g} to {parameter.max_value:g}{step}{', log' * (parameter.sampling == 'log')}"


def _default(parameter: Any) -> str:
    return f"`{parameter.default}`"


if __name__ == "__main__":
    place = Path(sys.argv[1])
    place.write_text(with_table(place.read_text("utf-8")), "utf-8")
