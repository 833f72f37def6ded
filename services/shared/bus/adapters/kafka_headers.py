"""A batch's header as the headers of a Kafka record, and the record's key. Pure.

A record is a CloudEvent in binary mode: its attributes are `ce_…` headers and the payload is the record's value. What
the event type is and in which version, the payload's full protobuf name says, which has the version in its package.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from services.shared.bus.port import Header

Headers = Sequence[tuple[str, bytes]]

VERSION = "1"
"""Of the encoding of headers and payloads."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KEY_SEPARATOR = b"\x00"
_INT64 = range(-(2**63), 2**63)
_COUNTS = range(2**32)
_SEQUENCES = range(2**63)


class UnreadableError(Exception):
    """The headers are not those of a batch; the message says why."""


def encode(header: Header, service: str, event_id: str, traceparent: str) -> list[tuple[str, bytes]]:
    """The headers of a batch's record.

    Args:
        header: What is known of the batch.
        service: The name of the service that publishes it: "airis-metrics".
        event_id: Tells the event from all others of the service.
        traceparent: The W3C trace context in which it is published; empty if there is none.
    """
    texts = {
        "ce_specversion": "1.0",
        "ce_id": event_id,
        "ce_type": header.message_type,
        "ce_source": f"/{service}",
        "ce_time": _rfc3339(header.received_at),
        "content-type": "application/protobuf",
        "correlation-id": _correlation(header) or event_id,
        "service-name": service,
        "message-type": header.message_type,
        "tenant": header.tenant,
        "airis-version": VERSION,
        "received-at": str(header.received_at),
        "item-count": str(header.item_count),
    }
    optional = {
        "traceparent": traceparent,
        "request-id": header.request_id,
        "producer-id": header.producer_id,
        "sequence": str(header.sequence) if header.sequence else "",
    }
    texts.update({name: text for name, text in optional.items() if text})
    headers = [(name, text.encode()) for name, text in texts.items()]
    if header.rejected:
        headers.append(("rejected", struct.pack(f"<{len(header.rejected)}I", *header.rejected)))
    return headers


def decode(headers: Iterable[tuple[str, bytes]]) -> Header:
    """Reads what `encode` wrote.

    Raises:
        UnreadableError: Something else wrote it, or a newer version.
    """
    # Whoever else writes to the topic may leave a value out.
    found = {name: value or b"" for name, value in headers}
    version = found.get("airis-version", b"").decode(errors="replace")
    if version != VERSION:
        raise UnreadableError(
            f"airis-version is {version!r}, and this is version {VERSION}"
            if version
            else "there is no airis-version header: it is not a batch"
        )
    try:
        rejected = found.get("rejected", b"")
        return Header(
            # Few distinct values over many headers: one object each.
            tenant=sys.intern(found["tenant"].decode()),
            message_type=sys.intern(found["message-type"].decode()),
            received_at=_number(found["received-at"], _INT64),
            item_count=_number(found["item-count"], _COUNTS),
            request_id=found.get("request-id", b"").decode(),
            producer_id=found.get("producer-id", b"").decode(),
            sequence=_number(found.get("sequence", b"0"), _SEQUENCES),
            rejected=struct.unpack(f"<{len(rejected) // 4}I", rejected),
        )
    except KeyError as error:
        raise UnreadableError(f"the header {error} is missing") from error
    except (ValueError, AttributeError, struct.error) as error:
        raise UnreadableError(f"a header is malformed: {error}") from error


def key_of(header: Header) -> bytes | None:
    """What keeps a sender's batches, and the repetitions of a request, in one partition; None: any partition does."""
    identity = header.request_id or header.producer_id
    return header.tenant.encode() + _KEY_SEPARATOR + identity.encode() if identity else None


def size_of(headers: Headers) -> int:
    """About the bytes that headers take in a record."""
    return sum(len(name) + len(value or b"") + 4 for name, value in headers)


def _number(text: bytes, allowed: range) -> int:
    """A number that stores have room for: one that they refuse would be repeated for ever."""
    number = int(text)
    if number not in allowed:
        raise ValueError(f"{number} is not from {allowed.start} to {allowed.stop - 1}")
    return number


def _correlation(header: Header) -> str:
    if header.request_id or not header.producer_id:
        return header.request_id
    return f"{header.producer_id}/{header.sequence}"


def _rfc3339(nanoseconds: int) -> str:
    try:
        moment = _EPOCH + timedelta(microseconds=nanoseconds // 1000)
    except OverflowError:
        moment = _EPOCH
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
