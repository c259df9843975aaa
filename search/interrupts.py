"""How a driver reacts when it is asked to end: by Ctrl-C, or by what Slurm, Kubernetes and systemd send."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

TERMINATING = (signal.SIGTERM, signal.SIGUSR1)
"""What is sent before a process is killed: SIGTERM by nearly all, SIGUSR1 by many jobs of Slurm's (`--signal=USR1`)."""

Handler = Callable[[int, FrameType | None], None]


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Lets SIGTERM and SIGUSR1 do what Ctrl-C does, for the length of a `with`: what is held is let go of, in order."""

    def ended(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with handled(ended, *TERMINATING):
        yield


@contextlib.contextmanager
def finishing(stop: Callable[[], bool]) -> Iterator[None]:
    """Lets Ctrl-C and its like ask for an end, for the length of a `with`: the second time it comes at once.

    Args:
        stop: asks what runs to finish; returns False if that was asked already.

    Raises:
        KeyboardInterrupt: it was asked a second time.
    """

    def asked(signum: int, frame: FrameType | None) -> None:
        if not stop():
            raise KeyboardInterrupt

    with handled(asked, signal.SIGINT, *TERMINATING):
        yield


@contextlib.contextmanager
def unchanged() -> Iterator[None]:
    """Puts back, at the end of a `with`, what SIGTERM did before: Ray takes it for itself when it is connected to."""
    with handled(signal.getsignal(signal.SIGTERM), signal.SIGTERM):
        yield


@contextlib.contextmanager
def handled(handler: Handler | int | None, *numbers: signal.Signals) -> Iterator[None]:
    """Lets signals be dealt with so for the length of a `with`, and as before after it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread is told of signals
        return
    former = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, each in former.items():
            signal.signal(number, each)
