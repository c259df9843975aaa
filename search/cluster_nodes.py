"""What Ray's own validation passes by in a cluster's file: the names that a cloud gives to machines and their settings.

Amazon's are compared with what botocore knows of the call `RunInstances`, which Ray makes; nothing is asked of Amazon.
Google's library would look its own up on the network, so only the uppermost names are compared here.
"""

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from search.cluster_file import ClusterFile, Finding, items, mapping, unfilled
from search.errors import did_you_mean

_ANY_PROVIDER = {
    *("type", "disable_node_updaters", "disable_launch_config_check", "foreground_node_launch"),
    *("worker_liveness_check", "worker_rpc_drain", "use_internal_ips", "use_external_head_ip", "cache_stopped_nodes"),
}
PROVIDERS: Mapping[str, set[str]] = {
    "aws": {
        *_ANY_PROVIDER,
        *("region", "availability_zone", "security_group", "cloudwatch", "aws_credentials", "key_pair"),
    },
    "gcp": {*_ANY_PROVIDER, "region", "availability_zone", "project_id", "gcp_credentials"},
    "local": {*_ANY_PROVIDER, "head_ip", "worker_ips", "external_head_ip", "coordinator_address"},
}
"""Keys of `provider` that Ray reads, by its type; those of other types are not looked at."""
GOOGLE_NODE = {
    *("acceleratorConfig", "acceleratorType", "advancedMachineFeatures", "canIpForward"),
    *("confidentialInstanceConfig", "deletionProtection", "description", "disks", "displayDevice", "guestAccelerators"),
    *("hostname", "keyRevocationActionType", "labels", "machineType", "metadata", "minCpuPlatform"),
    *("networkConfig", "networkInterfaces", "networkPerformanceConfig", "params", "privateIpv6GoogleAccess"),
    *("reservationAffinity", "resourcePolicies", "runtimeVersion", "scheduling", "schedulingConfig"),
    *("serviceAccounts", "shieldedInstanceConfig", "sourceInstanceTemplate", "sourceMachineImage", "tags", "topology"),
}
"""What a machine, or a TPU, of Google's may have."""
RAYS_OWN = {"SubnetIds"}
"""What Ray takes out of a node's settings before it asks Amazon for the machine."""
EVERYWHERE = {"0.0.0.0/0", "::/0"}

_UNKNOWN = re.compile(r'Unknown parameter in (?P<where>.+?): "(?P<name>.+?)", must be one of: (?P<known>.*)')
_INVALID = re.compile(r"Invalid type for parameter (?P<where>.+?), value: (?P<value>.*), type: .*, valid types: (.*)")


def findings(file: ClusterFile) -> Iterator[Finding]:
    """Yields what is wrong with `provider` and with the settings of machines."""
    provider = mapping(file.document.get("provider"))
    kind = file.provider
    for name in provider:
        if kind in PROVIDERS and name not in PROVIDERS[kind]:
            near = did_you_mean(str(name), PROVIDERS[kind])
            yield Finding(where=f"provider.{name}", what=f"Ray does not read {name!r} here", advice=f"remove it{near}")
    if kind in {"aws", "gcp"}:
        yield from _place(provider)
    nodes = {
        f"available_node_types.{name}.node_config": mapping(mapping(node).get("node_config"))
        for name, node in mapping(file.document.get("available_node_types")).items()
    }
    if kind == "aws":
        yield from _amazon(provider, nodes)
    elif kind == "gcp":
        yield from _google(nodes)


def _place(provider: Mapping[str, Any]) -> Iterator[Finding]:
    region, zones = provider.get("region"), str(provider.get("availability_zone") or "")
    if not region:
        yield Finding(where="provider.region", what="there is no region", advice="name one, such as us-west-2")
        return
    for zone in filter(None, (zone.strip() for zone in zones.split(","))):
        if not zone.startswith(str(region)):
            yield Finding(
                where="provider.availability_zone",
                what=f"zone {zone} does not lie in region {region}",
                advice="make region and zones agree",
            )


# --- Amazon -----------------------------------------------------------------------------------------------------------


def _amazon(provider: Mapping[str, Any], nodes: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    if provider.get("cache_stopped_nodes") is not False:
        yield Finding(
            where="provider.cache_stopped_nodes",
            what="idle machines are stopped, not ended: spot machines cannot be, and disks go on costing money",
            advice="set it to false",
        )
    yield from _open_rules(provider)
    for where, node in nodes.items():
        yield from _amazon_node(where, node)
    try:
        import botocore.session
    except ImportError:
        yield Finding(
            where="available_node_types",
            what="names in node_config were not checked: botocore is not here, and `ray up` needs it too",
            advice="pip install -c constraints.txt boto3, or install the extra aws",
        )
        return
    regions, shape = _amazon_knows(botocore.session.Session)
    region = provider.get("region")
    if region and region not in regions and not unfilled(region):
        yield Finding(
            where="provider.region",
            what=f"Amazon has no region {region!r}, as far as this machine's botocore knows",
            advice=f"correct it{did_you_mean(str(region), regions)}",
        )
    for where, node in nodes.items():
        yield from _shape_findings(where, node, shape)


@functools.cache
def _amazon_knows(make_session: Any) -> tuple[list[str], Any]:
    """Returns Amazon's regions and the shape of `RunInstances`; the file that they stand in takes a while to read."""
    session = make_session()
    return session.get_available_regions("ec2"), session.get_service_model("ec2").operation_model(
        "RunInstances"
    ).input_shape


def _open_rules(provider: Mapping[str, Any]) -> Iterator[Finding]:
    for i, rule in enumerate(items(mapping(provider.get("security_group")).get("IpPermissions"))):
        ranges = [*items(mapping(rule).get("IpRanges")), *items(mapping(rule).get("Ipv6Ranges"))]
        open_to = {str(value) for entry in ranges for value in mapping(entry).values()} & EVERYWHERE
        if open_to:
            first, last = mapping(rule).get("FromPort"), mapping(rule).get("ToPort")
            ports = "all ports" if first is None else f"port {first}" if first == last else f"ports {first} to {last}"
            yield Finding(
                where=f"provider.security_group.IpPermissions[{i}]",
                what=f"{ports} open to the world ({', '.join(sorted(open_to))})",
                advice="remove it, and name a security group of your own as SecurityGroupIds of each node type",
            )


def _amazon_node(where: str, node: Mapping[str, Any]) -> Iterator[Finding]:
    if "LaunchTemplate" in node:
        return  # what is looked for here may stand in the template, which only Amazon can show
    interfaces = items(node.get("NetworkInterfaces"))
    if not node.get("SecurityGroupIds") and not (interfaces and all(mapping(i).get("Groups") for i in interfaces)):
        yield Finding(
            where=f"{where}.SecurityGroupIds",
            what="without a security group, Ray makes one whose port 22 is open to the world, whatever "
            "provider.security_group says",
            advice="make one that lets in SSH from your address alone and everything from itself, and name it here",
        )
    if mapping(node.get("MetadataOptions")).get("HttpTokens") != "required":
        yield Finding(
            where=f"{where}.MetadataOptions",
            what="the machine's credentials can be had without a session token (IMDSv1)",
            advice="set { HttpTokens: required }",
        )
    if not node.get("ImageId"):
        yield Finding(
            where=f"{where}.ImageId",
            what="no image: Ray's own is an Ubuntu 18.04 from 2022, and changes with Ray",
            advice="name one by its id",
        )


def _shape_findings(where: str, node: Mapping[str, Any], shape: Any) -> Iterator[Finding]:
    """Yields where settings differ from what `RunInstances` takes: names, types, and words of which it knows a few."""
    from botocore.validate import ParamValidator

    asked = {key: value for key, value in node.items() if key not in RAYS_OWN} | {"MinCount": 1, "MaxCount": 1}
    for line in filter(None, ParamValidator().validate(asked, shape).generate_report().splitlines()):
        if found := _UNKNOWN.match(line):
            known = {name for name in found["known"].split(", ") if name not in {"MinCount", "MaxCount", "DryRun"}}
            inside = "" if found["where"] == "input" else f".{found['where']}"
            yield Finding(
                where=f"{where}{inside}.{found['name']}",
                what=f"Amazon's RunInstances does not know {found['name']!r}",
                advice=f"correct or remove it{_near(found['name'], known)}",
            )
        elif found := _INVALID.match(line):
            expected = re.sub(r"<class '(\w+)'>", r"\1", found[3])
            yield Finding(
                where=f"{where}.{found['where'].removeprefix('input.')}",
                what=f"{found['value']!r} is of the wrong type",
                advice=f"expected {expected}",
            )
        else:
            yield Finding(where=where, what=line, advice="see Amazon's reference of RunInstances")
    yield from _words(where, asked, shape)


def _words(where: str, value: Any, shape: Any) -> Iterator[Finding]:
    if shape.type_name == "structure":
        for name, inner in mapping(value).items():
            if name in shape.members:
                yield from _words(f"{where}.{name}", inner, shape.members[name])
    elif shape.type_name == "list":
        for i, inner in enumerate(items(value)):
            yield from _words(f"{where}[{i}]", inner, shape.member)
    elif isinstance(value, str) and getattr(shape, "enum", None) and value not in shape.enum and not unfilled(value):
        yield Finding(
            where=where,
            what=f"{value!r} is none of the values that this machine's botocore knows",
            advice=f"correct it{_near(value, shape.enum)}; if Amazon has it since, update boto3",
        )


def _near(name: str, known: Any) -> str:
    """Returns the nearest name, but not a list of a hundred."""
    suggestion = did_you_mean(name, known)
    return suggestion if "did you mean" in suggestion or len(list(known)) <= 12 else ""


# --- Google -----------------------------------------------------------------------------------------------------------


def _google(nodes: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    for where, node in nodes.items():
        for name in node:
            if name not in GOOGLE_NODE:
                yield Finding(
                    where=f"{where}.{name}",
                    what=f"Google's machines have no {name!r}",
                    advice=f"correct or remove it{_near(str(name), GOOGLE_NODE)}",
                )
        interfaces = items(node.get("networkInterfaces"))
        if not interfaces or not all({"network", "subnetwork"} & set(mapping(i)) for i in interfaces):
            yield Finding(
                where=f"{where}.networkInterfaces",
                what="without its own network the machine joins the default one, whose port 22 is open to the world",
                advice="name a subnetwork whose firewall lets in SSH from your address alone",
            )
