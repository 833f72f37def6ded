"""`docs/openapi.yaml`: the REST interface as OpenAPI 3.1, from `google.api.http`, the messages and their comments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from deploy.renderers.comments import paragraph, read_comments
from deploy.renderers.openapi_schemas import ERROR, Schemas, is_required
from deploy.renderers.signals import Signal, method_name
from deploy.renderers.wording import Node, as_yaml, in_seconds
from resilience.contract import MethodPolicy
from services.supervisor.ports import ENVOY, LOOPBACK

HEADER = "Generated from the protos by `make generate`. Do not edit."

_DESCRIPTION = paragraph("""\
Metrics, logs, traces and alerts. The gRPC interface has the same methods and more: streams in both directions.

Names are in lowerCamelCase. Requests may leave out what is not required; answers always have every field, but for
messages that are not set. Integers of 64 bits are texts. A server stream comes as a JSON array, which ends after
`maxCount` elements or after `maxDuration`.""")

_ERRORS = {
    "400": ("BadRequest", "The request is wrong: INVALID_ARGUMENT, FAILED_PRECONDITION or OUT_OF_RANGE."),
    "401": ("Unauthenticated", "There is no valid token: UNAUTHENTICATED. ErrorInfo says why."),
    "403": ("PermissionDenied", "The token lacks a permission: PERMISSION_DENIED. ErrorInfo names it."),
    "404": ("NotFound", "There is no such resource or path: NOT_FOUND."),
    "409": ("Conflict", "Somebody else made or changed the resource: ALREADY_EXISTS or ABORTED."),
    "429": ("ResourceExhausted", "A limit is reached: RESOURCE_EXHAUSTED. RetryInfo says when to try again."),
    "503": ("Unavailable", "The service cannot answer now: UNAVAILABLE. A retry may help."),
    "504": ("DeadlineExceeded", "The call took longer than its deadline: DEADLINE_EXCEEDED."),
}

_VARIABLE = re.compile(r"\{([a-z_.]+)(?:=([a-zA-Z]+)/\*)?\}")


def render_openapi(signals: Sequence[Signal], descriptors: Path) -> str:
    """The document.

    Args:
        signals: The services.
        descriptors: A descriptor set with source information, for the comments.
    """
    schemas = Schemas(read_comments(descriptors))
    paths: dict[str, Node] = {}
    for signal in signals:
        for policy in signal.policies:
            method = signal.service.methods_by_name[method_name(policy)]
            rule: Any = method.GetOptions().Extensions[annotations_pb2.http]
            verb = rule.WhichOneof("pattern")
            if verb is not None:
                path, variables = _path(getattr(rule, verb))
                operation = _operation(method, policy, schemas, rule.body, variables)
                paths.setdefault(path, {})[verb] = {"tags": [signal.service.name], **operation}
    tags = [
        {"name": signal.service.name, "description": schemas.comments.get(signal.service.full_name, "")}
        for signal in signals
    ]
    document = {
        "openapi": "3.1.0",
        "info": {"title": "AIRIS EPM", "version": "v1", "description": _DESCRIPTION},
        "servers": [{"url": f"http://{LOOPBACK}:{ENVOY['REST, gRPC, gRPC-Web']}"}],
        "security": [{"token": []}],
        "tags": tags,
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": {ERROR: _error(), **dict(sorted(schemas.found.items()))},
            "responses": {name: _error_response(text) for name, text in _ERRORS.values()},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "`airis auth token` makes one. Not asked for where authentication is off.",
                }
            },
        },
    }
    return as_yaml(document, header=HEADER)


def _path(template: str) -> tuple[str, dict[str, tuple[str, str]]]:
    """A path as OpenAPI writes it, and the fields of its variables: by name, with the collection that they are of."""
    variables: dict[str, tuple[str, str]] = {}

    def named(match: re.Match[str]) -> str:
        field, collection = match[1], match[2] or ""
        name = _singular(collection) if collection else _camel(field)
        variables[name] = (field, collection)
        return f"{collection}/{{{name}}}" if collection else f"{{{name}}}"

    return _VARIABLE.sub(named, template), variables


def _operation(
    method: MethodDescriptor, policy: MethodPolicy, schemas: Schemas, body: str, variables: dict[str, tuple[str, str]]
) -> Node:
    comment = schemas.comments.get(method.full_name, "")
    request = method.input_type
    operation: Node = {
        "operationId": method.name,
        "summary": comment.split(". ")[0].rstrip("."),
        "description": f"{comment}\n\n{_promise(policy)}",
    }
    parameters = [_path_parameter(request, schemas, name, *where) for name, where in variables.items()]
    used = {field.split(".")[0] for field, _ in variables.values()}
    if body != "*":
        fields = [field for field in request.fields if field.name not in used | {body}]
        parameters += _query(fields, schemas, "")
    if parameters:
        operation["parameters"] = parameters
    if body:
        if body == "*":
            schema = schemas.of_fields(request, used) if used else schemas.of_message(request)
        else:
            schema = schemas.of_field(request.fields_by_name[body])
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    answer = schemas.of_message(method.output_type)
    if method.server_streaming:
        answer = {"type": "array", "items": answer}
    text = schemas.comments.get(method.output_type.full_name, "Done.")
    operation["responses"] = {
        "200": {"description": text, "content": {"application/json": {"schema": answer}}},
        **{status: {"$ref": f"#/components/responses/{name}"} for status, (name, _) in _ERRORS.items()},
    }
    operation["x-airis-permission"] = policy.permission
    return operation


def _promise(policy: MethodPolicy) -> str:
    parts = [f"Permission: `{policy.permission}`."]
    parts.append(f"Deadline: {in_seconds(policy.deadline)}." if policy.deadline else "Without a deadline.")
    if policy.rate_limit is not None:
        rate = policy.rate_limit
        parts.append(f"At most {rate.per_second:g} calls a second of one tenant, {rate.burst} at once.")
    if policy.idempotent:
        parts.append("May be repeated: a second call changes nothing more.")
    return " ".join(parts)


def _path_parameter(request: Descriptor, schemas: Schemas, name: str, field: str, collection: str) -> Node:
    last = request
    for part in field.split("."):
        found = last.fields_by_name[part]
        last = found.message_type or last
    text = schemas.comments.get(found.full_name, "")
    if collection:
        text = f"What follows `{collection}/` in the resource's name. {text}"
    return {"name": name, "in": "path", "required": True, "description": text.strip(), "schema": {"type": "string"}}


def _query(fields: Sequence[FieldDescriptor], schemas: Schemas, prefix: str) -> Iterator[Node]:
    for field in fields:
        name = prefix + field.json_name
        message = field.message_type
        if message is not None and (field.is_repeated or message.GetOptions().map_entry):
            continue  # Not to be written in a query.
        if message is not None and not message.full_name.startswith("google.protobuf."):
            yield from _query(message.fields, schemas, f"{name}.")
            continue
        schema = dict(schemas.of_field(field))
        parameter: Node = {"name": name, "in": "query", "description": schema.pop("description", "")}
        if is_required(field):
            parameter["required"] = True
        yield {**parameter, "schema": schema}


def _error() -> Node:
    return {
        "type": "object",
        "description": "Why a call failed: `google.rpc.Status`.",
        "required": ["code", "message", "details"],
        "properties": {
            "code": {"type": "integer", "description": "The gRPC code: 3 is INVALID_ARGUMENT."},
            "message": {"type": "string", "description": "What is wrong, and what to do."},
            "details": {
                "type": "array",
                "description": "Details for programs: `google.rpc.ErrorInfo` with the reason, and `BadRequest`, "
                "`RetryInfo` or `ResourceInfo`.",
                "items": {"type": "object", "required": ["@type"], "properties": {"@type": {"type": "string"}}},
            },
        },
    }


def _error_response(text: str) -> Node:
    schema = {"$ref": f"#/components/schemas/{ERROR}"}
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _singular(collection: str) -> str:
    return collection.removesuffix("ies") + "y" if collection.endswith("ies") else collection.removesuffix("s")


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
