"""Values in a plain form: documents as JSON can hold them, lengths of time as people say them."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any


def finite(document: object) -> Any:
    """Returns a document of values that JSON can hold: None for NaN and infinities, times as ISO 8601, keys as text."""
    if isinstance(document, Mapping):
        return {str(key): finite(value) for key, value in document.items()}
    if isinstance(document, list | tuple):
        return [finite(value) for value in document]
    if isinstance(document, float):
        return document if math.isfinite(document) else None
    return document.isoformat() if hasattr(document, "isoformat") else document  # pyright: ignore[reportAttributeAccessIssue]


def json_text(document: object, *, indent: int | None = 1) -> str:
    """Returns a document as JSON, by the rules of `finite`; `indent` None keeps it on one line."""
    return json.dumps(finite(document), indent=indent, ensure_ascii=False, allow_nan=False)


def several(names: Sequence[str], most: int) -> str:
    """Returns names in a line: the first few, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def duration(seconds: float | None) -> str:
    """Returns a length of time as people say it: `0.3 s`, `45 s`, `12 min`, `3 h 05 min`, `2 d 4 h`; – if unknown."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"
