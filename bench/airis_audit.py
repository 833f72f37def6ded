"""Counts what a stopped platform's ClickHouse holds: `python -m bench.airis_audit PATH SIGNAL NAME...`.

The names are those of metrics, or of services. Prints one line of JSON: `counts`, each of which must equal the items
that were acknowledged, and `bytes` of each table. A process of its own, because a ClickHouse in a folder belongs to one
process.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clickhouse_connect

from bench.target import TargetError

_ROOT = Path(__file__).resolve().parent.parent
# A hundred million items take many minutes; only what hangs takes longer.
_AUDIT_SECONDS = 3600.0
_COUNTS = {
    "metrics": {
        "points": "SELECT count() FROM airis.samples WHERE metric IN {names:Array(String)}",
        "in minutes": "SELECT sum(count) FROM airis.samples_1m WHERE metric IN {names:Array(String)}",
        "in hours": "SELECT sum(count) FROM airis.samples_1h WHERE metric IN {names:Array(String)}",
    },
    "logs": {
        "records": "SELECT count() FROM airis.logs WHERE service IN {names:Array(String)}",
        "in minutes": "SELECT sum(count) FROM airis.logs_1m WHERE service IN {names:Array(String)}",
    },
    "traces": {
        "spans": "SELECT count() FROM airis.spans WHERE service IN {names:Array(String)}",
        "in traces": "SELECT sum(span_count) FROM airis.traces WHERE hasAny(services, {names:Array(String)})",
        "in minutes": "SELECT sum(count) FROM airis.span_red_1m WHERE service IN {names:Array(String)}",
    },
}
# An item that was lost and another that was doubled cancel out in a count, and not among the distinct ones.
_DISTINCT = {
    "metrics": ("distinct points", "airis.samples WHERE metric = {name:String}", "series_id, timestamp"),
    "logs": ("distinct records", "airis.logs WHERE service = {name:String}", "message"),
    "traces": ("distinct spans", "airis.spans WHERE service = {name:String}", "span_id"),
}
_AT_ONCE = 5_000_000
"""About how many items are told apart in one query, as all of them are in memory meanwhile."""
_BYTES = "SELECT table, sum(bytes_on_disk) FROM system.parts WHERE active AND database = 'airis' GROUP BY table"


@dataclass(frozen=True)
class Audit:
    """What a stopped platform holds of a signal.

    Attributes:
        counts: Items, distinct ones ("distinct …") and those in each rollup.
        bytes: Of each table's active parts, indexes included.
    """

    counts: Mapping[str, int]
    bytes: Mapping[str, int]


def audit(data_dir: Path, signal: str, names: Sequence[str]) -> Audit:
    """Counts in the data folder of a stopped platform.

    Args:
        data_dir: The platform's.
        signal: "metrics", "logs" or "traces".
        names: The metrics or services whose items count.

    Raises:
        TargetError: It cannot be read.
    """
    command = [sys.executable, "-m", "bench.airis_audit", str(data_dir / signal / "clickhouse"), signal, *names]
    try:
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=_AUDIT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise TargetError(f"what is stored cannot be counted within {_AUDIT_SECONDS:.0f} s") from None
    if done.returncode:
        raise TargetError(f"what is stored cannot be counted: {done.stderr[-2000:]}")
    return Audit(**json.loads(done.stdout.splitlines()[-1]))


def _count(path: str, signal: str, names: Sequence[str], at_once: int = _AT_ONCE) -> dict[str, dict[str, int]]:
    client: Any = clickhouse_connect.get_client(dsn=f"chdb://{path}")

    def number(sql: str, **asked: object) -> int:
        return int(client.query(sql, parameters=asked).result_rows[0][0])

    counts = {what: number(sql, names=list(names)) for what, sql in _COUNTS[signal].items()}
    what, rows, key = _DISTINCT[signal]
    counts[what] = 0
    # A table is ordered by these names, so that one name reads no other's rows.
    for name in names:
        slices = number(f"SELECT count() FROM {rows}", name=name) // at_once + 1
        distinct = f"SELECT uniqExact({key}) FROM {rows} AND cityHash64({key}) % {slices} = {{slice:UInt64}}"
        counts[what] += sum(number(distinct, name=name, slice=each) for each in range(slices))
    sizes = {str(table): int(size) for table, size in client.query(_BYTES).result_rows}
    client.close()
    return {"counts": counts, "bytes": sizes}


if __name__ == "__main__":
    print(json.dumps(_count(sys.argv[1], sys.argv[2], sys.argv[3:])))
