"""Counts what a stopped platform's ClickHouse holds of the benchmarks' items: `-m bench.airis_audit PATH SIGNAL`.

Prints one line of JSON: `counts`, each of which must equal the items that were acknowledged, and `bytes` of each table.
A process of its own, because a ClickHouse in a folder belongs to one process.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import clickhouse_connect

from bench.payloads import METRIC_NAMES, SERVICES

# An item that was lost and another that was doubled cancel out in a count, and not among the distinct ones.
_COUNTS = {
    "metrics": {
        "points": "SELECT count() FROM airis.samples WHERE metric IN {names:Array(String)}",
        "distinct points": "SELECT uniqExact(series_id, timestamp) FROM airis.samples "
        "WHERE metric IN {names:Array(String)}",
        "in minutes": "SELECT sum(count) FROM airis.samples_1m WHERE metric IN {names:Array(String)}",
        "in hours": "SELECT sum(count) FROM airis.samples_1h WHERE metric IN {names:Array(String)}",
    },
    "logs": {
        "records": "SELECT count() FROM airis.logs WHERE service IN {names:Array(String)}",
        "distinct records": "SELECT uniqExact(message) FROM airis.logs WHERE service IN {names:Array(String)}",
        "in minutes": "SELECT sum(count) FROM airis.logs_1m WHERE service IN {names:Array(String)}",
    },
    "traces": {
        "spans": "SELECT count() FROM airis.spans WHERE service IN {names:Array(String)}",
        "distinct spans": "SELECT uniqExact(span_id) FROM airis.spans WHERE service IN {names:Array(String)}",
        "in traces": "SELECT sum(span_count) FROM airis.traces WHERE hasAny(services, {names:Array(String)})",
        "in minutes": "SELECT sum(count) FROM airis.span_red_1m WHERE service IN {names:Array(String)}",
    },
}
_BYTES = "SELECT table, sum(bytes_on_disk) FROM system.parts WHERE active AND database = 'airis' GROUP BY table"


def audit(path: str, signal: str) -> dict[str, dict[str, int]]:
    """Opens the ClickHouse in a folder and counts."""
    client: Any = clickhouse_connect.get_client(dsn=f"chdb://{path}")
    names = {"names": list(METRIC_NAMES if signal == "metrics" else SERVICES)}
    counts = {what: int(client.query(sql, parameters=names).result_rows[0][0]) for what, sql in _COUNTS[signal].items()}
    sizes = {str(table): int(size) for table, size in client.query(_BYTES).result_rows}
    client.close()
    return {"counts": counts, "bytes": sizes}


if __name__ == "__main__":
    print(json.dumps(audit(sys.argv[1], sys.argv[2])))
