"""What a training run was asked to do, kept in its folder so that it can go on without being told again."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from bach.errors import OutputError, SettingError
from bach.formats.files import write_whole

RECORD_FILE, CHECKPOINT_FILE = "run.json", "checkpoint.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A request for a training run.

    Attributes:
        preset: its name, or `""`.
        values: the point of the space.
        epochs: 1 or more.
        seed: 0 or more.
        data: the source of the data: a name, or an absolute path.
    """

    preset: str
    values: dict[str, Any]
    epochs: int
    seed: int
    data: str

    def write(self, folder: Path) -> None:
        """Keeps the request in `folder`.

        Raises:
            OutputError: the folder cannot be written, or holds a run already.
        """
        check_free(folder)
        write_whole(folder / RECORD_FILE, (json.dumps(dataclasses.asdict(self), indent=1) + "\n").encode())


def check_free(folder: Path) -> None:
    """Returns if a run can begin in `folder`.

    Raises:
        OutputError: it holds a run already.
    """
    if (folder / CHECKPOINT_FILE).exists():
        raise OutputError(f"{folder} holds a training run already; go on with --resume or choose another folder")


def read_record(folder: Path) -> RunRecord:
    """Returns what the run in `folder` was asked to do.

    Raises:
        SettingError: there is no run, or its record cannot be read.
    """
    path = folder / RECORD_FILE
    try:
        record = json.loads(path.read_text("utf-8"))
        return RunRecord(**record)
    except FileNotFoundError:
        raise SettingError(f"no training run in {folder}: there is no {RECORD_FILE}; start without --resume") from None
    except (OSError, ValueError, TypeError) as error:
        raise SettingError(f"{path}: cannot be read ({error}); start a new run in another folder") from error


def epochs_done(folder: Path) -> int | None:
    """Returns how many epochs the checkpoint in `folder` holds; `None` if there is no readable checkpoint."""
    try:
        return len(json.loads((folder / CHECKPOINT_FILE).read_text("utf-8"))["history"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
