"""JSON Schemas of protobuf messages, in the form in which Envoy writes and reads them as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from buf.validate import validate_pb2
from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from deploy.renderers.wording import Node

ERROR = "Error"
DURATION = r"^-?[0-9]+(\.[0-9]{1,9})?s$"

_WELL_KNOWN: Mapping[str, Node] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": DURATION},
    "google.protobuf.FieldMask": {"type": "string", "description": "Names of fields, with commas between them."},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.Value": {"description": "Any JSON value."},
    "google.protobuf.Empty": {"type": "object", "additionalProperties": False},
    "google.rpc.Status": {"$ref": f"#/components/schemas/{ERROR}"},
}

_SCALARS: Mapping[int, Node] = {
    FieldDescriptor.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.TYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    FieldDescriptor.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_SINT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_SFIXED32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_UINT32: {"type": "integer", "minimum": 0},
    FieldDescriptor.TYPE_FIXED32: {"type": "integer", "minimum": 0},
}
# JSON numbers lose digits beyond 2^53.
_LONG: Node = {"type": "string", "format": "int64"}

_BEHAVIOR: Mapping[int, Node] = {
    field_behavior_pb2.OUTPUT_ONLY: {"readOnly": True},
    field_behavior_pb2.INPUT_ONLY: {"writeOnly": True},
}


class Schemas:
    """The schemas that operations use, each noted as it is asked for.

    Args:
        comments: By full name.
    """

    def __init__(self, comments: Mapping[str, str]) -> None:
        self.comments = comments
        self.found: dict[str, Node] = {}

    def of_message(self, message: Descriptor) -> Node:
        """The schema of a message, mostly a reference."""
        if message.full_name in _WELL_KNOWN:
            return _WELL_KNOWN[message.full_name]
        name = message.full_name.removeprefix("airis.")
        if name not in self.found:
            self.found[name] = {}  # A message may contain itself.
            self.found[name] = self._commented(message.full_name, self.of_fields(message, set()))
        return {"$ref": f"#/components/schemas/{name}"}

    def of_fields(self, message: Descriptor, without: set[str]) -> Node:
        """A message's fields as an object, without some that are elsewhere."""
        fields = [field for field in message.fields if field.name not in without]
        schema: Node = {"type": "object", "properties": {field.json_name: self.of_field(field) for field in fields}}
        required = [field.json_name for field in fields if is_required(field)]
        if required:
            schema["required"] = required
        return schema

    def of_field(self, field: FieldDescriptor) -> Node:
        """The schema of a field, with its comment and limits."""
        constraints: Any = _options(field).Extensions[validate_pb2.field]
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            value = field.message_type.fields_by_name["value"]
            schema: Node = {"type": "object", "additionalProperties": self._single(value, None)}
        elif field.is_repeated:
            schema = {"type": "array", "items": self._single(field, constraints.repeated.items)}
            schema.update(_bounds(constraints.repeated, {"min_items": "minItems", "max_items": "maxItems"}))
        else:
            schema = {**self._single(field, constraints)}
        for behavior in _behavior(field):
            schema.update(_BEHAVIOR.get(behavior, {}))
        return self._commented(field.full_name, schema)

    def _single(self, field: FieldDescriptor, constraints: Any) -> Node:
        if field.message_type is not None:
            return self.of_message(field.message_type)
        if field.enum_type is not None:
            return self._of_enum(field.enum_type)
        schema = {**_SCALARS.get(field.type, _LONG)}
        if constraints is not None:
            schema.update(_limits(constraints, schema))
        return schema

    def _of_enum(self, enum: EnumDescriptor) -> Node:
        name = enum.full_name.removeprefix("airis.")
        if name not in self.found:
            lines = [self.comments.get(enum.full_name, "")]
            for value in enum.values:
                # The values of an enum are its siblings in protobuf, but their comments are noted below it.
                lines.append(f"- `{value.name}`: {self.comments.get(f'{enum.full_name}.{value.name}', '')}")
            values = [value.name for value in enum.values]
            self.found[name] = {"type": "string", "enum": values, "description": "\n".join(lines).strip()}
        return {"$ref": f"#/components/schemas/{name}"}

    def _commented(self, name: str, schema: Node) -> Node:
        comment = self.comments.get(name)
        return {**schema, "description": comment} if comment else schema


def is_required(field: FieldDescriptor) -> bool:
    """Whether the contract asks for this field."""
    return field_behavior_pb2.REQUIRED in _behavior(field)


def _behavior(field: FieldDescriptor) -> list[int]:
    return list(_options(field).Extensions[field_behavior_pb2.field_behavior])


def _options(field: FieldDescriptor) -> Any:
    return field.GetOptions()


def _limits(constraints: Any, schema: Node) -> Node:
    if schema["type"] == "string" and "format" not in schema and "contentEncoding" not in schema:
        names = {"min_len": "minLength", "max_len": "maxLength", "pattern": "pattern"}
        return _bounds(constraints.string, names)
    if schema["type"] in ("integer", "number"):
        kind = {"int32": constraints.int32, "double": constraints.double, "float": constraints.float}
        rules = kind.get(schema.get("format", ""), constraints.uint32)
        names = {"gte": "minimum", "lte": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum"}
        return _bounds(rules, names)
    return {}


def _bounds(rules: Any, names: Mapping[str, str]) -> Node:
    return {target: getattr(rules, name) for name, target in names.items() if rules.HasField(name)}
