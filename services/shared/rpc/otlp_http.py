"""OTLP over HTTP, protobuf and JSON, onto the same `Export` as over gRPC.

JSON follows OTLP's own rules: ids are hex, enums are numbers, unknown fields are ignored.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from services.shared.bus.ingest import WaitingBytes
from services.shared.errors import AirisError, InvalidArgumentError
from services.shared.one_at_a_time import OneAtATime
from services.shared.rpc.errors import from_exception, to_status
from services.shared.rpc.ingest_wire import MOST_ITEMS

# Millions of empty objects fit into a body that is not too large in bytes. As in protobuf, there may be eight for each
# item: in the largest body that is one in 16 bytes, more than there are in attributes of plain values, however short.
MOST_OBJECTS = 8 * MOST_ITEMS

_JSON = "application/json"
_HTTP = {
    "INVALID_ARGUMENT": 400,
    "OUT_OF_RANGE": 400,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 503,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
}
_IDS = frozenset(("traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id"))
_MAX_DEPTH = 64
# Of JSON whose values have other types than the message's, the parser raises more than its own error.
_UNREADABLE = (ValueError, TypeError, AttributeError, SystemError, OverflowError, RecursionError, json_format.Error)


class OtlpHttp:
    """Serves one signal (`services.shared.rpc.server.OtlpHandler`).

    Args:
        export: Takes a request's wire bytes and the tenant whose they are.
        request: The request message's class, for JSON.
        domain: The ErrorInfo domain.
        check_room: Raises what `export` would for so many bytes, or more.
    """

    def __init__(
        self,
        export: Callable[[bytes, str], Awaitable[Message]],
        request: type[Message],
        domain: str,
        check_room: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._export = export
        self._request = request
        self._domain = domain
        self._check_room = check_room
        self._bytes = WaitingBytes()
        self._parsing = OneAtATime()

    async def answer(self, body: bytes, content_type: str, tenant: str) -> tuple[int, bytes]:
        """Takes a body; gives an HTTP status, and a body of the same content type. Raises what `refuse` words."""
        if content_type != _JSON:
            return 200, _serialize(await self._export(body, tenant), content_type)
        with suppress(InvalidArgumentError):
            # What is too large as JSON may be small enough as protobuf.
            self._check_room(len(body))
        _refuse_many_objects(body)
        counted = self._request.DESCRIPTOR.full_name, tenant, len(body)
        self._bytes.add(*counted)
        try:
            # Until the answer: whoever called keeps the body until then.
            payload = await self._parsing.run(_from_json, body, self._request)
            return 200, _serialize(await self._export(payload, tenant), content_type)
        finally:
            self._bytes.remove(*counted)

    def refuse(self, exception: Exception, content_type: str) -> tuple[int, bytes]:
        """Words an error: an HTTP status, and a body of the content type."""
        name = self._request.DESCRIPTOR.full_name
        error: AirisError = from_exception(exception, self._domain, f"OTLP/HTTP {name}")
        return _HTTP.get(error.code, 500), _serialize(to_status(error, self._domain), content_type)


def _serialize(message: Message, content_type: str) -> bytes:
    if content_type == _JSON:
        return json_format.MessageToJson(message, indent=None).encode()
    return bytes(message.SerializeToString())


def _refuse_many_objects(body: bytes) -> None:
    # Brackets within texts count too: to tell them apart, it would have to be parsed.
    if body.count(b"{") + body.count(b"[") > MOST_OBJECTS:
        raise InvalidArgumentError(
            f"The request has more than {MOST_OBJECTS} objects and lists. Split it into several.",
            reason="SIZE_LIMIT_EXCEEDED",
        )


def _from_json(body: bytes, request: type[Message]) -> bytes:
    try:
        tree = json.loads(body)
        _ids_to_base64(tree, 0)
        message = json_format.ParseDict(tree, request(), ignore_unknown_fields=True)
    except _UNREADABLE as error:
        raise InvalidArgumentError(
            f"The body is not valid OTLP/JSON: {str(error)[:200]}", reason="MALFORMED_REQUEST"
        ) from error
    return bytes(message.SerializeToString())


def _ids_to_base64(node: Any, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise ValueError(f"it is nested deeper than {_MAX_DEPTH}")
    if isinstance(node, list):
        for item in node:
            _ids_to_base64(item, depth + 1)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key in _IDS and isinstance(value, str):
                try:
                    node[key] = base64.b64encode(binascii.unhexlify(value)).decode()
                except binascii.Error as error:
                    raise ValueError(f"{key} must be hex") from error
            else:
                _ids_to_base64(value, depth + 1)
