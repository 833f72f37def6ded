"""The messages of Envoy's discovery protocol, as far as they are needed here.

They are built at run time in a pool of their own: the packages that have Envoy's protos register them in the pool that
all of a process shares, where a second definition is an error. On the wire only numbers and types count.
Source: `envoy/service/discovery/v3/discovery.proto` and `envoy/config/endpoint/v3/endpoint.proto`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from services.mesh.model import Address

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
ENDPOINTS = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"

_PACKAGE = "airis.mesh.wire"
_TEXT, _BYTES, _INT, _UINT = (
    descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
    descriptor_pb2.FieldDescriptorProto.TYPE_INT32,
    descriptor_pb2.FieldDescriptorProto.TYPE_UINT32,
)
_MANY = True

# Each field: its name, number, type (or message), and whether it repeats.
_MESSAGES: dict[str, tuple[tuple[str, int, int | str, bool], ...]] = {
    "Any": (("type_url", 1, _TEXT, False), ("value", 2, _BYTES, False)),
    "Status": (("code", 1, _INT, False), ("message", 2, _TEXT, False)),
    "Node": (("id", 1, _TEXT, False), ("cluster", 2, _TEXT, False)),
    "DiscoveryRequest": (
        ("version_info", 1, _TEXT, False),
        ("node", 2, "Node", False),
        ("resource_names", 3, _TEXT, _MANY),
        ("type_url", 4, _TEXT, False),
        ("response_nonce", 5, _TEXT, False),
        ("error_detail", 6, "Status", False),
    ),
    "DiscoveryResponse": (
        ("version_info", 1, _TEXT, False),
        ("resources", 2, "Any", _MANY),
        ("type_url", 4, _TEXT, False),
        ("nonce", 5, _TEXT, False),
    ),
    "SocketAddress": (("address", 2, _TEXT, False), ("port_value", 3, _UINT, False)),
    "AddressOfAnyKind": (("socket_address", 1, "SocketAddress", False),),
    "Endpoint": (("address", 1, "AddressOfAnyKind", False),),
    "LbEndpoint": (("endpoint", 1, "Endpoint", False),),
    "LocalityLbEndpoints": (("lb_endpoints", 2, "LbEndpoint", _MANY),),
    "ClusterLoadAssignment": (("cluster_name", 1, _TEXT, False), ("endpoints", 2, "LocalityLbEndpoints", _MANY)),
}


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="airis/mesh/wire.proto", package=_PACKAGE, syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeats in fields:
            label = kinds.LABEL_REPEATED if repeats else kinds.LABEL_OPTIONAL
            added = message.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                added.type, added.type_name = kinds.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                added.type = kind  # type: ignore[assignment]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }


_made = _classes()
DiscoveryRequest: Any = _made["DiscoveryRequest"]
DiscoveryResponse: Any = _made["DiscoveryResponse"]
ClusterLoadAssignment: Any = _made["ClusterLoadAssignment"]


def response(version: str, nonce: str, sets: Iterable[tuple[str, Iterable[Address]]]) -> Any:
    """A `DiscoveryResponse` with the endpoints of some sets.

    Args:
        version: What Envoy says it has when it took them.
        nonce: What it answers with.
        sets: Names and addresses.
    """
    made = DiscoveryResponse(version_info=version, nonce=nonce, type_url=ENDPOINTS)
    for name, addresses in sets:
        assignment = ClusterLoadAssignment(cluster_name=name)
        locality = assignment.endpoints.add()
        for address in addresses:
            socket_address = locality.lb_endpoints.add().endpoint.address.socket_address
            socket_address.address, socket_address.port_value = address.host, address.port
        made.resources.add(type_url=ENDPOINTS, value=assignment.SerializeToString(deterministic=True))
    return made
