"""Tells somebody how a sweep has ended: runs the command of `[notify]` with the event as JSON on its stdin.

Whatever the command does, the sweep is not harmed: it has a limited time, little of what it prints is kept, and what
goes wrong with it is a line of the log. It gets no secrets: of the driver's environment only what finds programs and
folders and sets the language; addresses of storages hold no keys anyway.
"""

import contextlib
import datetime
import json
import logging
import os
import platform
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from results.errors import ResultsError
from results.storage import Storage
from search import connection
from search.errors import CallerError, SpecError, SweepStopped
from search.snapshot import Limits, take
from search.spec import NotifyEvent, SweepSpec

if TYPE_CHECKING:
    from search.final_summary import FinalSummary
    from search.state import SweepState

_log = logging.getLogger(__name__)

OUTPUT_LIMIT = 2000
"""Characters of what the command prints that are kept for the log; the rest is read and dropped."""
LONGEST_WHY = 2000
KEPT_NAMES = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR")
"""Of the driver's environment the command finds these and `LC_…`."""


class Notifier:
    """Runs the command of a sweep's `[notify]`; without one it does nothing.

    Attributes:
        state: of the sweep, once it is known.
        storage: of the sweep, once it is known.
    """

    def __init__(self, spec: SweepSpec):
        """Takes the sweep.

        Raises:
            SpecError: there is no such command, or it cannot be run.
        """
        self._spec, self._settings = spec, spec.notify
        self._command = _found(spec) if self._settings.command else ()
        self.state: SweepState | None = None
        self.storage: Storage | None = None
        self._final: FinalSummary | None = None

    def ended(self, *, is_finished: bool, why: str, final: "FinalSummary | None") -> None:
        """Tells that a session has ended in order.

        Args:
            is_finished: whether it was not stopped.
            why: it ended, if that was before all its trials had.
            final: what the final job has come to; None if there was none.
        """
        self._final = final
        self.tell("finished" if is_finished else "stopped", why if is_finished else "in order, on request")

    def tell(self, event: NotifyEvent, why: str = "") -> None:
        """Runs the command, unless there is none or it is not to hear of such events; raises nothing."""
        if not self._command or event not in self._settings.on:
            return
        try:
            document = self._document(event, why)
            problem = _run(self._command, json.dumps(document), self._spec.folder, self._settings.timeout_s)
        except Exception as error:  # noqa: BLE001 - a notification must not end a sweep
            problem = f"{type(error).__name__}: {error}"
        if problem:
            _log.warning("notify: %s about %r: %s", self._command[0], event, problem)
        else:
            _log.info("notify: %s was told %r", self._command[0], event)

    def _document(self, event: NotifyEvent, why: str) -> dict[str, Any]:
        storage = self.storage or Storage(self._spec.storage).child(self._spec.name)
        document: dict[str, Any] = {
            "event": event,
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "sweep": self._spec.name,
            "storage": storage.uri,
            "host": platform.node(),
            "why": _discreet(why)[:LONGEST_WHY],
        }
        if self.state is not None:
            document |= _standing(self._spec, self.state)
        won = self._final and self._final.choice.winner
        document["final"] = won and {"trial": won.trial, "mean": won.mean}
        document["report"] = self._lying("report.html")
        document["bundle"] = self._lying("bundle/card.json").removesuffix("/card.json")
        return {"text": _text(document), **document}

    def _lying(self, name: str) -> str:
        """Returns where a file of the sweep lies, "" if it is not there."""
        with contextlib.suppress(ResultsError, OSError):
            if self.storage is not None and self.storage.exists(name):
                return self.storage.where(name)
        return ""


@contextlib.contextmanager
def notifying(spec: SweepSpec) -> Iterator[Notifier]:
    """Tells, at the end of a `with`, if it has failed or was stopped at once.

    Raises:
        SpecError: see `Notifier`.
    """
    notifier = Notifier(spec)
    try:
        yield notifier
    except CallerError:
        raise  # who runs it is told, and nothing was started
    except KeyboardInterrupt:
        notifier.tell("stopped", "at once, by Ctrl-C")
        raise
    except SweepStopped as stopped:
        notifier.tell("stopped", str(stopped))
        raise
    except Exception as error:
        notifier.tell("failed", str(error) or type(error).__name__)
        raise


def script(spec: SweepSpec) -> Path | None:
    """Returns the command's own file if it lies where the sweep file names it, not on the PATH."""
    command = spec.notify.command
    return Path(spec.folder, command[0]) if command and "/" in command[0] else None


def _found(spec: SweepSpec) -> tuple[str, ...]:
    first, *rest = spec.notify.command
    path = script(spec)
    found = shutil.which(str(path.absolute()) if path else first)
    if found is None:
        what = f"{path} is not there or cannot be executed (chmod +x)" if path else f"no program {first!r} on the PATH"
        raise SpecError(f"[notify] command: {what}; give a program, or the path of one from the sweep file's folder")
    return (found, *rest)


def _standing(spec: SweepSpec, state: "SweepState") -> dict[str, Any]:
    now = take(state, Limits.of(spec), now=time.time(), condition="finished").document()
    best = now["best"]
    return {
        "session": state.session,
        "trials": now["counts"],
        "objective": now["objectives"][0][0],
        "goal": now["objectives"][0][1],
        "best": best and {key: best[key] for key in ("trial", "best_epoch", "value", "values")},
        "budget": {use["name"]: {"used": use["used"], "limit": use["limit"]} for use in now["budget"]},
        "failures": {failure["kind"] or "unknown": failure["attempts"] for failure in now["failures"]},
    }


def _text(document: Mapping[str, Any]) -> str:
    """Returns the event as a sentence for people."""
    verb = {
        "finished": "is over",
        "failed": "has failed",
        "budget": "has used up its budget",
        "stopped": "was stopped",
    }[document["event"]]
    text = f"Sweep {document['sweep']} {verb}" + (f" ({document['why']})" if document["why"] else "")
    if counts := document.get("trials"):
        text += ": " + (", ".join(f"{number} {state}" for state, number in counts.items() if number) or "no trials")
    if best := document.get("best"):
        text += f"; best {document['objective']} {best['value']:.5g} (trial {best['trial']})"
    return text + "."


def _discreet(text: str) -> str:
    """Returns a text without the token."""
    token = connection.token()
    return text.replace(token, "…") if token else text


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name in KEPT_NAMES or name.startswith("LC_")}


def _run(command: tuple[str, ...], text: str, folder: str, timeout_s: float) -> str:
    """Returns what went wrong, "" for nothing."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder or None,
        env=_environment(),
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    kept: list[bytes] = []
    # Both in threads of their own: a command that reads nothing, or leaves behind what holds its output open, would
    # keep this one waiting.
    threading.Thread(target=_write, args=(process.stdin, text.encode()), daemon=True).start()
    reader = threading.Thread(target=_read, args=(process.stdout, kept), daemon=True)
    reader.start()
    problem = ""
    try:
        status = process.wait(timeout_s)
        if status:
            problem = f"it ended with {status}"
    except subprocess.TimeoutExpired:
        problem = f"it took longer than {timeout_s:g} s and was ended"
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # the whole group, with what it has started
        process.wait()
        reader.join(1.0)
    said = b"".join(kept).decode("utf-8", "replace").strip()
    return f"{problem}: {said}" if problem and said else problem


def _write(stream: IO[bytes], data: bytes) -> None:
    with contextlib.suppress(OSError, ValueError):
        stream.write(data)
        stream.close()


def _read(stream: IO[bytes], kept: list[bytes]) -> None:
    left = OUTPUT_LIMIT
    with contextlib.suppress(OSError, ValueError):
        while data := stream.read1(65536):  # pyright: ignore[reportAttributeAccessIssue]
            kept.append(data[:left])
            left -= len(kept[-1])
