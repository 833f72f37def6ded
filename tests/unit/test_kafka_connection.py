"""A connection to Kafka whose transport has ended is a lost connection, on either event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from services.shared.bus.adapters import kafka_client


async def send_over_an_ended_transport() -> None:
    assert kafka_client.FAILURES
    reasons: list[Any] = []
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connection = AIOKafkaConnection("127.0.0.1", port, on_close=lambda _, reason: reasons.append(reason))
    try:
        connection._reader, connection._writer = await asyncio.open_connection("127.0.0.1", port)
        connection._read_task = asyncio.create_task(asyncio.Event().wait())
        connection._versions = {MetadataRequest.API_KEY: (0, 0)}
        connection._request_timeout = 0.5
        connection._writer.transport.abort()
        await connection._reader.read()
        with pytest.raises((KafkaConnectionError, TimeoutError)) as told:
            await connection.send(MetadataRequest([]))
        if isinstance(asyncio.get_running_loop(), uvloop.Loop):
            assert isinstance(told.value, KafkaConnectionError)
            assert str(port) in str(told.value)
            assert len(reasons) == 1
            # What comes later finds no connection.
            with pytest.raises(KafkaConnectionError):
                await connection.send(MetadataRequest([]))
    finally:
        connection.close()
        server.close()


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run])
def test_sending_over_a_transport_that_has_ended_fails_as_kafka_s_failures_do(
    run: Callable[[Coroutine[Any, Any, None]], None],
) -> None:
    run(send_over_an_ended_transport())
