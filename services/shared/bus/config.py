"""The configuration of the bus."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.shared.bus.port import MAX_PARTITIONS

_MIB = 1024 * 1024


class KafkaConfig(BaseModel):
    """Settings of Kafka.

    Attributes:
        bootstrap_servers: `host:port`, several separated by commas.
        topic_prefix: Topics are named `<prefix>.<signal>`; with `.dlq` behind it, what could not be read.
        partitions: Of a topic that is made; a topic that exists keeps its own. So many workers of a service share the
            work at most.
        replication_factor: Of a topic that is made. From 2 on, one replica less must have a batch before it is
            acknowledged.
        retention_hours: For how long a topic that is made keeps batches, stored or not: longer than the longest
            standstill of the workers.
        dead_letter_retention_hours: The same for what could not be read.
        security_protocol: How brokers are talked to.
        sasl_mechanism: How this client says who it is, with SASL.
        sasl_username: Its name.
        sasl_password_file: The file with its password, and nothing else.
        ssl_ca_file: The certificates (PEM) that sign those of brokers; None: the system's.
        ssl_certificate_file: This client's own certificate (PEM), where brokers ask for one.
        ssl_key_file: Its key (PEM).
        compression: Of batches on their way and in the topic.
        linger: Seconds that a batch waits for others to go in one request.
        publish_timeout: Seconds after which it counts as unknown whether a batch was taken.
        request_timeout: Seconds after which a broker's connection counts as broken.
        session_timeout: Seconds without a sign of life after which a worker's partitions go to others; within what
            brokers allow (`group.min.session.timeout.ms`).
        max_in_flight_bytes: Published bytes without an answer, beyond which batches are refused. Together they may
            become one request: less than the brokers' `socket.request.max.bytes`.
        max_buffered_bytes: Bytes that a worker reads ahead.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bootstrap_servers: str = Field("127.0.0.1:9092", min_length=1)
    topic_prefix: str = Field("airis", pattern=r"^[A-Za-z0-9_-]{1,100}$")
    partitions: int = Field(6, ge=1, le=MAX_PARTITIONS)
    replication_factor: int = Field(1, ge=1, le=10)
    retention_hours: int = Field(168, ge=1, le=24 * 3650)
    dead_letter_retention_hours: int = Field(720, ge=1, le=24 * 3650)
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    sasl_username: str = ""
    sasl_password_file: Path | None = None
    ssl_ca_file: Path | None = None
    ssl_certificate_file: Path | None = None
    ssl_key_file: Path | None = None
    compression: Literal["none", "gzip"] = "none"
    linger: float = Field(0.005, ge=0, le=1)
    publish_timeout: float = Field(10.0, ge=0.1, le=300)
    request_timeout: float = Field(8.0, ge=0.1, le=300)
    session_timeout: float = Field(10.0, ge=1, le=600)
    max_in_flight_bytes: int = Field(64 * _MIB, ge=_MIB, le=96 * _MIB)
    max_buffered_bytes: int = Field(128 * _MIB, ge=_MIB)

    @model_validator(mode="after")
    def _check_security(self) -> KafkaConfig:
        if self.security_protocol.startswith("SASL") and not (self.sasl_username and self.sasl_password_file):
            raise ValueError(f"{self.security_protocol} needs sasl_username and sasl_password_file")
        if (self.ssl_key_file is None) != (self.ssl_certificate_file is None):
            raise ValueError("ssl_certificate_file and ssl_key_file go together")
        return self

    def topic(self, signal: str) -> str:
        """Where a signal's batches are."""
        return f"{self.topic_prefix}.{signal}"

    def dead_letter_topic(self, signal: str) -> str:
        """Where those are that could not be read."""
        return f"{self.topic(signal)}.dlq"

    def group(self, signal: str) -> str:
        """The consumer group of a signal's workers."""
        return f"{self.topic_prefix}-{signal}"


class BusConfig(BaseModel):
    """Settings of the bus.

    Attributes:
        kind: "journal": files in the data directory, for one process; "kafka": for as many as there are.
        kafka: Where Kafka is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["journal", "kafka"] = "journal"
    kafka: KafkaConfig = KafkaConfig()
