"""What the card of a chorale model says beside its own numbers: its limits, and what known models reach."""

import json
from importlib import resources

from bach.notes import Split

LIMITS = """\
- It has heard Bach's four-part chorales and nothing else: pitches 36 to 81 in four voices, on a grid of sixteenths,
  without text, dynamics, tempo or fermatas. Triplets and shorter notes are not in its world.
- Its score is a mean over chorales in all keys and metres of the data; single pieces differ by far more than two good
  models do. Scores on other data, or of other encodings, do not compare.
- Some chorales of the held-out splits resemble chorales of train; `test_distinct_nll` and `val_distinct_nll` leave
  those out.
- A model that was trained on train and valid together has no score on valid that says anything; one that is the mean of
  several takes as long as all of them.
- It plans no form: what it writes is plausible from bar to bar. It makes errors that Bach avoids, such as parallel
  fifths, and may repeat stretches of chorales that it was trained on; the measures of its samples say how often and how
  long, those of Bach's own chorales beside them what is usual.
- A low score is not yet good music. Listen before you use it."""
"""What a user of a model should not expect of it, as Markdown."""
PRESET_SCORES = "preset_scores.json"
"""Scores of the presets, by the data; a test keeps them and docs/models.md the same."""


def references(fingerprint: str, split: Split) -> dict[str, dict[str, float]]:
    """Returns the scores of the presets on a split, as docs/models.md has them, by the presets' names.

    They are of one training each, rounded to three digits.

    Args:
        fingerprint: of the chorales; empty is returned for such as no preset was scored on.
        split: of them.
    """
    measured = json.loads((resources.files("bach") / "data" / PRESET_SCORES).read_text("utf-8"))
    prefix = {"valid": "val_"}.get(split, f"{split}_")
    found = {}
    for entry in measured.values():
        if entry["fingerprint"] == fingerprint:
            for preset, scores in entry["scores"].items():
                found[preset] = {name: value for name, value in scores.items() if name.startswith(prefix)}
    return {preset: scores for preset, scores in found.items() if scores}
