"""Keeps test runs inside the checkout and alike from one machine to the next."""

import gc
import os
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# Set before anything imports Keras, matplotlib or bach: they read these once. `make` sets the same.
os.environ.setdefault("BACH_CACHE", str(ROOT / ".cache" / "bach"))
os.environ.setdefault("KERAS_HOME", str(ROOT / ".cache" / "keras"))
os.environ.setdefault("MPLCONFIGDIR", str(ROOT / ".cache" / "matplotlib"))
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")

# No deadline: on a shared core one example may take many times longer than another. In CI the examples are the same in
# every run, so that a red run says something about the change; elsewhere each run looks for new ones.
settings.register_profile("repository", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "repository")


@pytest.fixture(scope="module", autouse=True)
def left_by_others():
    """Has no search for garbage go through what earlier modules left in the process.

    Each final training lets go of models, which collects garbage; with TensorFlow loaded that is half a second a time.
    """
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def jsb_archive() -> Path:
    """The canonical archive, which is not ours to ship: from `BACH_JSB`, or `shared/data` beside the checkout."""
    path = Path(os.environ.get("BACH_JSB", ROOT.parent / "shared" / "data" / "jsb_chorales.tgz"))
    if not path.is_file():
        pytest.skip(f"needs the canonical archive; none at {path}: set BACH_JSB to where it lies")
    return path
