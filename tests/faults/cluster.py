"""The distributed profile, from processes on free ports of loopback: every server and every service by itself."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncpg
from aiohttp import web
from airis.alerts.v1 import alerts_pb2
from airis.client import AirisClient
from alert_replicas import Receiver
from fakes.tcp_proxy import TcpProxy
from faults.history import History, Outcome, Stored, Verdict
from faults.items import NAME, SIGNALS
from faults.keys import Keys
from faults.load import Load
from faults.matrix import MATRIX
from faults.readback import ReadBack
from faults.service import Service
from faults.standstill import family, go_on
from google.protobuf.duration_pb2 import Duration

from deploy.servers import Server, make_server
from deploy.servers.redis import Redis
from services.shared.bus.adapters.kafka_operator import KafkaOperator
from services.shared.bus.config import KafkaConfig
from services.shared.errors import UnavailableError
from services.supervisor.process import Command

PROFILE = "distributed"
SERVERS = ("kafka", "clickhouse", "elasticsearch", "postgres", "redis", "consul")
MOST_MEMORY = 512 * 1024 * 1024
"""What no service's process may take, whatever happens: resident bytes."""
_FREE_MEMORY = 64 * 1024 * 1024

_RULE = "never"
_DRAIN_SECONDS = 120.0
# Elasticsearch needs minutes until it is back.
_STORED_SECONDS = 180.0
_POLL_SECONDS = 0.25


class Cluster:
    """`async with Cluster(folder) as cluster:` starts everything; each server is reached through a proxy.

    Args:
        folder: For everything's data.
        servers: Which there are.
        settings: Further settings of all services.
        server_config: Settings of servers, by their names.

    Attributes:
        history: What the loads have sent.
        services: By name: "metrics-serve", "metrics-work", …, "alerts".
    """

    def __init__(
        self,
        folder: Path,
        servers: tuple[str, ...],
        settings: Mapping[str, str] | None = None,
        server_config: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self._folder = folder
        self._keys = Keys(folder / "keys")
        self._more = dict(settings or {})
        self.servers: dict[str, Server] = {
            name: _server(name, folder / name, (server_config or {}).get(name)) for name in servers
        }
        self.proxies: dict[str, TcpProxy] = {}
        self.services: dict[str, Service] = {}
        self.history = {signal: History() for signal in SIGNALS}
        self.first_memory: dict[str, int] = {}
        self._receiver = Receiver()
        self._hook: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    def load(self) -> Load:
        """Senders of everything; what they send is in `history`."""
        return Load(
            {signal: self.services[f"{signal}-serve"].process.grpc for signal in SIGNALS},
            self.services["logs-serve"].process.http,
            self._keys.token(),
            self.history,
        )

    async def kill(self, server: str) -> None:
        """Ends a server as a crash would."""
        await asyncio.to_thread(self.servers[server].kill)

    async def restart(self, server: str) -> None:
        """Starts it again; returns when it answers."""
        await asyncio.to_thread(self.servers[server].start)

    @asynccontextmanager
    async def another(self, name: str) -> AsyncIterator[None]:
        """One more process that does the same as one of ours; it leaves in order."""
        signal, role = name.split("-")
        service = Service(signal, role, self._folder / "another", self.settings)
        try:
            await service.start()
            yield
        finally:
            await asyncio.to_thread(service.process.stop, 30.0)

    async def mend(self) -> None:
        """After a test that failed: everything runs and passes again, so that the next one tells something."""
        for proxy in self.proxies.values():
            proxy.heal()
        for server in self.servers.values():
            if server.running:
                go_on(family(server.pid))
            await asyncio.to_thread(server.start)
        for service in self.services.values():
            assert service.process.process is not None
            if service.process.process.poll() is None:
                go_on(family(service.pid))
            else:
                await service.start()

    async def until_ready(self, unready: Mapping[str, str | None] | None = None, within: float = 120.0) -> None:
        """Waits until those services say 503, with this in the reason (None: do not answer), and all others 200.

        Raises:
            AssertionError: It does not come to that; says what each says.
        """
        expected = dict(unready or {})
        ends = asyncio.get_running_loop().time() + within
        while True:
            found = await asyncio.gather(*(service.readiness() for service in self.services.values()))
            answers = dict(zip(self.services, found, strict=True))
            wrong = {
                name: got for name, got in answers.items() if not _is_so(got, name in expected, expected.get(name))
            }
            if not wrong:
                return
            if asyncio.get_running_loop().time() > ends:
                raise AssertionError(f"readiness: {wrong}; expected unready: {expected}")
            await asyncio.sleep(_POLL_SECONDS)

    async def until_committed(self, signal: str, within: float = 90.0) -> None:
        """Waits until workers have committed all that is published by now. Raises `TimeoutError`."""
        operator = KafkaOperator(KafkaConfig(bootstrap_servers=self.servers["kafka"].address), signal)
        published: dict[int, int] = {}
        async with asyncio.timeout(within):
            # Other processes set no event, here and below.
            while True:
                # Kafka has just come back.
                with contextlib.suppress(UnavailableError):
                    lag = await operator.lag()
                    published = published or {each.partition: each.end for each in lag}
                    if all(each.committed >= published[each.partition] for each in lag):
                        return
                await asyncio.sleep(_POLL_SECONDS)

    async def recovers(self, load: Load, signals: Sequence[str] = SIGNALS) -> dict[str, float]:
        """Waits until all that senders begin is acknowledged, and all that they have published by then is stored: Kafka
        takes it without a worker and without a store.

        Returns:
            Seconds until that, by signal.

        Raises:
            AssertionError: Something is not acknowledged.
            TimeoutError: Something is not stored.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        await load.recovers(signals=signals)

        async def stored(signal: str) -> float:
            await self.until_committed(signal, _STORED_SECONDS)
            return loop.time() - began

        return dict(zip(signals, await asyncio.gather(*map(stored, signals)), strict=True))

    async def judge(self) -> None:
        """Waits until everything acknowledged is stored, and finds that it is, once.

        Raises:
            AssertionError: Something is lost, doubled, wrong or torn, or a process grew.
        """
        ends = asyncio.get_running_loop().time() + _DRAIN_SECONDS
        for signal in SIGNALS:
            verdict, stored = await self._settled(signal, ends)
            MATRIX.replace(PROFILE, signal, self.history[signal], stored)
            assert verdict == Verdict(), f"{signal}: {_short(verdict)}"
            items = sum(each.items for each in stored.values())
            for total in await self._stores.rolled_up(signal):
                assert total == items, f"{signal}: {items} are stored, and rolled up are {total}"
        self.check_memory()

    def check_memory(self) -> None:
        """Raises `AssertionError` if a process has grown beyond its bound, or by half since the first time."""
        memory = {name: service.memory for name, service in self.services.items()}
        self.first_memory = self.first_memory or memory
        beyond = {
            name: (self.first_memory[name], size)
            for name, size in memory.items()
            if size > 1.5 * self.first_memory[name] + _FREE_MEMORY
        }
        assert not beyond, f"memory has grown: {beyond}"
        peaks = {name: service.most_memory for name, service in self.services.items()}
        assert max(peaks.values()) <= MOST_MEMORY, f"memory was beyond its bound: {peaks}"

    def counts(self) -> dict[str, dict[str, int]]:
        """How many batches of each signal have which outcome."""
        return {
            signal: {outcome.value: history.count(outcome) for outcome in Outcome}
            for signal, history in self.history.items()
        }

    async def until_evaluated(self) -> None:
        """Waits until the rule was evaluated twice without a fault. Raises `TimeoutError`."""
        connection = await asyncpg.connect(self.servers["postgres"].settings["AIRIS_POSTGRES__DSN"])
        statement = "SELECT evaluated_at FROM alert_rules WHERE id = $1 AND last_error = ''"
        seen: set[Any] = set()
        try:
            async with asyncio.timeout(60):
                while len(seen - {None}) < 3:
                    seen.add(await connection.fetchval(statement, _RULE))
                    await asyncio.sleep(_POLL_SECONDS)
        finally:
            await connection.close()

    async def until_rule_fails(self) -> None:
        """Waits until the rule says that it could not be evaluated. Raises `TimeoutError`."""
        connection = await asyncpg.connect(self.servers["postgres"].settings["AIRIS_POSTGRES__DSN"])
        try:
            async with asyncio.timeout(60):
                error = ""
                while not error:
                    error = await connection.fetchval("SELECT last_error FROM alert_rules WHERE id = $1", _RULE)
                    await asyncio.sleep(_POLL_SECONDS)
        finally:
            await connection.close()

    async def until_told(self) -> None:
        """Waits until the channel of a new rule was told, and that is written down. Raises `TimeoutError`."""
        name = f"fires-{uuid.uuid4().hex}"
        rule = alerts_pb2.AlertRule(
            display_name="Fires",
            conditions=[alerts_pb2.AlertRule.Condition(metric=NAME, threshold=-1)],
            evaluation_interval=Duration(seconds=1),
            channels=["channels/hook"],
        )
        statement = (
            "SELECT count(*) FROM alert_events WHERE kind = $1 AND alert_id IN "
            "(SELECT id FROM alerts WHERE rule_id = $2)"
        )
        notified = int(alerts_pb2.AlertEvent.NOTIFIED)
        connection = await asyncpg.connect(self.servers["postgres"].settings["AIRIS_POSTGRES__DSN"])
        try:
            async with self._client() as client, asyncio.timeout(60):
                await client.alerts.rules.create(rule, id=name)
                while not await connection.fetchval(statement, notified, name):  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_SECONDS)
                await client.alerts.rules.delete(f"alertRules/{name}")
        finally:
            await connection.close()

    async def _add_rule(self) -> None:
        rule = alerts_pb2.AlertRule(
            display_name="Never",
            conditions=[alerts_pb2.AlertRule.Condition(metric=NAME, threshold=1e9)],
            evaluation_interval=Duration(seconds=1),
        )
        hook = alerts_pb2.Channel(webhook=alerts_pb2.Channel.Webhook(url=await self._open_hook()))
        async with self._client() as client:
            await client.alerts.rules.create(rule, id=_RULE)
            await client.alerts.channels.create(hook, id="hook")

    async def _open_hook(self) -> str:
        application = web.Application()
        application.router.add_post("/hook", self._receiver.post)
        self._hook = web.AppRunner(application)
        await self._hook.setup()
        await web.TCPSite(self._hook, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._hook.addresses[0][1]}/hook"

    def _client(self) -> AirisClient:
        return AirisClient(targets={"alerts": self.services["alerts"].process.grpc}, token=self._keys.token())

    async def _settled(self, signal: str, ends: float) -> tuple[Verdict, dict[str, Stored]]:
        before: dict[str, Stored] = {}
        while True:
            stored = await self._stores.stored(signal)
            verdict = self.history[signal].judge(stored)
            # What is stored must stay so: a late repetition would be one.
            is_still = stored == before
            if (is_still and verdict == Verdict()) or asyncio.get_running_loop().time() > ends:
                return verdict, stored
            before = stored
            await asyncio.sleep(_POLL_SECONDS * 2)

    @property
    def _stores(self) -> ReadBack:
        elastic = self.servers.get("elasticsearch")
        return ReadBack(self.servers["clickhouse"].address, elastic.address if elastic else None, "logs-*")

    async def _start(self) -> None:
        settings = {"AIRIS_PROFILE": "distributed", **self._keys.settings}
        for name, server in self.servers.items():
            proxy = await TcpProxy(server.address).__aenter__()
            self.proxies[name] = proxy
            settings |= {key: value.replace(server.address, proxy.address) for key, value in server.settings.items()}
        if "kafka" in self.servers:
            # What a client connects to after the first answer.
            self.servers["kafka"].config["advertised.listeners"] = f"PLAINTEXT://{self.proxies['kafka'].address}"
        if "consul" not in self.servers:
            settings["AIRIS_DISCOVERY__KIND"] = "static"
        if "elasticsearch" not in self.servers:
            settings["AIRIS_LOGS__STORE"] = "clickhouse"
        await asyncio.gather(*(asyncio.to_thread(server.start) for server in self.servers.values()))
        settings |= self._more
        self.settings = settings
        for signal in SIGNALS:
            for role in ("serve", "work"):
                self._add(Service(signal, role, self._folder, settings))
        targets = {
            f"AIRIS_ALERTS__{s.upper()}_TARGET": self.services[f"{s}-serve"].process.grpc for s in ("metrics", "logs")
        }
        local = {"AIRIS_ALERTS__ALLOW_LOCAL_TARGETS": "true"}
        self._add(Service("alerts", "", self._folder, {**settings, **targets, **local}))
        await asyncio.gather(*(service.start() for service in self.services.values()))
        await self.until_ready()
        await self._add_rule()

    def _add(self, service: Service) -> None:
        self.services[service.name] = service

    async def _stop(self) -> None:
        running = [each.process for each in self.services.values() if each.process.process is not None]
        for process in running:
            if process.process is not None and process.process.poll() is None:
                process.process.terminate()
        for process in running:
            try:
                await asyncio.to_thread(process.stop, 15.0)
            except AssertionError:
                process.kill()
        await asyncio.gather(*(asyncio.to_thread(server.stop) for server in self.servers.values()))
        for proxy in self.proxies.values():
            await proxy.__aexit__(None, None, None)
        if self._hook is not None:
            await self._hook.cleanup()


class _LastingRedis(Redis):
    """Outlives a write beyond its limit (`RLIMIT_FSIZE`), and refuses, as it does on a disk without room: unlike the
    other servers it leaves the signal that comes with that (SIGXFSZ) as it finds it."""

    def command(self, installation: Path) -> Command:
        command = super().command(installation)
        return replace(command, arguments=["/usr/bin/env", "--ignore-signal=XFSZ", *command.arguments])


def _server(name: str, data: Path, config: Mapping[str, str] | None) -> Server:
    return _LastingRedis(data, config=config) if name == "redis" else make_server(name, data, config=config)


def _is_so(answer: tuple[int, str], unready: bool, reason: str | None) -> bool:
    status, text = answer
    if not unready:
        return status == 200
    return status == 0 if reason is None else status == 503 and reason.lower() in text.lower()


def _short(verdict: Verdict) -> str:
    parts = {name: getattr(verdict, name) for name in ("lost", "doubled", "wrong", "torn", "alien")}
    return ", ".join(f"{len(found)} {name} such as {found[:3]}" for name, found in parts.items() if found)
