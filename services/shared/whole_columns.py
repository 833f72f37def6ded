"""The columns of a table as plain arrays."""

from __future__ import annotations

import pyarrow as pa


def whole_columns(table: pa.Table) -> dict[str, pa.Array]:
    """The columns by name, each in one piece; copied only where they are in several."""
    batches = table.to_batches()
    if len(batches) == 1:
        return dict(zip(table.column_names, batches[0].columns, strict=True))
    return {name: table.column(name).combine_chunks() for name in table.column_names}
