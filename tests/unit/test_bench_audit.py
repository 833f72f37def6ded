"""What is stored is counted in bounded memory, and a count that does not end is an error of the target."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import airis_audit
from bench.airis_audit import audit
from bench.target import TargetError

# In a process of its own, as ClickHouse in a folder belongs to one: 20,000 points of two metrics, of which one is lost
# and another doubled. Prints the audit and how many were told apart in each query.
_AUDITED = """
import json, sys
import clickhouse_connect
from bench import airis_audit

client = clickhouse_connect.get_client(dsn=f"chdb://{sys.argv[1]}")
client.command("CREATE DATABASE airis")
columns = "metric String, series_id UInt64, timestamp DateTime64(3, 'UTC')"
client.command(f"CREATE TABLE airis.samples ({columns}) ENGINE = MergeTree ORDER BY metric")
for table in ("samples_1m", "samples_1h"):
    client.command(f"CREATE TABLE airis.{table} (metric String, count UInt64) ENGINE = MergeTree ORDER BY metric")
    client.command(f"INSERT INTO airis.{table} VALUES ('a', 10000), ('b', 10000), ('other', 7)")
client.command(
    "INSERT INTO airis.samples SELECT ['a', 'b', 'other'][number % 3 + 1], number % 100, intDiv(number, 300)"
    " FROM numbers(30000) WHERE number != 3 UNION ALL SELECT 'a', 0, 0"
)
client.close()

class Watched:
    asked = []
    def __init__(self, client):
        self.client = client
    def __getattr__(self, name):
        return getattr(self.client, name)
    def query(self, sql, parameters=None):
        result = self.client.query(sql, parameters=parameters)
        if "uniq" in sql:
            self.asked.append(result.result_rows[0][0])
        return result

get_client = clickhouse_connect.get_client
clickhouse_connect.get_client = lambda **named: Watched(get_client(**named))
print(json.dumps([airis_audit._count(sys.argv[1], "metrics", ["a", "b"], at_once=1000), Watched.asked]))
"""


def test_distinct_items_are_counted_a_slice_at_a_time_and_all_of_them(tmp_path: Path) -> None:
    root = Path(airis_audit.__file__).parents[1]
    command = [sys.executable, "-c", _AUDITED, str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found, at_once = json.loads(done.stdout.splitlines()[-1])
    assert found["counts"] == {
        "points": 20_000,
        "distinct points": 19_999,
        "in minutes": 20_000,
        "in hours": 20_000,
    }
    assert max(at_once) < 1100
    assert sum(at_once) == 19_999


def test_a_count_that_does_not_end_in_time_is_the_targets_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(airis_audit, "_AUDIT_SECONDS", 0.0)
    with pytest.raises(TargetError, match="cannot be counted within 0 s"):
        audit(tmp_path, "logs", ["shop"])
