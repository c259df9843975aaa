"""How long work tells its caller how far it has come."""

from typing import Protocol


class Progress(Protocol):
    """What is called now and then while something takes long."""

    def __call__(self, what: str, done: int, total: int | None, /) -> None:
        """Hears of it.

        Args:
            what: `download`, `rebuild` or `read`.
            done: Bytes (`download`) or files (the others) that are done.
            total: How many there are in all; `None` if not known.
        """
