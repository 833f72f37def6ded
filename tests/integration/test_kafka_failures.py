"""The Kafka bus while workers stop and die, and while the broker is killed: stored exactly once, and bounded."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fakes.token_store import TokenStore
from service_process import ServiceProcess

from deploy.servers import Server, make_server
from services.shared.bus.adapters.kafka import KafkaBus
from services.shared.bus.adapters.kafka_operator import KafkaOperator
from services.shared.bus.config import KafkaConfig
from services.shared.bus.drain import drain
from services.shared.bus.port import Batch, Header, InsertLimits
from services.shared.bus.repeats import Repeats
from services.shared.errors import ResourceExhaustedError, UnavailableError

# A broker that comes back after a kill takes a while on a busy machine.
pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
LIMITS = InsertLimits(max_items=50, max_bytes=100_000, max_age=0.02)


def decode(header: Header, payload: bytes) -> bytes:
    return payload


def batch(name: str = "", payload: bytes = b"wire", producer: str = "", sequence: int = 0) -> Batch[bytes]:
    return Batch(Header("default", "airis.test.v1.Batch", 1, 10, name, producer, sequence), payload, decode)


def config_of(server: Server, **settings: object) -> KafkaConfig:
    chosen = {"topic_prefix": f"it-{uuid.uuid4().hex}", "partitions": 2, "session_timeout": 6, **settings}
    return KafkaConfig(bootstrap_servers=server.address, **chosen)  # type: ignore[arg-type]


@asynccontextmanager
async def opened(config: KafkaConfig, **options: object) -> AsyncIterator[KafkaBus[bytes]]:
    bus: KafkaBus[bytes] = KafkaBus(config, "test", decode, limits=LIMITS, **options)  # type: ignore[arg-type]
    await bus.open()
    try:
        yield bus
    finally:
        await bus.close()


@asynccontextmanager
async def working(
    bus: KafkaBus[bytes], store: TokenStore, repeats: Repeats[bytes] | None = None
) -> AsyncIterator[None]:
    worker = asyncio.create_task(drain(bus, store.write, repeats))
    try:
        yield
        assert not worker.done()
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


async def until(reached: Callable[[], bool | Awaitable[bool]], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while True:
            answer = reached()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.02)


class WorkerProcess:
    """See `kafka_worker`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, config: KafkaConfig) -> WorkerProcess:
        arguments = (config.bootstrap_servers, config.topic_prefix, str(config.partitions))
        return cls(
            await asyncio.create_subprocess_exec(
                *(sys.executable, str(ROOT / "tests" / "kafka_worker.py"), *arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        )

    async def read(self) -> list[object]:
        assert self.process.stdout is not None
        async with asyncio.timeout(60):
            line = await self.process.stdout.readline()
        found: list[object] = json.loads(line)
        return found

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")

    async def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


@pytest.mark.parametrize("fate", ["paused beyond its session", "killed"])
async def test_another_worker_repeats_the_insert_of_one_that_is(fate: str, kafka: Server) -> None:
    config = config_of(kafka, partitions=1)
    store = TokenStore()
    async with opened(config, role="serve") as serving:
        for n in range(12):
            await serving.publish(batch(f"r{n}"))
        first = await WorkerProcess.start(config)
        try:
            kind, token, ids = await first.read()
            assert kind == "insert"
            assert isinstance(ids, list)
            # The store has it; that it has, is not committed.
            await store.write([(batch(name).header, b"") for name in ids], str(token))
            first.process.send_signal(signal.SIGSTOP if fate.startswith("paused") else signal.SIGKILL)
            async with opened(config, role="work") as second, working(second, store):
                async with asyncio.timeout(60):
                    await serving.wait_settled(batch("r0").header)
                assert store.repeated == [token]
                assert store.stored == {f"r{n}": 1 for n in range(12)}
                if fate.startswith("paused"):
                    before = await KafkaOperator(config, "test").lag()
                    first.process.send_signal(signal.SIGCONT)
                    first.go_on()
                    # It gives up an insert that is not its own any more, and goes on with what is.
                    assert await first.read() == ["done", token]
                    assert await KafkaOperator(config, "test").lag() == before
                    assert before[0].batches == 0
        finally:
            await first.kill()


@pytest.fixture(scope="module")
def killed_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = make_server("kafka", tmp_path_factory.mktemp("own-kafka"))
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def own_kafka(killed_kafka: Server) -> Server:
    """A broker that the test may kill, and leave so."""
    killed_kafka.start()
    return killed_kafka


async def publish_until_taken(bus: KafkaBus[bytes], sent: Batch[bytes], refused: list[Exception]) -> None:
    while True:
        try:
            await bus.publish(sent)
        except (UnavailableError, ResourceExhaustedError) as error:
            refused.append(error)
            await asyncio.sleep(0.05)
        else:
            return


async def test_a_broker_that_is_killed_while_batches_are_published_loses_and_doubles_nothing(own_kafka: Server) -> None:
    config = config_of(own_kafka, publish_timeout=1.5, request_timeout=3)
    store = TokenStore()
    refused: list[Exception] = []
    acknowledged: set[str] = set()
    stop = asyncio.Event()

    async def send_requests(bus: KafkaBus[bytes], name: str) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            await publish_until_taken(bus, batch(f"{name}-{number}"), refused)
            acknowledged.add(f"{name}-{number}")
            await asyncio.sleep(0.002)

    async def send_stream(bus: KafkaBus[bytes], name: str) -> None:
        sequence = 0
        while not stop.is_set():
            numbers = range(sequence + 1, sequence + 9)
            # As a stream does: some at once, and from the first refused one on again.
            results = await asyncio.gather(
                *(bus.publish(batch(producer=name, sequence=number)) for number in numbers), return_exceptions=True
            )
            for result in results:
                if isinstance(result, BaseException):
                    assert isinstance(result, (UnavailableError, ResourceExhaustedError))
                    refused.append(result)
                    await asyncio.sleep(0.05)
                    break
                sequence += 1
                acknowledged.add(f"{name}/{sequence}")

    async with (
        opened(config, role="serve") as serving,
        opened(config, role="all") as worker,
        working(worker, store, Repeats(store)),
    ):
        senders = [
            asyncio.create_task(send(bus, f"{send.__name__}-{n}"))
            for n, bus in enumerate((serving, worker))
            for send in (send_requests, send_stream)
        ]
        await until(lambda: len(acknowledged) > 300)
        await asyncio.to_thread(own_kafka.kill)
        count = len(refused)
        await until(lambda: len(refused) > count)
        with pytest.raises(UnavailableError):
            await serving.check()
        await asyncio.to_thread(own_kafka.start)
        await until_ready(serving)
        seen = len(acknowledged)
        await until(lambda: len(acknowledged) > seen + 300)
        stop.set()
        await asyncio.gather(*senders)
        async with asyncio.timeout(60):
            await serving.wait_settled(batch().header)
        await until(lambda: serving.in_flight_bytes == worker.in_flight_bytes == 0)
    stored = store.stored
    assert acknowledged <= stored.keys()
    assert set(stored.values()) == {1}


async def until_ready(bus: KafkaBus[bytes]) -> None:
    async def ready() -> bool:
        try:
            await bus.check()
        except UnavailableError:
            return False
        return True

    await until(ready)


async def test_what_waits_for_a_broker_that_is_away_is_bounded_and_refused_beyond(own_kafka: Server) -> None:
    config = config_of(own_kafka, publish_timeout=1.0, request_timeout=2, max_in_flight_bytes=4 << 20)
    store = TokenStore()
    async with opened(config) as bus, working(bus, store, Repeats(store)):
        await bus.publish(batch("before"))
        await asyncio.to_thread(own_kafka.kill)
        results: list[object] = []
        for _ in range(3):
            payloads = (batch(f"r{n}", b"x" * 500_000) for n in range(20))
            sending = [asyncio.create_task(bus.publish(each)) for each in payloads]
            await asyncio.sleep(0)
            with pytest.raises(ResourceExhaustedError):
                bus.check_room(500_000)
            results += await asyncio.gather(*sending, return_exceptions=True)
            assert bus.in_flight_bytes <= 4 << 20
        assert {type(result) for result in results} == {UnavailableError, ResourceExhaustedError}
        full = [result for result in results if isinstance(result, ResourceExhaustedError)]
        assert {error.reason for error in full} == {"BACKLOG_FULL"}
        await asyncio.to_thread(own_kafka.start)
        refused: list[Exception] = []
        for n in range(20):
            await publish_until_taken(bus, batch(f"r{n}", b"x" * 500_000), refused)
        await until(lambda: bus.in_flight_bytes == 0)
        async with asyncio.timeout(30):
            await bus.wait_settled(batch().header)
    assert store.stored == {"before": 1, **{f"r{n}": 1 for n in range(20)}}


async def test_a_bus_opens_once_its_broker_is_there_and_closes_while_it_is_away(own_kafka: Server) -> None:
    config = config_of(own_kafka, publish_timeout=1.0, request_timeout=1.5)
    await asyncio.to_thread(own_kafka.kill)
    bus: KafkaBus[bytes] = KafkaBus(config, "test", decode, limits=LIMITS)
    with pytest.raises(UnavailableError):
        await bus.open()
    await asyncio.to_thread(own_kafka.start)

    async def opens() -> bool:
        try:
            await bus.open()
        except UnavailableError:
            return False
        return True

    await until(opens)
    await bus.publish(batch("a"))
    await asyncio.to_thread(own_kafka.kill)
    waiting = asyncio.create_task(bus.publish(batch("b")))
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await bus.close()
    assert isinstance((await asyncio.gather(waiting, return_exceptions=True))[0], UnavailableError)


def test_a_service_whose_port_is_taken_says_so_and_leaves_nothing_open(
    kafka: Server, clickhouse_server: Server, tmp_path: Path
) -> None:
    service = ServiceProcess("metrics", tmp_path, **kafka.settings, **clickhouse_server.settings)
    host, port = service.grpc.split(":")
    with socket.socket() as taken:
        taken.bind((host, int(port)))
        taken.listen()
        with pytest.raises(AssertionError, match="did not start"):
            service.start()
    assert service.process is not None
    assert service.process.wait(10) == 1
    said = [line for line in service.log().splitlines() if not line.startswith(("{", "E"))]
    assert said == [
        f"Port {port} is in use. Stop what uses it, or choose others with --port-offset of `airis up`, or "
        "AIRIS_PORT_OFFSET."
    ]
