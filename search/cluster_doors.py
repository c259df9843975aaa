"""What of a cluster answers to more than its own machines: dashboards, published ports, services, firewalls."""

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any

from search import cluster_shell
from search.cluster_file import ClusterFile, Finding, Manifest, RayFile, items, mapping, unfilled

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
WORLD = {4: 8, 6: 16}
"""Bits of a public network's prefix, by version of IP, up to which it counts as the world: no office has a whole /8."""


def findings(file: ClusterFile) -> Iterator[Finding]:
    """Yields doors that are open."""
    if isinstance(file, Manifest):
        yield from _services(file)
        return
    yield from _dashboards(file)
    if isinstance(file, RayFile):
        yield from _published(file)
        yield from _rules(mapping(file.document.get("provider")))


def _dashboards(file: ClusterFile) -> Iterator[Finding]:
    for start in file.starts():
        host = start.options.get("dashboard-host")
        if host is not None and host not in LOOPBACK:
            own = not isinstance(file, RayFile) or start.where.partition("[")[0] in file.document
            yield Finding(
                where=start.where,
                what=f"the dashboard answers on {host}: whoever reaches it can run commands",
                advice="--dashboard-host=127.0.0.1, and `ray dashboard` or an SSH tunnel to look at it"
                + ("" if own else "; this is Ray's own default"),
            )


def _published(file: RayFile) -> Iterator[Finding]:
    for where, options in file.run_options():
        for i, ports in cluster_shell.docker_options(options, "-p", "--publish"):
            if not ports.startswith(("127.0.0.1:", "localhost:", "[::1]:")):
                yield Finding(
                    where=f"{where}[{i}]",
                    what=f"port {ports} of the container is open to whoever reaches the machine",
                    advice=f"publish it as 127.0.0.1:{ports}, or not at all",
                )
        for i, option in enumerate(options):
            if {"-P", "--publish-all"} & set(str(option).split()):
                yield Finding(
                    where=f"{where}[{i}]",
                    what="all ports of the container are open to whoever reaches the machine",
                    advice="publish single ports, as 127.0.0.1:PORT:PORT, or none",
                )


def _rules(provider: Mapping[str, Any]) -> Iterator[Finding]:
    """Yields what Ray's own security group on Amazon would let in."""
    for i, rule in enumerate(items(mapping(provider.get("security_group")).get("IpPermissions"))):
        where = f"provider.security_group.IpPermissions[{i}]"
        ranges = [*items(mapping(rule).get("IpRanges")), *items(mapping(rule).get("Ipv6Ranges"))]
        named = [
            str(mapping(entry)[key]) for entry in ranges for key in ("CidrIp", "CidrIpv6") if key in mapping(entry)
        ]
        open_to = [network for network in named if _is_world(network)]
        if open_to:
            first, last = mapping(rule).get("FromPort"), mapping(rule).get("ToPort")
            ports = "all ports" if first is None else f"port {first}" if first == last else f"ports {first} to {last}"
            yield Finding(
                where=where,
                what=f"{ports} open to the world ({', '.join(sorted(open_to))})",
                advice="remove it, and name a security group of your own as SecurityGroupIds of each node type",
            )
        for network in named:
            if _is_world(network) is None and not unfilled(network):
                yield Finding(
                    where=where, what=f"{network!r} is no network", advice="such as 203.0.113.7/32: address and bits"
                )


def _is_world(text: str) -> bool | None:
    """Returns whether a network is large enough to be anybody's; None for what is no network."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
    return network.prefixlen <= WORLD[network.version] and not network.is_private


def _services(file: Manifest) -> Iterator[Finding]:
    own = mapping(mapping(file.head.get("headService")).get("spec"))
    for where, kind in (("serviceType", file.head.get("serviceType")), ("headService.spec.type", own.get("type"))):
        if kind in ("LoadBalancer", "NodePort"):
            yield Finding(
                where=f"spec.headGroupSpec.{where}",
                what=f"a service of type {kind} opens the head's ports outside Kubernetes",
                advice="ClusterIP, and `kubectl port-forward` to look at it",
            )
    if file.head.get("enableIngress"):
        yield Finding(
            where="spec.headGroupSpec.enableIngress",
            what="an ingress opens the dashboard outside Kubernetes: whoever reaches it can run commands",
            advice="remove it; `kubectl port-forward` brings the dashboard to you",
        )
    for where, pod in file.pods():
        if pod.get("hostNetwork"):
            yield Finding(
                where=f"{where}.hostNetwork",
                what="Ray's ports are those of the Kubernetes node: open to whoever reaches it",
                advice="remove it",
            )
    for where, container in file.containers():
        for i, port in enumerate(items(container.get("ports"))):
            if mapping(port).get("hostPort"):
                yield Finding(
                    where=f"{where}.ports[{i}].hostPort",
                    what=f"port {mapping(port)['hostPort']} of the Kubernetes node is open to whoever reaches it",
                    advice="remove it; a service of type ClusterIP needs none",
                )
