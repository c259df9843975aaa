"""Who is let in, and where the token stands, on a cluster that has run sweeps. Runs after the faults."""

import contextlib
import os
import stat
import sys
from pathlib import Path

import pytest

from tests.cluster.lab import NETWORK, ROOT
from tests.cluster.ray_cluster import AGENT_PORT, answer

MACHINES = ("laptop", "head", "w1", "w2")
WRONG = "0" * 64
METRICS_OF_THE_HEAD = (44217, 44227)
CLIENT = """
import sys, ray
try:
    ray.init(f"ray://{sys.argv[1]}:10001")
    print("let in")
except Exception as error:
    print("refused:", str(error)[:200])
"""
CALL = """
import sys
from ray._raylet import GcsClient
try:
    print(len(GcsClient(address=sys.argv[1]).get_all_node_info(timeout=20)), "nodes")
except Exception as error:
    print("refused:", str(error)[:200])
"""


def test_the_token_is_for_its_owner_alone_on_every_machine(cluster):
    for name in MACHINES:
        path = cluster.lab[name].home / ".ray" / "auth_token"
        assert path.read_text().strip() == cluster.token, name
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, name


def test_the_head_lets_nobody_in_without_the_token(cluster):
    w1, head = cluster.lab["w1"], f"{cluster.head.address}:6379"
    call = f"{sys.executable} -c '{CALL}' {head}"
    assert "nodes" in w1.run(call).stdout
    wrong = w1.run(f"RAY_AUTH_TOKEN={WRONG} {call}").stdout
    assert "refused" in wrong, wrong
    without = w1.run(f"mkdir -p /tmp/nobody; HOME=/tmp/nobody RAY_AUTH_MODE=disabled {call}").stdout
    assert "refused" in without, without


def test_a_node_takes_no_job_without_the_token(cluster):
    """Each node has a port of its own for jobs, which the head's job server uses."""
    job = '{"entrypoint": "touch /tmp/let-in"}'
    for name in ("head", "w1"):
        url = f"http://{cluster.lab[name].address}:{AGENT_PORT}/api/job_agent/jobs/"
        for token in ("", WRONG):
            assert answer(cluster.laptop, url, token, job) in {401, 403}, name
        assert not (cluster.lab[name].disk / "tmp" / "let-in").exists()


def test_ray_client_lets_nobody_in_with_a_wrong_token(cluster):
    said = (
        cluster.lab["w1"]
        .run(f"RAY_AUTH_TOKEN={WRONG} timeout 100 {sys.executable} -c '{CLIENT}' {cluster.head.address}", check=False)
        .stdout
    )
    assert "let in" not in said


def test_dashboard_and_job_server_ask_for_the_token_through_the_tunnel(cluster, tunnel):
    laptop = cluster.laptop
    for path in ("/api/jobs/", "/nodes?view=summary"):
        assert answer(laptop, tunnel + path, cluster.token) == 200, path
        assert answer(laptop, tunnel + path) == 401, path
        assert answer(laptop, tunnel + path, WRONG) in {401, 403}, path
    done = laptop.run(f"RAY_AUTH_TOKEN={WRONG} ray job list --address {tunnel}", check=False)
    assert done.returncode != 0
    assert "token" in done.stdout


def test_the_dashboard_answers_on_the_head_alone(cluster):
    ports = {port for (_, port), program in cluster.head.listeners().items() if "python" in program}
    assert 8265 in ports
    for name in ("laptop", "w1"):
        assert answer(cluster.lab[name], f"http://{cluster.head.address}:8265/", cluster.token) == 0


def test_what_listens_to_other_machines_is_what_the_page_on_security_says(cluster, say):
    """Ray's own ports, which ask for a token or do not speak HTTP, its metrics, which do not ask, and SSH."""
    unguarded = {"head": [], "w1": []}
    for name, found in unguarded.items():
        machine = cluster.lab[name]
        for (address, port), program in sorted(machine.listeners().items()):
            address = address.removeprefix("::ffff:")
            if address.startswith("127.") or address == "::1" or program == "sshd":
                continue
            assert program in {"gcs_server", "raylet", "python", "ray::DashboardA", "ray::RuntimeEnv"}, (name, program)
            status = answer(cluster.laptop, f"http://{machine.address}:{port}/metrics")
            say(f"{name} listens on {address}:{port} ({program}); /metrics without a token: {status or 'no HTTP'}")
            if status not in {0, 401, 403}:
                found.append((program, port if port in METRICS_OF_THE_HEAD else "any"))
    of_a_node = ("ray::DashboardA", "any")
    assert unguarded["w1"] == [of_a_node]
    assert sorted(unguarded["head"]) == sorted([of_a_node, *(("python", port) for port in METRICS_OF_THE_HEAD)])
    page = (ROOT / "docs" / "security.md").read_text("utf-8")
    assert all(f"{port}" in page for port in METRICS_OF_THE_HEAD)


@pytest.mark.parametrize("name", MACHINES)
def test_the_token_stands_in_no_process_list(cluster, name):
    assert cluster.token not in cluster.lab[name].run("ps auxeww | grep -v 'ps auxeww'").stdout


@pytest.mark.parametrize("name", MACHINES)
def test_the_token_stands_in_no_file_but_its_own(cluster, name):
    token = cluster.token.encode()
    machine = cluster.lab[name]
    found = []
    for top in ("tmp", "home"):
        for folder, _, names in os.walk(machine.disk / top):
            for path in (Path(folder, name) for name in names):
                with contextlib.suppress(FileNotFoundError):  # Ray is at work there
                    if path.is_file() and not path.is_symlink() and token in path.read_bytes():
                        found.append(str(path.relative_to(machine.disk)))
    assert found == ["home/.ray/auth_token"]


def test_the_token_stands_in_no_sweep(cluster, undisturbed):
    search = (
        "import sys; from pyarrow import fs; files, root = fs.FileSystem.from_uri(sys.argv[1]);"
        "found = [i for i in files.get_file_info(fs.FileSelector(root, recursive=True)) if i.is_file];"
        "print(len(found), sum(sys.argv[2].encode() in files.open_input_file(i.path).read() for i in found))"
    )
    files, with_token = cluster.laptop.here(sys.executable, "-c", search, cluster.lab.storage, cluster.token).split()
    assert int(files) > 20
    assert int(with_token) == 0
    assert NETWORK in cluster.lab.storage
