"""ClickHouse for every signal: one client pool and one way of migrating, for chdb in-process and for a server.

Both speak the same SQL; `clickhouse-connect` opens `chdb:///path` and `http://host:8123`.
"""
