"""The Elasticsearch log store where things go wrong: refused fields, lost nodes, full queues, old indices."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from airis.logs.v1 import logs_pb2
from elasticsearch_world import elasticsearch_config, elasticsearch_store

from deploy.servers import Server, make_server
from services.logs import convert
from services.logs.config import LogsConfig
from services.logs.ingest import Checker
from services.logs.model import CountQuery, LogColumns, SearchQuery, Selection
from services.logs.query import LogQuery
from services.logs.store.adapters.elasticsearch import ElasticsearchLogStore
from services.logs.store.adapters.elasticsearch_client import Elasticsearch
from services.logs.store.adapters.elasticsearch_template import day_of, entries_index, entries_pattern, ids_index
from services.shared.bus.port import Header, Position
from services.shared.bus.recent_ids import RecentIds
from services.shared.errors import AirisError, UnavailableError

pytestmark = pytest.mark.servers

SECONDS = 20.0
DAY = 86_400_000_000_000
NOW = time.time_ns() - 60_000_000_000
Batch = tuple[Position, Header, LogColumns]


@pytest.fixture
async def store(elasticsearch: Server) -> AsyncIterator[ElasticsearchLogStore]:
    async with elasticsearch_store(f"http://{elasticsearch.address}", shards=1) as store:
        await store.open()
        yield store


def batch(position: int, request: logs_pb2.IngestLogsRequest, **header: object) -> Batch:
    records = convert.read(convert.UNARY, [request.SerializeToString()]).items
    checked = Checker(LogsConfig()).check(records, "default", NOW)
    assert checked.rejected == {}
    fields = {"request_id": f"request-{position}", **header}
    return Position(position), Header("default", convert.UNARY, NOW, len(request.entries), **fields), checked.columns  # type: ignore[arg-type]


def entries(count: int, message: str = "message", at: int = NOW, **labels: str) -> logs_pb2.IngestLogsRequest:
    request = logs_pb2.IngestLogsRequest()
    for number in range(count):
        entry = request.entries.add(message=f"{message} {number}", service="shop", level=2, labels=labels)
        entry.timestamp.FromNanoseconds(at + number)
    return request


def everything(text: str = "") -> Selection:
    return Selection("default", text, NOW - 60 * DAY, NOW + DAY)


async def counted(store: ElasticsearchLogStore, text: str = "") -> int:
    return (await LogQuery(store).count(CountQuery(everything(text), DAY, ()), SECONDS)).total


async def test_an_entry_whose_label_fits_no_field_is_kept_and_holds_up_nothing(
    elasticsearch: Server,
) -> None:
    outcomes: list[str] = []
    config = LogsConfig(elasticsearch=elasticsearch_config(f"http://{elasticsearch.address}", shards=1))
    connection = Elasticsearch(config.elasticsearch)
    await connection.open()
    store = ElasticsearchLogStore(connection, config, outcomes.append)
    await store.open()
    await store.write([batch(1, entries(1, "first"))], "1")
    prefix = config.elasticsearch.index_prefix
    # Somebody maps a label as a number.
    await connection.call(
        lambda client: client.indices.put_mapping(
            index=entries_pattern(prefix), properties={"labels": {"properties": {"code": {"type": "long"}}}}
        ),
        SECONDS,
    )
    good, bad = entries(3, "good"), entries(2, "bad", code="not a number", host="h1")
    await store.write([batch(2, good), batch(3, bad), batch(4, good)], "2")
    assert outcomes == ["unindexed"] * 2
    found = (await LogQuery(store).search(SearchQuery(everything("bad"), True, 10), SECONDS)).entries
    assert [entry.labels for entry in found] == [{"code": "not a number", "host": "h1"}] * 2
    assert await counted(store) == 9
    # A field of the document itself that does not fit is lost, and said to be.
    index = entries_index(prefix, day_of(NOW))
    await connection.call(lambda client: client.indices.delete(index=index), SECONDS)
    mappings = {"properties": {"user_id": {"type": "ip"}}}
    await connection.call(lambda client: client.indices.create(index=index, mappings=mappings), SECONDS)
    odd = entries(3, "odd")
    odd.entries[1].user_id = "no address"
    await store.write([batch(5, odd)], "3")
    assert outcomes[2:] == ["unindexed", "refused"]
    assert await counted(store) == 2
    await connection.close()


async def test_ids_are_known_once_the_data_is_there(store: ElasticsearchLogStore) -> None:
    unary = batch(1, entries(2), request_id="r1")
    streamed = [batch(2 + n, entries(2), request_id="", producer_id="p1", sequence=n) for n in (1, 2, 3)]
    asked = [unary[1], batch(9, entries(1), request_id="r2")[1]]
    assert await store.ids.known_requests(asked) == set()
    await store.write([unary, *streamed], "1")
    assert await store.ids.known_requests(asked) == {("default", "r1")}
    # An insert that comes again late, from a worker that was replaced, takes nothing back.
    await store.write(streamed[:1], "1")
    assert await store.ids.highest_sequences({("default", "p1"), ("default", "p2"), ("other", "p1")}) == {
        ("default", "p1"): 3
    }
    recent = RecentIds(clock=time.time_ns)
    await store.load_ids(recent)
    assert (len(recent), recent.highest_sequence("default", "p1")) == (1, 3)
    assert await counted(store) == 8


async def test_ids_are_not_taken_for_unknown_while_their_shard_is_away(elasticsearch: Server) -> None:
    config = LogsConfig(elasticsearch=elasticsearch_config(f"http://{elasticsearch.address}", shards=1))
    connection = Elasticsearch(config.elasticsearch)
    await connection.open()
    store = ElasticsearchLogStore(connection, config, clock=lambda: NOW)
    await store.open()
    unary = batch(1, entries(1), request_id="r1")
    streamed = batch(2, entries(1), request_id="", producer_id="p1", sequence=7)
    await store.write([unary, streamed], "1")
    index = ids_index(config.elasticsearch.index_prefix, day_of(NOW))

    # As while its shard recovers: the index is there, and does not answer.
    await connection.call(lambda client: client.indices.close(index=index), SECONDS)
    with pytest.raises(UnavailableError):
        await store.ids.known_requests([unary[1]])
    with pytest.raises(UnavailableError):
        await store.ids.highest_sequences({("default", "p1")})
    await connection.call(lambda client: client.indices.open(index=index), SECONDS)
    await connection.call(
        lambda client: client.cluster.health(index=index, wait_for_status="green", timeout="60s"), 60.0
    )
    assert await store.ids.known_requests([unary[1]]) == {("default", "r1")}
    assert await store.ids.highest_sequences({("default", "p1")}) == {("default", "p1"): 7}
    await connection.close()


async def test_ids_that_a_worker_whose_clock_is_ahead_stored_at_midnight_are_known(elasticsearch: Server) -> None:
    config = LogsConfig(elasticsearch=elasticsearch_config(f"http://{elasticsearch.address}", shards=1))
    connection = Elasticsearch(config.elasticsearch)
    await connection.open()
    midnight = (NOW // DAY + 1) * DAY
    ahead = ElasticsearchLogStore(connection, config, clock=lambda: midnight + 1)
    behind = ElasticsearchLogStore(connection, config, clock=lambda: midnight - 1)
    await ahead.open()
    unary = batch(1, entries(1), request_id="r1")
    await ahead.write([unary, batch(2, entries(1), request_id="", producer_id="p1", sequence=7)], "1")
    for store in (ahead, behind):
        assert await store.ids.known_requests([unary[1]]) == {("default", "r1")}
        assert await store.ids.highest_sequences({("default", "p1")}) == {("default", "p1"): 7}
    await connection.close()


async def at_once(seconds: float) -> None:
    await asyncio.sleep(0)


async def test_entries_wait_while_their_index_cannot_be_written_to(elasticsearch: Server) -> None:
    outcomes: list[str] = []
    config = LogsConfig(elasticsearch=elasticsearch_config(f"http://{elasticsearch.address}", shards=1))
    connection = Elasticsearch(config.elasticsearch)
    await connection.open()
    store = ElasticsearchLogStore(connection, config, outcomes.append, sleep=at_once)
    await store.open()
    prefix = config.elasticsearch.index_prefix
    # A day that somebody restored into two indices: its name is an alias that says of neither to write to it.
    alias = entries_index(prefix, day_of(NOW - 3 * DAY))
    restored = [f"{prefix}_restored_{part}" for part in "ab"]
    for index in restored:
        await connection.call(
            lambda client, index=index: client.indices.create(index=index, aliases={alias: {}}),  # type: ignore[misc]
            SECONDS,
        )
    old, new = batch(1, entries(2, at=NOW - 3 * DAY)), batch(2, entries(3))
    with pytest.raises(UnavailableError):
        await store.write([old, new], "1")
    assert outcomes == []
    assert await store.ids.known_requests([old[1], new[1]]) == set()
    await connection.call(lambda client: client.indices.delete(index=restored), SECONDS)
    await store.write([old, new], "1")
    assert outcomes == []
    assert await counted(store) == 5
    assert len(await store.ids.known_requests([old[1], new[1]])) == 2
    await connection.close()


@pytest.mark.parametrize("limit", [{"total_fields": {"limit": 40}}, {"field_name_length": {"limit": 30}}])
async def test_an_entry_with_more_keys_than_an_index_takes_holds_up_nothing(
    elasticsearch: Server, limit: dict[str, dict[str, object]]
) -> None:
    outcomes: list[str] = []
    config = LogsConfig(elasticsearch=elasticsearch_config(f"http://{elasticsearch.address}", shards=1))
    connection = Elasticsearch(config.elasticsearch)
    await connection.open()
    store = ElasticsearchLogStore(connection, config, outcomes.append)
    await store.open()
    # Somebody made the index with limits of their own.
    settings = {"mapping": limit, "mapping.total_fields.ignore_dynamic_beyond_limit": False}
    index = entries_index(config.elasticsearch.index_prefix, day_of(NOW))
    await connection.call(lambda client: client.indices.create(index=index, settings=settings), SECONDS)
    many: Any = {f"a_name_of_more_than_thirty_characters_{number}": "x" for number in range(20)}
    await store.write([batch(1, entries(2)), batch(2, entries(1, "many", **many))], "1")
    assert outcomes == ["unindexed"]
    (found,) = (await LogQuery(store).search(SearchQuery(everything("many"), True, 10), SECONDS)).entries
    assert found.labels == many
    assert await counted(store) == 3
    await connection.close()


async def test_indices_of_others_are_theirs(elasticsearch: Server) -> None:
    config = LogsConfig(elasticsearch=elasticsearch_config(f"http://{elasticsearch.address}", shards=1))
    connection = Elasticsearch(config.elasticsearch)
    await connection.open()
    store = ElasticsearchLogStore(connection, config)
    await store.open()
    prefix = config.elasticsearch.index_prefix
    long_ago = day_of(NOW - 1000 * DAY)
    ours = [entries_index(prefix, long_ago), ids_index(prefix, long_ago)]
    theirs = [f"{prefix}-{name}-{long_ago:%Y.%m.%d}" for name in ("nginx", "2fa", "a.b.c")]
    # A pattern cannot tell these from ours, but their names do.
    alike = [f"{prefix}-2024-nginx-{long_ago:%Y.%m.%d}", f"{ours[0]}-{long_ago:%Y.%m.%d}", f"{prefix}-2024.13.45"]
    for index in [*ours, *theirs, *alike]:
        await connection.call(lambda client, index=index: client.indices.create(index=index), SECONDS)  # type: ignore[misc]
    mappings = await connection.call(lambda client: client.indices.get_mapping(index=theirs), SECONDS)
    assert [found["mappings"] for found in mappings.values()] == [{}] * len(theirs)
    await store.delete_outlived()
    left = await connection.call(lambda client: client.indices.get_mapping(index=f"{prefix}*"), SECONDS)
    assert set(left) == {*theirs, *alike}
    await connection.close()


async def test_indices_beyond_the_retention_are_deleted(elasticsearch: Server) -> None:
    prefix_config = elasticsearch_config(f"http://{elasticsearch.address}", shards=1)
    config = LogsConfig(raw_retention_days=30, elasticsearch=prefix_config)
    connection = Elasticsearch(prefix_config)
    await connection.open()
    clock = NOW
    store = ElasticsearchLogStore(connection, config, clock=lambda: clock)
    await store.open()
    for position, days in enumerate((29, 28, 0), 1):
        await store.write([batch(position, entries(5, at=NOW - days * DAY))], str(position))
    await store.delete_outlived()
    assert await counted(store) == 15
    clock = NOW + 2 * DAY
    await store.delete_outlived()
    assert await counted(store) == 10
    clock = NOW + 50 * DAY
    await store.delete_outlived()
    assert await counted(store) == 0
    await connection.close()


async def test_the_index_finds_the_parts_of_korean_compounds(store: ElasticsearchLogStore) -> None:
    request = entries(1)
    request.entries[0].message = "결제서비스가 응답하지 않습니다"
    await store.write([batch(1, request)], "1")
    for text in ("서비스", "비스", "결제 응답", "제서"):
        assert await counted(store, text) == 1, text


async def test_a_server_that_is_away_is_said_to_be() -> None:
    connection = Elasticsearch(elasticsearch_config("http://127.0.0.1:9"))
    with pytest.raises(UnavailableError):
        await connection.open()
    await connection.close()


@pytest.mark.timeout(300)
async def test_a_killed_node_and_a_full_queue_lose_and_double_nothing(tmp_path: Path) -> None:
    server = make_server(
        "elasticsearch",
        tmp_path / "elasticsearch",
        config={"node.processors": "1", "thread_pool.write.queue_size": "3"},
    )
    await asyncio.to_thread(server.start)
    try:
        async with elasticsearch_store(f"http://{server.address}", shards=1) as store:
            await store.open()
            batches = [batch(position, entries(500, f"batch{position}")) for position in range(1, 25)]
            attempts = 0
            in_the_middle = asyncio.Event()

            async def persist(position: int) -> None:
                nonlocal attempts
                while True:
                    attempts += 1
                    if attempts == 12:
                        in_the_middle.set()
                    try:
                        return await store.write([batches[position]], str(position))
                    except AirisError:
                        await asyncio.sleep(0.2)

            async def all_of(part: range) -> None:
                for position in part:
                    await persist(position)

            # More writers than the queue has room for.
            writers = [asyncio.create_task(all_of(range(first, 24, 6))) for first in range(6)]
            await in_the_middle.wait()
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            await asyncio.gather(*writers)
            assert attempts > 24
            assert await counted(store) == 24 * 500
    finally:
        await asyncio.to_thread(server.stop)
