"""Senders of every kind at once: unary calls, stream sessions and OTLP, each for metrics, logs and traces; and rules.

Unary calls repeat a batch under its id until it is acknowledged, and sessions resume. OTLP has no ids: of its batches
every other is sent once, whatever comes of it, and every other is repeated until there is an answer, as exporters do.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

import aiohttp
import grpc
from airis.alerts.v1 import alerts_pb2
from airis.client import AirisClient
from airis.client.dialect import BatchRejection
from airis.client.errors import AirisError, AlreadyExistsError, InvalidArgumentError
from airis.client.signals.ingest import QUERYABLE
from faults.history import History, Outcome
from faults.items import NAME, SIGNALS, otlp, own

BATCH_ITEMS = 20
_PAUSE_SECONDS = 0.05
CALL_SECONDS = 5.0
"""Senders without an answer for so long give a call up."""
_OTLP_METHODS = {
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
}
# "Full" is a promise: the batch was not taken.
_HTTP_OUTCOMES = {200: Outcome.ACKNOWLEDGED, 429: Outcome.REFUSED}
ALERTS = "alerts"
"""Rules are sent too, where there is a target for them: a batch is a rule."""
_INVALID_EVERY = 8
_TOO_LONG = "x" * 128
# Sent once, and repeated.
_OTLP_ATTEMPTS = (1, 10)


class Load:
    """`async with Load(…) as load:` sends until it is left; then everything that can be settled is.

    Args:
        targets: Host and port of gRPC, by signal.
        http: The address of HTTP of the log service, for OTLP over HTTP.
        token: Shown with every call; None: none is asked for.
        history: Keeps what was sent and told, by signal.
        wait_seconds: How long a sender goes on with a batch after the end before it gives up.
        otlp_targets: Host and port of OTLP over gRPC, by signal; None: as `targets`.

    Attributes:
        acknowledged: Batches, by lane: "metrics unary".
        given_up: Unary calls that had no answer in time, likewise.
        quickest: Seconds until the quickest acknowledgement since the last call of `recovers`, likewise.
    """

    def __init__(
        self,
        targets: Mapping[str, str],
        http: str,
        token: str | None,
        history: Mapping[str, History],
        wait_seconds: float = 60.0,
        otlp_targets: Mapping[str, str] | None = None,
    ) -> None:
        self._signals = [signal for signal in SIGNALS if signal in targets]
        self._sends_rules = ALERTS in targets
        self._otlp_targets = otlp_targets or targets
        self._http = http
        self._token = token
        self._history = history
        self._wait_seconds = wait_seconds
        self._run = uuid.uuid4().hex[:8]
        # Which call of `recovers` each batch comes after and when it was begun, and how many after the last call are
        # acknowledged.
        self._begun: dict[str, tuple[int, float]] = {}
        self._epochs: Counter[str] = Counter()
        self._fresh: Counter[str] = Counter()
        self._stopping = asyncio.Event()
        self._lanes: list[asyncio.Task[None]] = []
        self._client = AirisClient(targets=targets, token=token)
        self.acknowledged: Counter[str] = Counter()
        self.given_up: Counter[str] = Counter()
        self.quickest: dict[str, float] = {}

    async def __aenter__(self) -> Self:
        for signal in self._signals:
            for lane, send in (("unary", self._unary), ("stream", self._stream), ("otlp", self._otlp)):
                self.acknowledged[f"{signal} {lane}"] = 0
                self._lanes.append(asyncio.create_task(send(signal, f"{signal} {lane}"), name=f"{signal} {lane}"))
        if self._sends_rules:
            self.acknowledged[f"{ALERTS} rules"] = 0
            self._lanes.append(asyncio.create_task(self._rules(ALERTS, f"{ALERTS} rules"), name=f"{ALERTS} rules"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        try:
            if kind is None:
                await self.end()
        finally:
            for lane in self._lanes:
                lane.cancel()
            await asyncio.gather(*self._lanes, return_exceptions=True)
            await self._client.close()

    async def end(self) -> None:
        """Sends nothing new; returns when everything that can be settled is."""
        self._stopping.set()
        async with asyncio.timeout(self._wait_seconds + 10):
            await asyncio.gather(*self._lanes)

    async def flows(self, batches: int = 3, within: float = 60.0, signals: Sequence[str] = SIGNALS) -> None:
        """Waits until every lane has had so many more batches acknowledged. Raises `AssertionError` if one has not."""
        before = self.acknowledged.copy()
        ends = asyncio.get_running_loop().time() + within
        while True:
            behind = [
                lane
                for lane, count in self.acknowledged.items()
                if lane.split()[0] in signals and count < before[lane] + batches
            ]
            if not behind:
                return
            for lane in self._lanes:
                if lane.done():
                    await lane
            assert asyncio.get_running_loop().time() < ends, f"nothing is acknowledged any more: {behind}"
            await asyncio.sleep(0.05)

    async def recovers(self, within: float = 120.0, signals: Sequence[str] = ()) -> dict[str, float]:
        """Waits until every lane has had a batch acknowledged that it began after this call.

        Args:
            within: Seconds.
            signals: Whose lanes; none: all.

        Returns:
            Seconds until that, by signal.

        Raises:
            AssertionError: A lane has not.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        waiting = {lane for lane in self.acknowledged if not signals or lane.split()[0] in signals}
        for lane in waiting:
            self._epochs[lane] += 1
            self._fresh[lane] = 0
            self.quickest.pop(lane, None)
        seconds: dict[str, float] = {}
        while waiting:
            for lane in [lane for lane in waiting if self._fresh[lane]]:
                waiting.discard(lane)
                seconds[lane.split()[0]] = loop.time() - began
            for lane_task in self._lanes:
                if lane_task.done():
                    await lane_task
            assert loop.time() < began + within, f"nothing new is acknowledged: {sorted(waiting)}"
            await asyncio.sleep(0.02)
        return seconds

    async def until_queryable(self, within: float = 180.0) -> None:
        """Waits until all that was acknowledged is stored. Raises `TimeoutError`."""
        async with asyncio.timeout(within):
            for signal in self._signals:
                lane = f"{signal} last"
                batch = self._begin(lane, 0)
                send = partial(
                    getattr(self._client, signal).ingest,
                    own(signal, batch, BATCH_ITEMS),
                    request_id=batch,
                    wait_for=QUERYABLE,
                    timeout=60.0,
                )
                await self._insist(lane, batch, send)

    def _begin(self, lane: str, number: int, items: int = BATCH_ITEMS) -> str:
        batch = f"{self._run}-{lane.replace(' ', '-')}-{number}"
        self._history[lane.split()[0]].begin(batch, items)
        self._begun[batch] = self._epochs[lane], asyncio.get_running_loop().time()
        return batch

    def _acknowledge(self, lane: str, batch: str) -> None:
        self._settle(lane, batch, Outcome.ACKNOWLEDGED)

    def _settle(self, lane: str, batch: str, outcome: Outcome) -> None:
        self._history[lane.split()[0]].settle(batch, outcome)
        epoch, began = self._begun.pop(batch)
        if outcome is Outcome.ACKNOWLEDGED:
            self.acknowledged[lane] += 1
            self._fresh[lane] += epoch == self._epochs[lane]
            took = asyncio.get_running_loop().time() - began
            self.quickest[lane] = min(took, self.quickest.get(lane, took))

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(_PAUSE_SECONDS):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _unary(self, signal: str, lane: str) -> None:
        number = 0
        while not self._stopping.is_set():
            batch = self._begin(lane, number)
            is_invalid = number % _INVALID_EVERY == _INVALID_EVERY - 1
            send = partial(
                getattr(self._client, signal).ingest,
                own(signal, batch, BATCH_ITEMS),
                # The same id each time: what was stored before its answer was lost is not stored again.
                request_id=batch + _TOO_LONG if is_invalid else batch,
                timeout=CALL_SECONDS,
            )
            await self._insist(lane, batch, send, is_invalid)
            number += 1
            await self._pause()

    async def _rules(self, signal: str, lane: str) -> None:
        number = 0
        while not self._stopping.is_set():
            batch = self._begin(lane, number, 1)
            is_invalid = number % _INVALID_EVERY == _INVALID_EVERY - 1
            rule = alerts_pb2.AlertRule(display_name=batch, enabled=False)
            if not is_invalid:
                rule.conditions.add(metric=NAME, threshold=1e9)
            send = partial(self._client.alerts.rules.create, rule, id=batch, timeout=CALL_SECONDS)
            await self._insist(lane, batch, send, is_invalid)
            number += 1
            await self._pause()

    async def _insist(
        self, lane: str, batch: str, send: Callable[[], Awaitable[object]], is_invalid: bool = False
    ) -> None:
        """Sends until there is an answer; of what is invalid the answer must be that it is."""
        loop, gives_up = asyncio.get_running_loop(), None
        while True:
            try:
                await send()
            except AlreadyExistsError:
                # An earlier attempt whose answer was lost.
                break
            except AirisError as error:
                if is_invalid and isinstance(error, InvalidArgumentError):
                    self._settle(lane, batch, Outcome.REFUSED)
                    return
                if error.code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAUTHENTICATED):
                    raise
                self.given_up[lane] += error.code is grpc.StatusCode.DEADLINE_EXCEEDED
                if self._stopping.is_set() and not lane.endswith(" last"):
                    gives_up = gives_up or loop.time() + self._wait_seconds
                    if loop.time() > gives_up:
                        return
                await asyncio.sleep(error.retry_delay or 0.2)
            else:
                break
        assert not is_invalid, f"{batch} was taken"
        self._acknowledge(lane, batch)

    async def _stream(self, signal: str, lane: str) -> None:
        refused: list[BatchRejection] = []
        sent: deque[tuple[int, str]] = deque()
        session = getattr(self._client, signal).session(on_rejection=refused.append, give_up_after=120.0)

        def settle() -> None:
            while sent and sent[0][0] <= session.acknowledged_through:
                self._acknowledge(lane, sent.popleft()[1])

        number = 0
        async with session:
            while not self._stopping.is_set():
                batch = self._begin(lane, number)
                sent.append((await session.send(own(signal, batch, BATCH_ITEMS)), batch))
                number += 1
                await self._pause()
                settle()
            await session.flush()
            settle()
        assert not refused, refused

    async def _otlp(self, signal: str, lane: str) -> None:
        number = 0
        token = {"authorization": f"Bearer {self._token}"} if self._token else {}
        options = (("grpc.max_reconnect_backoff_ms", 1000),)
        async with (
            aiohttp.ClientSession(headers={**token, "content-type": "application/x-protobuf"}) as http,
            grpc.aio.insecure_channel(self._otlp_targets[signal], options=options) as rpc,
        ):
            while not self._stopping.is_set():
                batch = self._begin(lane, number)
                body = otlp(signal, batch, BATCH_ITEMS).SerializeToString()
                if signal == "logs":
                    send = partial(self._post, http, body)
                else:
                    send = partial(self._export, rpc, _OTLP_METHODS[signal], body, tuple(token.items()))
                self._settle(lane, batch, await self._export_batch(signal, batch, send, _OTLP_ATTEMPTS[number % 2]))
                number += 1
                await self._pause()

    async def _export_batch(
        self, signal: str, batch: str, send: Callable[[], Awaitable[Outcome]], attempts: int
    ) -> Outcome:
        history, outcome = self._history[signal], await send()
        was_unknown = outcome is Outcome.UNKNOWN
        while outcome is not Outcome.ACKNOWLEDGED and attempts > 1 and not self._stopping.is_set():
            attempts -= 1
            await asyncio.sleep(0.2)
            if outcome is Outcome.UNKNOWN:
                # What may have been stored stays there: OTLP has no ids, and a repetition is another batch.
                history.repeat(batch)
            outcome = await send()
            was_unknown = was_unknown or outcome is Outcome.UNKNOWN
        return Outcome.UNKNOWN if outcome is Outcome.REFUSED and was_unknown else outcome

    async def _post(self, http: aiohttp.ClientSession, body: bytes) -> Outcome:
        try:
            timeout = aiohttp.ClientTimeout(CALL_SECONDS)
            async with http.post(f"{self._http}/v1/logs", data=body, timeout=timeout) as answer:
                return _HTTP_OUTCOMES.get(answer.status, Outcome.UNKNOWN)
        except (aiohttp.ClientError, TimeoutError):
            return Outcome.UNKNOWN

    async def _export(self, channel: Any, method: str, body: bytes, metadata: Any) -> Outcome:
        try:
            await channel.unary_unary(method)(body, metadata=metadata, timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            is_full = error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            return Outcome.REFUSED if is_full else Outcome.UNKNOWN
        return Outcome.ACKNOWLEDGED
