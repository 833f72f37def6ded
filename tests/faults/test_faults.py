"""The faults of docs/faults.md, one at a time, under load: nothing acknowledged is lost, nothing is stored twice."""

from __future__ import annotations

import asyncio
import random
import resource
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import pytest
import pytest_asyncio
from alert_replicas import until
from faults import network, poison
from faults.armed import distributed_points
from faults.cluster import PROFILE, SERVERS, Cluster
from faults.items import SIGNALS
from faults.little_memory import can_limit_memory, little_memory
from faults.load import Load
from faults.matrix import MATRIX
from faults.standstill import family, standstill
from redis.asyncio import Redis
from redis.exceptions import ResponseError

pytestmark = [pytest.mark.servers, pytest.mark.timeout(600), pytest.mark.asyncio(loop_scope="module")]
longer = pytest.mark.faults
"""Only `make faults` runs these."""

ROLES = ("serve", "work")
# Who needs a server, and what /readyz says of it.
UNREADY: dict[str, dict[str, str]] = {
    "kafka": {f"{name}-{role}": "kafka" for name in SIGNALS for role in ROLES},
    "clickhouse": {f"{name}-{role}": "the store" for name in ("metrics", "traces") for role in ROLES},
    "elasticsearch": {f"logs-{role}": "the store" for role in ROLES},
    "postgres": {"alerts": "the alert store does not answer"},
    "redis": {},
    "consul": {},
}
# The same of one that takes connections and does not answer, or of which nothing is heard: PostgreSQL's driver waits
# longer than /readyz does.
SILENT = UNREADY | {"postgres": {"alerts": ""}}
# Longer than Kafka's, PostgreSQL's and Redis' clients wait for an answer, than a worker's session lasts, and than it
# takes until an instance asks Consul and has waited for it.
SILENT_SECONDS = 12.0
# Slow ones have a test of their own.
NETWORK = [fault for fault in network.FAULTS if fault != "network slow"]
STORES = {"metrics": "clickhouse", "logs": "elasticsearch", "traces": "clickhouse"}
SIGNAL_SERVICES = tuple(f"{signal}-{role}" for role in ROLES for signal in SIGNALS)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    folder = tmp_path_factory.mktemp("faults")
    # Some servers run as another user.
    folder.chmod(0o755)
    async with Cluster(folder, SERVERS) as opened:
        yield opened


@pytest.fixture(autouse=True)
def fault(cluster: Cluster, request: pytest.FixtureRequest) -> str:
    """What the matrix calls this test."""
    name = str(request.node.name).removeprefix("test_")
    for history in cluster.history.values():
        history.fault = name
    return name


@asynccontextmanager
async def under_load(cluster: Cluster) -> AsyncIterator[Load]:
    """A fault and its end happen within, while everything is sent; afterwards all is as if it had not been."""
    async with cluster.load() as load:
        await load.flows()
        try:
            yield load
        except BaseException:
            await cluster.mend()
            raise
        for signal, seconds in (await load.recovers()).items():
            MATRIX.recovered(PROFILE, cluster.history[signal].fault, {signal: seconds})
        await cluster.until_ready()
        cluster.check_memory()
        await load.flows()
    await cluster.judge()
    await cluster.until_evaluated()


async def goes_on_without(cluster: Cluster, load: Load, server: str) -> None:
    """Finds that what does not need a server goes on, and that a rule which needs it says so."""
    if server != "kafka":
        # Kafka holds what is acknowledged meanwhile.
        await load.flows()
    if server == "clickhouse":
        await cluster.until_rule_fails()
    elif server != "postgres":
        await cluster.until_evaluated()
    if server == "redis":
        # Only who tells somebody asks it.
        await cluster.until_told()


async def waits_in_vain(cluster: Cluster, load: Load, server: str) -> None:
    """Nothing is heard of a server: finds that who needs it says so, and that all else goes on."""
    await cluster.until_ready(SILENT[server])
    await asyncio.sleep(SILENT_SECONDS)
    await goes_on_without(cluster, load, server)
    await cluster.until_ready(SILENT[server])


async def test_without_a_fault_everything_is_stored_once(cluster: Cluster) -> None:
    async with under_load(cluster):
        pass


@pytest.mark.parametrize(
    "server", ["kafka", "clickhouse", "elasticsearch", "postgres", "consul", pytest.param("redis", marks=longer)]
)
async def test_a_server_killed(cluster: Cluster, server: str) -> None:
    async with under_load(cluster) as load:
        await cluster.kill(server)
        await cluster.until_ready(UNREADY[server])
        await goes_on_without(cluster, load, server)
        await cluster.restart(server)


@pytest.mark.parametrize("name", [*SIGNAL_SERVICES, "alerts"])
async def test_a_service_killed(cluster: Cluster, name: str) -> None:
    async with under_load(cluster) as load:
        await cluster.services[name].kill()
        await cluster.until_ready({name: None})
        others = [signal for signal in SIGNALS if name != f"{signal}-serve"]
        await load.flows(signals=others)
        await cluster.services[name].start()


@longer
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", SIGNAL_SERVICES)
async def test_killed_at_every_boundary(cluster: Cluster, chance: random.Random, name: str) -> None:
    signal, role = name.split("-")
    points = distributed_points(signal, role)
    async with under_load(cluster) as load:
        for point in chance.sample(points, len(points)):
            cluster.history[signal].fault = f"{role}: {point}"
            await cluster.services[name].die_at(point, chance.randint(1, 3))
            await cluster.services[name].start()
            MATRIX.recovered(PROFILE, f"{role}: {point}", await cluster.recovers(load, [signal]))


@longer
@pytest.mark.parametrize("name", [*SIGNAL_SERVICES, "alerts"])
async def test_a_service_stands_still(cluster: Cluster, name: str) -> None:
    async with under_load(cluster) as load:
        with standstill(family(cluster.services[name].pid)):
            await cluster.until_ready({name: None})
            # Long enough for a worker's group to go on without it (session_timeout): its return comes too late.
            await asyncio.sleep(15)
            await load.flows(signals=[signal for signal in SIGNALS if name != f"{signal}-serve"])


async def servers_die(
    cluster: Cluster, chance: random.Random, load: Load, role: str, points: Mapping[str, str]
) -> None:
    """While the processes of a role stand still, each at a point, the servers that these are about die and come back.

    Args:
        points: By signal.
    """
    victims = {}
    async with AsyncExitStack() as still:
        for signal, point in points.items():
            about = ("kafka", STORES[signal]) if "insert" in point else ("kafka",)
            victims[signal] = chance.choice(about)
            cluster.history[signal].fault = f"{role}: {point}, stands still, {victims[signal]} killed"
            service = cluster.services[f"{signal}-{role}"]
            await still.enter_async_context(service.standing_still_at(point, chance.randint(1, 3)))
        servers = sorted(set(victims.values()))
        await asyncio.gather(*(cluster.kill(server) for server in servers))
        await asyncio.gather(*(cluster.restart(server) for server in servers))
    for signal, took in (await cluster.recovers(load, list(points))).items():
        MATRIX.recovered(PROFILE, cluster.history[signal].fault, {signal: took})


async def test_servers_die_while_workers_stand_still_at_some_boundaries(
    cluster: Cluster, chance: random.Random
) -> None:
    async with under_load(cluster) as load:
        points = {signal: chance.choice(distributed_points(signal, "work")) for signal in SIGNALS}
        await servers_die(cluster, chance, load, "work", points)


@longer
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("role", ROLES)
async def test_servers_die_while_processes_stand_still_at_every_boundary(
    cluster: Cluster, chance: random.Random, role: str
) -> None:
    points = {signal: distributed_points(signal, role) for signal in SIGNALS}
    orders = {signal: chance.sample(each, len(each)) for signal, each in points.items()}
    async with under_load(cluster) as load:
        while any(orders.values()):
            await servers_die(
                cluster, chance, load, role, {name: order.pop() for name, order in orders.items() if order}
            )


@longer
@pytest.mark.parametrize("signal", SIGNALS)
async def test_a_worker_stands_still_amid_an_insert_that_another_repeats(
    cluster: Cluster, chance: random.Random, signal: str
) -> None:
    name = f"{signal}-work"
    amid = [point for point in distributed_points(signal, "work") if "insert" in point]
    async with under_load(cluster) as load, cluster.another(name):
        # What comes after the point comes too late: the commit of what is stored, or an insert too.
        for point in ("before commit", chance.choice(amid)):
            cluster.history[signal].fault = f"work: {point}, stands still"
            async with cluster.services[name].standing_still_at(point, chance.randint(1, 3)):
                # Beyond its session: before, nobody else may commit what it has under way.
                await cluster.until_committed(signal)
            await load.flows(signals=[signal])
            await cluster.until_ready()


@longer
@pytest.mark.parametrize("server", SERVERS)
async def test_a_server_stands_still(cluster: Cluster, server: str) -> None:
    async with under_load(cluster) as load:
        with standstill(family(cluster.servers[server].pid)):
            # Connections are still taken, by the kernel, and nobody reads from them.
            await waits_in_vain(cluster, load, server)


async def is_refused(redis: Redis) -> bool:
    """Whether Redis takes no writes, as it cannot keep them. Raises `RedisError` if it has ended."""
    try:
        await redis.set("disk", "full")
    except ResponseError as error:
        return "MISCONF" in str(error)
    return False


@pytest.mark.parametrize(
    "server",
    ["kafka", *(pytest.param(name, marks=longer) for name in ("postgres", "redis"))],
)
async def test_the_disk_of_a_server_is_full(cluster: Cluster, server: str) -> None:
    async with under_load(cluster) as load:
        # Whatever it writes from now on fails, as it does on a disk without room.
        for process in family(cluster.servers[server].pid):
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        if server == "redis":
            async with Redis.from_url(cluster.servers[server].settings["AIRIS_REDIS__URL"]) as redis:
                await until(lambda: is_refused(redis))
        else:
            await cluster.until_ready(UNREADY[server])
        await goes_on_without(cluster, load, server)
        await cluster.kill(server)
        await cluster.restart(server)


@longer
async def test_a_process_has_no_memory_left(cluster: Cluster, chance: random.Random) -> None:
    """The kernel ends it amid whatever needs more."""
    if not can_limit_memory():
        pytest.skip("memory cannot be limited here: this needs root and control groups that can be written")
    async with under_load(cluster) as load:
        for name in chance.sample(SIGNAL_SERVICES, 2):
            cluster.history[name.split("-")[0]].fault = f"{name} without memory"
            async with little_memory(cluster.services[name].pid) as group:
                await group.until_kill()
            await cluster.services[name].kill()
            await cluster.services[name].start()
            await load.recovers()


@pytest.mark.parametrize(
    "server",
    ["kafka", *(pytest.param(name, marks=longer) for name in SERVERS if name != "kafka")],
)
async def test_a_partition(cluster: Cluster, server: str) -> None:
    async with under_load(cluster) as load:
        cluster.proxies[server].blackhole()
        await waits_in_vain(cluster, load, server)
        cluster.proxies[server].heal()


@pytest.mark.parametrize(
    "server", ["clickhouse", pytest.param("elasticsearch", marks=longer), pytest.param("kafka", marks=longer)]
)
async def test_a_slow_server(cluster: Cluster, server: str) -> None:
    async with under_load(cluster) as load:
        cluster.proxies[server].delay(0.2)
        cluster.proxies[server].throttle(200_000)
        await load.flows(5)
        await cluster.until_ready()
        cluster.proxies[server].heal()


@longer
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("server", [server for server in SERVERS if server != "consul"])
async def test_the_network_to_a_server_breaks(cluster: Cluster, chance: random.Random, server: str) -> None:
    async with under_load(cluster) as load:
        for fault in chance.sample(NETWORK, len(NETWORK)):
            for history in cluster.history.values():
                history.fault = f"{server}: {fault}"
            strike = partial(network.FAULTS[fault], [cluster.proxies[server]], chance)
            # Only who tells somebody asks Redis.
            await (network.during(cluster.until_told(), strike) if server == "redis" else strike())
            MATRIX.recovered(PROFILE, f"{server}: {fault}", await cluster.recovers(load))


async def test_poison_messages(cluster: Cluster) -> None:
    address = cluster.servers["kafka"].address
    async with under_load(cluster) as load:
        put = {signal: await poison.put(address, f"airis.{signal}") for signal in SIGNALS}
        await load.flows()
    letters = {signal: await poison.count(address, f"airis.{signal}.dlq") for signal in SIGNALS}
    assert letters == put
