"""Makes Envoy's configuration for this run from the generated one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
GENERATED = ROOT / "envoy" / "envoy.yaml"
DESCRIPTORS = ROOT / "gen" / "airis.binpb"


def runtime_config(port_offset: int, generated: Path = GENERATED, descriptors: Path = DESCRIPTORS) -> dict[str, Any]:
    """The generated configuration with every port shifted and the descriptor set found.

    Args:
        port_offset: Added to each port, listeners and upstreams alike.
        generated: `envoy/envoy.yaml`.
        descriptors: The descriptor set that the transcoder reads.
    """
    configuration: dict[str, Any] = yaml.load(generated.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    _adapt(configuration, port_offset, str(descriptors))
    return configuration


def write_runtime_config(target: Path, port_offset: int) -> None:
    """Writes the configuration of this run to a file."""
    target.write_text(yaml.safe_dump(runtime_config(port_offset), sort_keys=False), encoding="utf-8")


def listener_ports(configuration: dict[str, Any]) -> dict[str, int]:
    """Where Envoy will listen, by the listener's name; the admin interface is `admin`."""
    ports = {
        listener["name"]: int(listener["address"]["socket_address"]["port_value"])
        for listener in configuration["static_resources"]["listeners"]
    }
    ports["admin"] = int(configuration["admin"]["address"]["socket_address"]["port_value"])
    return ports


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
