"""Reads `airis.policy.v1.policy` from the descriptors: the one source of deadlines, retries and permissions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from airis.policy.v1 import policy_pb2
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor


@dataclass(frozen=True, slots=True)
class MethodPolicy:
    """What the contract says of one RPC.

    Attributes:
        method: Its path: "/airis.metrics.v1.MetricsService/QueryMetrics".
        deadline: Seconds a call may take; None: no limit (streams).
        idempotent: Whether repeating the call changes nothing more.
        permission: What a caller needs: "metrics.read".
        bulkhead: The pool of calls that it draws from.
        policy: All of it, as it stands in the contract.
    """

    method: str
    deadline: float | None
    idempotent: bool
    permission: str
    bulkhead: str
    policy: policy_pb2.Policy


def method_policy(method: MethodDescriptor) -> MethodPolicy:
    """The policy of an RPC.

    Raises:
        LookupError: It has none: the contract is incomplete.
    """
    options: Any = method.GetOptions()
    if not options.HasExtension(policy_pb2.policy):
        raise LookupError(f"{method.full_name} has no airis.policy.v1.policy")
    policy: policy_pb2.Policy = options.Extensions[policy_pb2.policy]
    return MethodPolicy(
        method=f"/{method.containing_service.full_name}/{method.name}",
        deadline=seconds(policy.deadline) or None,
        idempotent=policy.idempotent,
        permission=policy.permission,
        bulkhead=policy.bulkhead,
        policy=policy,
    )


def policies(files: Iterable[FileDescriptor]) -> Iterator[MethodPolicy]:
    """The policies of all RPCs of some files. Raises `LookupError` if one has none."""
    for file in files:
        for service in file.services_by_name.values():
            for method in service.methods:
                yield method_policy(method)


def seconds(duration: str) -> float:
    """A duration in the contract's form, "0.5s", in seconds."""
    return float(duration.removesuffix("s"))
