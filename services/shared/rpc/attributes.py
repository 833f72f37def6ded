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
from enum import IntEnum
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf import json_format, struct_pb2
from google.protobuf.message_factory import GetMessageClass
from opentelemetry.proto.common.v1 import common_pb2

from services.shared.rpc.opaque import variant

_MAX_EXACT_INTEGER = 2**53
# A level is up to three messages within each other, and readers of protobuf go no deeper than 100.
MAX_LEVELS = 24
NON_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}

Numbers = np.ndarray[Any, np.dtype[np.int64]]


AS_BYTES = frozenset({"array_value", "kvlist_value"})
"""Fields of an AnyValue that are read as bytes here: few have them, and a column costs the same for none."""
WITHOUT = frozenset({"key_strindex", "string_value_strindex", "dropped_attributes_count"})
"""Fields of attributes and what has them that nobody reads."""


class Kind(IntEnum):
    """The type of a value; the name of its column is that of the member in small letters."""

    STRING = 0
    INT64 = 1
    DOUBLE = 2
    BOOL = 3
    ENCODED = 4
    """OTLP/JSON of an AnyValue: `{"arrayValue": …}`, `{"bytesValue": …}`, `{}` for null."""


NAMES = {kind: kind.name.lower() for kind in Kind}
TYPES = {
    Kind.STRING: pa.string(),
    Kind.INT64: pa.int64(),
    Kind.DOUBLE: pa.float64(),
    Kind.BOOL: pa.bool_(),
    Kind.ENCODED: pa.string(),
}


@dataclass(frozen=True, slots=True)
class Attributes:
    """The attributes of n items, m in all.

    Attributes:
        offsets: int64[n + 1]; item i has the entries offsets[i] to offsets[i + 1].
        keys: string[m].
        kinds: int8[m]: which `Kind` each value is.
        values: For each kind there is: T[m], whose values count where `kinds` says so.
    """

    offsets: Numbers
    keys: pa.Array
    kinds: np.ndarray[Any, np.dtype[np.int8]]
    values: dict[Kind, pa.Array]

    @property
    def counts(self) -> Numbers:
        """int64[n]: the number of entries of each item."""
        return self.offsets[1:] - self.offsets[:-1]

    @property
    def string(self) -> pa.Array:
        """string[m]; null where the value has another type."""
        return self._column(Kind.STRING)

    @property
    def double(self) -> pa.Array:
        """double[m]; null where the value has another type."""
        return self._column(Kind.DOUBLE)

    @property
    def boolean(self) -> pa.Array:
        """bool[m]; null where the value has another type."""
        return self._column(Kind.BOOL)

    @property
    def encoded(self) -> pa.Array:
        """string[m]; null where the value has a type of its own."""
        return self._column(Kind.ENCODED)

    def texts(self) -> pa.Array:
        """string[m]: each value as a label's text. `true`, `12`, `1.5`; lists and maps as JSON, bytes as base64."""
        result = self.string
        for kind in (Kind.INT64, Kind.DOUBLE, Kind.BOOL):
            if kind in self.values:
                result = pc.coalesce(result, self.values[kind].cast(pa.string()))
        if Kind.ENCODED in self.values:
            plain = [None if each is None else plain_text(each) for each in self.encoded.to_pylist()]
            result = pc.coalesce(result, pa.array(plain, pa.string()))
        return result.fill_null("")

    def _column(self, kind: Kind) -> pa.Array:
        return self.values[kind] if kind in self.values else pa.nulls(len(self.keys), TYPES[kind])


def from_key_values(entries: pa.Array) -> Attributes:
    """Reads OTLP attributes. `entries`: list<struct<key, value: AnyValue>>[n], as ptars gives them for `AS_BYTES`."""
    offsets, flat = flattened(entries)
    if len(flat) == 0:
        return Attributes(offsets, pa.array([], pa.string()), np.zeros(0, np.int8), {})
    entry = children(flat)
    return _typed(offsets, entry["key"], entry["value"])


def from_any_values(values: pa.StructArray) -> Attributes:
    """Reads AnyValues[n] as attributes of n items that have one each, of no name."""
    return _typed(np.arange(len(values) + 1), pa.repeat("", len(values)), values)


def from_value_map(entries: pa.Array) -> Attributes:
    """Reads `map<string, google.protobuf.Value>`[n], as ptars gives it."""
    offsets, keys, value = _entries(entries)
    of = children(value)
    kinds, values = _kinds(
        {Kind.STRING: of["string_value"], Kind.DOUBLE: of["number_value"], Kind.BOOL: of["bool_value"]},
        value,
        _encode_value,
    )
    return Attributes(offsets, keys, kinds, values)


def from_text_map(entries: pa.Array) -> Attributes:
    """Reads `map<string, string>`[n], as ptars gives it."""
    offsets, keys, values = _entries(entries)
    return Attributes(offsets, keys, np.full(len(keys), Kind.STRING, np.int8), {Kind.STRING: values})


def children(structs: pa.StructArray) -> dict[str, pa.Array]:
    """The fields of structs by name; null where the struct is. One call for all: each alone costs as much."""
    return dict(zip(structs.type.names, structs.flatten(), strict=True))


def flattened(lists: pa.ListArray) -> tuple[Numbers, pa.Array]:
    """The items of lists[n], one list after the other, and where each begins: int64[n + 1]. A null is an empty list."""
    if lists.null_count:
        counts = pc.list_value_length(lists).fill_null(0).to_numpy()
        return offsets_of(counts), lists.flatten()
    offsets = lists.offsets.to_numpy().astype(np.int64)
    if len(lists) == 0:
        return np.zeros(1, np.int64), lists.values.slice(0, 0)
    start = int(offsets[0])
    return offsets - start, lists.values.slice(start, int(offsets[-1]) - start)


def offsets_of(counts: np.ndarray[Any, Any]) -> Numbers:
    """int64[n + 1]: where each of n begins, of how many each has, or of whether it has one."""
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def owners(offsets: Numbers) -> Numbers:
    """int64[m]: whose each of the flattened items is."""
    return np.repeat(np.arange(len(offsets) - 1), offsets[1:] - offsets[:-1])


def valid(array: pa.Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """bool[n]: where there is a value."""
    if array.null_count == 0:
        return np.ones(len(array), bool)
    bits = np.frombuffer(array.buffers()[0], np.uint8)
    return np.unpackbits(bits, count=array.offset + len(array), bitorder="little")[array.offset :].view(bool)


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


def _entries(maps: pa.MapArray) -> tuple[Numbers, pa.Array, pa.Array]:
    if len(maps) == 0:
        return np.zeros(1, np.int64), maps.keys.slice(0, 0), maps.items.slice(0, 0)
    # A map's children are those of all of its array, also of what a slice does not show.
    offsets = maps.offsets.to_numpy().astype(np.int64)
    start, count = int(offsets[0]), int(offsets[-1] - offsets[0])
    return offsets - start, maps.keys.slice(start, count), maps.items.slice(start, count)


def _typed(offsets: Numbers, keys: pa.Array, value: pa.StructArray) -> Attributes:
    of = children(value)
    typed = {kind: of[f"{name}_value"] for name, kind in _ANY_VALUE.items()}
    kinds, values = _kinds(typed, value, _encode_any_value)
    return Attributes(offsets, keys, kinds, values)


_ANY_VALUE = {"string": Kind.STRING, "int": Kind.INT64, "double": Kind.DOUBLE, "bool": Kind.BOOL}
_OF_NO_TYPE = -1
# Stands for a KeyValueList as well. Its items are parsed one by one: readers of protobuf go only so deep at a time.
_ITEMS: Any = GetMessageClass(variant(common_pb2.ArrayValue.DESCRIPTOR, {"values"}, set()))


def _kinds(
    typed: dict[Kind, pa.Array], value: pa.Array, encode: Any
) -> tuple[np.ndarray[Any, np.dtype[np.int8]], dict[Kind, pa.Array]]:
    values = {kind: array for kind, array in typed.items() if array.null_count < len(array)}
    kinds = np.full(len(value), _OF_NO_TYPE, np.int8)
    # Where the wire has two, which no encoder sends, the first of them counts.
    for kind in reversed(values):
        kinds[valid(values[kind])] = kind
    rest = (kinds == _OF_NO_TYPE).nonzero()[0]
    if len(rest):
        kinds[rest] = Kind.ENCODED
        encoded: list[str | None] = [None] * len(value)
        for index, item in zip(rest.tolist(), value.take(pa.array(rest)).to_pylist(), strict=True):
            encoded[index] = json.dumps(encode(item), ensure_ascii=False, separators=(",", ":"))
        values[Kind.ENCODED] = pa.array(encoded, pa.string())
    return kinds, values


def _encode_any_value(item: dict[str, Any] | None) -> dict[str, Any]:
    if item is None:
        return {}
    if item["bytes_value"] is not None:
        return {"bytesValue": base64.b64encode(item["bytes_value"]).decode()}
    if item["array_value"] is not None:
        values = (common_pb2.AnyValue.FromString(raw) for raw in _ITEMS.FromString(item["array_value"]).values)
        return {"arrayValue": {"values": [_any_value_json(value) for value in values]}}
    if item["kvlist_value"] is not None:
        pairs = (common_pb2.KeyValue.FromString(raw) for raw in _ITEMS.FromString(item["kvlist_value"]).values)
        return {"kvlistValue": {"values": [{"key": p.key, "value": _any_value_json(p.value)} for p in pairs]}}
    return {}


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
