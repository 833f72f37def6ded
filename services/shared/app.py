"""The part of the composition roots that the signal services share: which bus."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from services.shared.application import Role
from services.shared.bus.adapters.journal import Journal
from services.shared.bus.config import BusConfig
from services.shared.bus.port import Bus, ColumnsT, Header, InsertLimits
from services.shared.telemetry.tracing import traceparent

if TYPE_CHECKING:
    from services.shared.bus.adapters.kafka_operator import KafkaOperator


def open_bus(
    config: BusConfig,
    signal: str,
    role: Role,
    directory: Path,
    decode: Callable[[Header, bytes], ColumnsT],
    limits: InsertLimits,
    journal_max_bytes: int,
) -> Bus[ColumnsT]:
    """Makes the bus of a signal; it is not open yet.

    Args:
        config: Which one.
        signal: "metrics".
        role: Which sides of it this process uses.
        directory: Where a journal keeps its files.
        decode: Gives a batch that is read back its columns.
        limits: When batches become an insert.
        journal_max_bytes: Bytes that may wait in a journal.
    """
    if config.kind == "journal":
        journal = Journal(directory, decode, limits=limits, max_backlog_bytes=journal_max_bytes)
        _observe(signal, "bus.backlog", "By", "Bytes that are durable and not stored", lambda: journal.backlog_bytes)
        return journal
    # Here, as a service that has a journal starts sooner without it.
    from services.shared.bus.adapters.kafka import KafkaBus

    bus = KafkaBus(config.kafka, signal, decode, role=role, limits=limits, trace_context=traceparent)
    if role != "serve":
        _observe(signal, "bus.lag", "{batch}", "Batches of this worker that are not stored", lambda: bus.lag)
        _observe(signal, "bus.buffered", "By", "Bytes that this worker has read ahead", lambda: bus.buffered_bytes)
        _observe(signal, "bus.partitions", "{partition}", "Partitions of this worker", lambda: len(bus.owned))
        _observe(signal, "bus.dead_letters", "{batch}", "Batches that could not be read", lambda: bus.dead_letters)
    if role != "work":
        _observe(signal, "bus.in_flight", "By", "Published bytes without an answer", lambda: bus.in_flight_bytes)
    return bus


def bus_operator(config: BusConfig, signal: str) -> KafkaOperator:
    """What an operator does with the bus of a signal, beside its services.

    Args:
        config: Where Kafka is.
        signal: "metrics".
    """
    from services.shared.bus.adapters.kafka_operator import KafkaOperator

    return KafkaOperator(config.kafka, signal)


def _observe(signal: str, name: str, unit: str, description: str, read: Callable[[], int]) -> None:
    def observe(_: CallbackOptions) -> Iterable[Observation]:
        yield Observation(read(), {"signal": signal})

    metrics.get_meter("airis.bus").create_observable_gauge(name, [observe], unit, description)
