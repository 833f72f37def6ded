"""Several alert services on one PostgreSQL and one Redis, and everything around them that a test looks at."""

from __future__ import annotations

import asyncio
import signal
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import grpc
from aiohttp import web
from airis.alerts.v1 import alerts_pb2 as pb
from airis.alerts.v1 import alerts_pb2_grpc
from airis.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from fakes.tcp_proxy import TcpProxy
from faults.keys import Keys
from google.protobuf.duration_pb2 import Duration
from service_process import ServiceProcess

from deploy.servers import Server, make_server

INTERVAL = timedelta(seconds=2)
LEASE_SECONDS = 1.0
"""Twice AIRIS_ALERTS__EVALUATION_TIMEOUT; less than the interval, so that a dead replica's turn is not lost.

So is the time after which PostgreSQL takes back what a transaction holds that stands still.
"""

_AUDIT = """
CREATE TABLE evaluation_audit (
    number bigint GENERATED ALWAYS AS IDENTITY, rule text NOT NULL, moment timestamptz NOT NULL, error text NOT NULL
);
CREATE OR REPLACE FUNCTION audit_evaluation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO evaluation_audit (rule, moment, error) VALUES (NEW.id, NEW.evaluated_at, NEW.last_error);
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER audit_evaluation AFTER UPDATE ON alert_rules FOR EACH ROW
    WHEN (NEW.evaluated_at IS DISTINCT FROM OLD.evaluated_at) EXECUTE FUNCTION audit_evaluation();
"""


class Signals(metrics_pb2_grpc.MetricsServiceServicer):
    """What one replica asks. Every metric is 95 on each host, unless it is held: then there is no answer."""

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, datetime]] = Counter()
        self.hosts: dict[str, tuple[str, ...]] = {}
        self.held: set[str] = set()
        self.holding = asyncio.Event()
        self.go = asyncio.Event()

    async def QueryMetrics(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.asked[request.metric, request.end_time.ToDatetime(UTC)] += 1
        if request.metric in self.held:
            self.holding.set()
            await self.go.wait()
        response = metrics_pb2.QueryMetricsResponse()
        for host in self.hosts.get(request.metric, ()):
            response.series.add(labels={"host": host}).points.add(value=95)
        return response


class Receiver:
    """A webhook that counts by idempotency key."""

    def __init__(self) -> None:
        self.keys: Counter[str] = Counter()
        self.url = ""

    async def post(self, request: web.Request) -> web.Response:
        self.keys[request.headers["Idempotency-Key"]] += 1
        return web.Response()


class Replica:
    """One alert service with a signals endpoint of its own, so that it is known who asked."""

    def __init__(self, process: ServiceProcess, signals: Signals) -> None:
        self.process = process
        self.signals = signals

    async def start(self) -> None:
        """Returns when it serves."""
        await asyncio.to_thread(self.process.start)

    async def readiness(self) -> tuple[int, str]:
        """The status and the text of /readyz."""
        return await asyncio.to_thread(get, f"{self.process.http}/readyz")

    async def until_asking(self) -> None:
        """Waits until it asks for a rule: each goes to whoever looks first, so its turn may be some intervals away."""

        async def is_asking() -> bool:
            return bool(self.signals.asked)

        await until(is_asking)

    def send_signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process."""
        assert self.process.process is not None
        self.process.process.send_signal(number)


class Replicas:
    """Three replicas, PostgreSQL, Redis and a webhook."""

    def __init__(self, postgres: Server, redis: Server, receiver: Receiver, keys: Keys) -> None:
        self.redis_proxy = TcpProxy(redis.address)
        self.postgres = postgres
        self.redis = redis
        self.receiver = receiver
        self.all: list[Replica] = []
        self._metadata = (("authorization", f"Bearer {keys.token()}"),)

    async def call(self, method: str, request: Any, replica: int = 0) -> Any:
        """Calls an RPC of one of them."""
        async with grpc.aio.insecure_channel(self.all[replica].process.grpc) as channel:
            stub = alerts_pb2_grpc.AlertServiceStub(channel)
            return await getattr(stub, method)(request, metadata=self._metadata, timeout=10)

    async def add_rules(self, *names: str, hosts: int = 0, replica: int = 0) -> None:
        """Asks a replica for rules, each on a metric of its name, that fire for so many hosts and tell the webhook."""
        for name in names:
            for each in self.all:
                each.signals.hosts[name] = tuple(f"{name}-{number}" for number in range(hosts))
            rule = pb.AlertRule(
                display_name=name,
                conditions=[pb.AlertRule.Condition(metric=name, threshold=90)],
                evaluation_interval=Duration(seconds=int(INTERVAL.total_seconds())),
                group_by=["host"],
                channels=["channels/hook"],
            )
            request = pb.CreateAlertRuleRequest(alert_rule=rule, alert_rule_id=name)
            await self.call("CreateAlertRule", request, replica)

    async def query(self, statement: str, *arguments: object) -> list[Any]:
        """Rows of the alert store, as somebody outside sees them."""
        connection = await asyncpg.connect(self.postgres.settings["AIRIS_POSTGRES__DSN"])
        try:
            return list(await connection.fetch(statement, *arguments))
        finally:
            await connection.close()

    async def audit(self) -> None:
        """From now on every evaluation is written down by PostgreSQL itself."""
        connection = await asyncpg.connect(self.postgres.settings["AIRIS_POSTGRES__DSN"])
        try:
            await connection.execute(_AUDIT)
        finally:
            await connection.close()

    async def moments(self) -> dict[str, list[datetime]]:
        """The moments for which each rule was evaluated, in the order in which that was written."""
        found: dict[str, list[datetime]] = defaultdict(list)
        for row in await self.query("SELECT rule, moment FROM evaluation_audit ORDER BY number"):
            found[row["rule"]].append(row["moment"])
        return found

    async def until_evaluated(self, moment: datetime, *rules: str) -> dict[str, list[datetime]]:
        """Waits until these rules were evaluated for a moment after that one; gives all moments."""
        found: dict[str, list[datetime]] = {}

        async def are_done() -> bool:
            nonlocal found
            found = await self.moments()
            return all(found.get(rule) and max(found[rule]) > moment for rule in rules)

        await until(are_done)
        return found

    async def until_told(self, rule: str, count: int) -> None:
        """Waits until so many alerts of a rule are FIRING and NOTIFIED."""

        async def are_told() -> bool:
            rows = await self.query(
                "SELECT count(DISTINCT alert_id) FROM alert_events WHERE kind = $1 AND alert_id IN "
                "(SELECT id FROM alerts WHERE rule_id = $2)",
                int(pb.AlertEvent.NOTIFIED),
                rule,
            )
            return int(rows[0][0]) == count

        await until(are_told)

    async def notified(self) -> Counter[str]:
        """How often each alert's notification is recorded as sent."""
        rows = await self.query("SELECT alert_id FROM alert_events WHERE kind = $1", int(pb.AlertEvent.NOTIFIED))
        return Counter(row["alert_id"] for row in rows)


async def until(condition: Callable[[], Any], within: float = 30.0) -> None:
    """Asks again and again until it is so. Raises `TimeoutError`."""
    async with asyncio.timeout(within):
        while not await condition():  # noqa: ASYNC110 (other processes set no event)
            await asyncio.sleep(0.1)


def gaps(moments: list[datetime], interval: timedelta = INTERVAL) -> list[tuple[datetime, datetime]]:
    """Where moments do not follow each other by exactly one interval."""
    return [(before, after) for before, after in zip(moments, moments[1:], strict=False) if after - before != interval]


@asynccontextmanager
async def open_replicas(
    folder: Path, count: int = 3, kind: type[ServiceProcess] = ServiceProcess
) -> AsyncIterator[Replicas]:
    """PostgreSQL and Redis of the test's own, and replicas that were started at the same time on an empty database."""
    keys, receiver = Keys(folder / "keys"), Receiver()
    postgres, redis = make_server("postgres", folder / "postgres"), make_server("redis", folder / "redis")
    application = web.Application()
    application.router.add_post("/hook", receiver.post)
    runner = web.AppRunner(application)
    replicas = Replicas(postgres, redis, receiver, keys)
    servers: list[Any] = []
    try:
        await asyncio.gather(*(asyncio.to_thread(server.start) for server in (postgres, redis)))
        proxy = await replicas.redis_proxy.__aenter__()
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
        for number in range(count):
            signals, server = Signals(), grpc.aio.server()
            metrics_pb2_grpc.add_MetricsServiceServicer_to_server(signals, server)
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            servers.append(server)
            settings = {
                "AIRIS_PROFILE": "distributed",
                "AIRIS_DISCOVERY__KIND": "static",
                "AIRIS_ALERTS__METRICS_TARGET": f"127.0.0.1:{port}",
                "AIRIS_ALERTS__EVALUATION_TIMEOUT": str(LEASE_SECONDS / 2),
                "AIRIS_ALERTS__EVALUATION_POLL_INTERVAL": "0.1",
                "AIRIS_ALERTS__NOTIFICATION_POLL_INTERVAL": "0.1",
                # Waiting twice for a Redis that does not answer leaves time enough to send.
                "AIRIS_ALERTS__NOTIFICATION_TIMEOUT": "5",
                "AIRIS_ALERTS__POSTGRES_TIMEOUT": "1",
                "AIRIS_ALERTS__ALLOW_LOCAL_TARGETS": "true",
                **keys.settings,
                **postgres.settings,
                **{key: value.replace(redis.address, proxy.address) for key, value in redis.settings.items()},
            }
            replicas.all.append(Replica(kind("alerts", folder / f"replica-{number}", **settings), signals))
        await asyncio.gather(*(replica.start() for replica in replicas.all))
        await replicas.audit()
        hook = pb.Channel(webhook=pb.Channel.Webhook(url=receiver.url))
        await replicas.call("CreateChannel", pb.CreateChannelRequest(channel=hook, channel_id="hook"))
        yield replicas
    finally:
        for replica in replicas.all:
            replica.signals.go.set()
            if replica.process.process is not None and replica.process.process.poll() is None:
                replica.process.kill()
        for server in servers:
            await server.stop(None)
        await runner.cleanup()
        await replicas.redis_proxy.__aexit__(None, None, None)
        await asyncio.gather(*(asyncio.to_thread(server.stop) for server in (postgres, redis)))


def get(url: str) -> tuple[int, str]:
    """The status and the text of a page; 0 when there is no answer."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)
