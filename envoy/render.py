"""Writes `envoy/envoy.yaml` from the contracts and `envoy/template.yaml`, as a step of `make generate`.

What differs per RPC is read from the descriptor set `gen/airis.binpb`: the REST bindings (`google.api.http`)
by Envoy's transcoder itself, the timeouts (`airis.policy.v1.policy`) here. The rest is in the template.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from airis.policy.v1 import policy_pb2
from google.protobuf import descriptor_pb2

ROOT = Path(__file__).resolve().parent.parent
DESCRIPTORS = ROOT / "gen" / "airis.binpb"
TEMPLATE = ROOT / "envoy" / "template.yaml"
OUTPUT = ROOT / "envoy" / "envoy.yaml"

HEADER = """\
# Generated from the protos and envoy/template.yaml by `make generate` (envoy/render.py). Do not edit.
# `airis up` sets the absolute path of the descriptor set and shifts every port by --port-offset.
"""

UNLIMITED = "0s"
"""A policy's deadline of streams; to Envoy too it means: no timeout."""

STREAM_IDLE = "3600s"
UNKNOWN_METHOD_TIMEOUT = "5s"

Node = dict[str, Any]
Policies = dict[str, policy_pb2.Policy]


@dataclass(frozen=True)
class Signal:
    """One service: its cluster, its names in gRPC, and its path in OTLP/HTTP."""

    cluster: str
    service: str
    otlp_service: str = ""
    otlp_path: str = ""


OTLP = "opentelemetry.proto.collector"
SIGNALS = (
    Signal("metrics", "airis.metrics.v1.MetricsService", f"{OTLP}.metrics.v1.MetricsService", "/v1/metrics"),
    Signal("logs", "airis.logs.v1.LogService", f"{OTLP}.logs.v1.LogsService", "/v1/logs"),
    Signal("traces", "airis.traces.v1.TraceService", f"{OTLP}.trace.v1.TraceService", "/v1/traces"),
    Signal("alerts", "airis.alerts.v1.AlertService"),
)

# HTTP status of a reply that Envoy itself makes, and the gRPC code that its body names.
GRPC_CODES = {
    400: 3,
    401: 16,
    403: 7,
    404: 5,
    405: 12,
    408: 4,
    413: 8,
    415: 3,
    429: 8,
    431: 8,
    502: 14,
    503: 14,
    504: 4,
}
UNKNOWN = 2


def read_services(descriptors: Path) -> dict[str, Policies]:
    """The policy of each RPC, by full service name and method name.

    Raises:
        ValueError: An RPC of AIRIS has no policy.
    """
    files = descriptor_pb2.FileDescriptorSet.FromString(descriptors.read_bytes())
    services: dict[str, Policies] = {}
    for file in files.file:
        for service in file.service:
            methods = services.setdefault(f"{file.package}.{service.name}", {})
            for method in service.method:
                name = f"{file.package}.{service.name}.{method.name}"
                options: Any = method.options
                policy: policy_pb2.Policy = options.Extensions[policy_pb2.policy]
                if file.package.startswith("airis.") and not policy.deadline:
                    raise ValueError(f"{name} has no airis.policy.v1.policy")
                methods[method.name] = policy
    return services


def ingest_deadline(methods: Policies) -> str:
    """The deadline of a service's unary ingest, which OTLP's Export shares."""
    (deadline,) = [policy.deadline for name, policy in methods.items() if name.startswith("Ingest")]
    return deadline


def route(match: Node, cluster: str, deadline: str) -> Node:
    action: Node = {"cluster": cluster, "timeout": deadline}
    if deadline == UNLIMITED:
        action["idle_timeout"] = STREAM_IDLE
    return {"match": match, "route": action}


def without_buffer(grpc_route: Node) -> Node:
    """Lets messages through as they come: the services themselves limit the size of each."""
    kind = "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.BufferPerRoute"
    buffer = {"envoy.filters.http.buffer": {"@type": kind, "disabled": True}}
    return {**grpc_route, "typed_per_filter_config": buffer}


def edge_routes(services: dict[str, Policies]) -> Iterator[Node]:
    """One route an RPC. REST calls come here when the transcoder has rewritten their paths."""
    for signal in SIGNALS:
        for method, policy in sorted(services[signal.service].items()):
            match: Node = {"path": f"/{signal.service}/{method}"}
            yield without_buffer(route(match, signal.cluster, policy.deadline))
        # A method that this version does not know: the service itself says UNIMPLEMENTED.
        match = {"prefix": f"/{signal.service}/", "grpc": {}}
        yield without_buffer(route(match, signal.cluster, UNKNOWN_METHOD_TIMEOUT))
    # A service that is not here, answered at once: a stream would never end for the filter that limits sizes.
    # To a gRPC client, 404 is UNIMPLEMENTED.
    yield without_buffer({"match": {"prefix": "/", "grpc": {}}, "direct_response": {"status": 404}})
    # REST before it is transcoded: CORS needs a route to ask. Nothing is sent on from here, as no request names
    # a cluster (and one that does finds a service without such a method).
    nowhere = {"cluster_header": "x-airis-cluster", "cluster_not_found_response_code": "NOT_FOUND"}
    yield {
        "match": {"prefix": "/api/"},
        "route": nowhere,
    }


def otlp_grpc_routes(services: dict[str, Policies]) -> Iterator[Node]:
    for signal in SIGNALS:
        for method in sorted(services.get(signal.otlp_service, {})):
            match = {"path": f"/{signal.otlp_service}/{method}"}
            yield route(match, signal.cluster, ingest_deadline(services[signal.service]))


def otlp_http_routes(services: dict[str, Policies]) -> Iterator[Node]:
    for signal in SIGNALS:
        if signal.otlp_path:
            deadline = ingest_deadline(services[signal.service])
            yield route({"path": signal.otlp_path}, f"{signal.cluster}-http", deadline)


def status_is(status: int) -> Node:
    value = {"default_value": status, "runtime_key": f"airis.local_reply.{status}"}
    return {"status_code_filter": {"comparison": {"op": "EQ", "value": value}}}


def header(name: str, **match: Any) -> Node:
    return {"header_filter": {"header": {"name": name, **match}}}


# After transcoding, REST looks like gRPC except for the note of its path.
NATIVE_GRPC = (
    header("content-type", string_match={"prefix": "application/grpc"}),
    header("x-envoy-original-path", present_match=False),
)


def grpc_reply(status: int, code: int, message: str = "%LOCAL_REPLY_BODY%") -> Node:
    """For gRPC clients: plain text as the message, and the code where Envoy's own choice is another."""
    return {
        "filter": {"and_filter": {"filters": [status_is(status), *NATIVE_GRPC]}},
        "body_format_override": {"text_format_source": {"inline_string": message}},
        "headers_to_add": [
            {"header": {"key": "grpc-status", "value": str(code)}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        ],
    }


def json_reply(reply_filter: Node, code: int, message: str = "%LOCAL_REPLY_BODY%") -> Node:
    return {"filter": reply_filter, "body_format_override": error_body(code, message)}


def error_body(code: int, message: str) -> Node:
    return {"json_format": {"code": code, "message": message, "details": []}}


def local_replies() -> Node:
    """Envoy's own errors, in the shape that `convert_grpc_status` gives to the services' errors."""
    # To a gRPC client an unknown path is an unknown method: UNIMPLEMENTED.
    mappers = [grpc_reply(404, 12, "There is no such method at this address.")]
    mappers += [grpc_reply(status, code) for status, code in GRPC_CODES.items()]
    mappers.append(json_reply({"response_flag_filter": {"flags": ["NR", "NC"]}}, 5, "There is no such path."))
    mappers.append(json_reply(status_is(403), 7, "Web pages of this origin may not call this address."))
    mappers += [json_reply(status_is(status), code) for status, code in GRPC_CODES.items()]
    return {"mappers": mappers, "body_format": error_body(UNKNOWN, "%LOCAL_REPLY_BODY%")}


def render(template: Node, services: dict[str, Policies]) -> Node:
    """The whole bootstrap configuration."""
    configuration = {key: value for key, value in template.items() if key != "parts"}
    routes = {"edge": edge_routes, "otlp-grpc": otlp_grpc_routes, "otlp-http": otlp_http_routes}
    for listener in configuration["static_resources"]["listeners"]:
        (chain,) = listener["filter_chains"]
        connections = chain["filters"][0]["typed_config"]
        connections["local_reply_config"] = local_replies()
        connections["route_config"]["virtual_hosts"][0]["routes"] = list(routes[listener["name"]](services))
        for http_filter in connections["http_filters"]:
            if http_filter["name"] == "envoy.filters.http.grpc_json_transcoder":
                http_filter["typed_config"]["services"] = [signal.service for signal in SIGNALS]
    return configuration


class PlainDumper(yaml.SafeDumper):
    """Writes shared parts out instead of as anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def main() -> None:
    template = yaml.safe_load(TEMPLATE.read_text(encoding="utf-8"))
    configuration = render(template, read_services(DESCRIPTORS))
    text = yaml.dump(configuration, Dumper=PlainDumper, sort_keys=False, width=120)
    OUTPUT.write_text(HEADER + text, encoding="utf-8")


if __name__ == "__main__":
    main()
