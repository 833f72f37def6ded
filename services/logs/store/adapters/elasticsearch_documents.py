"""Entries as the lines of a bulk request, written in columns, and documents as entries."""

from __future__ import annotations

import base64
import bisect
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from services.logs.model import MAX_ROWS, METADATA_COLUMNS, PLAIN_COLUMNS, Level, LogColumns, LogEntry
from services.logs.store.adapters.elasticsearch_template import day_of, entries_index
from services.shared.bus.port import Header, Position
from services.shared.filter.elasticsearch import field_key, key_of
from services.shared.retention import DAY_NS

Batches = Sequence[tuple[Position, Header, LogColumns]]

_TYPED = METADATA_COLUMNS[:-1]
_TEXTS = tuple(name for name in PLAIN_COLUMNS if name not in ("duration_ms", "status_code"))
_NEEDS_ESCAPE = r'["\\\x00-\x1f]'
_SHORT_ESCAPES = (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t"))
_LARGEST = "1.7976931348623157e308"
_NO_NUMBER = {"inf": float("inf"), "-inf": float("-inf"), "nan": float("nan")}


@dataclass(frozen=True, slots=True)
class Documents:
    """The lines of an insert.

    Attributes:
        lines: For each entry its action and its document, with a line feed behind each.
        indices: Those that the entries go to.
    """

    lines: pa.LargeStringArray
    indices: list[str]

    def chunks(self, max_bytes: int) -> Iterator[bytes]:
        """Parts of the lines, each of at most `max_bytes`, unless one entry has more."""
        offsets = np.frombuffer(self.lines.buffers()[1], np.int64)[: len(self.lines) + 1]
        data, first = memoryview(self.lines.buffers()[2]), 0
        while first < len(self.lines):
            end = int(np.searchsorted(offsets, offsets[first] + max_bytes, side="right")) - 1
            end = max(end, first + 1)
            yield bytes(data[offsets[first] : offsets[end]])
            first = end


def documents(batches: Batches, prefix: str) -> Documents:
    """Writes the entries of an insert. The same batches give the same ids and indices.

    Args:
        batches: With their positions.
        prefix: Of the indices' names.
    """
    table = pa.concat_tables(columns.entries for _, _, columns in batches).combine_chunks()
    rows = [columns.entries.num_rows for _, _, columns in batches]
    batch_of_row = np.repeat(np.arange(len(batches)), rows)
    place = table.column("index").to_numpy().astype(np.int64)
    firsts = np.array([int(position) * MAX_ROWS for position, _, _ in batches], np.int64)
    positions = pa.array(firsts[batch_of_row] + place)
    names = pa.array([_identity(position, header) for position, header, _ in batches])
    moments = _column(table, "timestamp").cast(pa.int64()).to_numpy()
    days, day_of_row = np.unique(moments // DAY_NS, return_inverse=True)
    indices = [entries_index(prefix, day_of(int(day) * DAY_NS)) for day in days]
    tenant = _column(table, "tenant")
    lines = _join(
        '{"create":{"_index":"',
        pa.array(indices).take(pa.array(day_of_row.ravel())),
        '","_id":"',
        names.take(pa.array(batch_of_row)),
        "-",
        _column(table, "index").cast(pa.string()),
        '"}}\n{"tenant":"',
        _escaped(tenant),
        '","timestamp":"',
        pc.strftime(_column(table, "timestamp"), format="%Y-%m-%dT%H:%M:%SZ"),
        '","ingest_position":',
        positions.cast(pa.string()),
        ',"level":',
        _column(table, "level").cast(pa.string()),
        *(_text(name, _column(table, name)) for name in _TEXTS),
        *(_number(name, _column(table, name)) for name in ("duration_ms", "status_code")),
        *_maps(table),
        "}\n",
    )
    return Documents(lines, indices)


def slices(batches: Batches, most_rows: int, most_bytes: int) -> Iterator[Batches]:
    """The same entries in parts of at most so many and so much: the lines of an insert take many times its memory.

    Args:
        batches: With their positions.
        most_rows: Of a part.
        most_bytes: Of a part's columns, unless one entry has more.
    """
    part: list[tuple[Position, Header, LogColumns]] = []
    rows = size = 0
    for position, header, columns in batches:
        rest = columns.entries
        while rest.num_rows:
            count = _fitting(rest, most_rows - rows, most_bytes - size)
            if not count and part:
                yield part
                part, rows, size = [], 0, 0
                continue
            taken = rest.slice(0, max(count, 1))
            part.append((position, header, LogColumns(taken)))
            rows += taken.num_rows
            size += taken.nbytes
            rest = rest.slice(taken.num_rows)
    if part:
        yield part


def _fitting(entries: pa.Table, most_rows: int, most_bytes: int) -> int:
    """How many of the first entries there is room for."""
    most_rows = min(most_rows, entries.num_rows)
    return bisect.bisect_right(range(1, most_rows + 1), most_bytes, key=lambda rows: entries.slice(0, rows).nbytes)


def entry_of(source: dict[str, Any]) -> LogEntry:
    """The entry that a document was made from."""
    if unindexed := source.get("unindexed"):
        source = source | unindexed
    metadata: dict[str, Any] = {}
    for name in _TYPED:
        values = source.get(name, {})
        if name == "metadata_double":
            values = {key: None if value is None else float(value) for key, value in values.items()}
        metadata |= values
    metadata |= {key: _NO_NUMBER[text] for key, text in source.get("metadata_odd", {}).items()}
    return LogEntry(
        ingest_position=source["ingest_position"],
        timestamp=nanoseconds_of(source["timestamp"]),
        level=Level(source["level"]),
        labels=_named(source.get("labels", {})),
        metadata=_named(metadata),
        metadata_encoded=_named(source.get("metadata_encoded", {})),
        duration_ms=float(source.get("duration_ms", 0.0)),
        status_code=source.get("status_code", 0),
        **{name: source.get(name, "") for name in _TEXTS},
    )


def nanoseconds_of(moment: str) -> int:
    """Nanoseconds since 1970 of a timestamp as a document has it."""
    return int(np.datetime64(moment.removesuffix("Z"), "ns").astype(np.int64))


def without_fields(action: bytes, document: bytes) -> bytes:
    """The two lines of an entry whose keys or values the index refuses: they are kept, and not searchable."""
    source = json.loads(document)
    kept = {name: source.pop(name) for name in ("labels", *_TYPED) if name in source}
    source["unindexed"] = kept
    return action + b"\n" + json.dumps(source, ensure_ascii=False).encode() + b"\n"


def _identity(position: Position, header: Header) -> str:
    """What names a batch for ever: also where positions begin anew, as with a new topic or journal."""
    parts = (header.tenant, header.request_id, header.producer_id, str(header.sequence), str(header.received_at))
    text = "\0".join((str(position), *parts))
    return base64.urlsafe_b64encode(xxhash.xxh3_128_digest(text.encode())).decode().rstrip("=")


def _column(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _join(*parts: pa.Array | str) -> pa.LargeStringArray:
    large = [
        pa.scalar(part, pa.large_string()) if isinstance(part, str) else part.cast(pa.large_string()) for part in parts
    ]
    return pc.binary_join_element_wise(*large, pa.scalar("", pa.large_string()))


def _escaped(column: pa.Array) -> pa.Array:
    """Texts as JSON has them between its quotes."""
    if not pc.any(pc.match_substring_regex(column, _NEEDS_ESCAPE)).as_py():
        return column
    for plain, escape in _SHORT_ESCAPES:
        column = pc.replace_substring(column, plain, escape)
    if pc.any(pc.match_substring_regex(column, r"[\x00-\x1f]")).as_py():
        for code in range(0x20):
            column = pc.replace_substring(column, chr(code), f"\\u{code:04x}")
    return column


def _text(name: str, column: pa.Array) -> pa.Array:
    """`,"name":"text"`, and nothing where it is empty."""
    is_empty = pc.equal(column, "")
    if pc.all(is_empty).as_py():
        return pa.repeat("", len(column))
    return pc.if_else(is_empty, "", _join(f',"{name}":"', _escaped(column), '"').cast(pa.string()))


def _number(name: str, column: pa.Array) -> pa.Array:
    if not pc.any(pc.not_equal(column, pa.scalar(0, column.type))).as_py():
        return pa.repeat("", len(column))
    texts = _join(f',"{name}":', column.cast(pa.string())).cast(pa.string())
    return pc.if_else(pc.equal(column, pa.scalar(0, column.type)), "", texts)


def _maps(table: pa.Table) -> Iterator[pa.Array]:
    """The labels and the metadata, and the keys of each."""
    yield _object("labels", _column(table, "labels"), _quoted)
    yield _list("labels_keys", [_column(table, "labels")])
    values = {
        "metadata_string": _quoted,
        "metadata_int64": lambda items: items.cast(pa.string()),
        "metadata_double": _finite,
        "metadata_bool": lambda items: items.cast(pa.string()),
        "metadata_encoded": _quoted,
    }
    for name, written in values.items():
        yield _object(name, _column(table, name), written)
    yield _object("metadata_odd", _odd(_column(table, "metadata_double")), _quoted)
    yield _list("metadata_keys", [_column(table, name) for name in METADATA_COLUMNS])


def _quoted(items: pa.Array) -> pa.Array:
    return _join('"', _escaped(items), '"').cast(pa.string())


def _finite(items: pa.Array) -> pa.Array:
    """JSON numbers. What JSON has none for compares like the largest there is, or like nothing."""
    texts = items.cast(pa.string())
    texts = pc.if_else(pc.equal(texts, "-0"), "-0.0", texts)
    if pc.all(pc.is_finite(items)).as_py():
        return texts
    largest = pc.if_else(pc.greater(items, 0.0), _LARGEST, "-" + _LARGEST)
    return pc.if_else(pc.is_finite(items), texts, pc.if_else(pc.is_nan(items), "null", largest))


def _odd(maps: pa.MapArray) -> pa.MapArray:
    """The doubles that are not finite, as texts."""
    offsets, keys, items = _parts(maps)
    is_odd = pc.invert(pc.is_finite(items)).to_numpy(zero_copy_only=False)
    if not is_odd.any():
        return pa.MapArray.from_arrays(pa.array(np.zeros(len(offsets), np.int32)), keys[:0], pa.array([], pa.string()))
    before = np.concatenate(([0], np.cumsum(is_odd)))
    chosen = pa.array(is_odd)
    return pa.MapArray.from_arrays(
        pa.array(before[offsets].astype(np.int32)), keys.filter(chosen), items.filter(chosen).cast(pa.string())
    )


def _parts(maps: pa.MapArray) -> tuple[np.ndarray[Any, np.dtype[np.int32]], pa.Array, pa.Array]:
    offsets = maps.offsets.to_numpy()
    first, count = int(offsets[0]), int(offsets[-1] - offsets[0])
    return offsets - first, maps.keys.slice(first, count), maps.items.slice(first, count)


def _object(name: str, maps: pa.MapArray, written: Any) -> pa.Array:
    """`,"name":{…}`, and nothing where the map is empty."""
    offsets, keys, items = _parts(maps)
    if not len(keys):
        return pa.repeat("", len(maps))
    pairs = _join(_keys(keys, lambda key: f"{json.dumps(field_key(key), ensure_ascii=False)}:"), written(items))
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), pairs.cast(pa.string())), ",")
    return pc.if_else(pc.equal(joined, ""), "", _join(f',"{name}":{{', joined, "}").cast(pa.string()))


def _list(name: str, columns: list[pa.MapArray]) -> pa.Array:
    """`,"name":["key",…]`, and nothing where all maps are empty."""
    texts = []
    for maps in columns:
        offsets, keys, _ = _parts(maps)
        if len(keys):
            quoted = _keys(keys, lambda key: f",{json.dumps(key, ensure_ascii=False)}")
            texts.append(pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), quoted), ""))
    if not texts:
        return pa.repeat("", len(columns[0]))
    joined = _join(*texts).cast(pa.string())
    listed = _join(f',"{name}":[', pc.utf8_slice_codeunits(joined, 1), "]").cast(pa.string())
    return pc.if_else(pc.equal(joined, ""), "", listed)


def _keys(keys: pa.Array, written: Any) -> pa.Array:
    """Keys are few: each distinct one is written once."""
    encoded = keys.dictionary_encode()
    return pa.array([written(key) for key in encoded.dictionary.to_pylist()], pa.string()).take(encoded.indices)


def _named(values: dict[str, Any]) -> dict[str, Any]:
    return {key_of(name): value for name, value in values.items()}
