"""One sender of the load generator: it sends the next request when the last one is answered, or when its time comes."""

from __future__ import annotations

import contextlib
import http.client
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from bench.payloads import Payloads
from bench.target import DIRECTLY, Endpoint

REQUEST_SECONDS = 30.0
_AFTER_REFUSAL_SECONDS = 0.05
_REFUSED_CODES = (
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNIMPLEMENTED,
)
_REFUSED_STATUSES = (400, 404, 413, 415, 429)


@dataclass(frozen=True)
class Phase:
    """What to send.

    Attributes:
        endpoint: Where to.
        first: The number of the first request. Lane n of N sends `first + n`, `first + n + N` and so on, in this order.
        in_flight: How many lanes there are.
        seconds: After so long no request begins any more.
        rate: Requests a second at fixed times, whatever is answered (an open loop); None: as fast as answers come.
        requests: At most so many requests in all; None: as many as the time allows.
    """

    endpoint: Endpoint
    first: int
    in_flight: int
    seconds: float
    rate: float | None = None
    requests: int | None = None


@dataclass
class Tally:
    """What became of what was sent.

    Attributes:
        acknowledged: Items.
        refused: Items that the server said it did not take.
        unknown: Items without an answer: stored or not.
        requests: That were sent.
        errors: How often each refusal or error came.
        latencies: Seconds until each acknowledgement; in an open loop from when the request was due.
        ended: When the last answer came, on the monotonic clock.
        next_number: Lower numbers may have been sent.
    """

    acknowledged: int = 0
    refused: int = 0
    unknown: int = 0
    requests: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    ended: float = 0.0
    next_number: int = 0


@dataclass(frozen=True)
class Outcome:
    """Of one request: `None` in `refused` is "nobody knows"; the number of refused items otherwise."""

    refused: int | None
    error: str = ""


class Sender(Protocol):
    """One connection."""

    def send(self, body: bytes, items: int) -> Outcome:
        """Sends a request and waits for its answer, which never raises."""

    def close(self) -> None:
        """Closes the connection."""


class GrpcSender:
    """Sends serialised requests over a gRPC connection of its own."""

    def __init__(self, endpoint: Endpoint) -> None:
        options = (
            *DIRECTLY,
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
        )
        self._channel = grpc.insecure_channel(endpoint.address, options)
        grpc.channel_ready_future(self._channel).result(REQUEST_SECONDS)
        self._call = self._channel.unary_unary(endpoint.path)
        self._metadata = tuple((key.lower(), value) for key, value in endpoint.headers.items())

    def send(self, body: bytes, items: int) -> Outcome:
        """Sends one request."""
        try:
            return _judge(self._call(body, timeout=REQUEST_SECONDS, metadata=self._metadata))
        except grpc.RpcError as error:
            code = error.code()
            text = f"{code.name}: {error.details()}"[:200]
            return Outcome(items if code in _REFUSED_CODES else None, text)

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()


class HttpSender:
    """Posts serialised requests over an HTTP/1.1 connection of its own, which is opened anew after an error."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._connection = http.client.HTTPConnection(endpoint.address, timeout=REQUEST_SECONDS)
        self._path = endpoint.path
        self._headers = {"Content-Type": "application/x-protobuf", **endpoint.headers}
        self._refused = endpoint.refused

    def send(self, body: bytes, items: int) -> Outcome:
        """Sends one request."""
        try:
            self._connection.request("POST", self._path, body, self._headers)
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return Outcome(None, f"{type(error).__name__}: {error}"[:200])
        if 200 <= answer.status < 300:
            if self._refused:
                return Outcome(*self._refused(content))
            is_protobuf = "protobuf" in (answer.getheader("Content-Type") or "")
            return _judge(content) if is_protobuf else Outcome(0)
        text = f"HTTP {answer.status}: {content[:160].decode(errors='replace')}"
        return Outcome(items if answer.status in _REFUSED_STATUSES else None, text)

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()


def open_sender(endpoint: Endpoint) -> Sender:
    """A connection to an endpoint."""
    return GrpcSender(endpoint) if endpoint.kind == "grpc" else HttpSender(endpoint)


def _judge(answer: bytes) -> Outcome:
    if not answer:
        return Outcome(0)
    # The three signals' answers have the same fields.
    partial = ExportLogsServiceResponse.FromString(answer).partial_success
    rejected = int(partial.rejected_log_records)
    return Outcome(rejected, f"partial success: {partial.error_message}"[:200] if rejected else "")


class Lane:
    """Sends the requests of one lane of a phase.

    Args:
        phase: What to send.
        lane: 0 to `phase.in_flight - 1`.
        payloads: Makes the requests.
        prepared_bytes: How much of them is made before the clock starts,
        prepared_requests: and how many at most.
    """

    def __init__(
        self, phase: Phase, lane: int, payloads: Payloads, prepared_bytes: int, prepared_requests: int
    ) -> None:
        self._phase = phase
        self._lane = lane
        self._payloads = payloads
        self._sender = open_sender(phase.endpoint)
        self._prepared: list[bytes] = []
        size = 0
        for number, due in self._numbers():
            if size >= prepared_bytes or len(self._prepared) >= prepared_requests or due > phase.seconds:
                break
            self._prepared.append(self._request(number))
            size += len(self._prepared[-1])
        self.tally = Tally(next_number=phase.first)

    def _numbers(self) -> Iterator[tuple[int, float]]:
        at = self._lane
        while self._phase.requests is None or at < self._phase.requests:
            yield self._phase.first + at, at / self._phase.rate if self._phase.rate else 0.0
            at += self._phase.in_flight

    def _request(self, number: int) -> bytes:
        body, convert = self._payloads.request(number), self._phase.endpoint.convert
        return convert(body) if convert else body

    def run(self, begin: float, ends: Callable[[], float] = lambda: math.inf) -> None:
        """Sends from a moment of the monotonic clock on.

        Args:
            begin: That moment.
            ends: When an open loop is ended from outside. What was due before it is still sent, however late: who waits
                to send waits, too.
        """
        tally, items = self.tally, self._payloads.items
        prepared = iter(self._prepared)
        time.sleep(max(0.0, begin - time.monotonic()))
        for number, after in self._numbers():
            body = next(prepared, None) or self._request(number)
            due = begin + after
            now = time.monotonic()
            if max(now, due) - begin >= self._phase.seconds:
                break
            if self._phase.rate is None:
                due = now
            elif due > now:
                time.sleep(due - now)
            if due >= ends():
                break
            outcome = self._sender.send(body, items)
            tally.ended = time.monotonic()
            tally.requests += 1
            tally.next_number = number + 1
            if outcome.error:
                tally.errors[outcome.error] += 1
            if outcome.refused is None:
                tally.unknown += items
            else:
                tally.refused += outcome.refused
                tally.acknowledged += items - outcome.refused
            if outcome.refused == 0:
                tally.latencies.append(tally.ended - due)
            elif self._phase.rate is None:
                time.sleep(_AFTER_REFUSAL_SECONDS)
        self._prepared.clear()
        with contextlib.suppress(Exception):
            self._sender.close()
