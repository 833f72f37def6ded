"""Envoy's aggregated discovery stream: who asks is told the endpoints, and again when they change."""

from __future__ import annotations

import asyncio
import hmac
import itertools
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import grpc
import structlog

from services.mesh import convert
from services.mesh.model import Address, names
from services.mesh.sets import Sets

logger = structlog.get_logger(__name__)

_MAX_NAMES = 1000


class Subscription:
    """What one Envoy asked for, was told and has.

    Args:
        sets: What there is.
        epoch: Tells the versions of this process from those of others.
    """

    def __init__(self, sets: Sets, epoch: str) -> None:
        self._sets = sets
        self._epoch = epoch
        self._names: frozenset[str] = frozenset()
        self._told: Mapping[str, tuple[Address, ...]] = {}
        self._nonces = itertools.count(1)
        self._nonce = ""
        self._is_woken = False
        self.is_over = False
        self.node = ""

    @property
    def needs_a_look(self) -> bool:
        """Whether something was asked since the last news, or nothing will be any more."""
        return self._is_woken or self.is_over

    def take(self, request: Any) -> None:
        """Takes a request: a subscription, or the answer to what was told."""
        if request.type_url != convert.ENDPOINTS:
            # Listeners, routes and clusters are in Envoy's own file.
            return
        self.node = request.node.id or self.node
        if request.response_nonce and request.response_nonce != self._nonce:
            # The answer to an earlier one; that to the last is on its way, and has the names of now.
            return
        if request.HasField("error_detail"):
            # It keeps what it had. The same again would be refused again: the next change is the next try.
            logger.warning("endpoints_refused", node=self.node, error=request.error_detail.message)
        wanted = frozenset(request.resource_names[:_MAX_NAMES])
        unknown = sorted(wanted - names())
        if unknown and wanted != self._names:
            logger.warning("unknown_endpoints_asked_for", node=self.node, names=unknown[:5])
        # What it let go of and asks for again, it is told again.
        self._told = {name: told for name, told in self._told.items() if name in wanted}
        self._is_woken = self._is_woken or wanted != self._names
        self._names = wanted

    def news(self) -> Any | None:
        """What to tell now; None: nothing has changed."""
        self._is_woken = False
        known = {name: found for name in sorted(self._names) if (found := self._sets.addresses(name))}
        if not known or known == self._told:
            # A set that is not known is not told as empty: an Envoy that knows it from earlier keeps it.
            return None
        self._told, self._nonce = known, str(next(self._nonces))
        return convert.response(f"{self._epoch}.{self._sets.version}", self._nonce, known.items())


class EndpointServicer:
    """Serves the sets to any number of Envoys.

    Args:
        sets: What there is.
        token: Gives the token that Envoy has to show; None: it needs none. While it gives an empty one, or raises
            `OSError` or `UnicodeDecodeError`, nobody is told.
    """

    def __init__(self, sets: Sets, token: Callable[[], str] | None = None) -> None:
        self._sets = sets
        self._token = token
        self._epoch = uuid.uuid4().hex[:8]
        self._is_closed = False
        self._subscriptions: set[Subscription] = set()

    def handlers(self) -> tuple[str, dict[str, grpc.RpcMethodHandler]]:
        """The service's name, and its only method by its name."""
        service, _, method = convert.METHOD.strip("/").rpartition("/")
        stream = grpc.stream_stream_rpc_method_handler(
            self._stream,
            request_deserializer=convert.DiscoveryRequest.FromString,
            response_serializer=convert.DiscoveryResponse.SerializeToString,
        )
        return service, {method: stream}

    async def close(self) -> None:
        """Ends all streams, so that the server stops at once."""
        self._is_closed = True
        for subscription in self._subscriptions:
            subscription.is_over = True
        await self._sets.tell()

    async def _stream(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        await self._check(context)
        subscription = Subscription(self._sets, self._epoch)
        subscription.is_over = self._is_closed
        self._subscriptions.add(subscription)
        reader = asyncio.create_task(self._read(requests, subscription))
        try:
            while not subscription.is_over:
                version = self._sets.version
                if (news := subscription.news()) is not None:
                    yield news
                    logger.info("endpoints_told", node=subscription.node, version=news.version_info)
                    continue
                await self._sets.changed_since(version, lambda: subscription.needs_a_look)
        finally:
            self._subscriptions.discard(subscription)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _read(self, requests: AsyncIterator[Any], subscription: Subscription) -> None:
        try:
            async for request in requests:
                subscription.take(request)
                if subscription.needs_a_look:
                    await self._sets.tell()
        finally:
            subscription.is_over = True
            await self._sets.tell()

    async def _check(self, context: Any) -> None:
        if self._token is None:
            return
        shown = dict(context.invocation_metadata()).get("authorization", "")
        # Read each time, so that it can be changed.
        try:
            expected = await asyncio.to_thread(self._token)
        except (OSError, UnicodeDecodeError) as error:
            logger.warning("token_not_read", error=str(error))
            expected = ""
        if not expected:
            # "Bearer " and nothing more would do for everybody. What is wrong with the file is no matter of callers.
            await context.abort(grpc.StatusCode.UNAVAILABLE, "The mesh has no token now: see mesh.token_file there.")
        if not hmac.compare_digest(str(shown).encode(), f"Bearer {expected}".encode()):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "Show the token of mesh.token_file.")
