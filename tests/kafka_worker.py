"""A worker process for tests that stop or kill it: prints each insert, and commits it when it is told to.

Arguments: the address of Kafka, the topic prefix, the number of partitions. Prints `["insert", token, ids]` and
`["done", token]` as lines of JSON; a line on standard input commits the insert.
"""

from __future__ import annotations

import asyncio
import json
import sys

from services.shared.bus.adapters.kafka import KafkaBus
from services.shared.bus.config import KafkaConfig
from services.shared.bus.port import InsertLimits


async def work(address: str, prefix: str, partitions: str) -> None:
    """Hands out inserts until the process is killed, or its input ends."""
    config = KafkaConfig(bootstrap_servers=address, topic_prefix=prefix, partitions=int(partitions), session_timeout=6)
    limits = InsertLimits(max_items=50, max_bytes=100_000, max_age=0.02)
    bus: KafkaBus[bytes] = KafkaBus(config, "test", lambda header, payload: payload, role="work", limits=limits)
    await bus.open()
    while True:
        insert = await bus.next_insert()
        print(json.dumps(["insert", insert.token, [each.header.request_id for _, each in insert.batches]]), flush=True)
        if not await asyncio.to_thread(sys.stdin.readline):
            break
        await bus.commit(insert)
        print(json.dumps(["done", insert.token]), flush=True)
    await bus.close()


if __name__ == "__main__":
    # Logs go where lines are not read.
    out, sys.stdout = sys.stdout, sys.stderr
    import structlog

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    sys.stdout = out
    asyncio.run(work(*sys.argv[1:]))
