"""The blocking client: the methods of the asynchronous one without `await`."""

# ruff: noqa: A002 (arguments have the names of the contract)
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import grpc
from airis.alerts.v1 import alerts_pb2
from airis.client.batching import Batcher
from airis.client.blocking import Blocking, LoopThread, SyncPaged, blocking, iterating, paging
from airis.client.client import AirisClient
from airis.client.dialect import BatchRejection
from airis.client.discovery import Discovery
from airis.client.session import IngestSession
from airis.client.signals.alerts import Alerts
from airis.client.signals.ingest import Ingesting
from airis.client.signals.logs import Logs
from airis.client.signals.metrics import Metrics
from airis.client.signals.resources import Resources
from airis.client.signals.traces import Traces
from airis.logs.v1 import logs_pb2
from airis.metrics.v1 import metrics_pb2
from airis.traces.v1 import traces_pb2
from google.protobuf.message import Message

ItemT = TypeVar("ItemT", bound=Message)
ResourceT = TypeVar("ResourceT", bound=Message)
TargetT = TypeVar("TargetT")
SendingT = TypeVar("SendingT", bound=Ingesting[Any, Any])

_CHUNK = 500


class SyncIngestSession(Blocking[IngestSession[ItemT]], Generic[ItemT]):
    """`IngestSession`, blocking: `with client.metrics.session() as session`. `target` has its counts."""

    def send(self, items: Sequence[ItemT]) -> int:
        """Hands over a batch; see `IngestSession.send`."""
        return self.loop.run(self.target.send(items))

    def flush(self) -> None:
        """Returns when everything that was sent before is acknowledged."""
        self.loop.run(self.target.flush())

    def __enter__(self) -> Self:
        self.loop.run(self.target.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.loop.run(self.target.__aexit__(kind, error, trace))


class SyncBatcher(Blocking[Batcher[ItemT]], Generic[ItemT]):
    """`Batcher`, blocking: `with client.logs.batcher() as batcher`."""

    def add(self, item: ItemT) -> None:
        """Takes one item; waits while the sender is full."""
        self.loop.run(self.target.add(item))

    def add_all(self, items: Iterable[ItemT]) -> None:
        """Takes items one after the other, read in the calling thread."""
        for chunk in _chunks(items):
            self.loop.run(self.target.add_all(chunk))

    def flush(self) -> None:
        """Returns when everything that was added before is answered."""
        self.loop.run(self.target.flush())

    def __enter__(self) -> Self:
        self.loop.run(self.target.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.loop.run(self.target.__aexit__(kind, error, trace))


class SyncSending(Blocking[SendingT], Generic[SendingT, ItemT]):
    """What metrics, logs and traces have in common beside `ingest`, blocking."""

    def session(
        self, *, producer_id: str | None = None, on_rejection: Callable[[BatchRejection], None] | None = None
    ) -> SyncIngestSession[ItemT]:
        """A stream that survives resets; see `IngestSession`."""
        return SyncIngestSession(self.target.session(producer_id=producer_id, on_rejection=on_rejection), self.loop)

    def batcher(self, *, max_items: int = 1000, max_age: float = 1.0) -> SyncBatcher[ItemT]:
        """Joins single items to batches; see `Batcher`."""
        return SyncBatcher(self.target.batcher(max_items=max_items, max_age=max_age), self.loop)


class SyncMetrics(SyncSending[Metrics, metrics_pb2.Metric]):
    """`Metrics`, blocking."""

    ingest = blocking(Metrics.ingest)
    query = blocking(Metrics.query)
    list = paging(Metrics.list)
    labels = paging(Metrics.labels)
    series = paging(Metrics.series)
    watch = iterating(Metrics.watch)


class SyncLogs(SyncSending[Logs, logs_pb2.LogEntry]):
    """`Logs`, blocking."""

    ingest = blocking(Logs.ingest)
    search = paging(Logs.search)
    tail = iterating(Logs.tail)
    count = blocking(Logs.count)
    patterns = paging(Logs.patterns)
    anomalies = paging(Logs.anomalies)

    @property
    def pipelines(self) -> SyncResources[logs_pb2.LogPipeline]:
        """The parsing pipelines."""
        return SyncResources(self.target.pipelines, self.loop)


class SyncTraces(SyncSending[Traces, traces_pb2.Span]):
    """`Traces`, blocking."""

    ingest = blocking(Traces.ingest)
    get = blocking(Traces.get)
    search = paging(Traces.search)
    services = paging(Traces.services)
    operations = paging(Traces.operations)
    service_map = blocking(Traces.service_map)
    latency = blocking(Traces.latency)
    critical_path = blocking(Traces.critical_path)
    bottlenecks = paging(Traces.bottlenecks)
    compare = blocking(Traces.compare)


class SyncResources(Blocking[Resources[ResourceT]], Generic[ResourceT]):
    """`Resources`, blocking."""

    def create(self, resource: ResourceT, *, id: str = "", timeout: float | None = None) -> ResourceT:
        """Creates a resource; see `Resources.create`."""
        return self.loop.run(self.target.create(resource, id=id, timeout=timeout))

    def get(self, name: str, *, timeout: float | None = None) -> ResourceT:
        """Gets a resource by its full name."""
        return self.loop.run(self.target.get(name, timeout=timeout))

    def list(
        self, *, filter: str = "", page_size: int = 0, page_token: str = "", timeout: float | None = None
    ) -> SyncPaged[Any, ResourceT]:
        """The resources, by name; see `Resources.list`."""
        paged = self.target.list(filter=filter, page_size=page_size, page_token=page_token, timeout=timeout)
        return SyncPaged(paged, self.loop)

    def update(self, resource: ResourceT, *, fields: Iterable[str] = (), timeout: float | None = None) -> ResourceT:
        """Changes the resource of that name; see `Resources.update`."""
        return self.loop.run(self.target.update(resource, fields=fields, timeout=timeout))

    def delete(self, name: str, *, etag: str = "", timeout: float | None = None) -> None:
        """Deletes a resource."""
        self.loop.run(self.target.delete(name, etag=etag, timeout=timeout))


class SyncAlerts(Blocking[Alerts]):
    """`Alerts`, blocking."""

    list = paging(Alerts.list)
    get = blocking(Alerts.get)
    acknowledge = blocking(Alerts.acknowledge)
    resolve = blocking(Alerts.resolve)
    events = paging(Alerts.events)
    watch = iterating(Alerts.watch)
    test = blocking(Alerts.test)
    backtest = blocking(Alerts.backtest)

    @property
    def rules(self) -> SyncResources[alerts_pb2.AlertRule]:
        """The alert rules."""
        return SyncResources(self.target.rules, self.loop)

    @property
    def silences(self) -> SyncResources[alerts_pb2.Silence]:
        """What is not notified, and when."""
        return SyncResources(self.target.silences, self.loop)

    @property
    def channels(self) -> SyncResources[alerts_pb2.Channel]:
        """How people are told."""
        return SyncResources(self.target.channels, self.loop)

    @property
    def escalation_policies(self) -> SyncResources[alerts_pb2.EscalationPolicy]:
        """Who is told next."""
        return SyncResources(self.target.escalation_policies, self.loop)


class SyncAirisClient:
    """Calls AIRIS without asyncio: `with SyncAirisClient() as client: client.metrics.query("cpu")`.

    Safe to use from several threads. The arguments are those of `AirisClient`.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        targets: Mapping[str, str] | None = None,
        discovery: str | Discovery | None = None,
        token: str | None = None,
        token_file: Path | str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        options: Sequence[tuple[str, str | int]] = (),
    ) -> None:
        self._client = AirisClient(
            target,
            targets=targets,
            discovery=discovery,
            token=token,
            token_file=token_file,
            credentials=credentials,
            options=options,
        )
        self._loop = LoopThread()

    @cached_property
    def metrics(self) -> SyncMetrics:
        """MetricsService."""
        return SyncMetrics(self._loop.run(_on_loop(lambda: self._client.metrics)), self._loop)

    @cached_property
    def logs(self) -> SyncLogs:
        """LogService."""
        return SyncLogs(self._loop.run(_on_loop(lambda: self._client.logs)), self._loop)

    @cached_property
    def traces(self) -> SyncTraces:
        """TraceService."""
        return SyncTraces(self._loop.run(_on_loop(lambda: self._client.traces)), self._loop)

    @cached_property
    def alerts(self) -> SyncAlerts:
        """AlertService."""
        return SyncAlerts(self._loop.run(_on_loop(lambda: self._client.alerts)), self._loop)

    def close(self) -> None:
        """Closes the connections; calls under way fail. May be called again."""
        if not self._loop.is_stopped:
            self._loop.run(self._client.close())
            self._loop.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


async def _on_loop(make: Callable[[], TargetT]) -> TargetT:
    # A channel belongs to the loop that it is made on.
    return make()


def _chunks(items: Iterable[ItemT]) -> Iterator[Sequence[ItemT]]:
    iterator = iter(items)
    while chunk := tuple(islice(iterator, _CHUNK)):
        yield chunk
