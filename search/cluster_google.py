"""Settings of machines on Google Cloud, compared with the schema that comes with Google's own library for Python.

Nothing is asked of Google.
"""

import functools
import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from search.cluster_file import Finding, RayFile, items, mapping, near, unfilled

RAYS_OWN = {"sourceInstanceTemplate"}
"""What Ray takes out of a node's settings before it asks Google for the machine."""
PYTHON: Mapping[str, Any] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "object": Mapping,
    "array": list,
}


def findings(file: RayFile) -> Iterator[Finding]:
    """Yields what is wrong with the settings of machines, and with where they shall be."""
    provider = mapping(file.document.get("provider"))
    for name, such in (("project_id", "my-project"), ("availability_zone", "us-central1-a")):
        if not provider.get(name):
            what = f"there is no {name}: `ray up` needs one"
            yield Finding(where=f"provider.{name}", what=what, advice=f"name it, such as {such}")
    if len(str(provider.get("availability_zone")).split(",")) > 1:
        yield Finding(
            where="provider.availability_zone",
            what=f"{provider['availability_zone']!r} is more than one zone, and Ray takes one only on Google Cloud",
            advice="name one",
        )
    checked = True
    for path, name, node in file.nodes():
        where, config = f"{path}.node_config", mapping(node.get("node_config"))
        yield from _node(where, config, is_head=name == file.head)
        document, schema = ("tpu.v2alpha1", "Node") if _is_tpu(config) else ("compute.v1", "Instance")
        schemas = _schemas(document)
        checked = checked and bool(schemas)
        if schemas:
            asked = {key: value for key, value in config.items() if key not in RAYS_OWN}
            yield from _differences(where, asked, {"$ref": schema}, schemas)
    if not checked:
        yield Finding(
            where="available_node_types",
            what="names in node_config were not checked: google-api-python-client is not here, as `ray up` needs it",
            advice="pip install -c constraints.txt google-api-python-client, or install the extra gcp",
        )


def _is_tpu(node: Mapping[str, Any]) -> bool:
    return "machineType" not in node and bool({"acceleratorType", "acceleratorConfig"} & set(node))


def _node(where: str, node: Mapping[str, Any], *, is_head: bool) -> Iterator[Finding]:
    if not node.get("machineType") and not _is_tpu(node):
        yield Finding(
            where=f"{where}.machineType",
            what="no type of machine: `ray up` refuses it",
            advice="name one, such as g2-standard-4",
        )
    scheduling = {**mapping(node.get("scheduling")), **mapping(node.get("schedulingConfig"))}
    if is_head and (scheduling.get("provisioningModel") == "SPOT" or {"preemptible", "spot"} & _set(scheduling)):
        yield Finding(
            where=f"{where}.scheduling",
            what="the head is a spot machine: when Google takes it, the sweep stops",
            advice="remove it there; workers may be spot machines",
        )
    if "sourceInstanceTemplate" in node:
        return  # the network may stand in the template, which only Google can show
    key = "networkConfig" if _is_tpu(node) else "networkInterfaces"
    networks = [mapping(n) for n in items(node.get(key)) or [node.get(key)]]
    if not all(_is_own(network) for network in networks):
        yield Finding(
            where=f"{where}.{key}",
            what="the machine joins the default network, whose port 22 is open to the world",
            advice="name a subnetwork whose firewall lets in SSH from your address alone",
        )


def _set(settings: Mapping[str, Any]) -> set[str]:
    return {name for name, value in settings.items() if value is True}


def _is_own(network: Mapping[str, Any]) -> bool:
    """Returns whether an interface names a network, and not the default one, which Google makes with open doors."""
    named = [str(network[key]) for key in ("network", "subnetwork") if network.get(key)]
    return bool(named) and not any(name.rpartition("/")[2] == "default" for name in named)


@functools.cache
def _schemas(document: str) -> Mapping[str, Any]:
    """Returns the schemas of one of Google's services by name; empty where the library is not installed."""
    found = importlib.util.find_spec("googleapiclient")
    for folder in (found and found.submodule_search_locations) or ():
        path = Path(folder) / "discovery_cache" / "documents" / f"{document}.json"
        if path.is_file():
            return json.loads(path.read_text("utf-8"))["schemas"]
    return {}


def _differences(where: str, value: Any, schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[Finding]:
    """Yields where settings differ from a schema: names, types, and words of which it knows a few."""
    schema = schemas[schema["$ref"]] if "$ref" in schema else schema
    kind: str = schema.get("type", "any")
    if kind not in PYTHON or (isinstance(value, str) and unfilled(value)):
        return
    if not _fits(value, kind, schema.get("format", "")):
        expected = {"array": "a list", "object": "names and values"}.get(kind, f"a {kind}")
        yield Finding(where=where, what=f"{value!r} is of the wrong type", advice=f"expected {expected}")
    elif kind == "array":
        for i, inner in enumerate(value):
            yield from _differences(f"{where}[{i}]", inner, schema.get("items", {}), schemas)
    elif isinstance(value, Mapping):
        known, others = schema.get("properties", {}), schema.get("additionalProperties")
        for name, inner in value.items():
            if name in known or others:
                yield from _differences(f"{where}.{name}", inner, known.get(name, others), schemas)
            elif known:
                yield Finding(
                    where=f"{where}.{name}",
                    what=f"Google's machines have no {name!r} here",
                    advice=f"correct or remove it{near(str(name), known)}",
                )
    elif schema.get("enum") and value not in schema["enum"]:
        yield Finding(
            where=where,
            what=f"{value!r} is none of the values that this machine's google-api-python-client knows",
            advice=f"correct it{near(value, schema['enum'])}; if Google has it since, update the library",
        )


def _fits(value: Any, kind: str, written: str) -> bool:
    # JSON has no integers of 64 bits: Google writes them as strings, and takes both.
    either = kind == "string" and written in {"int64", "uint64"}
    fits = isinstance(value, PYTHON[kind]) or (either and isinstance(value, int))
    return fits and (kind == "boolean" or not isinstance(value, bool))
