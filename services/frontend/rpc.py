"""The servicers: hand a request's bytes to the owner of the store."""

from __future__ import annotations

import time
from types import SimpleNamespace

from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from resilience import deadline
from services.frontend.contract import Signal
from services.shared.handover.caller import Caller
from services.shared.handover.frames import Call, Kind
from services.shared.rpc.context import QUERY_SECONDS, Context, tenant
from services.shared.telemetry.tracing import traceparent


class ForOwner:
    """Answers the ingest methods of a signal, over gRPC and OTLP/HTTP.

    Args:
        signal: Which.
        owner: Who has its store.
    """

    def __init__(self, signal: Signal, owner: Caller) -> None:
        self._signal = signal
        self._owner = owner

    async def export(self, payload: bytes, owner: str) -> Message:
        """Answers OTLP's `Export`."""
        return await self._hand_over(Kind.EXPORT, self._signal.export, payload, owner)

    def of_unary(self) -> object:
        """Answers our own unary method, under its name in the contract."""

        async def answer(payload: bytes, context: Context) -> Message:
            return await self._hand_over(Kind.UNARY, self._signal.unary, payload, tenant())

        return SimpleNamespace(**{self._signal.unary.name: answer})

    def of_export(self) -> object:
        """Answers OTLP's over gRPC, likewise."""

        async def answer(payload: bytes, context: Context) -> Message:
            return await self.export(payload, tenant())

        return SimpleNamespace(**{self._signal.export.name: answer})

    async def _hand_over(self, kind: Kind, method: MethodDescriptor, payload: bytes, owner: str) -> Message:
        left = deadline.remaining()
        ends_at = time.monotonic() + (QUERY_SECONDS if left is None else left)
        response = await self._owner.call(kind, Call(owner, ends_at, payload, traceparent()))
        message: Message = message_factory.GetMessageClass(method.output_type).FromString(response)
        return message
