"""What the contract says of each RPC, for tests that hold the layers against it.

It is read from the descriptors anew, and not by `resilience.contract`: a mistake there must not be repeated here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import grpc
from airis.policy.v1 import policy_pb2
from fakes import trial_contract
from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.rpc import status_pb2

ROOT = Path(policy_pb2.__file__).parents[4]
"""The repository, or the copy of it, whose generated code is in use."""

DESCRIPTORS = ROOT / "gen" / "airis.binpb"
"""The descriptor set beside the generated code."""

ERROR_CODES = tuple(code.name for code in grpc.StatusCode if code is not grpc.StatusCode.OK)


@dataclass(frozen=True)
class Rpc:
    """An RPC and what its contract says."""

    descriptor: MethodDescriptor
    policy: policy_pb2.Policy
    bulkhead: policy_pb2.Bulkhead

    @property
    def path(self) -> str:
        """Its gRPC path."""
        return f"/{self.service.full_name}/{self.descriptor.name}"

    @property
    def service(self) -> ServiceDescriptor:
        """Its service."""
        return self.descriptor.containing_service

    @property
    def pool(self) -> tuple[str, str]:
        """Which calls it shares its places with."""
        return self.service.full_name, self.bulkhead.name

    @property
    def signal(self) -> str:
        """ "metrics"."""
        return self.service.full_name.split(".")[1]

    @property
    def deadline(self) -> float | None:
        """Seconds that a call may take; None: no limit."""
        return in_seconds(self.policy.deadline) or None

    @property
    def attempt_deadline(self) -> float | None:
        """Seconds that one attempt may take; None: no limit of its own."""
        return in_seconds(self.policy.retry.attempt_deadline) if self.policy.retry.attempt_deadline else None

    @property
    def is_unary(self) -> bool:
        """Whether one request has one answer."""
        return not (self.descriptor.client_streaming or self.descriptor.server_streaming)

    @property
    def is_hedged(self) -> bool:
        """Whether a second attempt may begin before the first has ended."""
        return self.policy.HasField("hedging")

    def attempts(self, code: str) -> int:
        """The attempts of a call of which every attempt fails with this code (and RetryInfo)."""
        policy = self.policy
        if policy.HasField("hedging"):
            return policy.hedging.max_attempts if code == "UNAVAILABLE" else 1
        if policy.HasField("retry"):
            repeated = {*policy.retry.retryable_codes, *(["DEADLINE_EXCEEDED"] if self.attempt_deadline else [])}
            return policy.retry.max_attempts if code in repeated else 1
        return 1

    def request(self, **fields: Any) -> Message:
        """A request that may be repeated: it has a `request_id` if its type knows one."""
        kind = message_factory.GetMessageClass(self.descriptor.input_type)
        if "request_id" in self.descriptor.input_type.fields_by_name:
            fields.setdefault("request_id", "one-and-the-same")
        return kind(**fields)

    def __str__(self) -> str:
        return f"{self.signal}.{self.descriptor.name}"


def in_seconds(duration: str) -> float:
    """Seconds of "0.5s"."""
    assert duration.endswith("s"), duration
    return float(duration[:-1])


def read_rpcs(service: ServiceDescriptor) -> Iterator[Rpc]:
    rules: Any = service.GetOptions()
    pools = {pool.name: pool for pool in rules.Extensions[policy_pb2.service_policy].bulkheads}
    for method in service.methods:
        options: Any = method.GetOptions()
        policy = options.Extensions[policy_pb2.policy]
        yield Rpc(method, policy, pools[policy.bulkhead])


def _services() -> Iterator[ServiceDescriptor]:
    for file in descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file:
        if file.package.startswith("airis.") and file.service:
            module = import_module(file.name.removesuffix(".proto").replace("/", ".") + "_pb2")
            yield from module.DESCRIPTOR.services_by_name.values()


SERVICES = tuple(_services())
RPCS = tuple(rpc for service in SERVICES for rpc in read_rpcs(service))
"""All RPCs of the contracts, whichever they are."""

TRIALS = tuple(read_rpcs(trial_contract.load()))
"""RPCs of all four shapes, in case the contracts have none of one."""

POOLS = tuple(sorted({rpc.pool for rpc in RPCS}))


def make_stub(channel: Any, service: ServiceDescriptor) -> Any:
    """The generated stub of a service, or one like it if there is none."""
    if service == trial_contract.load():
        return TrialStub(channel)
    module = import_module(service.file.name.removesuffix(".proto").replace("/", ".") + "_pb2_grpc")
    return getattr(module, f"{service.name}Stub")(channel)


class TrialStub:
    """As protoc would generate it for the trial service."""

    def __init__(self, channel: Any) -> None:
        for method in trial_contract.load().methods:
            shape = f"{_arity(method.client_streaming)}_{_arity(method.server_streaming)}"
            multicallable = getattr(channel, shape)(
                trial_contract.path(method.name),
                request_serializer=message_factory.GetMessageClass(method.input_type).SerializeToString,
                response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
            )
            setattr(self, method.name, multicallable)


def _arity(streams: bool) -> str:
    return "stream" if streams else "unary"


def details(error: grpc.RpcError, kind: type[Message]) -> Any:
    """The detail of a type that a failed call carries; exactly one is expected."""
    read: Any = error
    (carried,) = [value for key, value in read.trailing_metadata() if key == "grpc-status-details-bin"]
    return detail_of(status_pb2.Status.FromString(carried), kind)


def detail_of(status: status_pb2.Status, kind: type[Message]) -> Any:
    """The detail of a type in a status; exactly one is expected."""
    found = []
    for packed in status.details:
        message = kind()
        if packed.Unpack(message):
            found.append(message)
    (detail,) = found
    return detail
