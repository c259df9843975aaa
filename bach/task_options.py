"""Options of a task that are checked on the way in, and the chorales that they name."""

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bach.errors import SettingError, did_you_mean
from bach.notes import SPLITS, Split

if TYPE_CHECKING:
    from bach.corpus import Dataset


def checked_number(name: str, value: Any, lowest: int, highest: int | None = None, *, what: str = "task option") -> int:
    """Returns the value if it is a whole number within the bounds (inclusive).

    Raises:
        SettingError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < lowest or (highest and value > highest):
        bounds = f"{lowest} or more" if highest is None else f"{lowest}..{highest}"
        raise SettingError(f"{what} {name}: got {value!r}, expected a whole number, {bounds}")
    return value


def checked_limit(limit: Any) -> tuple[int, ...]:
    """Returns the number of pieces of each of `SPLITS`, 0 for all.

    Args:
        limit: one number for all, or one for each split that is named.

    Raises:
        SettingError: an unknown split or an impossible number.
    """
    if isinstance(limit, Mapping):
        for split in limit:
            if split not in SPLITS:
                raise SettingError(f"task option limit: unknown split {split!r}{did_you_mean(str(split), SPLITS)}")
        return tuple(checked_number(f"limit.{split}", limit.get(split, 0), 0) for split in SPLITS)
    return (checked_number("limit", limit, 0),) * len(SPLITS)


def checked_split(split: str) -> None:
    """Raises SettingError unless there is such a split."""
    if split not in SPLITS:
        raise SettingError(f"unknown split {split!r}{did_you_mean(str(split), SPLITS)}")


@functools.lru_cache(maxsize=2)
def dataset(source: str, limit: tuple[int, ...]) -> "Dataset":
    """Returns the chorales of a source, of each split as many as `limit` says; loaded once a process.

    Raises:
        DataError: the chorales cannot be had.
        SettingError: `limit` asks for more than there are.
    """
    from bach.corpus import Chorale, Dataset, load

    if not any(limit):
        return load(source)
    whole = dataset(source, (0,) * len(SPLITS))
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
