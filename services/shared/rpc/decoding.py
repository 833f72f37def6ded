"""Parsing requests so that one that is no message of its type is answered as any other wrong request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from google.protobuf.message import DecodeError, Message


@dataclass(frozen=True, slots=True)
class Malformed:
    """Stands for a request that could not be parsed. `message_type` is the full name of what was expected."""

    message_type: str


def deserializer(message: type[Message]) -> Callable[[bytes], Message | Malformed]:
    """Parses requests of a type; gives `Malformed` for what cannot be parsed.

    gRPC answers an error of a deserializer with UNKNOWN and its text, before any interceptor could word it.
    """

    def parse(payload: bytes) -> Message | Malformed:
        try:
            return message.FromString(payload)
        except DecodeError:
            return Malformed(message.DESCRIPTOR.full_name)

    return parse
