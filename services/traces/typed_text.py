"""Attributes of events and links as text that keeps their types.

A span's tags have one map a type, which filters use. Events and links are only ever read back whole, so one map of
texts holds theirs, whose first letter names the type: `s` text, `i` integer, `d` double, `b` boolean, and `e` for
the rest (lists, maps, bytes, null) as the OTLP/JSON of its AnyValue.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from services.traces.model import AttributeValue

_LETTERS = {"string": "s", "int64": "i", "double": "d", "bool": "b", "encoded": "e"}


def encode(values: Mapping[str, pa.Array], count: int) -> pa.Array:
    """string[count], of arrays[count] by type of which at most one is not null at each place; none is null's text.

    Args:
        values: For each type there is, "string", "int64", "double", "bool" and "encoded", its values.
        count: How many there are.
    """
    marked = [
        pc.binary_join_element_wise(_LETTERS[name], array.cast(pa.string()), "") for name, array in values.items()
    ]
    return pc.coalesce(*marked).fill_null("e{}") if marked else pa.repeat("e{}", count)


def decode(text: str) -> AttributeValue:
    """The value of one such text."""
    letter, rest = text[:1], text[1:]
    match letter:
        case "s":
            return rest
        case "i":
            return int(rest)
        case "d":
            return float(rest)
        case "b":
            return rest == "true"
    return decode_any_value(rest)


def decode_any_value(text: str) -> AttributeValue:
    """The value of the OTLP/JSON text of an AnyValue."""
    return _any_value(json.loads(text))


def _any_value(value: dict[str, Any]) -> AttributeValue:
    match value:
        case {"stringValue": str(text)}:
            return text
        case {"intValue": number}:
            return int(number)
        case {"doubleValue": number}:
            return float(number)
        case {"boolValue": bool(flag)}:
            return flag
        case {"bytesValue": str(text)}:
            return base64.b64decode(text)
        case {"arrayValue": array}:
            return [_any_value(item) for item in array.get("values", [])]
        case {"kvlistValue": pairs}:
            return {pair.get("key", ""): _any_value(pair.get("value", {})) for pair in pairs.get("values", [])}
    return None
