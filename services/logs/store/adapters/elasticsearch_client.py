"""A connection to Elasticsearch: each call has its deadline, each failure is one of our errors, nothing is repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog
from elastic_transport import ConnectionTimeout, ObjectApiResponse, TransportError
from elasticsearch import ApiError, AsyncElasticsearch

from services.logs.config import ElasticsearchConfig
from services.shared.errors import (
    AirisError,
    DeadlineExceededError,
    FailedPreconditionError,
    ResourceExhaustedError,
    UnavailableError,
)
from services.shared.filter.fault import fault

logger = structlog.get_logger(__name__)

Call = Callable[[AsyncElasticsearch], Awaitable[ObjectApiResponse[Any]]]

_CHECK_SECONDS = 2.0
_TOO_MANY = ("too_many_buckets_exception", "too_many_clauses", "too_many_nested_clauses", "circuit_breaking_exception")
# The type of this error says nothing: a piece in a phrase is the beginning, or the end, of too many words.
_TOO_MANY_WORDS = "exceeds maxClauseCount"
_TOO_DEEP = "indices.query.bool.max_nested_depth"
_DISK_FULL = "flood-stage watermark"


class RefusedError(AirisError):
    """It does not understand a call.

    Args:
        answer: What it said; it may hold parts of the data.
    """

    def __init__(self, answer: str) -> None:
        super().__init__("The store refused the request; the service's log says why.")
        self.answer = answer


class Elasticsearch:
    """The engine of the log store.

    Args:
        config: Where it is, and who we are there.
    """

    def __init__(self, config: ElasticsearchConfig) -> None:
        self._config = config
        self._client: AsyncElasticsearch | None = None

    async def open(self) -> None:
        """Connects.

        Raises:
            FailedPreconditionError: The file of the password cannot be read.
            UnavailableError: It does not answer.
        """
        if self._client is None:
            self._client = _connect(self._config)
        await self.check()

    async def check(self) -> None:
        """Raises `AirisError` with the reason if it does not answer now, or a shard of ours is lost."""
        pattern = f"{self._config.index_prefix}*"
        health = await self.call(lambda client: client.cluster.health(index=pattern, timeout="1s"), _CHECK_SECONDS)
        if health["status"] == "red":
            raise UnavailableError(f"Elasticsearch has lost shards of {pattern}: its health is red.", retry_after=1.0)

    async def close(self) -> None:
        """Closes the connections."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    async def call(self, call: Call, seconds: float) -> Any:
        """Makes a call and gives the body of the answer.

        Args:
            call: Gets a client that gives up after `seconds`.
            seconds: How long it may take.

        Raises:
            DeadlineExceededError: It took longer.
            ResourceExhaustedError: The disk is full (DISK_FULL), or the answer is too large (RESULT_TOO_LARGE).
            FailedPreconditionError: It refuses our name or password.
            UnavailableError: It does not answer, or has too much to do.
            InvalidArgumentError: The filter is nested too deep for it (INVALID_FILTER).
            RefusedError: It does not understand the call.
        """
        if seconds <= 0:
            raise _late()
        if self._client is None:
            raise UnavailableError("The store is closed.")
        try:
            async with asyncio.timeout(seconds + 1.0):
                answer = await call(self._client.options(request_timeout=seconds))
        except (ConnectionTimeout, TimeoutError) as error:
            raise _late() from error
        except ApiError as error:
            raise _translate(error) from error
        except TransportError as error:
            logger.warning("elasticsearch_unreachable", error=str(error)[:500])
            raise UnavailableError("The store does not answer. Try again shortly.", retry_after=1.0) from error
        return answer.body


def answered_in_full(answer: Any) -> Any:
    """The answer of a search, unless a part of it is missing. Raises: DeadlineExceededError, UnavailableError."""
    if answer["timed_out"]:
        raise _late()
    if answer["_shards"]["failed"]:
        logger.error("elasticsearch_shards_failed", failures=str(answer["_shards"])[:2000])
        raise UnavailableError("A part of the store does not answer. Try again shortly.", retry_after=1.0)
    return answer


def _connect(config: ElasticsearchConfig) -> AsyncElasticsearch:
    options: dict[str, Any] = {}
    if config.username:
        try:
            password = Path(config.password_file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise FailedPreconditionError(
                f"logs.elasticsearch.password_file cannot be read: {error.strerror}: {config.password_file!r}."
            ) from error
        options["basic_auth"] = (config.username, password)
    if config.ca_file:
        options["ca_certs"] = config.ca_file
    hosts = [host.strip() for host in config.hosts.split(",") if host.strip()]
    # What is repeated, and when, is decided by those who call: the worker, and our clients' policies.
    return AsyncElasticsearch(
        hosts,
        connections_per_node=config.max_connections,
        max_retries=0,
        retry_on_timeout=False,
        sniff_on_start=False,
        http_compress=not all("127.0.0.1" in host or "localhost" in host for host in hosts),
        **options,
    )


def _late() -> DeadlineExceededError:
    return DeadlineExceededError("The store took longer than the deadline. Ask for a shorter range or fewer entries.")


def types_of(body: Any) -> set[str]:
    """The kinds of error that an answer names, at any depth."""
    if isinstance(body, list):
        return {kind for part in body for kind in types_of(part)}
    if not isinstance(body, dict):
        return set()
    inner = {kind for part in body.values() for kind in types_of(part)}
    return inner | {str(body["type"])} if isinstance(body.get("type"), str) else inner


def _translate(error: ApiError) -> AirisError:
    status, kinds = error.meta.status, types_of(error.body)
    text = str(error.body)
    if "search_timeout_exception" in kinds or "task_cancelled_exception" in kinds:
        return _late()
    if _DISK_FULL in text:
        return ResourceExhaustedError("The disk of the store is full.", reason="DISK_FULL", retry_after=30.0)
    if _TOO_DEEP in text:
        return fault(None, "its parentheses are nested deeper than the store takes; flatten it.")
    if kinds & set(_TOO_MANY) or _TOO_MANY_WORDS in text:
        return ResourceExhaustedError(
            "The store would need too much memory for this. Ask for a shorter range, fewer groups, or longer words.",
            reason="RESULT_TOO_LARGE",
        )
    if status in (401, 403) and "cluster_block_exception" not in kinds:
        return FailedPreconditionError(
            "Elasticsearch refuses logs.elasticsearch.username: it needs the cluster privileges monitor, "
            "manage_index_templates and manage_ilm, and the index privilege all on its prefix."
        )
    if status in (400, 405) and "no handler found" in text:
        # It has no such function, and whoever asked for it knows what to do then.
        return RefusedError(text)
    # What it says may hold parts of the data: it belongs into the log, not into the answer.
    logger.error("elasticsearch_error", status=status, error=text[:2000])
    if status in (408, 409, 429) or status >= 500 or "cluster_block_exception" in kinds:
        return UnavailableError("The store failed to answer. Try again shortly.", retry_after=1.0)
    return RefusedError(text)
