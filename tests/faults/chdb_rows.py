"""Reads a ClickHouse folder: `python chdb_rows.py FOLDER`; each line of input is a statement and its parameters as
JSON, each line of output its rows."""

from __future__ import annotations

import json
import sys

import clickhouse_connect


def main(folder: str) -> None:
    """Answers until its input ends."""
    client = clickhouse_connect.get_client(dsn=f"chdb://{folder}")
    for line in sys.stdin:
        statement, parameters = json.loads(line)
        result = client.query(statement, parameters=parameters)
        print(json.dumps([dict(zip(result.column_names, row, strict=True)) for row in result.result_rows]), flush=True)
    client.close()


if __name__ == "__main__":
    main(sys.argv[1])
