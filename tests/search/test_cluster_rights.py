"""Whether the rights that docs/cluster.md gives a head on Amazon are what Ray needs there, and no more."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "cluster.md"
OF_A_CLUSTER = "aws:ResourceTag/ray-cluster-name"


def statements():
    """What the head's role may do with machines."""
    text = re.search(r"--policy-name machines --policy-document '(.*)'", PAGE.read_text("utf-8"))
    assert text
    return json.loads(text[1])["Statement"]


def actions():
    for statement in statements():
        assert statement["Effect"] == "Allow"
        each = statement["Action"]
        yield from [each] if isinstance(each, str) else each


def test_a_head_can_end_and_tag_no_machines_but_its_own():
    (name,) = re.findall(r"^cluster_name: (.*)$", (ROOT / "cluster.yaml").read_text("utf-8"), re.M)
    assert not [action for action in actions() if "*" in action]
    for statement in statements():
        if "ec2:TerminateInstances" in statement["Action"]:
            assert statement["Condition"] == {"StringEquals": {OF_A_CLUSTER: name}}
        elif "ec2:CreateTags" in statement["Action"]:
            assert statement["Condition"] == {"StringEquals": {"ec2:CreateAction": "RunInstances"}}


@pytest.mark.slow
def test_rays_head_asks_amazon_for_nothing_else(monkeypatch):
    """Ray's own code, as it runs on a head, against a simulated Amazon."""
    import boto3
    from botocore.client import BaseClient
    from moto import mock_aws
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    for name, value in {"ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x", "DEFAULT_REGION": "us-west-2"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    asked = []
    call = BaseClient._make_api_call

    def noted(self, operation, arguments):
        asked.append((f"{self.meta.service_model.service_name}:{operation}", arguments))
        return call(self, operation, arguments)

    with mock_aws():
        ec2 = boto3.client("ec2", region_name="us-west-2")
        subnets = [subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"]]
        image = ec2.describe_images()["Images"][0]["ImageId"]
        machine = {
            "InstanceType": "g6.xlarge", "ImageId": image, "SubnetIds": subnets, "SecurityGroupIds": [],
            "InstanceMarketOptions": {"MarketType": "spot"},
        }  # fmt: skip
        monkeypatch.setattr(BaseClient, "_make_api_call", noted)
        settings = {"type": "aws", "region": "us-west-2", "cache_stopped_nodes": False}
        provider = AWSNodeProvider(settings, "chorale-search")
        for _ in range(2):
            provider.create_node(machine, {"ray-node-type": "worker", "ray-node-status": "setting-up"}, 1)
        one, other = provider.non_terminated_nodes({})
        provider.set_node_tags(one, {"ray-node-status": "up-to-date"})
        assert provider.is_running(one)
        assert provider.internal_ip(one)
        provider.terminate_node(one)
        provider.terminate_nodes([other])
    assert {action for action, _ in asked} <= set(actions())
    assert {action for action, _ in asked} >= {"ec2:RunInstances", "ec2:CreateTags", "ec2:TerminateInstances"}
    started = [arguments for action, arguments in asked if action == "ec2:RunInstances"]
    for arguments in started:
        tags = {tag["Key"]: tag["Value"] for each in arguments["TagSpecifications"] for tag in each["Tags"]}
        assert tags["ray-cluster-name"] == "chorale-search"
        assert {each["ResourceType"] for each in arguments["TagSpecifications"]} == {"instance"}
