"""A worker's membership in its group, as long as the process lives.

aiokafka's own group consumer knows the eager protocol only: with each rebalance it gives up everything. This one
speaks the same requests with a cooperative assignment (`kafka_assignment`): what stays is not disturbed, what goes is
given up first and handed on in a second round. It runs beside the inserts: a slow store costs no partition.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import structlog
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.coordinator.protocol import ConsumerProtocol
from aiokafka.errors import (
    IllegalGenerationError,
    KafkaError,
    MemberIdRequired,
    NoError,
    RebalanceInProgressError,
    UnknownMemberIdError,
    for_code,
)
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest

from services.shared.bus.adapters.kafka_assignment import Claim, assign
from services.shared.bus.adapters.kafka_client import FAILURES, connect, describe, disconnect
from services.shared.bus.adapters.kafka_offsets import Member
from services.shared.bus.adapters.kafka_topics import wait_usable
from services.shared.bus.config import KafkaConfig
from services.shared.errors import AirisError

logger = structlog.get_logger(__name__)

_PROTOCOL = "airis-cooperative"
_FIRST_DELAY = 0.1
_LONGEST_DELAY = 5.0
# Of a session: three signs of life may be lost.
_HEARTBEAT_SHARE = 0.25
_LONGEST_HEARTBEAT = 1.0
_LEAVE_SECONDS = 2.0
_NEWS_SECONDS = 1.0
_FENCED_INSTANCE = 82

NOBODY = Member("", -1)
"""Who has no partition."""

Changed = Callable[[frozenset[int], frozenset[int]], None]
"""Told which partitions came and which went, at once when that is known."""


class Membership:
    """One member. Ended with `close`; until then it comes back from every failure by itself.

    Args:
        config: Where Kafka is.
        signal: "metrics".
        changed: Told of every change.
    """

    def __init__(self, config: KafkaConfig, signal: str, changed: Changed) -> None:
        self._config = config
        self._group = config.group(signal)
        self._topic = config.topic(signal)
        self._changed = changed
        self._client: AIOKafkaClient | None = None
        self._coordinator = -1
        self._join_id = ""
        self._member = NOBODY
        self._owned: frozenset[int] = frozenset()
        self._partitions = 0
        self._urgent = asyncio.Event()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to join."""
        self._task = asyncio.create_task(self._run(), name=f"member of {self._group}")

    @property
    def member(self) -> Member:
        """Under which name and generation the owned partitions are held now."""
        return self._member

    @property
    def owned(self) -> frozenset[int]:
        """The partitions that are this member's."""
        return self._owned

    async def wait_news(self, seen: Member) -> None:
        """Returns when the member or its generation is another than the one seen, or after a second; asks the group."""
        self._urgent.set()
        try:
            async with asyncio.timeout(_NEWS_SECONDS):
                while self._member == seen:
                    await self._news.wait()
        except TimeoutError:
            return

    async def close(self) -> None:
        """Leaves the group, so that others need not wait for the session to end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        client = self._client
        if client is not None and self._join_id:
            request = LeaveGroupRequest(self._group, self._join_id)
            try:
                async with asyncio.timeout(_LEAVE_SECONDS):
                    # Not on the connection on which a join may wait for its answer.
                    await client.send(self._coordinator, request)
            except FAILURES as error:
                logger.warning("group_not_left", group=self._group, error=describe(error))
        self._adopt(NOBODY, frozenset())
        await self._disconnect()

    async def _run(self) -> None:
        delay = _FIRST_DELAY
        while True:
            try:
                if self._client is None:
                    await self._connect()
                rejoin_at_once = await self._join()
                delay = _FIRST_DELAY
                if not rejoin_at_once:
                    await self._stay()
            except RebalanceInProgressError:
                await asyncio.sleep(_FIRST_DELAY)
            except (UnknownMemberIdError, IllegalGenerationError) as error:
                logger.warning("group_membership_lost", group=self._group, error=describe(error))
                self._join_id = ""
                self._adopt(NOBODY, frozenset())
            except (*FAILURES, AirisError) as error:
                logger.warning("group_not_reached", group=self._group, error=describe(error), retry_in=round(delay, 2))
                await self._disconnect()
                await self._pause(delay)
                delay = min(delay * 2, _LONGEST_DELAY)
            except Exception:
                # An answer that nobody foresaw must not end the work of this process.
                logger.exception("group_membership_failed", group=self._group)
                await self._disconnect()
                await self._pause(_LONGEST_DELAY)

    async def _connect(self) -> None:
        # The answer to a join comes only when all members have joined.
        waits = self._config.session_timeout + self._config.request_timeout
        client = await connect(self._config, request_timeout_ms=int(waits * 1000))
        try:
            await wait_usable(client, self._topic, self._config.request_timeout)
            async with asyncio.timeout(self._config.request_timeout):
                self._coordinator = await client.coordinator_lookup(CoordinationType.GROUP, self._group)
        except BaseException:
            await disconnect(client)
            raise
        self._client = client

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await disconnect(client)

    async def _join(self) -> bool:
        """One round; returns whether something was given up, so that the next is due."""
        claim = Claim(self._member.generation, self._owned)
        metadata = ConsumerProtocol.METADATA(0, [self._topic], claim.encode()).encode()
        session = int(self._config.session_timeout * 1000)
        request = JoinGroupRequest(
            self._group, session, session, self._join_id, None, "consumer", [(_PROTOCOL, metadata)]
        )
        joined = await self._send(request)
        if for_code(joined.error_code) is MemberIdRequired:
            self._join_id = joined.member_id
            return True
        _raise_for(joined.error_code)
        self._join_id = joined.member_id
        assignments = []
        if joined.leader_id == joined.member_id:
            claims = {member[0]: _claim(member[-1]) for member in joined.members}
            assignments = [(member, self._encode(its)) for member, its in assign(claims, self._known()).items()]
        synced = await self._send(
            SyncGroupRequest(self._group, joined.generation_id, joined.member_id, None, assignments)
        )
        _raise_for(synced.error_code)
        self._partitions = self._known()
        assignment = ConsumerProtocol.ASSIGNMENT.decode(synced.member_assignment)
        mine = frozenset(found.partition for found in assignment.partitions() if found.topic == self._topic)
        gives_up = bool(self._owned - mine)
        self._adopt(Member(joined.member_id, joined.generation_id), mine)
        return gives_up

    async def _stay(self) -> None:
        """Shows signs of life until the group wants to join again."""
        interval = min(self._config.session_timeout * _HEARTBEAT_SHARE, _LONGEST_HEARTBEAT)
        last = time.monotonic()
        while self._known() == self._partitions:
            await self._pause(interval)
            try:
                async with asyncio.timeout(interval * 2):
                    answer = await self._send(
                        HeartbeatRequest(self._group, self._member.generation, self._member.member_id)
                    )
            except TimeoutError:
                if time.monotonic() - last < self._config.session_timeout:
                    continue
                raise
            if for_code(answer.error_code) is RebalanceInProgressError:
                return
            _raise_for(answer.error_code)
            last = time.monotonic()

    def _adopt(self, member: Member, owned: frozenset[int]) -> None:
        came, went = owned - self._owned, self._owned - owned
        self._member, self._owned = member, owned
        if came or went:
            logger.info(
                "partitions_changed",
                topic=self._topic,
                generation=member.generation,
                came=sorted(came),
                went=sorted(went),
                owned=sorted(owned),
            )
            self._changed(came, went)
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _send(self, request: JoinGroupRequest | SyncGroupRequest | HeartbeatRequest) -> Any:
        assert self._client is not None  # noqa: S101 - `_run` connects first
        return await self._client.send(self._coordinator, request, group=ConnectionGroup.COORDINATION)

    async def _pause(self, seconds: float) -> None:
        # Spread only, so that members do not ask in step.
        spread = seconds * (0.75 + random.random() / 4)  # noqa: S311
        try:
            async with asyncio.timeout(spread):
                await self._urgent.wait()
        except TimeoutError:
            return
        finally:
            self._urgent.clear()

    def _known(self) -> int:
        client = self._client
        found = client.cluster.partitions_for_topic(self._topic) if client is not None else None
        return len(found) if found else self._partitions

    def _encode(self, partitions: frozenset[int]) -> bytes:
        assignment: bytes = ConsumerProtocol.ASSIGNMENT(0, [(self._topic, sorted(partitions))], b"").encode()
        return assignment


def _claim(metadata: bytes) -> Claim:
    found = ConsumerProtocol.METADATA.decode(metadata)
    return Claim.decode(found.user_data)


def _raise_for(code: int) -> None:
    if code == _FENCED_INSTANCE:
        raise UnknownMemberIdError
    error: type[KafkaError] = for_code(code)
    if error is not NoError:
        raise error()
