"""`envoy/envoy.yaml` and `envoy/distributed.yaml`: `envoy/template.yaml` and what differs per RPC.

They differ in where Envoy finds the services: at fixed addresses, or asking `airis mesh`, which follows Consul.

The REST bindings (`google.api.http`) are read by Envoy's transcoder itself, from the descriptor set.
"""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from deploy.renderers.envoy_clusters import clusters, discovered_clusters
from deploy.renderers.envoy_replies import local_replies
from deploy.renderers.envoy_routes import edge_routes, otlp_grpc_routes, otlp_http_routes
from deploy.renderers.signals import Signal
from deploy.renderers.wording import Node, as_yaml

HEADER = """\
Generated from the protos and envoy/template.yaml by `make generate`. Do not edit.
`airis up` sets the absolute path of the descriptor set, shifts every port by --port-offset, and takes the filters of
authentication out where it is off."""

DISTRIBUTED_HEADER = """\
Generated from the protos and envoy/template.yaml by `make generate`. Do not edit.
As envoy/envoy.yaml, but the instances of the services are told by the mesh (`airis mesh`), which follows Consul.
`airis mesh bootstrap` sets the path of the descriptor set and the addresses, and prints the result."""

_ROUTES = {"edge": edge_routes, "otlp-grpc": otlp_grpc_routes, "otlp-http": otlp_http_routes}


def render_envoy(template: str, signals: Sequence[Signal]) -> str:
    """The whole bootstrap configuration as YAML."""
    return as_yaml(configuration(yaml.safe_load(template), signals), header=HEADER)


def render_distributed_envoy(template: str, signals: Sequence[Signal]) -> str:
    """The same for an Envoy that the mesh tells where the services are."""
    parts = yaml.safe_load(template)
    found = configuration(parts, signals)
    found["static_resources"]["clusters"] = list(
        discovered_clusters(found["static_resources"]["clusters"], signals, **parts["parts"]["discovery"])
    )
    found["dynamic_resources"] = parts["parts"]["dynamic_resources"]
    return as_yaml(found, header=DISTRIBUTED_HEADER)


def configuration(template: Node, signals: Sequence[Signal]) -> Node:
    """The whole bootstrap configuration.

    Args:
        template: What does not differ per RPC; what stands under `parts` is used here and not part of the result.
        signals: The services.
    """
    found = {key: value for key, value in template.items() if key != "parts"}
    parts = template["parts"]
    for listener in found["static_resources"]["listeners"]:
        (chain,) = listener["filter_chains"]
        connections = chain["filters"][0]["typed_config"]
        connections["local_reply_config"] = local_replies(parts["foreign_origin"])
        connections["route_config"]["virtual_hosts"][0]["routes"] = list(_ROUTES[listener["name"]](signals))
        for http_filter in connections["http_filters"]:
            if http_filter["name"] == "envoy.filters.http.grpc_json_transcoder":
                http_filter["typed_config"]["services"] = [signal.service.full_name for signal in signals]
    found["static_resources"]["clusters"] = list(clusters(signals, parts["grpc_cluster"], parts["http_cluster"]))
    return found
