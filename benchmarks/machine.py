"""What the figures of a benchmark depend on beside the code that it measures."""

import os
import platform
import subprocess
from datetime import UTC, datetime


def machine() -> dict[str, object]:
    """Returns date, commit, Python and machine, for the line below a table."""
    revision = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": revision.stdout.strip() or "unknown",
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
    }


def machine_of_models() -> dict[str, object]:
    """Returns the same, and Keras's backend with the versions of its packages."""
    from bach import backend

    return {**machine(), "backend": backend.name(), "versions": backend.versions()}
