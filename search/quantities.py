"""Lengths of time and amounts of memory as people write them: `12 min`, `1 h 30 min`, `4 GB`."""

import math
import re

SECONDS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}

_NUMBER = r"[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?"


def seconds(text: str) -> float:
    """Returns a length of time in seconds.

    Args:
        text: numbers, each with its unit (ms, s, min, h, d), such as `90 s` or `1 h 30 min`.

    Raises:
        ValueError: it is none; the message says what was expected.
    """
    total = _amount(text, SECONDS)
    if total is None:
        units = ", ".join(SECONDS)
        raise ValueError(f'got {text!r}, expected a length of time with its unit ({units}), such as "1 h 30 min"')
    return total


def number_of_bytes(text: str) -> int:
    """Returns an amount of memory in bytes.

    Args:
        text: a number with its unit, such as `500 MB` (10⁶ bytes) or `4 GiB` (2³⁰ bytes).

    Raises:
        ValueError: it is none; the message says what was expected.
    """
    total = _amount(text, BYTES)
    if total is None:
        raise ValueError(f'got {text!r}, expected an amount with its unit ({", ".join(BYTES)}), such as "4 GB"')
    return round(total)


def time_text(duration_s: float) -> str:
    """Returns a length of time that `seconds` reads back exactly, in the largest unit that divides it."""
    for unit in ("d", "h", "min"):
        count = duration_s / SECONDS[unit]
        if count >= 1 and count == int(count):
            return f"{int(count)} {unit}"
    return f"{duration_s:g} s" if float(f"{duration_s:g}") == duration_s else f"{duration_s!r} s"


def size_text(size_bytes: int) -> str:
    """Returns an amount of memory that `number_of_bytes` reads back exactly, in the largest unit that divides it."""
    for unit, factor in sorted(BYTES.items(), key=lambda item: -item[1]):
        if size_bytes >= factor and size_bytes % factor == 0:
            return f"{size_bytes // factor} {unit}"
    return f"{size_bytes} B"


def _amount(text: str, units: dict[str, float] | dict[str, int]) -> float | None:
    parts = "|".join(sorted(units, key=len, reverse=True))
    if not re.fullmatch(rf"\s*(?:{_NUMBER}\s*(?:{parts})\s*)+", text):
        return None
    total = sum(float(number) * units[unit] for number, unit in re.findall(rf"({_NUMBER})\s*({parts})", text))
    return total if math.isfinite(total) else None
