"""How this process reaches Kafka: the options of every client, and what its errors mean to a caller."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Protocol

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    KafkaError,
    OutOfOrderSequenceNumber,
    PolicyViolationError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
)

from services.shared.bus.adapters.kafka_connection import expect_ended_transports
from services.shared.bus.config import KafkaConfig
from services.shared.errors import AirisError, ResourceExhaustedError, UnavailableError

logger = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0
_CLOSE_SECONDS = 2.0

FAILURES = (KafkaError, OSError, TimeoutError)
"""What a call to Kafka raises when it cannot be done."""

# All clients take their options here.
expect_ended_transports()

_REFUSALS = (OutOfOrderSequenceNumber, TopicAuthorizationFailedError, PolicyViolationError)


class Closable(Protocol):
    """A client of Kafka."""

    async def close(self) -> None:
        """Lets go of its connections."""


def options(config: KafkaConfig) -> dict[str, Any]:
    """The options that all clients take.

    Raises:
        UnavailableError: A file with a password, key or certificate cannot be read; its content is never told.
    """
    found: dict[str, Any] = {
        "bootstrap_servers": [server.strip() for server in config.bootstrap_servers.split(",")],
        "request_timeout_ms": int(config.request_timeout * 1000),
        "security_protocol": config.security_protocol,
    }
    try:
        if config.security_protocol in ("SSL", "SASL_SSL"):
            context = ssl.create_default_context(cafile=str(config.ssl_ca_file) if config.ssl_ca_file else None)
            if config.ssl_certificate_file and config.ssl_key_file:
                context.load_cert_chain(config.ssl_certificate_file, config.ssl_key_file)
            found["ssl_context"] = context
        if config.security_protocol.startswith("SASL") and config.sasl_password_file:
            found["sasl_mechanism"] = config.sasl_mechanism
            found["sasl_plain_username"] = config.sasl_username
            found["sasl_plain_password"] = config.sasl_password_file.read_text().rstrip("\r\n")
    except OSError as error:
        raise UnavailableError(f"Kafka's credentials cannot be read: {error}.") from error
    return found


async def connect(config: KafkaConfig, **overrides: Any) -> AIOKafkaClient:
    """A client that knows the brokers.

    Raises:
        UnavailableError: None answers.
    """
    client = AIOKafkaClient(**{**options(config), **overrides})
    try:
        await client.bootstrap()
    except FAILURES as error:
        await disconnect(client)
        raise unavailable("cannot be reached", error) from error
    except BaseException:
        await disconnect(client)
        raise
    return client


async def disconnect(client: Closable) -> None:
    """Closes a client; what cannot be sent any more does not hold it up."""
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await client.close()
    except FAILURES as error:
        logger.warning("kafka_not_closed", error=describe(error))


async def stop(consumer: AIOKafkaConsumer, timeout: float) -> None:
    """Ends a consumer, whether or not its broker answers.

    Args:
        consumer: What is not needed any more.
        timeout: How long it may take by itself, in seconds.
    """
    # In a task of its own: `stop` cancels its fetches and waits for them, and the cancellation of one that is about
    # to try again comes out of it, where it would look like ours.
    stopping = asyncio.create_task(consumer.stop())
    try:
        await asyncio.wait({stopping}, timeout=timeout)
    finally:
        stopping.cancel()
        errors = await asyncio.gather(stopping, return_exceptions=True)
        if isinstance(errors[0], BaseException):
            logger.warning("consumer_not_stopped", error=describe(errors[0]))
            # A second `stop` would do nothing.
            await disconnect(consumer._client)


def unavailable(what: str, error: BaseException) -> UnavailableError:
    """Kafka cannot be used now."""
    if isinstance(error, SaslAuthenticationFailed):
        return UnavailableError("Kafka does not accept this service's name and password.", retry_after=RETRY_SECONDS)
    return UnavailableError(f"Kafka {what}: {describe(error)}.", retry_after=RETRY_SECONDS)


def describe(error: BaseException) -> str:
    """An error in a few words."""
    text = str(error).strip().rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def refusal(error: BaseException) -> AirisError:
    """What the publisher of a batch is told about its failure."""
    if isinstance(error, PolicyViolationError):
        return ResourceExhaustedError(
            "Kafka's broker refuses more data; the batch was not taken. Send it again later.",
            reason="DISK_FULL",
            retry_after=5.0,
        )
    if isinstance(error, _REFUSALS):
        return unavailable("did not take the batch", error)
    return unavailable("did not say whether it took the batch", error)


def backlog_full() -> ResourceExhaustedError:
    """More is published than Kafka takes."""
    return ResourceExhaustedError(
        "More data arrives than Kafka takes; send the batch again later.",
        reason="BACKLOG_FULL",
        retry_after=RETRY_SECONDS,
    )


def closed() -> UnavailableError:
    """What a bus that is not open answers."""
    return UnavailableError("The service is starting or stopping; try again.", reason="NOT_READY", retry_after=1.0)
