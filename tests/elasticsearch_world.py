"""Log stores on an Elasticsearch for tests, each with indices of its own."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.logs.config import ElasticsearchConfig, LogsConfig
from services.logs.store.adapters.elasticsearch import ElasticsearchLogStore
from services.logs.store.adapters.elasticsearch_client import Elasticsearch

ELASTICSEARCH = pytest.param("elasticsearch", marks=pytest.mark.servers)

_numbers = itertools.count(1)


def elasticsearch_config(url: str, **settings: object) -> ElasticsearchConfig:
    """Settings with a prefix that nobody else has."""
    prefix = f"test{os.getpid()}_{next(_numbers)}"
    return ElasticsearchConfig.model_validate({"hosts": url, "index_prefix": prefix, "replicas": 0, **settings})


@asynccontextmanager
async def elasticsearch_store(url: str, **settings: object) -> AsyncIterator[ElasticsearchLogStore]:
    """A store that keeps entries for ten years; `settings` are of `ElasticsearchConfig`."""
    config = LogsConfig(raw_retention_days=3650, elasticsearch=elasticsearch_config(url, **settings))
    elasticsearch = Elasticsearch(config.elasticsearch)
    await elasticsearch.open()
    try:
        yield ElasticsearchLogStore(elasticsearch, config)
    finally:
        prefix = config.elasticsearch.index_prefix
        for pattern in (f"{prefix}-*", f"{prefix}_ids-*"):
            names = list(await elasticsearch.call(lambda client, p=pattern: client.indices.get_settings(index=p), 30.0))  # type: ignore[misc]
            if names:
                await elasticsearch.call(lambda client, n=names: client.indices.delete(index=n), 30.0)  # type: ignore[misc]
        await elasticsearch.close()
