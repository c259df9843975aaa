"""Whether as many trials find room on the clusters as their files say."""

import re
from pathlib import Path

import pytest
import yaml

from search.sweep_file import load

ROOT = Path(__file__).resolve().parents[2]
FILES = ["cluster.yaml", "clusters/gcp.yaml", "clusters/kuberay.yaml"]


def machines(document):
    """Cores, GPUs and greatest number of the workers, by kind."""
    if "spec" in document:
        for group in document["spec"]["workerGroupSpecs"]:
            (container,) = group["template"]["spec"]["containers"]
            gpus = container["resources"]["limits"]["nvidia.com/gpu"]
            yield float(group["rayStartParams"]["num-cpus"]), float(gpus), group["maxReplicas"]
        return
    for name, kind in document["available_node_types"].items():
        if name != document["head_node_type"]:
            yield kind["resources"]["CPU"], kind["resources"]["GPU"], min(kind["max_workers"], document["max_workers"])


@pytest.mark.parametrize("name", FILES)
def test_the_trials_that_a_file_says_run_at_a_time_find_room_and_leave_none(name):
    text = (ROOT / name).read_text("utf-8")
    asked = [int(number) for number in re.findall(r"gpu\.toml .*--concurrency (\d+)", text)]
    need = load(ROOT / "sweeps" / "gpu.toml").resources
    room = {int(min(cpus / need.cpus, gpus / need.gpus)) * most for cpus, gpus, most in machines(yaml.safe_load(text))}
    assert asked
    assert room == set(asked)


def test_the_workers_of_a_machine_have_its_memory_together():
    need = load(ROOT / "sweeps" / "gpu.toml").resources
    assert 4 * need.memory_limit_bytes < 15e9  # 16 for g4dn, g5, g6.xlarge and g2-standard-4, 15 for n1-standard-4
    text = (ROOT / "clusters" / "kuberay.yaml").read_text("utf-8")
    assert 4 * need.memory_limit_bytes < 2**30 * int(re.findall(r"memory: (\d+)Gi, nvidia", text)[0])
