"""Settings of machines on Amazon, compared with what botocore knows of the call `RunInstances`, which Ray makes.

Nothing is asked of Amazon, and nothing is read of the user's own settings for it.
"""

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from search.cluster_file import Finding, RayFile, items, mapping, near, unfilled
from search.errors import did_you_mean

RAYS_OWN = {"SubnetIds"}
"""What Ray takes out of a node's settings before it asks Amazon for the machine."""

_UNKNOWN = re.compile(r'Unknown parameter in (?P<where>.+?): "(?P<name>.+?)", must be one of: (?P<known>.*)')
_INVALID = re.compile(r"Invalid type for parameter (?P<where>.+?), value: (?P<value>.*), type: .*, valid types: (.*)")


def findings(file: RayFile) -> Iterator[Finding]:
    """Yields what is wrong with the settings of machines."""
    provider = mapping(file.document.get("provider"))
    if provider.get("cache_stopped_nodes") is not False:
        yield Finding(
            where="provider.cache_stopped_nodes",
            what="idle machines are stopped, not ended: spot machines cannot be, and disks go on costing money",
            advice="set it to false",
        )
    nodes = {f"{where}.node_config": mapping(node.get("node_config")) for where, _, node in file.nodes()}
    for where, node in nodes.items():
        yield from _node(where, node)
    head = f"available_node_types.{file.head}.node_config"
    if mapping(mapping(nodes.get(head)).get("InstanceMarketOptions")).get("MarketType") == "spot":
        yield Finding(
            where=f"{head}.InstanceMarketOptions",
            what="the head is a spot machine: when Amazon takes it, the sweep stops",
            advice="remove it there; workers may be spot machines",
        )
    try:
        regions, shape = _known()
    except ImportError:
        yield Finding(
            where="available_node_types",
            what="names in node_config were not checked: botocore is not here, and `ray up` needs it too",
            advice="pip install -c constraints.txt boto3, or install the extra aws",
        )
        return
    region = provider.get("region")
    if isinstance(region, str) and region and region not in regions and not unfilled(region):
        yield Finding(
            where="provider.region",
            what=f"Amazon has no region {region!r}, as far as this machine's botocore knows",
            advice=f"correct it{did_you_mean(region, regions)}",
        )
    for where, node in nodes.items():
        yield from _shape_findings(where, node, shape)


@functools.cache
def _known() -> tuple[list[str], Any]:
    """Returns Amazon's regions and the shape of `RunInstances`, from the files that come with botocore."""
    from botocore.loaders import Loader
    from botocore.model import ServiceModel
    from botocore.regions import EndpointResolver

    loader = Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
    resolver = EndpointResolver(loader.load_data("endpoints"))
    regions = [
        region
        for partition in resolver.get_available_partitions()
        for region in resolver.get_available_endpoints("ec2", partition)
    ]
    model = ServiceModel(loader.load_service_model("ec2", "service-2"), "ec2")
    return regions, model.operation_model("RunInstances").input_shape


def _node(where: str, node: Mapping[str, Any]) -> Iterator[Finding]:
    if not node.get("InstanceType"):
        yield Finding(
            where=f"{where}.InstanceType",
            what="no type of machine: `ray up` ends with a KeyError, a launch template or not",
            advice="name one, such as g6.xlarge",
        )
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
            inside = "" if found["where"] == "input" else f".{found['where'].removeprefix('input.')}"
            yield Finding(
                where=f"{where}{inside}.{found['name']}",
                what=f"Amazon's RunInstances does not know {found['name']!r}",
                advice=f"correct or remove it{near(found['name'], known)}",
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
            advice=f"correct it{near(value, shape.enum)}; if Amazon has it since, update boto3",
        )
