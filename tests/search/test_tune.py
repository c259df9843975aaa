"""What Ray Tune is told."""

import pytest

from results.storage import Storage
from search.tune import _place


@pytest.mark.parametrize("name", ["rig", "my sweep", "50% of it", "a#b", "what?"])
def test_tune_puts_its_files_into_the_sweeps_folder_whatever_its_name(tmp_path, name):
    local = Storage(tmp_path / name).child(".tune")
    assert _place(local) == {"storage_path": str(tmp_path / name / ".tune")}
    bucket = Storage("s3://bucket/runs?region=us-east-1").child(name, ".tune")
    place = _place(bucket)
    assert place["storage_path"] == f"bucket/runs/{name}/.tune"
    assert place["storage_filesystem"].type_name == "s3"
    assert place["storage_filesystem"].region == "us-east-1"
