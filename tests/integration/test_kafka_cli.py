"""`airis bus` as operators run it, on a real broker."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from airis.client.cli import app
from typer.testing import CliRunner

from deploy.servers import Server
from services.shared.bus.adapters.kafka import KafkaBus
from services.shared.bus.config import KafkaConfig
from services.shared.bus.port import Batch, Header, InsertLimits

pytestmark = pytest.mark.servers


def decode(header: Header, payload: bytes) -> bytes:
    return payload


async def airis(config: KafkaConfig, *arguments: str, status: int = 0) -> str:
    """Runs a command with the services' own settings; returns what it printed."""
    environment = {
        "AIRIS_BUS__KIND": "kafka",
        "AIRIS_BUS__KAFKA__BOOTSTRAP_SERVERS": config.bootstrap_servers,
        "AIRIS_BUS__KAFKA__TOPIC_PREFIX": config.topic_prefix,
    }
    result = await asyncio.to_thread(CliRunner().invoke, app, ["bus", *arguments], env=environment)
    assert result.exit_code == status, result.output
    return result.output


async def test_dead_letters_are_listed_shown_and_replayed_once(kafka: Server, tmp_path: Path) -> None:
    config = KafkaConfig(bootstrap_servers=kafka.address, topic_prefix=f"cli-{uuid.uuid4().hex}", partitions=1)
    bus: KafkaBus[bytes] = KafkaBus(config, "logs", decode, limits=InsertLimits(max_age=0.02))
    await bus.open()
    try:
        foreign = AIOKafkaProducer(bootstrap_servers=config.bootstrap_servers)
        await foreign.start()
        await foreign.send_and_wait(config.topic("logs"), b"not ours", key=b"k", headers=[("tenant", b"acme")])
        await foreign.stop()
        await bus.publish(Batch(Header("default", "airis.test.v1.Batch", 1, 1), b"wire", decode))
        insert = await bus.next_insert()
        lag = json.loads(await airis(config, "lag", "-s", "logs", "-o", "json"))
        assert lag[0]["end"] == 2
        await bus.commit(insert)
        while bus.dead_letters == 0:
            await bus.commit(await bus.next_insert())
        assert json.loads(await airis(config, "lag", "-s", "logs", "-o", "json")) == [
            {"partition": 0, "committed": 2, "end": 2, "lag": 0}
        ]
        (letter,) = json.loads(await airis(config, "dlq", "list", "-s", "logs", "-o", "json"))
        assert letter["letter"] == f"{config.topic('logs')}:0:0"
        assert "airis-version" in letter["reason"]
        assert letter["letter"] in await airis(config, "dlq", "list", "-s", "logs")
        shown = json.loads(
            await airis(config, "dlq", "show", letter["letter"], "-s", "logs", "--payload", str(tmp_path / "batch"))
        )
        assert shown["key"] == "k"
        assert shown["headers"] == {"tenant": "acme"}
        assert (tmp_path / "batch").read_bytes() == b"not ours"
        assert "Replayed 1 letter." in await airis(config, "dlq", "replay", "--all", "-s", "logs")
        assert "replayed before" in await airis(config, "dlq", "replay", letter["letter"], "-s", "logs")
        assert "Replayed 0 letters." in await airis(config, "dlq", "replay", "--all", "-s", "logs")
        assert "Replayed 1 letter." in await airis(config, "dlq", "replay", "--all", "--again", "-s", "logs")
        (letter,) = json.loads(await airis(config, "dlq", "list", "-s", "logs", "-o", "json"))[:1]
        assert letter["replayed"] == 2
        assert "There is no dead letter x" in await airis(config, "dlq", "show", "x", "-s", "logs", status=1)
    finally:
        await bus.close()


async def test_without_kafka_the_command_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRIS_BUS__KIND", raising=False)
    result = await asyncio.to_thread(CliRunner().invoke, app, ["bus", "lag"], env={"AIRIS_PROFILE": "embedded"})
    assert result.exit_code == 1
    assert "bus.kind" in result.output
