"""HTML and SVG elements as text; whatever is put into one is escaped unless it is an element itself."""

import html
import math
import re
from collections.abc import Iterable
from typing import Any

_VOID = frozenset({"meta", "img", "br", "hr", "link", "input", "source"})
# What HTML cannot hold at all: control characters, lone surrogates, and the two that are no characters.
_IMPOSSIBLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


class Numeral(Markup):
    """A number as an element: in a table it stands flush right, as numbers do."""

    __slots__ = ()


def escaped(value: object) -> Markup:
    """Returns anything as text that a browser shows as it is, in an element or in an attribute."""
    return Markup(html.escape(_IMPOSSIBLE.sub("\ufffd", str(value)), quote=True))


def element(tag: str, *children: Any, **attributes: Any) -> Markup:
    """Returns an element.

    Args:
        tag: its name.
        children: elements, texts, or lists of these; None and False are left out.
        attributes: a `_` at the end is dropped, others become `-`; None and False are left out, True stands alone.
    """
    parts = [f"<{tag}"]
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        name = name.rstrip("_").replace("_", "-")
        parts.append(f" {name}" if value is True else f' {name}="{escaped(_short(value))}"')
    parts.append(">")
    if tag not in _VOID:
        parts += [joined(children), f"</{tag}>"]
    return Markup("".join(parts))


def joined(children: Iterable[Any]) -> Markup:
    """Returns elements and texts behind each other."""
    parts: list[str] = []
    for child in children:
        if child is None or child is False:
            continue
        if isinstance(child, Markup):
            parts.append(child)
        elif isinstance(child, list | tuple):
            parts.append(joined(child))
        else:
            parts.append(escaped(child))
    return Markup("".join(parts))


def prose(text: str) -> Markup:
    """Returns a sentence in which what stands between backticks is code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escaped(text)
    return joined([element("code", part) if i % 2 else part for i, part in enumerate(parts)])


def number(value: Any, digits: int = 4) -> str:
    """Returns a value as a person reads it: so many significant digits, spaces between thousands, a dash for none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer() and abs(value) < 1e15):
        return f"{int(value):,}".replace(",", "\u2009").replace("-", "\u2212")
    if isinstance(value, float):
        if math.isinf(value):
            return "∞" if value > 0 else "\u2212∞"
        large = 10.0 ** min(digits, 4) - 0.5 <= abs(value) < 1e15
        text = f"{value:,.0f}".replace(",", "\u2009") if large else f"{value:.{digits}g}"
        return text.replace("-", "\u2212")
    return str(value)


def count(number_of: int, what: str, many: str = "") -> str:
    """Returns `1 trial`, `2 trials`."""
    return f"{number(number_of)} {what if number_of == 1 else many or what + 's'}"


def _short(value: object) -> object:
    """Coordinates need one decimal; a page has hundreds of thousands of them."""
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) and math.isfinite(value) else value
