"""Makes the topics of a signal, whoever comes first."""

from __future__ import annotations

import asyncio

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import NoError, TopicAlreadyExistsError, for_code

from services.shared.bus.adapters.kafka_client import FAILURES, disconnect, options, unavailable
from services.shared.bus.config import KafkaConfig
from services.shared.bus.port import MAX_PARTITIONS
from services.shared.errors import UnavailableError

logger = structlog.get_logger(__name__)

MAX_MESSAGE_BYTES = 33 * 1024 * 1024
"""Of a batch with its headers: a message of 32 MiB, which is what the services take, and room for what is known of
it."""

DEAD_LETTER_BYTES = MAX_MESSAGE_BYTES + 1024 * 1024
"""The same of a batch that could not be read, with what is said about it."""

_HOUR_MS = 3_600_000
_POLL_SECONDS = 0.1


async def ensure_topics(config: KafkaConfig, signal: str) -> None:
    """Makes the topics of a signal where they are missing, and returns when all partitions can be used.

    Raises:
        UnavailableError: They cannot be made, or are not usable within the request timeout, or have more partitions
            than positions have room for.
    """
    wanted = [
        _topic(config, config.topic(signal), config.partitions, config.retention_hours, MAX_MESSAGE_BYTES),
        _topic(config, config.dead_letter_topic(signal), 1, config.dead_letter_retention_hours, DEAD_LETTER_BYTES),
    ]
    admin = AIOKafkaAdminClient(**options(config))
    try:
        await admin.start()
        there = set(await admin.list_topics())
        if missing := [topic for topic in wanted if topic.name not in there]:
            await _create(admin, missing)
    except FAILURES as error:
        raise unavailable("could not make the topics", error) from error
    finally:
        await disconnect(admin)


async def message_limit(config: KafkaConfig, topic: str) -> int:
    """The bytes that a topic takes in one message: one that was made by somebody else may take less.

    Raises:
        KafkaError: It cannot be asked.
    """
    admin = AIOKafkaAdminClient(**options(config))
    try:
        await admin.start()
        wanted = ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": ""})
        for response in await admin.describe_configs([wanted]):
            for code, _, _, _, entries in response.resources:
                for name, value, *_ in entries if code == 0 else ():
                    if name == "max.message.bytes":
                        return min(int(value), MAX_MESSAGE_BYTES)
    finally:
        await disconnect(admin)
    # Not everybody may ask for that.
    return MAX_MESSAGE_BYTES


async def wait_usable(client: AIOKafkaClient, topic: str, timeout: float) -> int:
    """Waits until every partition of a topic has a leader.

    Args:
        client: Where to look.
        topic: Its name.
        timeout: Seconds.

    Returns:
        The number of its partitions.

    Raises:
        UnavailableError: They have none in time.
    """
    try:
        async with asyncio.timeout(timeout):
            await client.add_topic(topic)
            while without_leader(client, topic):
                await asyncio.sleep(_POLL_SECONDS)
                await client.force_metadata_update()
    except TimeoutError as error:
        raise unavailable(f"has no leader for all partitions of {topic}", error) from error
    count = len(client.cluster.partitions_for_topic(topic) or ())
    if count > MAX_PARTITIONS:
        raise UnavailableError(f"Kafka's topic {topic} has {count} partitions; at most {MAX_PARTITIONS} are supported.")
    return count


def without_leader(client: AIOKafkaClient, topic: str) -> bool:
    """Whether some partition of a topic cannot be used, or none is known."""
    partitions = client.cluster.partitions_for_topic(topic)
    return not partitions or partitions != client.cluster.available_partitions_for_topic(topic)


def _topic(config: KafkaConfig, name: str, partitions: int, retention_hours: int, max_bytes: int) -> NewTopic:
    replicas = config.replication_factor
    return NewTopic(
        name,
        partitions,
        replicas,
        topic_configs={
            "cleanup.policy": "delete",
            "retention.ms": str(retention_hours * _HOUR_MS),
            "max.message.bytes": str(max_bytes),
            "min.insync.replicas": str(max(1, replicas - 1)),
            "unclean.leader.election.enable": "false",
            # Whatever the brokers' own setting is: they may not turn batches into what workers cannot read.
            "compression.type": "producer",
        },
    )


async def _create(admin: AIOKafkaAdminClient, topics: list[NewTopic]) -> None:
    response = await admin.create_topics(topics)
    for name, code, *message in response.topic_errors:
        error = for_code(code)
        if error is NoError:
            logger.info("topic_created", topic=name)
        elif error is not TopicAlreadyExistsError:
            raise error(*message)
