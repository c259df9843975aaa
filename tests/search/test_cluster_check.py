import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from search import cluster_amazon
from search.cluster_check import check
from search.errors import SpecError

ROOT = Path(__file__).resolve().parents[2]
FILES = [ROOT / "cluster.yaml", *sorted((ROOT / "clusters").iterdir())]
FILLED = [  # what a user would put in, the more particular first
    ("s3://FILL-IN", "s3://my-bucket"),
    ("gs://FILL-IN", "gs://my-bucket"),
    ("ImageId: FILL-IN", "ImageId: ami-0123456789abcdef0"),
    ("[FILL-IN]", "[sg-0123456789abcdef0]"),
    ("image: FILL-IN", f"image: registry.example/search@sha256:{'0' * 64}"),
    ("storage: FILL-IN", "storage: /mnt/sweeps"),
    ("STORAGE=FILL-IN", "STORAGE=/lustre/sweeps"),
    ("--target FILL-IN", "--target /mnt/sweeps"),
    ("FILL-IN", "filled-in"),
]


@pytest.fixture(autouse=True)
def at_the_project(monkeypatch, tmp_path):
    """As a user is: in the project's folder, with a token at home."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    token = tmp_path / "home" / ".ray" / "auth_token"
    token.parent.mkdir(parents=True)
    token.write_text("0" * 64)
    token.chmod(0o600)
    return token


def filled(path):
    text = path.read_text("utf-8")
    for old, new in FILLED:
        text = text.replace(old, new)
    return text


def findings(tmp_path, name, change=lambda text: text):
    """What is found in a file that comes along, filled in and then changed: as text, or as a document."""
    source = ROOT / name
    changed = change(filled(source))
    if not isinstance(changed, str):
        changed = yaml.safe_dump(changed)
    path = tmp_path / source.name
    path.write_text(changed, "utf-8")
    return check(path, constraints=ROOT / "constraints.txt")


def edited(*path, to):
    """A change of one place of a document; `to` None removes it."""

    def change(text):
        # YAML's aliases are one object in several places; a change in one must not show in another.
        document = inner = json.loads(json.dumps(yaml.safe_load(text)))
        for key in path[:-1]:
            inner = inner[key]
        if to is None:
            del inner[path[-1]]
        else:
            inner[path[-1]] = to
        return document

    return change


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_a_file_that_comes_along_lacks_nothing_but_what_its_user_knows(path):
    found = check(path)
    assert found
    assert all(f.what.startswith("still to be filled in") for f in found), found


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_once_filled_in_it_passes(path, tmp_path):
    assert findings(tmp_path, path.relative_to(ROOT)) == []


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_a_file_opens_with_cost_what_to_fill_in_and_four_commands(path):
    opening = path.read_text("utf-8").partition("\n\n")[0]
    assert re.search(r"Costs an hour.*as of \w+ 20\d\d", opening)
    assert "FILL-IN" in opening
    assert f"search cluster check {path.relative_to(ROOT)}" in opening
    _, _, commands = opening.partition("Four commands")
    starts = re.findall(r"^#   (?:\w+=\S+ )?(ray|kubectl|sbatch|squeue|scancel|\.venv/bin/search)\b", commands, re.M)
    assert len(starts) == 4


AWS = "cluster.yaml"
HEAD = ("available_node_types", "head")
L4 = ("available_node_types", "gpu_l4", "node_config")
SSH_FROM_EVERYWHERE = {"IpPermissions": [{"FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]}
MISTAKES = [
    # Ray's own validation
    (AWS, edited("max_wrkers", to=8),
     "the file", "'max_wrkers'", "did you mean 'max_workers'"),
    (AWS, edited("max_workers", to="eight"),
     "max_workers", "'eight' is not of type 'integer'", "correct"),
    (AWS, edited("head_node_type", to="haed"),
     "the file", "must be one of", "correct"),
    (AWS, edited(*HEAD, "resorces", to={}),
     "available_node_types.head", "'resorces'", "did you mean 'resources'"),
    ("clusters/local.yaml", edited("provider", "head_ip", to=None),
     "the file", "head_ip", "correct"),
    # names that Ray passes on
    (AWS, edited(*L4, "InstanceTyp", to="x"),
     "available_node_types.gpu_l4.node_config.InstanceTyp", "not know", "'InstanceType'"),
    (AWS, edited(*L4, "MetadataOptions", "HtpTokens", to="x"),
     ".node_config.MetadataOptions.HtpTokens", "not know", "'HttpTokens'"),
    (AWS, edited(*L4, "BlockDeviceMappings", 0, "Ebs", "VolumeSize", to="100"),
     "BlockDeviceMappings[0].Ebs.VolumeSize", "wrong type", "int"),
    (AWS, edited(*L4, "InstanceType", to="g6.xlrge"),
     ".InstanceType", "none of the values", "g6.xlarge"),
    (AWS, edited(*L4, "InstanceMarketOptions", "MarketType", to="spott"),
     ".MarketType", "'spott'", "'spot'"),
    (AWS, edited("provider", "avalability_zone", to="us-west-2a"),
     "provider.avalability_zone", "not read", "'availability_zone'"),
    (AWS, edited("provider", "region", to="us-wets-2"),
     "provider.region", "no region 'us-wets-2'", "us-west-2"),
    (AWS, edited("provider", "availability_zone", to="eu-west-1a"),
     "provider.availability_zone", "not lie in", "agree"),
    ("clusters/gcp.yaml", edited(*L4, "machinType", to="x"),
     ".machinType", "no 'machinType'", "'machineType'"),
    ("clusters/gcp.yaml", edited("provider", "projectid", to="x"),
     "provider.projectid", "not read", "'project_id'"),
    # a missing region
    (AWS, edited("provider", "region", to=None),
     "provider.region", "no region", "us-west-2"),
    ("clusters/gcp.yaml", edited("provider", "region", to=None),
     "provider.region", "no region", "name one"),
    # doors
    (AWS,
     edited("provider", "security_group", to=SSH_FROM_EVERYWHERE),
     "provider.security_group.IpPermissions[0]", "port 22 open to the world", "SecurityGroupIds"),
    (AWS, edited(*L4, "SecurityGroupIds", to=None),
     "gpu_l4.node_config.SecurityGroupIds", "open to the world", "name it"),
    (AWS, edited(*L4, "MetadataOptions", "HttpTokens", to="optional"),
     "gpu_l4.node_config.MetadataOptions", "IMDSv1", "required"),
    (AWS, lambda text: text.replace("--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0"),
     "head_start_ray_commands[1]", "dashboard answers on 0.0.0.0", "127.0.0.1"),
    (AWS, edited("head_start_ray_commands", to=None),
     "head_start_ray_commands[1]", "dashboard answers", "Ray's own default"),
    (AWS,
     edited("docker", to={"image": "rayproject/ray:2.60.0", "container_name": "ray", "run_options": ["-p 8265:8265"]}),
     "docker.run_options[0]", "8265:8265 of the container is open", "127.0.0.1:8265:8265"),
    ("clusters/gcp.yaml", edited(*L4, "networkInterfaces", to=None),
     "gpu_l4.node_config.networkInterfaces", "open to the world", "subnetwork"),
    ("clusters/kuberay.yaml", lambda text: text.replace("ClusterIP ", "LoadBalancer "),
     "serviceType", "LoadBalancer", "ClusterIP"),
    ("clusters/slurm.sh", lambda text: text.replace("host=127.0.0.1", "host=0.0.0.0"),
     "line", "dashboard answers", "127.0.0.1"),
    # a head that would run trials
    (AWS, edited(*HEAD, "resources", to={}),
     "available_node_types.head.resources", "on the head", '"CPU": 0'),
    (AWS, edited(*HEAD, "resources", to={"CPU": 0, "GPU": 1}),
     "available_node_types.head.resources", "on the head", "no GPU"),
    ("clusters/local.yaml", lambda text: text.replace("--num-cpus=0 ", ""),
     "head_start_ray_commands[1]", "on the head", "--num-cpus=0"),
    ("clusters/slurm.sh", lambda text: text.replace("--num-cpus=0 ", ""),
     "line", "on the head", "--num-cpus=0"),
    ("clusters/kuberay.yaml", lambda text: text.replace('num-cpus: "0"', 'num-cpus: "4"'),
     "spec.headGroupSpec.rayStartParams", "on the head", 'num-cpus: "0"'),
    # tokens
    (AWS, edited("file_mounts", "~/.ray/auth_token", to=None),
     "file_mounts", "no token reaches", "auth_token"),
    (AWS, edited("worker_start_ray_commands", to=["ray start --address=$RAY_HEAD_IP:6379"]),
     "worker_start_ray_commands[0]", "without a token", "RAY_AUTH_MODE=token"),
    (AWS, edited("head_setup_commands", to=["export RAY_AUTH_TOKEN=abc"]),
     "head_setup_commands", "the token itself", "keep it in a file"),
    ("clusters/kuberay.yaml", edited("spec", "authOptions", to=None),
     "spec.headGroupSpec.template.spec.containers[0]", "without a token", "authOptions"),
    ("clusters/slurm.sh", lambda text: text.replace("RAY_AUTH_MODE=token", ""),
     "line", "without a token", "RAY_AUTH_MODE=token"),
    # versions
    (AWS, edited("head_setup_commands", to=["pip install -c constraints.txt ray==2.59.0"]),
     "head_setup_commands", "ray 2.59.0, but constraints.txt has 2.60.0", "agree"),
    (AWS, edited("head_setup_commands", to=["pip install -U boto3"]),
     "head_setup_commands", "installs boto3 without saying which", "-c constraints.txt"),
    (AWS, edited(*L4, "ImageId", to=None),
     "gpu_l4.node_config.ImageId", "no image", "by its id"),
    (AWS, edited("docker", to={"image": "rayproject/ray:2.59.1-gpu", "container_name": "ray"}),
     "docker.image", "ray 2.59.1", "agree"),
    ("clusters/kuberay.yaml", lambda text: text.replace('rayVersion: "2.60.0"', 'rayVersion: "2.58.0"'),
     "spec.rayVersion", "ray 2.58.0", "agree"),
    ("clusters/kuberay.yaml", lambda text: re.sub(r"image: registry\S+", "image: mine:latest", text),
     "containers[0].image", "another one tomorrow", "digest"),
    # storage
    (AWS, edited("metadata", to=None),
     "metadata.storage", "nobody says where", "--storage"),
    (AWS, edited("metadata", "storage", to="runs"),
     "metadata.storage", "another folder on every machine", "a bucket"),
    (AWS, edited("metadata", "storage", to="ftp://x/y"),
     "metadata.storage", "no storage that sweeps can use", "s3://"),
    (AWS, edited(*L4, "IamInstanceProfile", to=None),
     "gpu_l4.node_config.IamInstanceProfile", "no right to s3://", "profile"),
    ("clusters/gcp.yaml", edited(*L4, "serviceAccounts", to=None),
     "gpu_l4.node_config.serviceAccounts", "no right to gs://", "an account"),
    ("clusters/local.yaml", edited("initialization_commands", to=[]),
     "metadata.storage", "nothing says that /mnt/sweeps", "findmnt"),
    ("clusters/slurm.sh", lambda text: text.replace("STORAGE=/lustre", "STORAGE=/tmp"),
     "STORAGE", "another folder on every machine", "NFS"),
    # what travels, and what costs
    (AWS, edited("file_mounts", "~/x", to="no/such/folder"),
     "file_mounts.~/x", "is not there", "where `ray up` will run"),
    (AWS, edited("provider", "cache_stopped_nodes", to=True),
     "provider.cache_stopped_nodes", "stopped", "false"),
    ("clusters/slurm.sh", lambda text: text + "\nif true; then\n",
     "the script", "syntax error", "correct"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "change", "where", "what", "advice"), MISTAKES, ids=lambda v: v if isinstance(v, str) else ""
)
def test_a_mistake_is_found_where_it_stands_and_with_what_to_do(name, change, where, what, advice, tmp_path):
    found = findings(tmp_path, name, change)
    assert any(where in f.where and what in f.what and advice in f.advice for f in found), found


def test_a_mount_of_a_whole_checkout_names_what_would_travel(tmp_path):
    (tmp_path / "tree" / ".git").mkdir(parents=True)
    (tmp_path / "tree" / ".env").touch()
    found = findings(tmp_path, AWS, edited("file_mounts", "~/tree", to=str(tmp_path / "tree")))
    assert [f.what for f in found] == [
        "takes .git along to every machine",
        "takes secrets along to every machine: .env",
    ]


def test_a_token_that_is_missing_or_open_is_found(tmp_path, at_the_project):
    at_the_project.chmod(0o644)
    assert [f.what for f in findings(tmp_path, AWS)] == ["others can read the token ~/.ray/auth_token"]
    at_the_project.unlink()
    assert "get-auth-token" in findings(tmp_path, AWS)[0].advice


def test_without_botocore_that_is_said(tmp_path, monkeypatch):
    import sys

    cluster_amazon._known.cache_clear()
    monkeypatch.setitem(sys.modules, "botocore.loaders", None)
    assert any("botocore is not here" in f.what and "extra aws" in f.advice for f in findings(tmp_path, AWS))


def test_storage_may_be_named_beside_the_file(tmp_path):
    path = tmp_path / "cluster.yaml"
    path.write_text(filled(ROOT / AWS))
    found = check(path, constraints=ROOT / "constraints.txt", storage="sweeps")
    assert [f.what for f in found] == ["sweeps is another folder on every machine"]


@pytest.mark.parametrize("text", ["a: [", "- 1\n", "kind: Pod\n", "", "[sweep]\n"])
def test_what_is_no_cluster_file_is_refused(text, tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=r"cannot be read as YAML|starts no cluster"):
        check(path, constraints=ROOT / "constraints.txt")


@pytest.mark.parametrize("value", [None, 3, "text", [], {}, [None], {"x": None}])
@pytest.mark.parametrize(
    "key",
    [
        "provider",
        "available_node_types",
        "file_mounts",
        "docker",
        "metadata",
        "auth",
        "rsync_exclude",
        "setup_commands",
    ],
)
def test_values_of_any_type_end_in_findings_not_in_errors(key, value, tmp_path):
    for found in findings(tmp_path, AWS, edited(key, to=value if value is not None else "none")):
        assert found.what
        assert found.advice


def test_constraints_are_found_beside_the_file_or_must_be_named(tmp_path, monkeypatch):
    folder = tmp_path / "a" / "b" / "c" / "d"
    folder.mkdir(parents=True)
    path = folder / "cluster.yaml"
    path.write_text(filled(ROOT / AWS))
    monkeypatch.chdir(folder)
    with pytest.raises(SpecError, match=r"no constraints\.txt beside"):
        check(path)
    shutil.copy(ROOT / "constraints.txt", folder.parent)
    assert all("is not there, seen from" in f.what for f in check(path))


@pytest.mark.slow
def test_amazon_would_launch_what_the_file_asks_for(tmp_path, monkeypatch):
    """Ray's real way from the file to a spot machine, against a simulated Amazon."""
    import boto3
    from moto import mock_aws
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
    from ray.autoscaler._private.commands import _bootstrap_config

    for name, value in {"ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x", "DEFAULT_REGION": "us-west-2"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with mock_aws():
        ec2 = boto3.client("ec2", region_name="us-west-2")
        vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
        group = ec2.create_security_group(GroupName="closed", Description="closed", VpcId=vpc)["GroupId"]
        image = ec2.describe_images()["Images"][0]["ImageId"]
        iam = boto3.client("iam")
        for name in ("chorale-search-head", "chorale-search-worker"):
            iam.create_instance_profile(InstanceProfileName=name)
        text = filled(ROOT / AWS).replace("sg-0123456789abcdef0", group).replace("ami-0123456789abcdef0", image)
        asked = yaml.safe_load(text)
        config = _bootstrap_config(asked, no_config_cache=True)

        nodes = config["available_node_types"]
        assert nodes["head"]["resources"]["CPU"] == 0
        assert nodes["gpu_l4"]["resources"]["GPU"] == 1
        assert all(node["node_config"]["SecurityGroupIds"] == [group] for node in nodes.values())
        assert len(nodes["gpu_l4"]["node_config"]["SubnetIds"]) > 1, "several zones are tried"
        assert {g["GroupName"] for g in ec2.describe_security_groups()["SecurityGroups"]} == {"default", "closed"}

        provider = AWSNodeProvider(config["provider"], config["cluster_name"])
        for kind in ("head", "gpu_l4", "gpu_a10g", "gpu_t4"):
            provider.create_node(nodes[kind]["node_config"], {"ray-user-node-type": kind}, 1)
        launched = {
            instance["InstanceType"]: instance
            for reservation in ec2.describe_instances()["Reservations"]
            for instance in reservation["Instances"]
        }
        assert set(launched) == {"m7i.xlarge", "g6.xlarge", "g5.xlarge", "g4dn.xlarge"}
        spot = {kind for kind, instance in launched.items() if instance.get("InstanceLifecycle") == "spot"}
        assert spot == {"g6.xlarge", "g5.xlarge", "g4dn.xlarge"}
        for instance in launched.values():
            assert instance["MetadataOptions"]["HttpTokens"] == "required"
            assert [g["GroupId"] for g in instance["SecurityGroups"]] == [group]
