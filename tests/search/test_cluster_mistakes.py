"""More of what goes wrong in clusters' files: doors, tokens, secrets, versions and storages that a look passes over."""

import pytest

from search.errors import SpecError
from tests.search.test_cluster_check import AWS, L4, at_the_project, edited, findings

__all__ = ["at_the_project"]  # a fixture for all tests here

GCP, KUBE, SLURM = "clusters/gcp.yaml", "clusters/kuberay.yaml", "clusters/slurm.sh"
HEAD = ("available_node_types", "head", "node_config")
IMAGE = "rayproject/ray:2.60.0"


def docker(*options):
    return edited("docker", to={"image": IMAGE, "container_name": "ray", "run_options": list(options)})


def replaced(old, new):
    def change(text):
        assert old in text
        return text.replace(old, new)

    return change


def ranges(*addresses):
    door = {"FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": address} for address in addresses]}
    return edited("provider", "security_group", to={"IpPermissions": [door]})


def of_the_head(line):
    """KubeRay's head container with one line more."""
    return replaced("          - name: ray-head\n", f"          - name: ray-head\n            {line}\n")


FOUND = [
    # open doors
    (AWS, ranges("0.0.0.0/1", "128.0.0.0/1"), "port 22 open to the world"),
    (AWS, docker("-p", "8265:8265"), "port 8265:8265 of the container is open"),
    (AWS, edited(*L4[:2], "docker", to={"worker_image": IMAGE, "worker_run_options": ["-p 8265:8265"]}),
     "port 8265:8265 of the container is open"),
    (AWS, replaced("--dashboard-host=127.0.0.1", "--dashboard-host $HOST"), "the dashboard answers on $HOST"),
    (GCP, edited(*L4, "networkInterfaces", to=[{"network": "global/networks/default"}]), "open to the world"),
    (KUBE, replaced("serviceType: ClusterIP", "enableIngress: true\n    serviceType: ClusterIP"), "an ingress opens"),
    (KUBE, replaced("        containers:\n          - name: ray-head",
                    "        hostNetwork: true\n        containers:\n          - name: ray-head"),
     "Ray's ports are those of the Kubernetes node"),
    # a head that may go, machines that cannot be had
    (AWS, edited(*HEAD, "InstanceMarketOptions", to={"MarketType": "spot"}), "the head is a spot machine"),
    (GCP, edited(*HEAD, "scheduling", to={"provisioningModel": "SPOT"}), "the head is a spot machine"),
    (AWS, edited(*L4, "InstanceType", to=None), "no type of machine"),
    (AWS, edited("max_workers", to=None), "two workers at most"),
    (GCP, edited(*L4, "machineType", to=None), "no type of machine"),
    (GCP, edited("provider", "project_id", to=None), "there is no project_id"),
    (GCP, edited("provider", "availability_zone", to=None), "there is no availability_zone"),
    (GCP, edited("provider", "availability_zone", to="us-central1-a,us-central1-b"), "more than one zone"),
    (GCP, edited(*L4, "scheduling", to={"provisioningMdl": "SPOT"}), "no 'provisioningMdl' here"),
    (GCP, edited(*L4, "scheduling", to={"provisioningModel": "SPOOT"}), "SPOOT"),
    (GCP, edited(*L4, "serviceAccounts", to="x"), "of the wrong type"),
    (AWS, edited("provider", to={"type": "azure", "location": "westus2"}), "settings of azure are not checked here"),
    # tokens
    (AWS, docker("-e RAY_AUTH_TOKEN=abc"), "the token itself stands in the file"),
    (KUBE, of_the_head("env: [{ name: RAY_AUTH_TOKEN, value: abc }]"), "the token itself stands in the file"),
    (KUBE, of_the_head("env: [{ name: RAY_AUTH_MODE, value: disabled }]"), "it would run without a token"),
    (AWS, replaced("RAY_AUTH_MODE=token ray", "RAY_AUTH_MODE=token; export RAY_AUTH_MODE=disabled; ray"),
     "it would run without a token"),
    (SLURM, replaced("RAY_AUTH_MODE=token", "X=1 #RAY_AUTH_MODE=token"), "it would run without a token"),
    (AWS, replaced("~/.ray/auth_token: ~/.ray/auth_token", "~/elsewhere/auth_token: ~/.ray/auth_token"),
     "no token reaches the machines at ~/.ray/auth_token"),
    # secrets that would travel
    (AWS, edited("file_mounts", "~/x", to="~nosuchuser/x"), "~nosuchuser/x cannot be read"),
    # versions
    (AWS, edited("head_setup_commands", to=["pip install -c other.txt ray"]), "by other.txt, not by constraints.txt"),
    (AWS, edited("head_setup_commands", to=["conda install ray=2.59.0"]), "ray 2.59.0, but constraints.txt has"),
    (AWS, edited("head_setup_commands", to=["pip install -c constraints.txt left-pad-of-python"]), "does not pin"),
    (AWS, edited(*L4[:2], "docker", to={"worker_image": "rayproject/ray:2.59.0"}), "ray 2.59.0, but"),
    # storages
    (AWS, replaced("s3://my-bucket", "gs://my-bucket"), "no right of their own to gs://my-bucket"),
    (AWS, edited("metadata", "storage", to="s3://"), "names no bucket"),
    (KUBE, replaced("s3://my-bucket/sweeps    #", "/mnt/x    #"), "nothing shared is mounted at /mnt/x"),
    (KUBE, replaced("serviceAccountName: filled-in", "hostname: x"), "no right to s3://my-bucket"),
    (GCP, edited(*L4, "serviceAccounts", to=[]), "no right to gs://my-bucket"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "what"), FOUND, ids=[what for *_, what in FOUND])
def test_it_is_found(name, change, what, tmp_path):
    assert any(what in finding.what for finding in findings(tmp_path, name, change))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (AWS, replaced("RAY_AUTH_MODE=token ray", 'RAY_AUTH_MODE="token" ray')),
        (SLURM, replaced("STORAGE=/lustre/sweeps", 'STORAGE="$SCRATCH/sweeps"')),
        (SLURM, replaced("STORAGE=/lustre/sweeps", "STORAGE=$HOME/sweeps")),
        (SLURM, replaced("STORAGE=/lustre/sweeps", "STORAGE=${STORAGE:-/lustre/x}")),
    ],
)
def test_what_is_right_in_another_spelling_passes(name, change, tmp_path):
    assert findings(tmp_path, name, change) == []


@pytest.mark.parametrize("key", ["file_mounts", "cluster_synced_files"])
def test_secrets_deep_in_a_folder_that_travels_are_found(key, tmp_path):
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / ".env").touch()
    (tree / "notes").write_text("-----BEGIN RSA PRIVATE KEY-----\n")
    change = edited(key, "~/tree", to=str(tree)) if key == "file_mounts" else edited(key, to=[str(tree)])
    (found,) = findings(tmp_path, AWS, change)
    assert "takes secrets along to every machine" in found.what
    assert all(name in found.what for name in ("notes", "sub/.env"))


def test_a_folder_that_is_called_like_a_secret_is_found(tmp_path):
    (tmp_path / "home" / ".aws").mkdir()
    (found,) = findings(tmp_path, AWS, edited("file_mounts", "~/.aws", to="~/.aws"))
    assert found.what == "takes secrets along to every machine: ~/.aws"


def test_a_token_that_is_empty_is_found(tmp_path, at_the_project):
    at_the_project.write_text("")
    assert ["holds no token" in finding.what for finding in findings(tmp_path, AWS)] == [True]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + "\nx: &x [*x]\n",
        lambda text: text.replace("metadata:", "metadata:\n  y: 2026-13-45", 1),
        lambda text: text.replace("metadata:", "metadata:\n  y: 0x_", 1),
        lambda text: text.replace("  gpu_t4:", "  ? [a, b]\n  :"),
    ],
)
def test_what_yaml_stumbles_over_is_refused_in_a_sentence(change, tmp_path):
    with pytest.raises(SpecError, match="cannot be read"):
        findings(tmp_path, AWS, change)


def test_what_the_user_has_set_for_amazon_does_not_matter(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nosuch")
    folder = tmp_path / "home" / ".aws"
    folder.mkdir()
    (folder / "credentials").write_text("[[[\nbroken")
    assert findings(tmp_path, AWS) == []
