"""A service that dies, or stands still, at a named point: `python tests/faults/armed.py metrics`, in place of
`python -m services`.

The points are put around the program's own steps here, from outside: the program has nothing of them but the
journal's `crash_point`, which does nothing unless it is handed in. What happens is said in the environment:

- `FAULTS_POINT`: "before insert samples:3" ends the process by SIGKILL when it gets there the third time;
  "before insert samples:3:SIGSTOP" sends it that signal instead.
- `FAULTS_POINTS`: a named pipe from which further such lines are read, each of which replaces the one before.
- `FAULTS_CLOCK`: a file with seconds, which are added to the clock; read again whenever it is asked.
- `FAULTS_SYNC`: seconds that each sync of a file takes longer.
- `FAULTS_SEGMENT`: bytes after which the journal begins its next file.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import partial, wraps
from pathlib import Path
from typing import Any

from services import __main__ as program
from services.shared import app
from services.shared.bus.adapters.journal import CRASH_POINTS, Journal
from services.shared.bus.adapters.kafka_offsets import GroupOffsets
from services.shared.bus.intake import Intake
from services.shared.clickhouse.client import ClickHouse

_TABLES = {
    "metrics": ("series", "samples", "distributions", "metric_known_ids"),
    "logs": ("logs", "log_known_ids"),
    "traces": ("spans", "span_known_ids"),
}
_PUBLISHING = ("before publish", "after publish", "after acknowledge")
_COMMITTING = ("before boundary", "after boundary", "before commit", "after commit")
_STORING = ("create", "record evaluation", "record notification")
# Within it an answer that is ready has gone out.
_ANSWER_SECONDS = 0.02


def embedded_points(name: str) -> tuple[str, ...]:
    """The points that a service of the embedded profile passes."""
    return (*_PUBLISHING, *CRASH_POINTS, *_inserting(name))


def distributed_points(name: str, role: str) -> tuple[str, ...]:
    """The points that a process of the distributed profile passes, which serves or works."""
    if role == "serve":
        return _PUBLISHING
    inserting = _around("insert bulk", "insert refresh", "insert ids") if name == "logs" else _inserting(name)
    return (*_COMMITTING, *inserting)


def alert_points() -> tuple[str, ...]:
    """The points that a replica of the alert service passes."""
    return (*_around(*_STORING, "evaluate", "notify"), *(f"before commit of {step}" for step in _STORING))


def _inserting(name: str) -> tuple[str, ...]:
    return _around(*(f"insert {table}" for table in _TABLES[name]))


def _around(*steps: str) -> tuple[str, ...]:
    return tuple(f"{when} {step}" for step in steps for when in ("before", "after"))


class Point:
    """The one point at which this process dies or stands still.

    Args:
        armed: "NAME:COUNT" or "NAME:COUNT:SIGNAL"; empty: none.
    """

    def __init__(self, armed: str) -> None:
        self._lock = threading.Lock()
        self.arm(armed)

    def arm(self, armed: str) -> None:
        """Makes another the one."""
        name, count, sent = (*armed.strip().split(":"), "", "")[:3]
        with self._lock:
            self._name, self._left = name, int(count or 0)
            self._signal = signal.Signals[sent or "SIGKILL"]

    def listen(self, pipe: Path) -> None:
        """Arms what is written into a named pipe, for ever, in a thread."""

        def read() -> None:
            while True:
                for line in pipe.read_text().splitlines():
                    self.arm(line)

        threading.Thread(target=read, daemon=True, name="points").start()

    def reached(self, name: str) -> None:
        """Dies or stands still here, if this is the point and it is the time."""
        with self._lock:
            if name != self._name:
                return
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), self._signal)


def _surround(owner: Any, method: str, point: Point, name_of: Callable[..., str]) -> None:
    """Puts a point before and one after a coroutine method; `name_of` gets its arguments."""
    inner = getattr(owner, method)

    @wraps(inner)
    async def surrounded(*arguments: Any, **named: Any) -> Any:
        name = name_of(*arguments, **named)
        point.reached(f"before {name}")
        result = await inner(*arguments, **named)
        point.reached(f"after {name}")
        return result

    setattr(owner, method, surrounded)


def _put_points(point: Point) -> None:
    _surround(Intake, "take", point, lambda *_: "publish")
    take = Intake.take

    async def taken(*arguments: Any) -> Any:
        receipt = await take(*arguments)
        asyncio.get_running_loop().call_later(_ANSWER_SECONDS, point.reached, "after acknowledge")
        return receipt

    Intake.take = taken  # type: ignore[method-assign]
    _surround(ClickHouse, "insert", point, lambda _, table, *__, **___: f"insert {table}")
    _surround(GroupOffsets, "commit", point, lambda *arguments: "boundary" if arguments[-1] else "commit")


def _put_elasticsearch_points(point: Point) -> None:
    # Only where it is used: it takes its memory.
    from services.logs.store.adapters import elasticsearch, elasticsearch_bulk, elasticsearch_ids

    _surround(elasticsearch_bulk.Bulk, "write_parts", point, lambda *_: "insert bulk")
    _surround(elasticsearch.ElasticsearchLogStore, "_refresh", point, lambda *_: "insert refresh")
    _surround(elasticsearch_ids.StoredIds, "write", point, lambda *_: "insert ids")


def _put_alert_points(point: Point) -> None:
    # Only where it is used: PostgreSQL's driver is no part of the others.
    from services.alerts import worker
    from services.alerts.notify import delivery
    from services.alerts.store.adapters import postgres, postgres_outbox, postgres_resources, postgres_rules

    step = ContextVar("step", default="another step")
    begin = postgres.Postgres.transaction

    @asynccontextmanager
    async def transaction(database: postgres.Postgres) -> AsyncIterator[Any]:
        async with begin(database) as connection:
            yield connection
            point.reached(f"before commit of {step.get()}")

    def stores(owner: Any, method: str, name: str) -> None:
        inner = getattr(owner, method)

        async def named(*arguments: Any, **others: Any) -> Any:
            before = step.set(name)
            try:
                return await inner(*arguments, **others)
            finally:
                step.reset(before)

        setattr(owner, method, named)
        _surround(owner, method, point, lambda *_, **__: name)

    postgres.Postgres.transaction = transaction  # type: ignore[method-assign]
    stores(postgres_resources.PostgresResourceStore, "create", "create")
    stores(postgres_rules.PostgresRuleStore, "record_evaluation", "record evaluation")
    stores(postgres_outbox.PostgresOutbox, "sent", "record notification")
    _surround(worker.Evaluator, "_evaluate", point, lambda *_: "evaluate")
    _surround(delivery.Notifier, "deliver", point, lambda *_: "notify")


def _shift_clock(file: Path) -> None:
    real = time.time_ns
    # Not `time.time`: gRPC compares it with deadlines from its own clock, which is not shifted.
    time.time_ns = lambda: real() + int(float(file.read_text() or 0) * 1e9)


def _slow_syncs(seconds: float) -> None:
    for name in ("fsync", "fdatasync"):
        sync = getattr(os, name)

        def slow(descriptor: int, sync: Callable[[int], None] = sync) -> None:
            time.sleep(seconds)
            sync(descriptor)

        setattr(os, name, slow)


def main() -> int:
    """Runs the service."""
    point = Point(os.environ.get("FAULTS_POINT", ""))
    if pipe := os.environ.get("FAULTS_POINTS"):
        point.listen(Path(pipe))
    _put_points(point)
    if "logs" in sys.argv:
        _put_elasticsearch_points(point)
    if "alerts" in sys.argv:
        _put_alert_points(point)
    segment_bytes = int(os.environ.get("FAULTS_SEGMENT", 64 * 1024 * 1024))
    app.Journal = partial(Journal, crash_point=point.reached, segment_bytes=segment_bytes)  # type: ignore[misc,assignment]
    if clock := os.environ.get("FAULTS_CLOCK"):
        _shift_clock(Path(clock))
    if seconds := float(os.environ.get("FAULTS_SYNC", 0)):
        _slow_syncs(seconds)
    return program.main(sys.argv[1:])


if __name__ == "__main__":
    raise SystemExit(main())
