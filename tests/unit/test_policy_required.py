"""Where a policy is missing or incomplete, no client is wrapped and no server made, and the error says what it is."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from airis.policy.v1 import policy_pb2
from fakes import trial_contract
from google.protobuf import descriptor_pb2, descriptor_pool, wrappers_pb2
from google.protobuf.descriptor import ServiceDescriptor

from resilience.grpc.client import wrap
from services.shared.auth.config import AuthConfig
from services.shared.rpc.server import Binding, Endpoints, RpcServer

_numbers = itertools.count()
POOL = policy_pb2.Bulkhead(name="wide", max_concurrent=1, max_waiting=0, max_wait="0s")
RETRY = trial_contract.retry(["UNAVAILABLE"])
HEDGING = policy_pb2.Hedging(max_attempts=2, delay="0.1s")


def without(field: str) -> policy_pb2.Policy:
    made = trial_contract.policy()
    made.ClearField(field)  # type: ignore[arg-type]
    return made


def slow_retry() -> policy_pb2.Retry:
    made = trial_contract.retry(["UNAVAILABLE"])
    made.attempt_deadline = "3600s"
    return made


FAULTS: dict[str, tuple[policy_pb2.Policy | None, list[policy_pb2.Bulkhead], str]] = {
    "no policy": (None, [POOL], "{rpc} has no airis.policy.v1.policy."),
    "no deadline": (without("deadline"), [POOL], "The policy of {rpc} has no deadline."),
    "no permission": (without("permission"), [POOL], "The policy of {rpc} has no permission."),
    "no bulkhead": (without("bulkhead"), [POOL], "The policy of {rpc} has no bulkhead."),
    "no objective": (without("objective"), [POOL], "The policy of {rpc} has no objective."),
    "an unknown pool": (
        trial_contract.policy(bulkhead="other"),
        [POOL],
        "{rpc} names the bulkhead 'other', which its service does not have.",
    ),
    "no pools": (
        trial_contract.policy(),
        [],
        "{rpc} names the bulkhead 'wide', which its service does not have.",
    ),
    "a pool twice": (trial_contract.policy(), [POOL, POOL], "{service} has the bulkhead 'wide' twice."),
    "retry and hedging": (
        trial_contract.policy(idempotent=True, retry=RETRY, hedging=HEDGING),
        [POOL],
        "The policy of {rpc} has retry and hedging; it may have one.",
    ),
    "an attempt longer than the call": (
        trial_contract.policy(idempotent=True, retry=slow_retry()),
        [POOL],
        "The policy of {rpc} gives an attempt more time than the call.",
    ),
    "repeats that change more": (
        trial_contract.policy(retry=RETRY),
        [POOL],
        "The policy of {rpc} repeats calls, but the RPC is not idempotent.",
    ),
}


def load(policy: policy_pb2.Policy | None, pools: list[policy_pb2.Bulkhead]) -> ServiceDescriptor:
    """A service with one RPC, as if its generated code had been imported."""
    package = f"airis.faulty{next(_numbers)}.v1"
    text = f".{wrappers_pb2.StringValue.DESCRIPTOR.full_name}"
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package.replace('.', '/')}/faulty.proto",
        package=package,
        syntax="proto3",
        dependency=[policy_pb2.DESCRIPTOR.name, wrappers_pb2.DESCRIPTOR.name],
    )
    service = file.service.add(name="FaultyService")
    options: Any = service.options
    options.Extensions[policy_pb2.service_policy].CopyFrom(policy_pb2.ServicePolicy(bulkheads=pools))
    method = service.method.add(name="Get", input_type=text, output_type=text)
    if policy is not None:
        options = method.options
        options.Extensions[policy_pb2.policy].CopyFrom(policy)
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindServiceByName(f"{package}.FaultyService")


class Stub:
    """As protoc would generate it."""

    def __init__(self, channel: Any, path: str) -> None:
        self.Get = channel.unary_unary(path)


@pytest.fixture(params=FAULTS)
def faulty(request: pytest.FixtureRequest) -> tuple[ServiceDescriptor, str]:
    """The service, and what is to be said of it."""
    policy, pools, message = FAULTS[request.param]
    service = load(policy, pools)
    return service, message.format(rpc=f"{service.full_name}.Get", service=service.full_name)


def test_no_client_is_wrapped(faulty: tuple[ServiceDescriptor, str]) -> None:
    service, message = faulty
    path = f"/{service.full_name}/Get"
    with grpc.insecure_channel("127.0.0.1:1") as channel:
        stub = Stub(channel, path)
        with pytest.raises(LookupError) as raised:
            wrap(stub)
        assert raised.value.args == (message,)
        with pytest.raises(LookupError) as raised:
            wrap(channel).unary_unary(path)
        assert raised.value.args == (message,)


async def test_no_client_of_asyncio_is_wrapped(faulty: tuple[ServiceDescriptor, str]) -> None:
    service, message = faulty
    path = f"/{service.full_name}/Get"
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        stub = Stub(channel, path)
        with pytest.raises(LookupError) as raised:
            wrap(stub)
        assert raised.value.args == (message,)
        with pytest.raises(LookupError) as raised:
            wrap(channel).unary_unary(path)
        assert raised.value.args == (message,)


def test_no_server_is_made(faulty: tuple[ServiceDescriptor, str]) -> None:
    service, message = faulty

    async def ready() -> str:
        return ""

    with pytest.raises(LookupError) as raised:
        RpcServer(
            Endpoints(
                host="127.0.0.1",
                grpc_port=1,
                http_port=1,
                domain="faulty.airis",
                bindings=[Binding(service, SimpleNamespace(Get=None))],
                ready=ready,
                auth=AuthConfig(),
            )
        )
    assert raised.value.args == (message,)


def test_an_rpc_that_is_not_in_the_contracts_that_are_loaded_is_not_called_either() -> None:
    path = "/airis.unknown.v1.UnknownService/Get"
    with grpc.insecure_channel("127.0.0.1:1") as channel, pytest.raises(LookupError) as raised:
        wrap(channel).unary_unary(path)
    assert raised.value.args == (f"There is no RPC {path} in the contracts that are loaded.",)
