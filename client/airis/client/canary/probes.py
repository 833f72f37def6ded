"""One item of a signal: written, and looked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from airis.client.errors import NotFoundError, from_status
from airis.common.v1 import aggregation_pb2, ingest_pb2
from airis.logs.v1 import logs_pb2
from airis.metrics.v1 import metrics_pb2
from airis.traces.v1 import traces_pb2

if TYPE_CHECKING:
    from airis.client.client import AirisClient

SERVICE = "airis-canary"
METRIC = "airis.canary.probe"
_MILLISECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class Mark:
    """One round.

    Attributes:
        number: 1, 2, 3, …
        at: The item's time in nanoseconds since 1970, whole milliseconds; no other round of the signal has it.
        key: 32 random hexadecimal digits.
    """

    number: int
    at: int
    key: str


class Probe(Protocol):
    """Writes an item of a signal and looks for it.

    Attributes:
        signal: Its name.
        one_by_one: Whether a round may only begin when the one before has ended.
    """

    signal: str
    one_by_one: bool

    async def prepare(self) -> None:
        """Before the first round. Raises `AirisError`."""

    async def write(self, mark: Mark) -> None:
        """Returns when the item is acknowledged. Raises `AirisError`."""

    async def read(self, mark: Mark) -> int:
        """How many there are of exactly what was written. Raises `AirisError`."""

    async def end(self) -> None:
        """After the last round. Raises `AirisError`."""


class _Simple:
    one_by_one = False

    def __init__(self, client: AirisClient, run: str) -> None:
        self._client = client
        self._run = run

    async def prepare(self) -> None:
        """Nothing to do."""

    async def end(self) -> None:
        """Nothing to do."""


class MetricProbe(_Simple):
    """A point whose value is the number of the round.

    Args:
        client: The platform.
        run: Tells this run from others: lower-case letters and digits.
    """

    signal = "metrics"

    async def write(self, mark: Mark) -> None:
        """As of `Probe`."""
        point = metrics_pb2.Metric(name=METRIC, value=mark.number, labels={"canary": self._run})
        point.timestamp.FromNanoseconds(mark.at)
        answer = await self._client.metrics.ingest([point])
        check_accepted(answer.rejections)

    async def read(self, mark: Mark) -> int:
        """As of `Probe`."""
        answer = await self._client.metrics.query(
            METRIC,
            filter=f'canary = "{self._run}"',
            start=mark.at,
            end=mark.at + _MILLISECOND,
            aggregation=aggregation_pb2.Aggregation.SUM,
        )
        copies = sum(point.value for series in answer.series for point in series.points) / mark.number
        # Another value than what was written is not the item.
        return int(copies) if copies.is_integer() else 0


class LogProbe(_Simple):
    """An entry with the number of the round. Args as of `MetricProbe`."""

    signal = "logs"

    async def write(self, mark: Mark) -> None:
        """As of `Probe`."""
        entry = logs_pb2.LogEntry(
            level=logs_pb2.LogEntry.Level.INFO,
            message=self._message(mark),
            service=SERVICE,
            labels={"canary": self._run},
            request_id=mark.key,
        )
        entry.timestamp.FromNanoseconds(mark.at)
        answer = await self._client.logs.ingest([entry])
        check_accepted(answer.rejections)

    async def read(self, mark: Mark) -> int:
        """As of `Probe`."""
        found = self._client.logs.search(
            f'service = "{SERVICE}" AND labels.canary = "{self._run}"', start=mark.at, end=mark.at + _MILLISECOND
        )
        message = self._message(mark)
        return sum([entry.message == message and entry.request_id == mark.key async for entry in found])

    def _message(self, mark: Mark) -> str:
        return f"canary {self._run} sings, round {mark.number}"


class TraceProbe(_Simple):
    """A trace of one span. Args as of `MetricProbe`."""

    signal = "traces"

    async def write(self, mark: Mark) -> None:
        """As of `Probe`."""
        span = traces_pb2.Span(
            trace_id=mark.key,
            span_id=mark.key[:16],
            # One name: each has rollups of its own.
            operation_name="sing",
            service_name=SERVICE,
            kind=traces_pb2.Span.Kind.INTERNAL,
        )
        span.start_time.FromNanoseconds(mark.at)
        span.end_time.FromNanoseconds(mark.at + _MILLISECOND)
        span.tags["canary"].string_value = self._run
        span.tags["round"].number_value = mark.number
        answer = await self._client.traces.ingest([span])
        check_accepted(answer.rejections)

    async def read(self, mark: Mark) -> int:
        """As of `Probe`."""
        try:
            trace = await self._client.traces.get(mark.key)
        except NotFoundError:
            return 0
        return sum(
            span.span_id == mark.key[:16]
            and span.start_time.ToNanoseconds() == mark.at
            and span.tags["round"].number_value == mark.number
            for span in trace.spans
        )


def check_accepted(rejections: Sequence[ingest_pb2.Rejection]) -> None:
    """Raises the `AirisError` of the first item that was not stored."""
    for rejection in rejections:
        raise from_status(rejection.status)
