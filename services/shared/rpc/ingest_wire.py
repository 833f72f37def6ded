"""Ingest requests from their bytes: one reader for the three dialects of a signal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import ptars
import pyarrow as pa
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from services.shared.errors import InvalidArgumentError

ItemsT = TypeVar("ItemsT")


# Field 1, a message: the items of every dialect's request. Millions of empty ones fit into a request that is not too
# large in bytes, and would take seconds to refuse once they are columns.
_ITEM_TAG = b"\x0a"
_MOST_ITEMS = 1_000_000


@dataclass(frozen=True, slots=True)
class Dialect(Generic[ItemsT]):
    """One way of sending items.

    Attributes:
        message: The request message's class.
        items: The field that holds the items: of the request, or of its `batch`.
        convert: Turns the items, as ptars gives them, into columns.
    """

    message: type[Message]
    items: str
    convert: Callable[[pa.StructArray], ItemsT]


class IngestWire(Generic[ItemsT]):
    """Reads requests.

    Args:
        dialects: What may be sent.
    """

    def __init__(self, *dialects: Dialect[ItemsT]) -> None:
        self._dialects = {dialect.message.DESCRIPTOR.full_name: dialect for dialect in dialects}
        pool = ptars.HandlerPool(
            list({d.message.DESCRIPTOR.file.name: d.message.DESCRIPTOR.file for d in dialects}.values())
        )
        self._handlers = {
            name: pool.get_for_message(dialect.message.DESCRIPTOR) for name, dialect in self._dialects.items()
        }

    def read(self, message_type: str, payload: bytes) -> tuple[ItemsT, dict[str, Any]]:
        """Turns a request's bytes into columns.

        Args:
            message_type: Full name of the request's message.
            payload: Its bytes.

        Returns:
            The items, and the other plain fields beside them by name.

        Raises:
            InvalidArgumentError: The bytes are not a message of the type (MALFORMED_REQUEST).
        """
        dialect = self._dialects[message_type]
        if payload.count(_ITEM_TAG) > _MOST_ITEMS and _has_more_items(payload, _MOST_ITEMS):
            raise InvalidArgumentError(
                f"The request has more than {_MOST_ITEMS} items. Split it into several.", reason="SIZE_LIMIT_EXCEEDED"
            )
        try:
            request = self._record_batch(message_type, payload)
            fields = dict(zip(request.schema.names, request.columns, strict=True))
            if dialect.items not in fields:
                names = [field.name for field in request.schema.field("batch").type]
                fields = dict(zip(names, fields["batch"].flatten(), strict=True))
            items = fields.pop(dialect.items)
            # What ptars leaves as bytes, values within values, is parsed only here.
            return dialect.convert(items.flatten()), {name: column[0].as_py() for name, column in fields.items()}
        except (ValueError, DecodeError, json_format.Error) as error:
            raise InvalidArgumentError(
                f"The request is not a valid {message_type} message.", reason="MALFORMED_REQUEST"
            ) from error

    def _record_batch(self, message_type: str, payload: bytes) -> pa.RecordBatch:
        try:
            return self._to_arrow(message_type, payload)
        except ValueError:
            # ptars stumbles over some bytes that are allowed, such as a map's entry without its value. What
            # protobuf's own parser takes and writes anew it reads.
            canonical = self._dialects[message_type].message.FromString(payload).SerializeToString()
            return self._to_arrow(message_type, canonical)

    def _to_arrow(self, message_type: str, payload: bytes) -> pa.RecordBatch:
        try:
            return self._handlers[message_type].list_to_record_batch([payload])
        except BaseException as error:
            # A panic in Rust is no Exception: nothing else would answer the call.
            if type(error).__module__ != "pyo3_runtime":
                raise
            raise ValueError(str(error)) from error


def _has_more_items(payload: bytes, most: int) -> bool:
    """Whether a message has more than so many entries of field 1 in a row, without building any."""
    at = count = 0
    while at < len(payload) and payload[at] == _ITEM_TAG[0] and count <= most:
        at += 1
        size = shift = 0
        while at < len(payload) and shift < 64:
            byte = payload[at]
            at += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        at += size
        count += 1
    return count > most
