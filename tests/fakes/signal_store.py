"""The client's four signals over a store in memory, which can be slow, fail, lose and double."""

# ruff: noqa: A002 (arguments have the names of the client)
from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from types import SimpleNamespace
from typing import Any

import grpc
from airis.alerts.v1 import alerts_pb2
from airis.client.errors import AlreadyExistsError, NotFoundError, UnavailableError
from airis.logs.v1 import logs_pb2
from airis.metrics.v1 import metrics_pb2
from airis.traces.v1 import traces_pb2


class Pages:
    """A list as the client gives it: of items, or of pages."""

    def __init__(self, response: Any, items: Callable[[], Sequence[Any]], name: str) -> None:
        self._response, self._items, self._name = response, items, name

    async def __aiter__(self) -> AsyncIterator[Any]:
        for item in self._items():
            yield item

    async def pages(self) -> AsyncIterator[Any]:
        yield self._response(**{self._name: self._items()})


class Signal:
    """One signal's items, and what is wrong with it.

    Attributes:
        copies: How many of each further item are stored: 0 loses it although it is acknowledged.
        hidden_for: Seconds until reads show a further item.
        down: Whether every call fails.
        refuses: Whether every item is refused.
    """

    def __init__(self, response: Any) -> None:
        self.items: list[tuple[float, Any]] = []
        self.copies, self.hidden_for, self.down, self.refuses = 1, 0.0, False, False
        self._response = response

    async def ingest(self, items: Sequence[Any]) -> Any:
        await asyncio.sleep(0.002)
        self.check()
        if self.refuses:
            answer = self._response()
            answer.rejections.add(index=0).status.code = 11
            return answer
        shown = asyncio.get_running_loop().time() + self.hidden_for
        self.items += [(shown, item) for item in items for _ in range(self.copies)]
        return self._response(accepted_count=len(items))

    def check(self) -> None:
        if self.down:
            raise UnavailableError("Nobody is there.", code=grpc.StatusCode.UNAVAILABLE)

    def visible(self) -> list[Any]:
        """What reads show now."""
        self.check()
        now = asyncio.get_running_loop().time()
        return [item for shown, item in self.items if shown <= now]


class SignalStore:
    """Stands for an `AirisClient`. The rule of the canary fires while the last point of its metric says so.

    Attributes:
        evaluates: Whether rules are evaluated.
        alerts_at_once: How many alerts fire where one should.
    """

    def __init__(self) -> None:
        self.of = {
            "metrics": Signal(metrics_pb2.IngestMetricsResponse),
            "logs": Signal(logs_pb2.IngestLogsResponse),
            "traces": Signal(traces_pb2.IngestSpansResponse),
            "alerts": Signal(None),
        }
        self.evaluates, self.alerts_at_once = True, 1
        self.rules_there: dict[str, alerts_pb2.AlertRule] = {}
        self._alerts: list[alerts_pb2.Alert] = []
        self._events: dict[str, list[alerts_pb2.AlertEvent]] = {}
        self.metrics = SimpleNamespace(ingest=self.of["metrics"].ingest, query=self._query)
        self.logs = SimpleNamespace(ingest=self.of["logs"].ingest, search=self._search)
        self.traces = SimpleNamespace(ingest=self.of["traces"].ingest, get=self._get)
        rules = SimpleNamespace(create=self._create, delete=self._delete)
        self.alerts = SimpleNamespace(rules=rules, list=self._list, events=self._list_events)

    async def _query(self, metric: str, *, filter: str, start: int, end: int, aggregation: Any) -> Any:
        await asyncio.sleep(0.001)
        answer = metrics_pb2.QueryMetricsResponse()
        found = [
            point.value
            for point in self.of["metrics"].visible()
            if point.name == metric
            and start <= point.timestamp.ToNanoseconds() < end
            and point.labels["canary"] in filter
        ]
        if found:
            answer.series.add().points.add(value=sum(found))
        return answer

    def _search(self, filter: str, *, start: int, end: int) -> Pages:
        def items() -> list[Any]:
            entries = self.of["logs"].visible()
            return [entry for entry in entries if start <= entry.timestamp.ToNanoseconds() < end]

        return Pages(logs_pb2.SearchLogsResponse, items, "entries")

    async def _get(self, trace_id: str) -> traces_pb2.Trace:
        spans = [span for span in self.of["traces"].visible() if span.trace_id == trace_id]
        if not spans:
            raise NotFoundError("There is no such trace.", code=grpc.StatusCode.NOT_FOUND)
        return traces_pb2.Trace(trace_id=trace_id, spans=spans)

    async def _create(self, rule: alerts_pb2.AlertRule, *, id: str) -> alerts_pb2.AlertRule:
        self.of["alerts"].check()
        if f"alertRules/{id}" in self.rules_there:
            raise AlreadyExistsError("It is there.", code=grpc.StatusCode.ALREADY_EXISTS)
        self.rules_there[f"alertRules/{id}"] = rule
        return rule

    async def _delete(self, name: str) -> None:
        self.of["alerts"].check()
        self.rules_there.pop(name)
        self._resolve()

    def _resolve(self) -> None:
        for alert in self._alerts:
            if alert.state == alerts_pb2.Alert.State.FIRING:
                alert.state = alerts_pb2.Alert.State.RESOLVED
                self._events[alert.name].append(alerts_pb2.AlertEvent(kind=3))

    def _evaluate(self) -> None:
        if not self.evaluates:
            return
        for name, rule in self.rules_there.items():
            values = [
                point.value
                for point in self.of["metrics"].visible()
                if point.name == rule.conditions[0].metric and point.labels == rule.labels
            ]
            firing = [alert for alert in self._alerts if alert.state == alerts_pb2.Alert.State.FIRING]
            if values and values[-1] > 0.5 and not firing:
                for _ in range(self.alerts_at_once):
                    alert = alerts_pb2.Alert(name=f"alerts/{len(self._alerts)}", rule=name, state=3)
                    self._alerts.insert(0, alert)
                    self._events[alert.name] = [alerts_pb2.AlertEvent(kind=2)]
            elif values and values[-1] <= 0.5:
                self._resolve()

    def _list(self, filter: str, *, page_size: int) -> Pages:
        def items() -> list[Any]:
            self.of["alerts"].check()
            self._evaluate()
            return [alert for alert in self._alerts if alert.rule in filter][:page_size]

        return Pages(alerts_pb2.ListAlertsResponse, items, "alerts")

    def _list_events(self, alert: str) -> Pages:
        def items() -> list[Any]:
            self.of["alerts"].check()
            self._evaluate()
            return self._events[alert]

        return Pages(alerts_pb2.ListAlertEventsResponse, items, "events")
