"""What the shop's services say to each other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

# A google.protobuf.Struct, read: numbers, strings, lists and further messages.
Message = dict[str, Any]
Method = Callable[[Message], Awaitable[Message]]
Methods = Mapping[str, Method]


class ShopError(Exception):
    """A call that failed, told to the caller under the name of a gRPC status.

    Attributes:
        status: The status: "UNAVAILABLE".
        message: Why, for people.
    """

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
