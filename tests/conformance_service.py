"""Servers with the services' own guard before handlers that are made from the descriptors: `grpc.aio` and blocking."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from conformance_contract import SERVICES
from fakes import trial_contract
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor

from resilience import deadline
from resilience.grpc.guard import Guard
from resilience.grpc.server import PolicyInterceptor
from resilience.grpc.sync_server import SyncPolicyInterceptor
from services.shared.rpc.interceptor import ServiceCalls

KEY = "conformance-key"
HANG = (("conformance-hang", "1"),)
DOMAIN = "conformance.airis"
_THREADS = 64


class _Calls(ServiceCalls):
    """As of a service, except that requests are let through as they are: their rules are not what is tested."""

    def check(self, request: object) -> None:
        pass


class Served:
    """What the handlers saw.

    Attributes:
        left: Seconds that were left to each call that reached a handler (None: no limit), by its key.
    """

    def __init__(self) -> None:
        self.left: defaultdict[str, list[float | None]] = defaultdict(list)
        self.target = ""

    def note(self, context: Any) -> bool:
        """Notes a call; tells whether it is to hang."""
        metadata = dict(context.invocation_metadata() or ())
        self.left[str(metadata.get(KEY, ""))].append(deadline.remaining())
        return HANG[0][0] in metadata


class AioService(Served):
    """Over `grpc.aio`.

    Args:
        guard: Lets calls in.
    """

    def __init__(self, guard: Guard) -> None:
        super().__init__()
        self._server = grpc.aio.server(interceptors=[PolicyInterceptor(guard, _Calls(DOMAIN))])
        self._server.add_generic_rpc_handlers(_handlers(self._handler))

    async def start(self) -> None:
        """Binds a loopback port."""
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()

    async def stop(self) -> None:
        """Ends all calls."""
        await self._server.stop(None)

    def _handler(self, method: MethodDescriptor) -> Any:
        answer = message_factory.GetMessageClass(method.output_type)()

        async def one(request: Any, context: Any) -> Any:
            if self.note(context):
                await asyncio.Event().wait()
            return answer

        async def many(request: Any, context: Any) -> AsyncIterator[Any]:
            yield await one(request, context)

        return _shaped(method, one, many)


class BlockingService(Served):
    """Blocking. Its handlers keep to what is left of their time, as all do that cannot be ended."""

    def __init__(self, guard: Guard) -> None:
        super().__init__()
        self._stopped = threading.Event()
        self._server = grpc.server(
            ThreadPoolExecutor(_THREADS), interceptors=[SyncPolicyInterceptor(guard, _Calls(DOMAIN))]
        )
        self._server.add_generic_rpc_handlers(_handlers(self._handler))

    async def start(self) -> None:
        """Binds a loopback port."""
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    async def stop(self) -> None:
        """Ends all calls."""
        self._stopped.set()
        await asyncio.to_thread(self._server.stop(None).wait)

    def _handler(self, method: MethodDescriptor) -> Any:
        answer = message_factory.GetMessageClass(method.output_type)()

        def one(request: Any, context: Any) -> Any:
            if self.note(context):
                self._stopped.wait(deadline.remaining())
            return answer

        def many(request: Any, context: Any) -> Iterator[Any]:
            yield one(request, context)

        return _shaped(method, one, many)


SERVICE_KINDS: dict[str, type[AioService] | type[BlockingService]] = {"aio": AioService, "blocking": BlockingService}


def _handlers(make: Any) -> tuple[grpc.GenericRpcHandler, ...]:
    return tuple(
        grpc.method_handlers_generic_handler(
            service.full_name, {method.name: make(method) for method in service.methods}
        )
        for service in (*SERVICES, trial_contract.load())
    )


def _shaped(method: MethodDescriptor, one: Any, many: Any) -> Any:
    options = (
        message_factory.GetMessageClass(method.input_type).FromString,
        message_factory.GetMessageClass(method.output_type).SerializeToString,
    )
    match method.client_streaming, method.server_streaming:
        case False, False:
            return grpc.unary_unary_rpc_method_handler(one, *options)
        case True, False:
            return grpc.stream_unary_rpc_method_handler(one, *options)
        case False, True:
            return grpc.unary_stream_rpc_method_handler(many, *options)
        case _:
            return grpc.stream_stream_rpc_method_handler(many, *options)
