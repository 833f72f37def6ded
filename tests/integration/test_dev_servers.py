"""The provisioned servers: each starts, keeps its data over a kill, and comes back on the same ports."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import clickhouse_connect
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from elasticsearch import Elasticsearch
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from platform_process import eventually
from redis.asyncio import Redis

from deploy.servers import Server, make_server
from deploy.servers.clickhouse import ClickHouse
from deploy.servers.ports import free_ports

# Elasticsearch starts twice in one of them, which takes its time on a busy machine.
pytestmark = [pytest.mark.servers, pytest.mark.timeout(600)]


async def test_kafka_keeps_what_it_acknowledged_over_a_kill(tmp_path: Path) -> None:
    server = make_server("kafka", tmp_path)
    await asyncio.to_thread(server.start)
    try:
        admin = AIOKafkaAdminClient(bootstrap_servers=server.address)
        await admin.start()
        await admin.create_topics([NewTopic("kept", 2, 1)])
        await admin.close()
        async with AIOKafkaProducer(bootstrap_servers=server.address, acks="all") as producer:
            sent = await producer.send_and_wait("kept", b"value", partition=1)
        address = server.address
        server.kill()
        await asyncio.to_thread(server.start)
        assert server.address == address
        consumer = AIOKafkaConsumer(bootstrap_servers=address)
        await consumer.start()
        consumer.assign([TopicPartition("kept", 1)])
        consumer.seek(TopicPartition("kept", 1), sent.offset)
        assert (await consumer.getone()).value == b"value"
        await consumer.stop()
    finally:
        server.stop()


def test_clickhouse_keeps_what_was_inserted_over_a_kill(tmp_path: Path) -> None:
    server = make_server("clickhouse", tmp_path)
    server.start()
    try:
        client = clickhouse_connect.get_client(dsn=server.settings["AIRIS_METRICS__STORE_DSN"])
        client.command("CREATE DATABASE kept ENGINE = Atomic")
        client.command("CREATE TABLE kept.numbers (n UInt64) ENGINE = MergeTree ORDER BY n")
        client.command("INSERT INTO kept.numbers SELECT number FROM numbers(1000)")
        client.close()
        server.kill()
        server.start()
        client = clickhouse_connect.get_client(dsn=server.settings["AIRIS_METRICS__STORE_DSN"])
        assert client.command("SELECT count() FROM kept.numbers") == 1000
        client.close()
    finally:
        server.stop()


def test_consul_keeps_what_was_registered_over_a_kill(tmp_path: Path) -> None:
    server = make_server("consul", tmp_path)
    server.start()
    try:
        body = json.dumps({"Name": "kept", "Address": "127.0.0.1", "Port": 1}).encode()
        request = urllib.request.Request(f"http://{server.address}/v1/agent/service/register", data=body, method="PUT")
        urllib.request.urlopen(request, timeout=5).close()
        server.kill()
        server.start()

        def listed_ports() -> list[int]:
            with urllib.request.urlopen(f"http://{server.address}/v1/catalog/service/kept", timeout=5) as answer:
                return [service["ServicePort"] for service in json.load(answer)]

        # Consul's agent keeps what was registered, and writes it into the catalog in the background.
        assert eventually(listed_ports, within=60) == [1]
    finally:
        server.stop()


def test_elasticsearch_keeps_what_it_indexed_over_a_kill(tmp_path: Path) -> None:
    server = make_server("elasticsearch", tmp_path)
    server.start()
    try:
        with Elasticsearch(server.settings["AIRIS_LOGS__ELASTICSEARCH__HOSTS"]) as client:
            assert client.info()["version"]["number"] == "9.5.3"
            client.index(index="kept", id="1", document={"message": "value"})
        server.kill()
        server.start()
        with Elasticsearch(server.settings["AIRIS_LOGS__ELASTICSEARCH__HOSTS"]) as client:
            assert client.get(index="kept", id="1")["_source"] == {"message": "value"}
    finally:
        server.stop()


def test_elasticsearch_analyses_korean_and_the_common_way(elasticsearch: Server) -> None:
    analysis = {
        "tokenizer": {"korean": {"type": "nori_tokenizer", "decompound_mode": "mixed"}},
        "filter": {"words": {"type": "nori_part_of_speech", "stoptags": ["E", "J"]}},
        "char_filter": {"dashes": {"type": "mapping", "mappings": ["– => -"]}},
        "analyzer": {
            "korean": {"tokenizer": "korean", "filter": ["words", "lowercase"]},
            "paths": {"char_filter": ["html_strip", "dashes"], "tokenizer": "path_hierarchy", "filter": ["trim"]},
        },
        "normalizer": {"folded": {"filter": ["lowercase", "asciifolding"]}},
    }
    with Elasticsearch(f"http://{elasticsearch.address}") as client:
        client.indices.create(index="analysed", settings={"analysis": analysis})

        def tokens(text: str, **by: str) -> list[str]:
            return [token["token"] for token in client.indices.analyze(index="analysed", text=text, **by)["tokens"]]

        assert tokens("데이터베이스에 Connection이 실패", analyzer="korean") == [
            "데이터베이스", "데이터", "베이스", "connection", "실패",
        ]  # fmt: skip
        assert tokens("<b>/a–b</b>/c", analyzer="paths") == ["/a-b", "/a-b/c"]
        assert tokens("Ünïcode", normalizer="folded") == ["unicode"]


async def test_postgres_keeps_what_it_committed_over_a_kill(tmp_path: Path) -> None:
    server = make_server("postgres", tmp_path)
    await asyncio.to_thread(server.start)
    try:
        connection = await asyncpg.connect(server.settings["AIRIS_POSTGRES__DSN"])
        await connection.execute("CREATE TABLE kept (n int)")
        await connection.execute("INSERT INTO kept VALUES (1)")
        server.kill()
        await asyncio.to_thread(server.start)
        connection.terminate()
        connection = await asyncpg.connect(server.settings["AIRIS_POSTGRES__DSN"])
        assert await connection.fetchval("SELECT n FROM kept") == 1
        await connection.close()
    finally:
        server.stop()


async def test_redis_comes_back_on_its_port_after_a_kill(tmp_path: Path) -> None:
    server = make_server("redis", tmp_path, config={"appendfsync": "always"})
    await asyncio.to_thread(server.start)
    try:
        async with Redis.from_url(server.settings["AIRIS_REDIS__URL"]) as client:
            await client.set("kept", "value")
        server.kill()
        await asyncio.to_thread(server.start)
        async with Redis.from_url(server.settings["AIRIS_REDIS__URL"]) as client:
            assert await client.get("kept") == b"value"
    finally:
        server.stop()


def test_jaeger_takes_spans_and_answers_queries(jaeger: Server) -> None:
    provider = TracerProvider(resource=Resource.create({"service.name": "told"}))
    target = jaeger.settings["AIRIS_TRACES__JAEGER__OTLP_TARGET"]
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"http://{target}", insecure=True)))
    with provider.get_tracer("test").start_as_current_span("asked") as span:
        trace = format(span.get_span_context().trace_id, "032x")
    provider.shutdown()
    url = f"http://{jaeger.address_of('query_http')}/api/traces/{trace}"
    found = _eventually(lambda: json.load(urllib.request.urlopen(url, timeout=5)))
    assert [span["operationName"] for span in found["data"][0]["spans"]] == ["asked"]


def test_two_clickhouse_servers_are_one_cluster(tmp_path: Path) -> None:
    ports = [free_ports(ClickHouse.port_names) for _ in range(2)]
    shards = "".join(
        f"<shard><replica><host>127.0.0.1</host><port>{node['tcp']}</port></replica></shard>" for node in ports
    )
    nodes: list[Server] = []
    try:
        for number in range(2):
            config = {"remote_servers": f"<both>{shards}</both>", "macros": f"<shard>{number}</shard>"}
            nodes.append(make_server("clickhouse", tmp_path / str(number), config=config, ports=ports[number]))
            nodes[-1].start()
        clients = [clickhouse_connect.get_client(dsn=node.settings["AIRIS_METRICS__STORE_DSN"]) for node in nodes]
        for client in clients:
            client.command("CREATE DATABASE shared ENGINE = Atomic")
            client.command("CREATE TABLE shared.part (n UInt64) ENGINE = MergeTree ORDER BY n")
            client.command("CREATE TABLE shared.whole AS shared.part ENGINE = Distributed('both', 'shared', 'part', n)")
        settings = {"distributed_foreground_insert": 1}
        clients[0].command("INSERT INTO shared.whole SELECT number FROM numbers(1000)", settings=settings)
        assert [client.command("SELECT count() FROM shared.part") for client in clients] == [500, 500]
        assert clients[1].command("SELECT count() FROM shared.whole") == 1000
        for client in clients:
            client.close()
    finally:
        for node in nodes:
            node.stop()


def test_clickhouse_makes_a_replicated_table_known_in_zookeeper(zookeeper: Server, tmp_path: Path) -> None:
    host, port = zookeeper.address.split(":")
    config = {"zookeeper": f"<node><host>{host}</host><port>{port}</port></node>"}
    server = make_server("clickhouse", tmp_path, config=config)
    server.start()
    try:
        client = clickhouse_connect.get_client(dsn=server.settings["AIRIS_METRICS__STORE_DSN"])
        client.command("CREATE DATABASE kept ENGINE = Atomic")
        client.command(
            "CREATE TABLE kept.numbers (n UInt64) ENGINE = ReplicatedMergeTree('/kept/numbers', 'a') ORDER BY n"
        )
        assert client.command("SELECT total_replicas FROM system.replicas") == 1
        client.close()
    finally:
        server.stop()


def _eventually(ask: Callable[[], Any]) -> Any:
    """What `ask` answers, as soon as it does."""
    ends = time.monotonic() + 20
    while True:
        try:
            return ask()
        except OSError:
            if time.monotonic() > ends:
                raise
