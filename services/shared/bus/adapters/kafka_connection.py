"""Makes aiokafka take a transport that has ended for a lost connection, on uvloop as on asyncio's own loop.

Where asyncio's loop lets a write to an ended transport pass, uvloop raises `RuntimeError`, which aiokafka expects
nowhere: the task that keeps a client's metadata up to date ended by it, and from then on the client never learned that
a broker was back.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError

_SENDING = ("send", "_send_sasl_token")


def expect_ended_transports() -> None:
    """From now on sending over a transport that has ended raises `KafkaConnectionError`. Once is enough."""
    for name in _SENDING:
        send = getattr(AIOKafkaConnection, name)
        if not hasattr(send, "__wrapped__"):
            setattr(AIOKafkaConnection, name, _telling(send))


def _telling(send: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(send)
    def telling(connection: AIOKafkaConnection, *arguments: Any, **named: Any) -> Any:
        try:
            return send(connection, *arguments, **named)
        except RuntimeError as error:
            connection.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"Connection at {connection.host}:{connection.port} has ended") from error

    return telling
