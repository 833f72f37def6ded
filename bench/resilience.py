"""What the policies cost a unary call: the client's chain and the server's, each against the same call without it.

Run: `python -m bench.resilience [--rounds 15] [--calls 300] [--check]`. Each chain is measured twice: alone, around a
call that returns at once, so that its own microseconds are seen; and over loopback to a second process, as the ratio of
the call with it to the bare call. The two are called in turn; a figure is the median of the rounds' medians, with the
least and most. What a server spends of its processor is measured besides, with several calls in flight. With `--check`
it fails if a chain alone costs more than its budget even in its best round.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import psutil
import uvloop
from airis.metrics.v1 import metrics_pb2

from bench.resilience_server import HEDGED_METHOD, METHOD, handler, interceptors, start_telemetry
from bench.target import DIRECTLY
from resilience.contract import policies
from resilience.grpc.aio_client import single_answer
from resilience.grpc.client import Endpoint, wrap
from resilience.grpc.sync_client import SingleAnswer
from services.shared.auth.issuing import TokenIssuer
from services.shared.auth.key_folder import KeyFolder

CLIENT_BUDGET_US = 60.0
SERVER_BUDGET_US = 150.0
_SECONDS_LEFT = 5.0
_IN_FLIGHT = 8
_REQUEST = metrics_pb2.QueryMetricsRequest(metric="bench")

Call = Callable[[], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A call with a chain and without, in microseconds, one figure a round.

    Attributes:
        name: What was measured.
        bare: Without.
        chained: With.
        budget: The most that the chain may add; None: it is not checked.
    """

    name: str
    bare: list[float]
    chained: list[float]
    budget: float | None

    @property
    def added(self) -> list[float]:
        """What the chain adds, round by round."""
        return [chained - bare for bare, chained in zip(self.bare, self.chained, strict=True)]

    @property
    def is_within(self) -> bool:
        """Whether the chain keeps to its budget: in its best round, as whatever else the machine does only adds."""
        return self.budget is None or min(self.added) <= self.budget

    def line(self) -> str:
        """The figures in a row of the table."""
        added = self.added
        verdict = "" if self.budget is None else f"{self.budget:8.0f} {'ok' if self.is_within else 'EXCEEDED'}"
        bare, chained = statistics.median(self.bare), statistics.median(self.chained)
        spread = f"{min(added):.1f}..{max(added):.1f}"
        # Around a call that costs nothing, a ratio says nothing.
        ratio = f"{chained / bare:8.2f}" if bare >= 10 else f"{'-':>8}"
        return f"{self.name:<46}{bare:9.1f}{chained:9.1f}{ratio}{statistics.median(added):9.1f}  {spread:<16}{verdict}"


async def _compare(
    name: str, bare: Call, chained: Call, rounds: int, calls: int, budget: float | None = None
) -> Comparison:
    """Calls the two in turn, so that whatever else the machine does meets both. A round's figure is its median."""
    found: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        times: tuple[list[float], list[float]] = ([], [])
        # In a task, whose context is its own: a server limits the task that it serves a call in.
        await asyncio.create_task(_round(bare, chained, calls, times))
        if number:
            for medians, taken in zip(found, times, strict=True):
                medians.append(statistics.median(taken) * 1e6)
    return Comparison(name, *found, budget)


async def _round(bare: Call, chained: Call, calls: int, times: tuple[list[float], list[float]]) -> None:
    for _ in range(calls):
        for call, taken in zip((bare, chained), times, strict=True):
            began = time.perf_counter()
            await call()
            taken.append(time.perf_counter() - began)


async def _compare_blocking(
    name: str,
    bare: Callable[[], Any],
    chained: Callable[[], Any],
    rounds: int,
    calls: int,
    budget: float | None = None,
) -> Comparison:
    async def in_turn(call: Callable[[], Any]) -> None:
        call()

    # Blocking the loop is no matter: nothing else runs on it.
    return await _compare(name, lambda: in_turn(bare), lambda: in_turn(chained), rounds, calls, budget)


class _AtOnce:
    """A blocking multicallable that has the answer already."""

    def with_call(self, request: Any, timeout: float | None = None) -> tuple[Any, None]:
        return request, None


class _Header(NamedTuple):
    key: str
    value: str


class _Context:
    """As much of a servicer context as interceptors ask for."""

    def __init__(self, metadata: tuple[tuple[str, str], ...]) -> None:
        self._metadata = tuple(_Header(*header) for header in metadata)

    def invocation_metadata(self) -> tuple[_Header, ...]:
        return self._metadata

    def time_remaining(self) -> float:
        return _SECONDS_LEFT

    def peer(self) -> str:
        return "ipv4:127.0.0.1:50000"

    def code(self) -> int:
        return 0

    def details(self) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class _Details:
    method: str
    invocation_metadata: tuple[tuple[str, str], ...]


def _served(before: list[grpc.aio.ServerInterceptor], metadata: tuple[tuple[str, str], ...]) -> Call:
    """A call as a server makes it, from the interceptors to the answer, without the network."""
    details, context, found = _Details(METHOD, metadata), _Context(metadata), handler()
    wire = _REQUEST.SerializeToString()

    async def handle(_: Any) -> Any:
        return found

    continuation = handle
    for interceptor in reversed(before):
        continuation = _intercepted(interceptor, continuation)

    async def call() -> Any:
        chosen = await continuation(details)
        # As gRPC does: an interceptor may have taken the reading over.
        read = chosen.request_deserializer
        return await chosen.unary_unary(read(wire) if read else wire, context)

    return call


def _intercepted(interceptor: Any, continuation: Callable[[Any], Awaitable[Any]]) -> Any:
    async def handle(details: Any) -> Any:
        return await interceptor.intercept_service(continuation, details)

    return handle


async def _alone(rounds: int, calls: int, metadata: tuple[tuple[str, str], ...], jwks: Path) -> AsyncIterator[Any]:
    async def at_once(request: Any, timeout: float | None = None) -> Any:
        return request

    endpoint = Endpoint("bench")
    for path, kind in ((METHOD, "retry"), (HEDGED_METHOD, "hedging")):
        chained: Call = partial(single_answer(at_once, endpoint.chain(path)), _REQUEST)
        bare: Call = partial(at_once, _REQUEST)
        yield await _compare(f"client alone, aio, {kind}", bare, chained, rounds, calls, CLIENT_BUDGET_US)
    # Blocking attempts that are hedged need threads and gRPC's own futures: not alone.
    blocking = partial(SingleAnswer(_AtOnce(), endpoint.chain(METHOD)), _REQUEST)
    bare_blocking = partial(_AtOnce().with_call, _REQUEST)
    yield await _compare_blocking(
        "client alone, blocking, retry", bare_blocking, blocking, rounds, calls, CLIENT_BUDGET_US
    )
    bare_served, guarded = _served([], metadata), _served(interceptors(jwks), metadata)
    yield await _compare("server alone: auth, 1 in 10 traced", bare_served, guarded, rounds, calls, SERVER_BUDGET_US)
    # A caller whose own trace is sampled has its calls recorded.
    parent = ("traceparent", f"00-{'1' * 32}-{'2' * 16}-01")
    sampled = _served(interceptors(jwks), (*metadata, parent))
    yield await _compare("server alone: auth, every call traced", bare_served, sampled, rounds, calls, SERVER_BUDGET_US)


async def _over_loopback(
    rounds: int, calls: int, metadata: tuple[tuple[str, str], ...], ports: tuple[int, int]
) -> AsyncIterator[Comparison]:
    codecs = {
        "request_serializer": metrics_pb2.QueryMetricsRequest.SerializeToString,
        "response_deserializer": metrics_pb2.QueryMetricsResponse.FromString,
    }
    bare_target, guarded_target = (f"127.0.0.1:{port}" for port in ports)
    async with (
        grpc.aio.insecure_channel(bare_target, DIRECTLY) as channel,
        grpc.aio.insecure_channel(guarded_target, DIRECTLY) as guarded,
    ):
        bare = _aio_calls(channel.unary_unary(METHOD, **codecs), metadata)
        wrapped = _aio_calls(wrap(channel).unary_unary(METHOD, **codecs), metadata)
        yield await _compare("client over loopback, aio", bare, wrapped, rounds, calls)
        served = _aio_calls(guarded.unary_unary(METHOD, **codecs), metadata)
        yield await _compare("server over loopback, aio", bare, served, rounds, calls)
    with grpc.insecure_channel(bare_target, DIRECTLY) as blocking_channel:
        call = blocking_channel.unary_unary(METHOD, **codecs)
        wrapped_call = wrap(blocking_channel).unary_unary(METHOD, **codecs)
        options = {"timeout": _SECONDS_LEFT, "metadata": metadata}
        bare_call, chained_call = partial(call, _REQUEST, **options), partial(wrapped_call, _REQUEST, **options)
        yield await _compare_blocking("client over loopback, blocking", bare_call, chained_call, rounds, calls)


def _aio_calls(multicallable: Any, metadata: tuple[tuple[str, str], ...]) -> Call:
    return partial(multicallable, _REQUEST, timeout=_SECONDS_LEFT, metadata=metadata)


async def _processor_time(
    rounds: int, calls: int, metadata: tuple[tuple[str, str], ...], servers: tuple[_Server, _Server]
) -> Comparison:
    """Processor time of the two servers a call, with several calls in flight."""
    found: tuple[list[float], list[float]] = ([], [])
    codecs = {
        "request_serializer": metrics_pb2.QueryMetricsRequest.SerializeToString,
        "response_deserializer": metrics_pb2.QueryMetricsResponse.FromString,
    }
    each = max(1, calls // _IN_FLIGHT)
    for number in range(rounds + 1):
        for server, taken in zip(servers, found, strict=True):
            async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", DIRECTLY) as channel:
                call = _aio_calls(channel.unary_unary(METHOD, **codecs), metadata)
                await call()
                before = sum(server.process.cpu_times()[:2])
                await asyncio.gather(*(_repeat(call, each) for _ in range(_IN_FLIGHT)))
                spent = sum(server.process.cpu_times()[:2]) - before
            if number:
                taken.append(spent / (each * _IN_FLIGHT) * 1e6)
    return Comparison(f"server's processor time, {_IN_FLIGHT} calls in flight", *found, None)


async def _repeat(call: Call, times: int) -> None:
    for _ in range(times):
        await call()


@dataclass(frozen=True, slots=True)
class _Server:
    port: int
    process: psutil.Process


@contextlib.contextmanager
def _server(kind: str, jwks_file: Path) -> Iterator[_Server]:
    command = [sys.executable, "-m", "bench.resilience_server", kind, str(jwks_file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield _Server(int(process.stdout.readline()), psutil.Process(process.pid))
        finally:
            process.kill()


def _environment() -> str:
    model = platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    load = "/".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{model}, {len(os.sched_getaffinity(0))} cores, load {load}, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, grpcio {version('grpcio')}, uvloop {version('uvloop')}"
    )


async def _measure(rounds: int, calls: int) -> list[Comparison]:
    start_telemetry()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        keys = KeyFolder(Path(folder))
        keys.init()
        permissions = {policy.permission for policy in policies([metrics_pb2.DESCRIPTOR])}
        token = TokenIssuer(keys).issue(subject="bench", tenant="bench", permissions=permissions)
        metadata = (("authorization", f"Bearer {token}"),)
        print(
            f"{'microseconds a call':<46}{'bare':>9}{'chain':>9}{'ratio':>8}{'added':>9}  {'least..most':<16}  budget"
        )
        async for result in _alone(rounds, calls * 5, metadata, keys.jwks_file):
            results.append(result)
            print(result.line(), flush=True)
        with _server("bare", keys.jwks_file) as bare, _server("guarded", keys.jwks_file) as guarded:
            async for result in _over_loopback(rounds, calls, metadata, (bare.port, guarded.port)):
                results.append(result)
                print(result.line(), flush=True)
            results.append(await _processor_time(rounds, calls * 3, metadata, (bare, guarded)))
            print(results[-1].line())
    return results


def main() -> None:
    """Measures once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=300, help="calls a round over loopback; five times as many alone")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a chain costs more than its budget")
    arguments = parser.parse_args()
    print(_environment())
    results = uvloop.run(_measure(arguments.rounds, arguments.calls))
    if arguments.check and not all(result.is_within for result in results):
        sys.exit(1)


if __name__ == "__main__":
    main()
