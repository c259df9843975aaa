"""A model's card as a page of Markdown, from the document that lies beside it as JSON."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from search.task import TEST

SUMS = "SHA256SUMS"
"""The list of a bundle's files."""


def text(card: Mapping[str, Any]) -> str:
    """Returns the card as Markdown.

    Args:
        card: from `search.bundle.card`; what is not in it is left out.
    """
    parts = (_origin, _limits, _loading, _scores, _samples, _contenders, _configuration, _environment)
    lines = [line for part in parts for line in part(card)]
    return "\n".join([*lines, f"`search bundle verify` checks all this; `sha256sum -c {SUMS}` the files alone.", ""])


def _origin(card: Mapping[str, Any]) -> Iterator[str]:
    data = card["data"]
    best = f"the weights are those of epoch {card.get('best_epoch')}"
    if card.get("kind") == "trial":
        yield f"# The model of trial {card['trial']} of sweep {card['sweep']}"
        yield ""
        yield (
            "**The test split was not opened for this model.** Its scores are those of the split that the sweep chose "
            "by, so the best of many flatters itself; `search final` is the way to a number that holds."
        )
        yield ""
        yield (
            f"Made {card['made']} by {_code(card['task'])} from {card['made_from']}, with the trial's own seed "
            f"{card['seed']}, a schedule of {card['epochs']} epochs; {best}."
        )
    else:
        yield f"# The model that sweep {card['sweep']} chose"
        yield ""
        yield from _kind(card, best)
    if "sweep_seed" in card:
        yield f"The sweep's own seed is {card['sweep_seed']}."
    yield ""
    if data["name"]:
        yield f"Data: {data['name']}, fingerprint `{data['fingerprint']}`. Scores on other data do not compare."
        yield ""


def _kind(card: Mapping[str, Any], best: str) -> Iterator[str]:
    """What a model that was chosen is made of."""
    made = f"Made {card['made']} by {_code(card['task'])}"
    whose = f"the configuration of trial {_trial(card)}"
    if card.get("kind") == "ensemble":
        models, compared = card["ensemble"]["models"], card["ensemble"]
        yield f"{made}, **{len(models)} models as one**: its probabilities are the mean of theirs, each run every time."
        yield ""
        yield from _table(
            ("final", "trial", "seed"), ((model["final"], _trial(model), model["seed"]) for model in models)
        )
        span = compared["interval"]
        told = f", 95 % over pieces {_number(span[0])} to {_number(span[1])}" if span else ""
        yield (
            f"On valid its {card['objective']} is {_number(compared['score'])}, the best single model's "
            f"{_number(compared['single'])} (difference {_number(compared['difference'])}{told})."
        )
        costs = [
            f"{name} {_number(value)} against {_number(compared['single_costs'][name])}"
            for name, value in compared["costs"].items()
            if name in compared["single_costs"]
        ]
        if costs:
            yield f"What it costs: {', '.join(costs)}."
    elif card.get("kind") == "whole":
        chosen = card["chosen"]
        yield (
            f"{made}, {whose}, **trained on train and valid** with seed {card['seed']}, for the {card['epochs']} "
            "epochs that were best for the model that was chosen; the weights are those of the last."
        )
        yield ""
        yield (
            f"What was chosen and compared is final {chosen['final']}, trained on train alone. What is said of valid "
            "is said of that; this model has seen valid. The test split was opened for both:"
        )
        yield ""
        shown = [name for name in chosen["scores"] if not _is_end(name, chosen["scores"])]
        yield from _table(
            ("on test", "this model", "trained on train alone"),
            ((name, _with_interval(name, card["scores"]), _with_interval(name, chosen["scores"])) for name in shown),
        )
    else:
        yield f"{made}, {whose}, trained anew with seed {card['seed']} for {card['epochs']} epochs; {best}."


def _trial(card: Mapping[str, Any]) -> str:
    return f"{card['trial']} of sweep {card['source']}" if card.get("source") else str(card["trial"])


def _limits(card: Mapping[str, Any]) -> Iterator[str]:
    if card.get("limits"):
        yield from ("## What it cannot do", "", card["limits"], "")


def _loading(card: Mapping[str, Any]) -> Iterator[str]:
    if card.get("how_to_load"):
        yield from ("## How to load it", "", "```python", card["how_to_load"], "```", "")
    if card.get("exports"):
        yield "The same model in other forms, each compared with the first one after it was read back:"
        yield ""
        yield from _table(
            ("form", "in", "largest difference of a probability"),
            ((form, _code(made["path"]), f"{made['difference']:.1e}") for form, made in card["exports"].items()),
        )


def _scores(card: Mapping[str, Any]) -> Iterator[str]:
    scores = card["scores"]
    others = {**card.get("floors", {}), **card.get("references", {})}
    if scores:
        yield f"## Scores on {card.get('split', TEST)}"
        yield ""
        if others:
            yield "Beside this model: such as need no training, and such as are known by name."
            yield ""
        trained = [name for name in card["metrics"] if any(name in other for other in others.values())]
        scores = {**{name: card["metrics"][name] for name in trained}, **scores}
        shown = [name for name in scores if not _is_end(name, scores)]
        yield from _table(
            ("", "this model", *others),
            (
                (name, _with_interval(name, scores), *(_with_interval(name, other) for other in others.values()))
                for name in shown
            ),
        )
        if len(shown) < len(scores):
            yield "In brackets: the interval, as the task gives it."
            yield ""
    if card["metrics"]:
        yield "## At its best epoch, as it was trained"
        yield ""
        yield from _table(("", "value"), ((name, _number(value)) for name, value in card["metrics"].items()))


def _is_end(name: str, scores: Mapping[str, Any]) -> bool:
    """Whether a score is the end of another one's interval."""
    return any(name == f"{other}_{end}" for other in scores for end in ("low", "high"))


def _with_interval(name: str, scores: Mapping[str, Any]) -> str:
    if scores.get(name) is None:
        return "–"
    low, high = scores.get(f"{name}_low"), scores.get(f"{name}_high")
    interval = f" [{_number(low)}, {_number(high)}]" if low is not None and high is not None else ""
    return f"{_number(scores[name])}{interval}"


_BEGINNINGS = {
    "free": "nothing",
    "continued": "the beginning of {}",
    "harmony": "a part of {}",
    "original": "{} itself",
}


def _samples(card: Mapping[str, Any]) -> Iterator[str]:
    samples = card["samples"]
    if samples:
        yield "## Its samples"
        yield ""
        measures = list(dict.fromkeys(name for sample in samples for name in sample["measures"]))
        rows = [
            (_code(sample["name"]), _beginning(sample), *(_number(sample["measures"].get(name)) for name in measures))
            for sample in samples
        ]
        others = card.get("sample_references", {})
        rows += [
            (name, "for comparison", *(_number(values.get(each)) for each in measures))
            for name, values in others.items()
        ]
        yield from _table(("", "made from", *measures), rows)
        marked = list(_marked(samples, card.get("sample_limits", {})))
        if marked:
            yield from (*marked, "")


def _beginning(sample: Mapping[str, Any]) -> str:
    return _BEGINNINGS.get(sample.get("kind", ""), "").format(sample.get("origin") or "a piece")


def _marked(samples: Any, limits: Mapping[str, Any]) -> Iterator[str]:
    """A line for each sample that has measures beyond what is usual."""
    for sample in samples:
        marks = []
        for name, limit in limits.items():
            value = sample["measures"].get(name)
            low, high = limit["low"], limit["high"]
            if value is not None and ((low is not None and value < low) or (high is not None and value > high)):
                marks.append(f"{limit['text']} ({name} {_number(value)})")
        if marks:
            yield f"- {_code(sample['name'])} is marked: {'; '.join(marks)}"


def _contenders(card: Mapping[str, Any]) -> Iterator[str]:
    compared = card.get("compared")
    if compared:
        yield "## What it was chosen from"
        yield ""
        yield f"The configurations that were trained anew, by the mean of {card['objective']} ({card['goal']}):"
        yield ""
        yield from _table(
            ("trial", "mean", "trainings", "in the sweep"),
            (
                (
                    _trial(contender),
                    _number(contender["mean"]),
                    ", ".join(_number(value) for value in contender["scores"]),
                    _number(contender["in_sweep"]),
                )
                for contender in compared
            ),
        )


def _configuration(card: Mapping[str, Any]) -> Iterator[str]:
    values, space = card["configuration"], card.get("space", {})
    yield "## Configuration"
    yield ""
    if space:
        rows = ((_code(name), _code(value), _range(space.get(name, ()))) for name, value in sorted(values.items()))
        yield from _table(("parameter", "value", "of"), rows)
        others = len(space.keys() - values.keys())
        if others:
            yield f"The space has {others} more parameters, which this configuration has no use for; card.json has all."
            yield ""
    else:
        yield from _table(("parameter", "value"), ((_code(name), _code(v)) for name, v in sorted(values.items())))


def _range(declarations: Any) -> str:
    return " or ".join(dict.fromkeys(declaration["range"] for declaration in declarations))


def _environment(card: Mapping[str, Any]) -> Iterator[str]:
    if card["environment"]:
        yield from ("## Environment", "")
        for name, value in card["environment"].items():
            told = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, Mapping) else value
            yield f"- {name}: {told}"
        yield ""
    others = {name: value for name, value in card.get("packaged", {}).items() if value != card["environment"].get(name)}
    if others:
        yield from ("The model was trained with these; scores, samples and files were made later, with others:", "")
        yield from (f"- {name}: {value}" for name, value in others.items())
        yield ""


def _table(head: Any, rows: Any) -> Iterator[str]:
    yield f"| {' | '.join(map(_cell, head))} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(map(_cell, row))} |"
    yield ""


class _Code(str):
    """Markdown for what is shown as it is, character by character."""


def _code(value: Any) -> _Code:
    shown = _one_line(value) or " "
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    space = " " if "`" in shown else ""  # a space on both sides is not shown
    return _Code(f"{fence}{space}{shown}{space}{fence}")


def _cell(value: Any) -> str:
    """Markdown that stays one cell of a table and is no HTML, whatever it is made of."""
    if isinstance(value, _Code):
        return value.replace("|", "\\|")
    return re.sub(r"([\\`|])", r"\\\1", _one_line(value)).replace("&", "&amp;").replace("<", "&lt;")


def _one_line(value: Any) -> str:
    return " ".join(str(value).splitlines())


def _number(value: Any) -> str:
    if value is None:
        return "–"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
