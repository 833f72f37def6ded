"""Requests from their descriptors: mostly what the contract asks for, so that what is hostile gets far."""

from __future__ import annotations

import time
from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.message import Message

from services.mesh import convert
from tests.fuzz import texts

_INTEGERS = (0, 1, -1, 2, 7, 100, 1000, 1001, 10_001, 2**31 - 1, -(2**31), 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1)
_DOUBLES = (0.0, -0.0, 1.5, 0.95, float("nan"), float("inf"), float("-inf"), 1e308, 5e-324, 2.0**53, -1.0)
_SECONDS = (0, 1, -1, 10, 60, 3600, 2**31, 253402300799, 253402300800, -62135596801, 315576000001, 2**63 - 1, -(2**63))
_NANOS = (0, 1, -1, 999_999_999, 1_000_000_000, 2**31 - 1, -(2**31))
_BITS = {
    Field.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    Field.CPPTYPE_UINT32: (0, 2**32 - 1),
    Field.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    Field.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_COLLECTIONS = {
    "AlertRule": "alertRules",
    "Silence": "silences",
    "Channel": "channels",
    "EscalationPolicy": "escalationPolicies",
    "LogPipeline": "logPipelines",
    "AlertEvents": "alerts",
    "Alert": "alerts",
}
_ALWAYS = frozenset({"metric", "name", "display_name", "conditions", "threshold", "severity", "operator", "batch"})
# Where any word would be refused at once: of reflection, of Jaeger, of the mesh.
_KNOWN = {
    "file_by_filename": ("airis/metrics/v1/metrics.proto", "google/protobuf/any.proto", "x.proto"),
    "file_containing_symbol": ("airis.logs.v1.LogService", "airis.logs.v1.LogService.CountLogs", "buf.validate", ".x."),
    "containing_type": ("google.protobuf.FieldOptions", "google.protobuf.MethodOptions", "airis.logs.v1.LogEntry"),
    "all_extension_numbers_of_type": ("google.protobuf.FieldOptions", "google.protobuf.MethodOptions", "x"),
    "span_kind": ("", "server", "CLIENT", "x"),
    "type_url": (convert.ENDPOINTS, "type.googleapis.com/envoy.config.cluster.v3.Cluster"),
    "resource_names": ("metrics/grpc", "logs/http", "x"),
}
_MOST_BYTES = 1 << 20
_MOST_MESSAGES = (30, 30, 100, 1000)


def request(rng: Random, message: type[Message], method: str) -> Message:
    """A request that is right, but for none, a few or all of its fields."""
    filler = _Filler(rng, method, rng.choice((0.0, 0.0, 0.03, 0.03, 0.1, 0.5, 1.0)))
    made = message()
    filler.fill(made, 0)
    return made


class _Filler:
    def __init__(self, rng: Random, method: str, hostility: float) -> None:
        self._rng = rng
        self._hostility = hostility
        self._bytes = 0
        self._messages = rng.choice(_MOST_MESSAGES)
        self._collection = next((c for kind, c in _COLLECTIONS.items() if kind in method), "")

    def fill(self, message: Any, depth: int) -> None:
        rng, descriptor = self._rng, message.DESCRIPTOR
        self._messages -= 1
        if self._messages < 0:
            return
        if descriptor.full_name.startswith("google.protobuf."):
            self._well_known(message, depth)
            return
        chosen = {oneof.name: rng.choice(oneof.fields).name for oneof in descriptor.oneofs}
        for field in descriptor.fields:
            oneof = field.containing_oneof
            if oneof is not None and chosen[oneof.name] != field.name:
                continue
            share = 0.95 if field.name in _ALWAYS or oneof is not None or (depth == 0 and field.is_repeated) else 0.5
            if rng.random() < share and self._bytes < _MOST_BYTES:
                self._set(message, field, depth)

    def _set(self, message: Any, field: Any, depth: int) -> None:
        rng = self._rng
        is_message = field.cpp_type == Field.CPPTYPE_MESSAGE
        if is_message and depth > rng.choice((6, 6, 6, 6, 12, 30)):
            return
        if is_message and field.message_type.GetOptions().map_entry:
            self._map(message, field, depth)
        elif field.is_repeated:
            many = rng.choice((0, 1, 1, 2, 3, 5)) if not self._hostile() else rng.choice((0, 70, 300))
            for _ in range(many if depth < 8 else min(many, 2)):
                if is_message:
                    self.fill(getattr(message, field.name).add(), depth + 1)
                else:
                    getattr(message, field.name).append(self._scalar(field))
        elif is_message:
            inner = getattr(message, field.name)
            inner.SetInParent()
            self.fill(inner, depth + 1)
        else:
            setattr(message, field.name, self._scalar(field))

    def _map(self, message: Any, field: Any, depth: int) -> None:
        key, value = field.message_type.fields
        entries = getattr(message, field.name)
        for _ in range(self._rng.choice((0, 1, 2)) if not self._hostile() else self._rng.choice((65, 1, 300))):
            at = self._scalar(key) if self._hostile() else f"key{self._rng.randrange(400)}"
            if value.cpp_type == Field.CPPTYPE_MESSAGE:
                self.fill(entries[at], depth + 1)
            else:
                entries[at] = self._scalar(value)

    def _well_known(self, message: Any, depth: int) -> None:
        rng, kind = self._rng, message.DESCRIPTOR.name
        if kind == "Timestamp":
            message.seconds = rng.choice(_SECONDS) if self._hostile() else int(time.time()) - rng.randrange(3000)
            message.nanos = rng.choice(_NANOS) if self._hostile() else rng.randrange(10**9)
        elif kind == "Duration":
            message.seconds = rng.choice(_SECONDS) if self._hostile() else rng.choice((1, 5, 10, 60, 600))
            message.nanos = rng.choice(_NANOS) if self._hostile() else 0
        elif kind == "FieldMask":
            known = (
                "display_name",
                "conditions",
                "channels",
                "labels",
                "enabled",
                "webhook.secret",
                "name",
                "etag",
                "*",
            )
            for _ in range(rng.randrange(4)):
                message.paths.append(texts.text(rng) if self._hostile() else rng.choice(known))
        elif kind == "Value":
            self._value(message, depth)
        else:
            for field in message.DESCRIPTOR.fields:
                if rng.random() < 0.5:
                    self._set(message, field, depth)

    def _value(self, value: Any, depth: int) -> None:
        rng = self._rng
        kind = rng.randrange(6) if depth < 10 else rng.randrange(4)
        if kind == 0:
            value.string_value = self._string("value")
        elif kind == 1:
            value.number_value = rng.choice(_DOUBLES)
        elif kind == 2:
            value.bool_value = True
        elif kind == 3:
            value.null_value = 0
        elif kind == 4:
            for _ in range(rng.randrange(4)):
                self._value(value.list_value.values.add(), depth + 1)
        elif kind == 5:
            self._value(value.struct_value.fields[self._string("key")], depth + 1)

    def _hostile(self) -> bool:
        return self._rng.random() < self._hostility

    def _scalar(self, field: Any) -> Any:
        rng, kind = self._rng, field.cpp_type
        if kind == Field.CPPTYPE_STRING:
            made = self._bytes_of(field) if field.type == Field.TYPE_BYTES else self._string(field.name)
            self._bytes += len(made)
            return made
        if kind == Field.CPPTYPE_BOOL:
            return rng.random() < 0.5
        if kind in (Field.CPPTYPE_DOUBLE, Field.CPPTYPE_FLOAT):
            return rng.choice(_DOUBLES) if self._hostile() else rng.choice((0.5, 1.0, 42.0))
        if kind == Field.CPPTYPE_ENUM:
            values = [value.number for value in field.enum_type.values]
            return rng.choice((-1, 99, 2**31 - 1, -(2**31))) if self._hostile() else rng.choice(values)
        least, most = _BITS[kind]
        if field.name.endswith("unix_nano") and not self._hostile():
            return time.time_ns() - rng.randrange(10**12)
        if self._hostile():
            return min(max(rng.choice(_INTEGERS), least), most)
        return rng.randrange(1, 20)

    def _bytes_of(self, field: Any) -> bytes:
        rng = self._rng
        if self._hostile():
            return rng.randbytes(rng.choice((0, 1, 7, 8, 15, 16, 17, 64)))
        return bytes(rng.choice((b"\1", b"\2")) * (16 if field.name == "trace_id" else 8))

    def _string(self, name: str) -> str:
        rng = self._rng
        if "filter" in name or name == "log_query":
            return texts.filter_text(rng) if rng.random() < 0.7 else ""
        if name == "page_token":
            return texts.page_token(rng) if rng.random() < 0.4 else ""
        if self._hostile():
            return texts.text(rng)
        if name in _KNOWN:
            return rng.choice(_KNOWN[name])
        if name.endswith("trace_id"):
            return f"{rng.randrange(1, 20):032x}"
        if name.endswith("span_id"):
            return f"{rng.randrange(1, 20):016x}"
        if name in ("name", "parent") and self._collection:
            return texts.resource_name(rng, self._collection)
        if name == "channels":
            return texts.resource_name(rng, "channels")
        if name.endswith("_id") and name not in ("request_id", "producer_id", "user_id"):
            return texts.identifier(rng)
        if name == "escalation_policy":
            return ""
        if name == "url":
            return rng.choice(("http://127.0.0.1:9/hook", "https://127.0.0.1:9/", "http://[::1]:9", "ftp://127.0.0.1"))
        if name in ("secret", "password", "token"):
            return f"{texts.SECRET}-{rng.getrandbits(32):08x}"
        if name == "to":
            return rng.choice(("a@localhost", "nobody", "+821012345678"))
        if name == "order_by":
            return rng.choice(("", "start_time desc", "duration desc", "timestamp desc", "timestamp", "x"))
        if name in ("request_id", "etag"):
            return ""
        return rng.choice(texts.WORDS)
