"""Makes Envoy's configuration for this run from the generated one."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

from services.supervisor import ports

ROOT = Path(__file__).resolve().parents[2]
GENERATED = ROOT / "envoy" / "envoy.yaml"
DISTRIBUTED = ROOT / "envoy" / "distributed.yaml"
DESCRIPTORS = ROOT / "gen" / "airis.binpb"
AUTHENTICATION_FILTERS = ("envoy.filters.http.jwt_authn", "airis.permission")
KEYS_CLUSTER = "jwks"


def runtime_config(
    port_offset: int, authentication: bool = False, generated: Path = GENERATED, descriptors: Path = DESCRIPTORS
) -> dict[str, Any]:
    """The generated configuration with every port shifted and the descriptor set found.

    Args:
        port_offset: Added to each port, listeners and upstreams alike.
        authentication: Whether tokens are checked; if not, the filters that do so are left out.
        generated: `envoy/envoy.yaml`, or `envoy/distributed.yaml`.
        descriptors: The descriptor set that the transcoder reads.
    """
    configuration: dict[str, Any] = yaml.load(generated.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    _adapt(configuration, port_offset, str(descriptors))
    if not authentication:
        _open(configuration)
    return configuration


def write_runtime_config(target: Path, port_offset: int, authentication: bool = False, frontends: int = 0) -> None:
    """Writes the configuration of this run to a file; see `runtime_config` and `send_to_frontends`."""
    configuration = runtime_config(port_offset, authentication)
    send_to_frontends(configuration, frontends)
    text = yaml.dump(configuration, Dumper=yaml.CSafeDumper, sort_keys=False)
    target.write_text(text, encoding="utf-8")


def send_to_frontends(configuration: dict[str, Any], count: int) -> None:
    """Sends unary ingest calls to frontends in place of the services; streams and questions stay with these.

    Args:
        configuration: What `runtime_config` gives; is changed.
        count: How many there are; 0: nothing is changed.
    """
    if count == 0:
        return
    taken = {f"{name}-{kind}" for name in ports.TAKEN_BY_FRONTENDS for kind in ("ingest", "http")}
    for cluster in configuration["static_resources"]["clusters"]:
        if cluster["name"] in taken:
            (group,) = cluster["load_assignment"]["endpoints"]
            (service,) = group["lb_endpoints"]
            group["lb_endpoints"] = [copy.deepcopy(service) for _ in range(count)]
            for number, each in enumerate(group["lb_endpoints"], 1):
                each["endpoint"]["address"]["socket_address"]["port_value"] += ports.of_frontend(number)


def listener_ports(configuration: dict[str, Any]) -> dict[str, int]:
    """Where Envoy will listen, by the listener's name; the admin interface is `admin`."""
    found = {
        listener["name"]: int(listener["address"]["socket_address"]["port_value"])
        for listener in configuration["static_resources"]["listeners"]
    }
    found["admin"] = int(configuration["admin"]["address"]["socket_address"]["port_value"])
    return found


def _adapt(node: Any, port_offset: int, descriptors: str) -> None:
    if isinstance(node, list):
        for item in node:
            _adapt(item, port_offset, descriptors)
    elif isinstance(node, dict):
        if "port_value" in node:
            node["port_value"] += port_offset
        if "proto_descriptor" in node:
            node["proto_descriptor"] = descriptors
        for item in node.values():
            _adapt(item, port_offset, descriptors)


def _open(node: Any) -> None:
    if isinstance(node, list):
        for item in node:
            _open(item)
    elif isinstance(node, dict):
        if "http_filters" in node:
            node["http_filters"] = [each for each in node["http_filters"] if each["name"] not in AUTHENTICATION_FILTERS]
        if "clusters" in node:
            node["clusters"] = [each for each in node["clusters"] if each["name"] != KEYS_CLUSTER]
        for name in AUTHENTICATION_FILTERS:
            node.get("typed_per_filter_config", {}).pop(name, None)
        for item in node.values():
            _open(item)
