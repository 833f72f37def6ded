"""What the tests with Jaeger share: one that stores before it acknowledges, and its JSON API."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml

from deploy.servers import Server, make_server
from services.traces.config import JaegerConfig
from services.traces.store.adapters.jaeger import JaegerTraceStore
from services.traces.store.adapters.jaeger_client import Jaeger

ResultT = TypeVar("ResultT")

MEMORY: Mapping[str, Any] = {"memory": {"max_traces": 100_000}}


def durable_jaeger(folder: Path, backend: Mapping[str, Any] = MEMORY) -> Server:
    """A Jaeger, not started yet, without a processor that acknowledges what is not stored yet.

    Args:
        folder: Its data.
        backend: What stands below `jaeger_storage.backends.<name>`.
    """
    address = "127.0.0.1:${port:%s}"
    text = yaml.safe_dump(
        {
            "service": {
                "extensions": ["jaeger_storage", "jaeger_query", "healthcheckv2"],
                "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["jaeger_storage_exporter"]}},
                "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "info"}},
            },
            "extensions": {
                "healthcheckv2": {"use_v2": True, "http": {"endpoint": address % "health"}},
                "jaeger_storage": {"backends": {"spans": backend}},
                "jaeger_query": {
                    "storage": {"traces": "spans"},
                    "grpc": {"endpoint": address % "query_grpc"},
                    "http": {"endpoint": address % "query_http"},
                },
            },
            "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": address % "otlp_grpc"}}}},
            "exporters": {"jaeger_storage_exporter": {"trace_storage": "spans"}},
        }
    )
    return make_server("jaeger", folder, config={"file": text})


@asynccontextmanager
async def open_store(server: Server, **settings: Any) -> AsyncIterator[JaegerTraceStore]:
    """The trace store on a Jaeger that runs."""
    config = JaegerConfig(
        otlp_target=server.address_of("otlp_grpc"), query_target=server.address_of("query_grpc"), **settings
    )
    jaeger = Jaeger(config)
    await jaeger.open()
    try:
        yield JaegerTraceStore(jaeger, config)
    finally:
        await jaeger.close()


def api(jaeger: Server, path: str, **query: object) -> Any:
    """The `data` of an answer of Jaeger's JSON API; the errors that it tells instead, if it does."""
    url = f"http://{jaeger.address_of('query_http')}{path}?{urllib.parse.urlencode(query)}"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]
    except urllib.error.HTTPError as error:
        return json.load(error)["errors"]


def eventually(read: Callable[[], ResultT], holds: Callable[[ResultT], object], within: float = 20.0) -> ResultT:
    """Reads until the answer is as it is to be, and gives it."""
    ends = time.monotonic() + within
    while not holds(found := read()):
        assert time.monotonic() < ends, found
        time.sleep(0.05)
    return found
