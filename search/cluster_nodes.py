"""What Ray's own validation passes by in a cluster's file: what a cloud calls its machines and their settings."""

from collections.abc import Iterator, Mapping
from typing import Any

from search import cluster_amazon, cluster_google
from search.cluster_file import Finding, RayFile, mapping, unfilled
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
"""Keys of `provider` that Ray reads, by its type; those of other types are not known here."""


def findings(file: RayFile) -> Iterator[Finding]:
    """Yields what is wrong with `provider`, with the number of machines and with their settings."""
    provider = mapping(file.document.get("provider"))
    if file.provider not in PROVIDERS:
        yield Finding(
            where="provider.type",
            what=f"settings of {file.provider or 'no type'} are not checked here: {', '.join(PROVIDERS)} are",
            advice="compare provider and node_config with Ray's reference of cluster files yourself",
        )
        return
    for name in provider:
        if name not in PROVIDERS[file.provider]:
            near = did_you_mean(str(name), PROVIDERS[file.provider])
            yield Finding(where=f"provider.{name}", what=f"Ray does not read {name!r} here", advice=f"remove it{near}")
    if file.provider == "local":
        return
    if "max_workers" not in file.document:
        advice = "set max_workers: as many as you are ready to pay for"
        yield Finding(where="max_workers", what="Ray starts two workers at most where nothing is said", advice=advice)
    yield from _place(provider)
    if file.provider == "aws":
        yield from cluster_amazon.findings(file)
    else:
        yield from cluster_google.findings(file)


def _place(provider: Mapping[str, Any]) -> Iterator[Finding]:
    region, zones = provider.get("region"), provider.get("availability_zone")
    if not region:
        yield Finding(where="provider.region", what="there is no region", advice="name one, such as us-west-2")
    if not isinstance(region, str) or not isinstance(zones, str) or not region or unfilled([region, zones]):
        return
    for zone in filter(None, (zone.strip() for zone in zones.split(","))):
        if not zone.startswith(region):
            yield Finding(
                where="provider.availability_zone",
                what=f"zone {zone} does not lie in region {region}",
                advice="make region and zones agree",
            )
