"""How rows become one block of an insert."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

# What a column of `pa.string()` can hold at most in one chunk: its offsets have 32 bits.
_MOST_SMALL_TEXT = 2**31 - 1
# Not in every sandbox.
_DESCRIPTORS = Path("/proc/self/fd")


def insert_block(client: Any, table: str, rows: pa.Table, settings: Mapping[str, object], *, is_embedded: bool) -> None:
    """Inserts rows as one block, blocking.

    Args:
        client: Of clickhouse_connect.
        table: Its name, with the database.
        rows: Columns named as the table's.
        settings: Names and values are the program's own.
        is_embedded: Whether ClickHouse runs in this process, and can read its memory as a file.
    """
    # ClickHouse counts the blocks of an insert: a repetition in fewer would be another insert to it.
    block = _in_one_chunk(rows)
    if is_embedded and sys.platform == "linux" and _DESCRIPTORS.is_dir():
        _insert_from_memory(client, table, block, settings)
    else:
        client.insert_arrow(table, block, settings=dict(settings))


def settings_clause(settings: Mapping[str, object]) -> str:
    """What a statement is told, as its last words. Names and values are the program's own."""
    values = (
        f"{name} = {value}" if isinstance(value, int | float) else f"{name} = '{value}'"
        for name, value in settings.items()
    )
    return f"SETTINGS {', '.join(values)}"


if sys.platform == "linux":

    def _insert_from_memory(client: Any, table: str, rows: pa.Table, settings: Mapping[str, object]) -> None:
        """The same as the driver's `insert_arrow`, whose file stays on the disk when the process is killed."""
        descriptor = os.memfd_create("insert")
        try:
            with open(descriptor, "wb", closefd=False) as file, pa.ipc.new_file(file, rows.schema) as writer:
                writer.write_table(rows)
            columns = ", ".join(rows.schema.names)
            client.command(
                f"INSERT INTO {table} ({columns}) FROM INFILE '{_DESCRIPTORS}/{descriptor}' "
                f"{settings_clause(settings)} FORMAT Arrow"
            )
        finally:
            os.close(descriptor)


def _in_one_chunk(rows: pa.Table) -> pa.Table:
    # Not always: the offsets of large texts take twice the room.
    if rows.nbytes > _MOST_SMALL_TEXT:
        rows = rows.cast(pa.schema([field.with_type(_large(field.type)) for field in rows.schema]))
    # Parts may have different dictionaries.
    return rows.unify_dictionaries().combine_chunks()


def _large(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string(kind):
        return pa.large_string()
    if pa.types.is_map(kind):
        return pa.map_(_large(kind.key_type), _large(kind.item_type))
    if pa.types.is_list(kind):
        return pa.list_(_large(kind.value_type))
    return kind
