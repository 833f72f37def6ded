"""Attributes of any type as columns, from OTLP's AnyValue and from google.protobuf.Value.

Both become `Attributes`: flat arrays of keys and values, one value array a type, and where each item's entries
begin. Integers, doubles, booleans and texts stay what they are; the rest (lists, maps, bytes, null) is kept as
the OTLP/JSON text of its AnyValue, so that every type survives a round trip. Only that rest is touched one by one.
"""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf import json_format, struct_pb2
from opentelemetry.proto.common.v1 import common_pb2

_MAX_EXACT_INTEGER = 2**53
# A level is up to three messages within each other, and readers of protobuf go no deeper than 100.
MAX_LEVELS = 24
NON_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


@dataclass(frozen=True, slots=True)
class Attributes:
    """The attributes of n items, m in all.

    Attributes:
        offsets: int32[n + 1]; item i has the entries offsets[i] to offsets[i + 1].
        keys: string[m].
        string: string[m]; null where the value has another type. So are the others.
        int64: int64[m].
        double: double[m].
        boolean: bool[m].
        encoded: string[m], OTLP/JSON of an AnyValue: `{"arrayValue": …}`, `{"bytesValue": …}`, `{}` for null.
    """

    offsets: np.ndarray[Any, np.dtype[np.int32]]
    keys: pa.Array
    string: pa.Array
    int64: pa.Array
    double: pa.Array
    boolean: pa.Array
    encoded: pa.Array

    @property
    def counts(self) -> np.ndarray[Any, np.dtype[np.int32]]:
        """int32[n]: the number of entries of each item."""
        return np.diff(self.offsets)

    def texts(self) -> pa.Array:
        """string[m]: each value as a label's text. `true`, `12`, `1.5`; lists and maps as JSON, bytes as base64."""
        texts = pc.coalesce(
            self.string,
            self.int64.cast(pa.string()),
            self.double.cast(pa.string()),
            self.boolean.cast(pa.string()),
        )
        if self.encoded.null_count == len(self.encoded):
            return texts.fill_null("")
        plain = pa.array([None if e is None else plain_text(e) for e in self.encoded.to_pylist()], pa.string())
        return pc.coalesce(texts, plain).fill_null("")

    def maps(self, prefix: str) -> dict[str, pa.Array]:
        """One map a type: `{prefix}_string`, `_int64`, `_double`, `_bool` and `_encoded`, each map<string, T>[n]."""
        columns = {
            "string": self.string,
            "int64": self.int64,
            "double": self.double,
            "bool": self.boolean,
            "encoded": self.encoded,
        }
        return {f"{prefix}_{name}": self._map(values) for name, values in columns.items()}

    def _map(self, values: pa.Array) -> pa.Array:
        if values.null_count == len(values):
            zeros = pa.array(np.zeros(len(self.offsets), np.int32))
            return pa.MapArray.from_arrays(zeros, self.keys.slice(0, 0), values.slice(0, 0))
        if values.null_count == 0:
            return pa.MapArray.from_arrays(pa.array(self.offsets), self.keys, values)
        valid = values.is_valid()
        before = np.concatenate(([0], np.cumsum(valid.to_numpy(zero_copy_only=False), dtype=np.int32)))
        offsets = pa.array(before[self.offsets].astype(np.int32))
        return pa.MapArray.from_arrays(offsets, self.keys.filter(valid), values.filter(valid))


def from_key_values(entries: pa.Array) -> Attributes:
    """Reads OTLP attributes. `entries`: list<struct<key, value: AnyValue>>[n], as ptars gives them."""
    offsets = _offsets(entries)
    flat = entries.flatten()
    if len(flat) == 0:
        return _empty(offsets)
    entry = children(flat)
    value = entry["value"]
    of = children(value)
    string, int64, double, boolean = (of[f"{name}_value"] for name in ("string", "int", "double", "bool"))
    encoded = _encode_rest((string, int64, double, boolean), value, _encode_any_value)
    return Attributes(offsets, entry["key"], string, int64, double, boolean, encoded)


def from_value_map(entries: pa.Array) -> Attributes:
    """Reads `map<string, google.protobuf.Value>`[n], as ptars gives it."""
    offsets = _offsets(entries)
    start, end = int(offsets[0]) if len(offsets) else 0, int(offsets[-1]) if len(offsets) else 0
    keys, value = entries.keys[start:end], entries.items[start:end]
    offsets = offsets - start
    if len(keys) == 0:
        return _empty(offsets)
    of = children(value)
    string, double, boolean = (of[f"{name}_value"] for name in ("string", "number", "bool"))
    encoded = _encode_rest((string, double, boolean), value, _encode_value)
    int64 = pa.nulls(len(keys), pa.int64())
    return Attributes(offsets, keys, string, int64, double, boolean, encoded)


def children(structs: pa.StructArray) -> dict[str, pa.Array]:
    """The fields of structs by name; null where the struct is. One call for all: each alone costs as much."""
    return dict(zip((field.name for field in structs.type), structs.flatten(), strict=True))


def plain_value(encoded: str) -> object:
    """An encoded attribute as plain JSON: lists, maps, base64 for bytes, decimal text for large integers.

    Lists and maps more than 24 levels deep are JSON text: no client parses an answer that is nested much deeper.
    """
    return _shallow(_plain(json.loads(encoded)), MAX_LEVELS)


def plain_text(encoded: str) -> str:
    """An encoded attribute as a label's text."""
    value = _plain(json.loads(encoded))
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def plain_integer(value: int) -> int | str:
    """An integer as our dialect sends it: beyond 2^53 as decimal text, never as a wrong number."""
    return value if abs(value) <= _MAX_EXACT_INTEGER else str(value)


def _shallow(value: object, levels: int) -> object:
    if not isinstance(value, list | dict):
        return value
    if levels == 0:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if isinstance(value, list):
        return [_shallow(item, levels - 1) for item in value]
    return {key: _shallow(item, levels - 1) for key, item in value.items()}


def _plain(value: dict[str, Any]) -> object:
    match value:
        case {"stringValue": str(text)}:
            return text
        case {"intValue": number}:
            return plain_integer(int(number))
        case {"doubleValue": number}:
            return number
        case {"boolValue": flag}:
            return flag
        case {"bytesValue": text}:
            return text
        case {"arrayValue": array}:
            return [_plain(item) for item in array.get("values", [])]
        case {"kvlistValue": pairs}:
            return {pair.get("key", ""): _plain(pair.get("value", {})) for pair in pairs.get("values", [])}
    return None


def _offsets(entries: pa.Array) -> np.ndarray[Any, np.dtype[np.int32]]:
    offsets: np.ndarray[Any, np.dtype[np.int32]] = entries.offsets.to_numpy().astype(np.int32, copy=False)
    # `flatten` drops what a slice does not show, so offsets must begin at 0; a map's children keep it.
    return offsets - offsets[0] if isinstance(entries, pa.ListArray) and len(offsets) else offsets


def _empty(offsets: np.ndarray[Any, np.dtype[np.int32]]) -> Attributes:
    return Attributes(
        offsets,
        pa.array([], pa.string()),
        pa.array([], pa.string()),
        pa.array([], pa.int64()),
        pa.array([], pa.float64()),
        pa.array([], pa.bool_()),
        pa.array([], pa.string()),
    )


def _encode_rest(typed: tuple[pa.Array, ...], value: pa.Array, encode: Any) -> pa.Array:
    is_typed = typed[0].is_valid()
    for array in typed[1:]:
        is_typed = pc.or_(is_typed, array.is_valid())
    rest = np.flatnonzero(~is_typed.to_numpy(zero_copy_only=False))
    if len(rest) == 0:
        return pa.nulls(len(value), pa.string())
    texts: list[str | None] = [None] * len(value)
    for index, item in zip(rest.tolist(), value.take(pa.array(rest)).to_pylist(), strict=True):
        texts[index] = json.dumps(encode(item), ensure_ascii=False, separators=(",", ":"))
    return pa.array(texts, pa.string())


def _encode_any_value(item: dict[str, Any] | None) -> dict[str, Any]:
    if item is None:
        return {}
    if item["bytes_value"] is not None:
        return {"bytesValue": base64.b64encode(item["bytes_value"]).decode()}
    if item["array_value"] is not None:
        values = (common_pb2.AnyValue.FromString(raw) for raw in item["array_value"]["values"])
        return {"arrayValue": {"values": [_any_value_json(value) for value in values]}}
    if item["kvlist_value"] is not None:
        pairs = (_key_value(raw) for raw in item["kvlist_value"]["values"])
        return {"kvlistValue": {"values": [{"key": p.key, "value": _any_value_json(p.value)} for p in pairs]}}
    return {}


def _key_value(raw: bytes | dict[str, Any]) -> common_pb2.KeyValue:
    # How deep ptars unfolds the recursion of AnyValue depends on where it begins: a log's body has one level more.
    if isinstance(raw, bytes):
        return common_pb2.KeyValue.FromString(raw)
    return common_pb2.KeyValue(key=raw["key"], value=common_pb2.AnyValue.FromString(raw["value"] or b""))


def _any_value_json(value: common_pb2.AnyValue) -> dict[str, Any]:
    converted: dict[str, Any] = json_format.MessageToDict(value)
    return converted


def _encode_value(item: dict[str, Any] | None) -> dict[str, Any]:
    if item is None:
        return {}
    if item["struct_value"] is not None:
        fields = (
            (key, _value_as_any(struct_pb2.Value.FromString(raw or b""))) for key, raw in item["struct_value"]["fields"]
        )
        return {"kvlistValue": {"values": [{"key": key, "value": value} for key, value in fields]}}
    if item["list_value"] is not None:
        values = (struct_pb2.Value.FromString(raw) for raw in item["list_value"]["values"])
        return {"arrayValue": {"values": [_value_as_any(value) for value in values]}}
    return {}


def _value_as_any(value: struct_pb2.Value) -> dict[str, Any]:
    match value.WhichOneof("kind"):
        case "bool_value":
            return {"boolValue": value.bool_value}
        case "string_value":
            return {"stringValue": value.string_value}
        case "number_value":
            number = value.number_value
            return {"doubleValue": number if math.isfinite(number) else NON_FINITE[str(number)]}
        case "list_value":
            return {"arrayValue": {"values": [_value_as_any(item) for item in value.list_value.values]}}
        case "struct_value":
            fields = value.struct_value.fields
            return {"kvlistValue": {"values": [{"key": key, "value": _value_as_any(fields[key])} for key in fields]}}
    return {}
