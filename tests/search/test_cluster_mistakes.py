"""More of what goes wrong in clusters' files: doors, tokens, secrets, versions and storages that a look passes over."""

import os

import pytest

from search import cluster_mounts
from search.cluster_check import check
from search.errors import SpecError
from tests.search.test_cluster_check import AWS, L4, ROOT, at_the_project, edited, filled, findings

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
    (KUBE, of_the_head("ports: [{ containerPort: 1, hostPort: 8265 }]"), "port 8265 of the Kubernetes node is open"),
    (AWS, docker("-P"), "all ports of the container are open"),
    (AWS, ranges("300.0.0.0/8"), "'300.0.0.0/8' is no network"),
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
    (AWS, edited("head_setup_commands", to=["pip install https://x/ray-2.59.0-py3-py3-any.whl"]), "ray 2.59.0, but"),
    (AWS, edited("head_setup_commands", to=["pip install -c constraints.txt git+https://x/r@dev"]), "without saying"),
    (AWS, edited("head_setup_commands", to=["bash -c 'pip install ray'"]), "installs ray without saying"),
    (AWS, edited("head_setup_commands", to=["conda install ray"]), "installs ray without saying"),
    # storages
    (AWS, edited("metadata", "storage", to="s3://a:b@my-bucket/x"), "a key stands in the address s3://…@my-bucket/x"),
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


def test_what_rsync_leaves_out_does_not_travel(tmp_path):
    tree = tmp_path / "tree"
    for name in ("mine/.env", "sub/.env", "sub/id_rsa", "sub/deep/x.key", ".git/config"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch()
    (tree / "sub" / ".gitignore").write_text("# keys\n*.key\n/id_rsa\n")
    (tree / "link").symlink_to(tree / "sub" / "id_rsa")

    def change(text):
        document = edited("file_mounts", "~/tree", to=str(tree))(text)
        return document | {"rsync_exclude": [".git", "/mine/"], "rsync_filter": [".gitignore"]}

    (found,) = findings(tmp_path, AWS, change)
    assert found.what == "takes secrets along to every machine: sub/.env"


def test_the_folder_of_the_token_may_travel_with_it_alone(tmp_path, at_the_project):
    mounts = edited("file_mounts", to={"~/.ray": "~/.ray"})
    assert findings(tmp_path, AWS, mounts) == []
    (at_the_project.parent / "id_rsa").touch()
    assert [f.what for f in findings(tmp_path, AWS, mounts)] == ["takes secrets along to every machine: id_rsa"]
    at_the_project.chmod(0o644)
    assert "others can read the token ~/.ray/auth_token" in [f.what for f in findings(tmp_path, AWS, mounts)]


@pytest.mark.timeout(300)
def test_what_is_no_file_is_not_waited_for(tmp_path):
    (tmp_path / "tree").mkdir()
    os.mkfifo(tmp_path / "tree" / "pipe")
    os.mkfifo(tmp_path / "tree" / ".gitignore")
    change = edited("file_mounts", "~/tree", to=str(tmp_path / "tree"))
    assert findings(tmp_path, AWS, lambda text: change(text) | {"rsync_filter": [".gitignore"]}) == []
    (found,) = findings(tmp_path, AWS, edited("file_mounts", "~/.ray/auth_token", to=str(tmp_path / "tree" / "pipe")))
    assert "is no file" in found.what


def test_a_tree_without_end_is_not_walked_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_mounts, "LIMIT_FILES", 10)
    (tmp_path / "tree").mkdir()
    for i in range(12):
        (tmp_path / "tree" / str(i)).touch()
    found = findings(tmp_path, AWS, edited("file_mounts", "~/tree", to=str(tmp_path / "tree")))
    assert "takes more than 10 files along to every machine" in [f.what for f in found]


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
        lambda text: text + "\nx: " + "[" * 2000 + "]" * 2000,
        lambda text: text + "\na0: &a0 [x, x]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}, *a{i}]\n" for i in range(40)),
    ],
)
def test_what_yaml_stumbles_over_is_refused_in_a_sentence(change, tmp_path):
    with pytest.raises(SpecError, match="cannot be read"):
        findings(tmp_path, AWS, change)


def test_constraints_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "cluster.yaml").write_text(filled(ROOT / AWS))
    (tmp_path / "constraints.txt").write_bytes(b"\x7fELF\xff")
    with pytest.raises(SpecError, match=r"constraints\.txt is no text"):
        check(tmp_path / "cluster.yaml")


def test_without_googles_library_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("search.cluster_google._schemas", lambda document: {})
    (found,) = findings(tmp_path, GCP)
    assert "google-api-python-client is not here" in found.what
    assert "the extra gcp" in found.advice


def test_what_the_user_has_set_for_amazon_does_not_matter(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nosuch")
    folder = tmp_path / "home" / ".aws"
    folder.mkdir()
    (folder / "credentials").write_text("[[[\nbroken")
    assert findings(tmp_path, AWS) == []
