"""Offsets: what a group has committed, what it commits, and where partitions begin and end.

aiokafka's own commit tries again under whatever generation its consumer has by then, also for a partition that went to
somebody else meanwhile. Here a commit names the member and generation that it was decided in, once, so that the
broker refuses what is out of date.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import (
    IllegalGenerationError,
    NoError,
    RebalanceInProgressError,
    UnknownMemberIdError,
    for_code,
)
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.structs import TopicPartition

from services.shared.bus.adapters.kafka_client import FAILURES, closed, connect, disconnect, unavailable
from services.shared.bus.adapters.kafka_topics import wait_usable, without_leader
from services.shared.bus.config import KafkaConfig
from services.shared.errors import UnavailableError

# Less than whoever asks for readiness waits.
_CHECK_SECONDS = 2.0
_RETRY_SECONDS = 0.1
_LATEST, _EARLIEST = -1, -2
_FENCED_INSTANCE = 82


@dataclass(frozen=True, slots=True)
class Member:
    """Who commits: a member of the group in one of its generations."""

    member_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class Committed:
    """What is committed for a partition: the first offset that is not stored, and what was said with it."""

    offset: int
    metadata: str


class SupersededError(Exception):
    """The member or the generation of a commit is not the group's present one: nothing was committed."""


class GroupOffsets:
    """The offsets of a signal's topic and of its workers' group. Opened once, closed once.

    Args:
        config: Where Kafka is.
        signal: "metrics".
    """

    def __init__(self, config: KafkaConfig, signal: str) -> None:
        self._config = config
        self._group = config.group(signal)
        self._topic = config.topic(signal)
        self._client: AIOKafkaClient | None = None
        self._coordinator: int | None = None

    async def open(self) -> None:
        """Connects. Raises `UnavailableError` if Kafka, the topic or the group's coordinator is not there."""
        self._client = await connect(self._config)
        try:
            partitions = await wait_usable(self._client, self._topic, self._config.request_timeout)
            await self._wait_until_usable(range(partitions))
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Lets go of the connection."""
        client, self._client = self._client, None
        if client is not None:
            await disconnect(client)

    @property
    def partitions(self) -> int:
        """How many partitions the topic has, as far as is known."""
        return len(self._connected().cluster.partitions_for_topic(self._topic) or ())

    async def check(self) -> None:
        """Raises `UnavailableError` if no broker answers, or a partition has no leader."""
        client = self._connected()
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                answered = await client.force_metadata_update()
        except FAILURES as error:
            raise unavailable("does not answer", error) from error
        if not answered:
            raise UnavailableError("Kafka does not answer.")
        if without_leader(client, self._topic):
            raise UnavailableError(f"Kafka has no leader for some partition of {self._topic}.")

    async def committed(self, partitions: Collection[int]) -> dict[int, Committed]:
        """What is committed for partitions; nothing for those where nothing is.

        Raises:
            UnavailableError: It cannot be told now.
        """
        if not partitions:
            return {}
        request = OffsetFetchRequest(self._group, [(self._topic, sorted(partitions))])
        found = {}
        try:
            response = await self._ask_coordinator(request)
            for _, entries in response.topics:
                for partition, offset, metadata, code in entries:
                    self._raise_for(code)
                    if offset >= 0:
                        found[partition] = Committed(offset, metadata or "")
            self._raise_for(response.error_code)
        except FAILURES as error:
            self._coordinator = None
            raise unavailable("cannot tell what is committed", error) from error
        return found

    async def commit(self, member: Member, partition: int, offset: int, metadata: str) -> None:
        """Commits an offset, once.

        Raises:
            SupersededError: Another generation has begun, or the group does not know the member.
            UnavailableError: It is not known whether it is committed.
        """
        if member.generation < 0:
            # Kafka would take it as the word of somebody who needs no group.
            raise SupersededError("not a member")
        request = OffsetCommitRequest(
            self._group,
            member.generation,
            member.member_id,
            OffsetCommitRequest.DEFAULT_RETENTION_TIME,
            [(self._topic, [(partition, offset, metadata)])],
        )
        try:
            response = await self._ask_coordinator(request)
            for _, entries in response.topics:
                for _, code in entries:
                    self._raise_for(code)
        except (IllegalGenerationError, UnknownMemberIdError, RebalanceInProgressError) as error:
            raise SupersededError(str(error)) from error
        except FAILURES as error:
            self._coordinator = None
            raise unavailable("did not say whether it committed", error) from error

    async def ends(self, partitions: Collection[int]) -> dict[int, int]:
        """For each partition the offset that the next batch gets. Raises `UnavailableError`."""
        return await self._edges(partitions, _LATEST)

    async def beginnings(self, partitions: Collection[int]) -> dict[int, int]:
        """For each partition the offset of the oldest batch that is kept. Raises `UnavailableError`."""
        return await self._edges(partitions, _EARLIEST)

    async def _wait_until_usable(self, partitions: range) -> None:
        """The brokers of a new topic hear a little later that they lead it; new ones make a place for offsets first."""
        ends = time.monotonic() + self._config.request_timeout
        while True:
            try:
                await self.committed(partitions)
                await self.ends(partitions)
            except UnavailableError:
                if time.monotonic() > ends:
                    raise
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return

    async def _edges(self, partitions: Collection[int], which: int) -> dict[int, int]:
        client = self._connected()
        by_leader: dict[int, list[int]] = {}
        for partition in partitions:
            leader = client.cluster.leader_for_partition(TopicPartition(self._topic, partition))
            if leader is None or leader < 0:
                client.force_metadata_update()
                raise UnavailableError(f"Kafka has no leader for partition {partition} of {self._topic}.")
            by_leader.setdefault(leader, []).append(partition)
        found = {}
        try:
            for leader, its in by_leader.items():
                topics = [(self._topic, [(partition, which) for partition in its])]
                response = await client.send(leader, OffsetRequest(-1, 0, topics))
                for _, entries in response.topics:
                    for partition, code, _, offset in entries:
                        self._raise_for(code)
                        found[partition] = offset
        except FAILURES as error:
            client.force_metadata_update()
            raise unavailable("cannot tell where a partition ends", error) from error
        return found

    async def _ask_coordinator(self, request: Any) -> Any:
        client = self._connected()
        if self._coordinator is None:
            self._coordinator = await client.coordinator_lookup(CoordinationType.GROUP, self._group)
            if client.cluster.broker_metadata(self._coordinator) is None:
                await client.force_metadata_update()
        return await client.send(self._coordinator, request)

    def _connected(self) -> AIOKafkaClient:
        if self._client is None:
            raise closed()
        return self._client

    @staticmethod
    def _raise_for(code: int) -> None:
        if code == _FENCED_INSTANCE:
            raise UnknownMemberIdError
        error = for_code(code)
        if error is not NoError:
            raise error()
