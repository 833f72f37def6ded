"""What differs between the signals when items are sent; everything else is the same code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import grpc
from airis.client.errors import AirisError, InvalidArgumentError, from_status
from google.rpc import status_pb2

ItemT = TypeVar("ItemT")

MAX_MESSAGE_BYTES = 32 * 1024 * 1024
"""What a service reads as one message."""


@dataclass(frozen=True, slots=True)
class IngestDialect(Generic[ItemT]):
    """How items of one signal are sent.

    Attributes:
        items: The name of the requests' field with the items: "metrics".
        stream_method: The bidirectional RPC: "StreamMetrics".
        stream_request: Its request's class, with the oneof `open` and `batch`.
        stream_response: Its response's class.
        unary_method: The unary RPC: "IngestMetrics".
        unary_request: Its request's class.
        unary_response: Its response's class.
    """

    items: str
    stream_method: str
    stream_request: Any
    stream_response: Any
    unary_method: str
    unary_request: Any
    unary_response: Any


@dataclass(frozen=True, slots=True)
class ItemRejection:
    """One item that was not stored.

    Attributes:
        index: Its place in the batch, from 0.
        error: Why.
    """

    index: int
    error: AirisError


@dataclass(frozen=True, slots=True)
class BatchRejection:
    """What was not stored of a batch.

    Attributes:
        sequence: Which batch: 1 is the first one sent.
        first_item: How many items its sender had sent before this batch.
        item_count: How many items were refused.
        error: Why the whole batch was; None when only items of it were.
        items: The refused items, when the others were stored.
    """

    sequence: int
    first_item: int
    item_count: int
    error: AirisError | None
    items: tuple[ItemRejection, ...] = ()


def batch_rejection(
    sequence: int, first_item: int, item_count: int, status: status_pb2.Status | None, items: Sequence[Any]
) -> BatchRejection:
    """A rejection as the wire words it.

    Args:
        sequence: Which batch.
        first_item: How many items came before it.
        item_count: How many items the batch has.
        status: Why the whole batch was refused, if it was.
        items: `airis.common.v1.Rejection` messages.
    """
    if status is not None:
        return BatchRejection(sequence, first_item, item_count, from_status(status))
    refused = tuple(ItemRejection(item.index, from_status(item.status)) for item in items)
    return BatchRejection(sequence, first_item, len(refused), None, refused)


def check_batch(item_count: int, size: int) -> None:
    """Refuses what no service would read.

    Raises:
        InvalidArgumentError: The batch is empty, or longer than a message may be.
    """
    if item_count == 0:
        raise InvalidArgumentError("A batch must have items.", code=grpc.StatusCode.INVALID_ARGUMENT)
    if size > MAX_MESSAGE_BYTES:
        raise InvalidArgumentError(
            f"The batch has {size} bytes; at most {MAX_MESSAGE_BYTES} fit a message. Send fewer items at once.",
            code=grpc.StatusCode.INVALID_ARGUMENT,
        )
