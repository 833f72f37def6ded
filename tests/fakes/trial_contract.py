"""A contract with RPCs of all four shapes and times short enough for tests, in the descriptor pool like any other."""

from __future__ import annotations

from typing import Any

from airis.policy.v1 import policy_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, wrappers_pb2
from google.protobuf.descriptor import ServiceDescriptor

SERVICE = "airis.trial.v1.TrialService"
_FILE = "airis/trial/v1/trial.proto"
_TEXT = f".{wrappers_pb2.StringValue.DESCRIPTOR.full_name}"

P95_SECONDS = 0.05
"""What all RPCs promise."""
NARROW_PLACES = 2
"""Calls at once in the pool "narrow", and streams in the pool "stream"."""
HEDGING_DELAY_SECONDS = 0.05
ATTEMPT_SECONDS = 0.15
MAX_ATTEMPTS = 3


def policy(deadline: str = "2s", bulkhead: str = "wide", **parts: Any) -> policy_pb2.Policy:
    """A policy of an RPC; `parts` are further fields of it."""
    return policy_pb2.Policy(
        deadline=deadline,
        bulkhead=bulkhead,
        permission="trial.read",
        objective=policy_pb2.Objective(latency_p95=f"{P95_SECONDS}s", availability=0.99),
        **parts,
    )


def retry(codes: list[str], **parts: str) -> policy_pb2.Retry:
    """Three attempts with short delays."""
    return policy_pb2.Retry(
        max_attempts=MAX_ATTEMPTS,
        initial_backoff="0.005s",
        max_backoff="0.01s",
        backoff_multiplier=2,
        retryable_codes=codes,
        **parts,
    )


_RPCS: dict[str, tuple[bool, bool, policy_pb2.Policy]] = {
    # Whether the client streams, whether the server does.
    "Get": (False, False, policy(idempotent=True, retry=retry(["UNAVAILABLE"]))),
    "Put": (False, False, policy(idempotent=True, retry=retry(["UNAVAILABLE", "RESOURCE_EXHAUSTED"]))),
    "Try": (
        False,
        False,
        policy(idempotent=True, retry=retry(["UNAVAILABLE"], attempt_deadline=f"{ATTEMPT_SECONDS}s")),
    ),
    "Hedge": (
        False,
        False,
        policy(idempotent=True, hedging=policy_pb2.Hedging(max_attempts=2, delay=f"{HEDGING_DELAY_SECONDS}s")),
    ),
    "Once": (False, False, policy()),
    "Narrow": (False, False, policy(bulkhead="narrow")),
    "Watch": (False, True, policy("0s", "stream")),
    "Collect": (True, False, policy(bulkhead="stream")),
    "Talk": (True, True, policy("0s", "stream")),
}


def path(method: str) -> str:
    """The path of an RPC: `path("Get")`."""
    return f"/{SERVICE}/{method}"


def load() -> ServiceDescriptor:
    """The service, which is in the pool from then on."""
    pool = descriptor_pool.Default()
    try:
        return pool.FindServiceByName(SERVICE)
    except KeyError:
        pool.AddSerializedFile(_file().SerializeToString())
        return pool.FindServiceByName(SERVICE)


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name=_FILE,
        package="airis.trial.v1",
        syntax="proto3",
        dependency=[policy_pb2.DESCRIPTOR.name, wrappers_pb2.DESCRIPTOR.name],
    )
    service = file.service.add(name="TrialService")
    options: Any = service.options
    options.Extensions[policy_pb2.service_policy].CopyFrom(
        policy_pb2.ServicePolicy(
            bulkheads=[
                policy_pb2.Bulkhead(name="wide", max_concurrent=1000, max_waiting=1000, max_wait="1s"),
                policy_pb2.Bulkhead(name="narrow", max_concurrent=NARROW_PLACES, max_waiting=1, max_wait="0.1s"),
                policy_pb2.Bulkhead(name="stream", max_concurrent=NARROW_PLACES, max_waiting=0, max_wait="0s"),
            ]
        )
    )
    for name, (client_streams, server_streams, rules) in _RPCS.items():
        method = service.method.add(
            name=name,
            input_type=_TEXT,
            output_type=_TEXT,
            client_streaming=client_streams,
            server_streaming=server_streams,
        )
        options = method.options
        options.Extensions[policy_pb2.policy].CopyFrom(rules)
    return file
