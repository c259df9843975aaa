import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from search.cli import main

ROOT = Path(__file__).resolve().parents[3]
MANIFEST = """
kind: RayCluster
metadata: {{ annotations: {{ chorale-search/storage: {storage} }} }}
spec:
  rayVersion: 2.60.0
  authOptions: {{ mode: token }}
  headGroupSpec: {{ rayStartParams: {{ num-cpus: "0" }}, template: {{ spec: {{ serviceAccountName: sweeps }} }} }}
"""


def run(*arguments):
    words = ["cluster", "check", *arguments, "--constraints", ROOT / "constraints.txt"]
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def manifest(tmp_path):
    path = tmp_path / "cluster.yaml"

    def written(storage="s3://bucket/sweeps"):
        path.write_text(MANIFEST.format(storage=storage))
        return path

    return written


def test_a_sound_file_ends_in_0(manifest):
    done = run(manifest())
    assert done.exit_code == 0, done.output
    assert "nothing found" in done.stdout


def test_what_is_found_is_told_with_its_place_and_ends_in_1(manifest):
    done = run(manifest("/tmp/sweeps"))
    assert done.exit_code == 1
    assert done.stdout.splitlines()[0] == "metadata.annotations"
    assert "another folder on every machine" in done.stdout
    assert "-> a bucket" in done.stdout
    assert "1 to see to" in done.stderr


def test_json_has_what_where_and_advice(manifest):
    done = run(manifest("/tmp/sweeps"), "--json")
    assert done.exit_code == 1
    (finding,) = json.loads(done.stdout)["findings"]
    assert set(finding) == {"where", "what", "advice"}
    assert json.loads(run(manifest("/tmp/sweeps"), "--json", "--storage", "s3://b/x").stdout)["findings"] == []


@pytest.mark.parametrize("text", ["a: [", "[1]", "\x1b"])
def test_a_file_of_something_else_ends_in_2(tmp_path, text):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    done = run(path)
    assert done.exit_code == 2
    assert "Traceback" not in done.output
    assert run(tmp_path / "none.yaml").exit_code == 2
    assert run(tmp_path).exit_code == 2
