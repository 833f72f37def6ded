"""Brings rules, channels, silences and escalation policies to what files say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from airis.client.errors import NotFoundError
from airis.client.signals.alerts import CHANNELS, ESCALATION_POLICIES, RULES, SILENCES, Alerts
from airis.client.signals.resources import Resources, Shape
from google.api import field_behavior_pb2
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message

ORDER = ("channels", "escalationPolicies", "alertRules", "silences")
"""Kinds of resources, what others refer to first."""

_SHAPES: dict[str, Shape[Any]] = {
    "channels": CHANNELS,
    "escalationPolicies": ESCALATION_POLICIES,
    "alertRules": RULES,
    "silences": SILENCES,
}
_SECTIONS = {**{kind: kind for kind in ORDER}, "rules": "alertRules"}


@dataclass(frozen=True, slots=True)
class Document:
    """One resource of a file.

    Attributes:
        kind: One of `ORDER`.
        resource: What it shall be.
        named: The fields that the file names, as parsed.
    """

    kind: str
    resource: Any
    named: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a document.

    Attributes:
        name: The resource's name.
        verb: "created", "updated" or "unchanged".
        fields: The fields that differed, or cannot be compared because the server never sends them back.
        resource: The resource as it is now.
    """

    name: str
    verb: str
    fields: list[str]
    resource: Message


class _Loader(yaml.SafeLoader):
    """YAML whose timestamps stay texts, as proto3 JSON has them."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read(path: Path) -> list[Document]:
    """The resources of a file.

    A file has `rules`, `channels`, `silences` or `escalationPolicies`, each a list; or documents that are one
    resource each, whose name has its kind: "alertRules/high-cpu".

    Raises:
        ValueError: It cannot be understood; says where and why.
    """
    try:
        parsed = list(yaml.load_all(path.read_text(encoding="utf-8"), _Loader))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML or JSON: {' '.join(str(error).split())}.") from error
    documents = [_document(path, kind, item) for content in parsed for kind, item in _items(path, content)]
    if not documents:
        raise ValueError(f"{path} has no rules, channels or silences.")
    return documents


async def apply(alerts: Alerts, document: Document, *, is_dry_run: bool = False) -> Change:
    """Creates the resource if it is missing, updates it if it differs.

    Raises:
        AbortedError: Somebody else changed it meanwhile.
        AirisError: A call failed.
    """
    name, target = document.resource.name, resources(alerts, document.kind)
    try:
        current = await target.get(name)
    except NotFoundError:
        created = document.resource
        if not is_dry_run:
            created = await target.create(document.resource, id=name.partition("/")[2])
        return Change(name, "created", [], created)
    fields = differences(document.resource, current, document.named)
    if not fields:
        return Change(name, "unchanged", [], current)
    if is_dry_run:
        return Change(name, "updated", fields, document.resource)
    document.resource.etag = current.etag
    mask = sorted({field.partition(".")[0] for field in fields})
    return Change(name, "updated", fields, await target.update(document.resource, fields=mask))


def resources(alerts: Alerts, kind: str) -> Resources[Any]:
    """The resources of a kind of `ORDER`."""
    by_kind: dict[str, Resources[Any]] = {
        "channels": alerts.channels,
        "escalationPolicies": alerts.escalation_policies,
        "alertRules": alerts.rules,
        "silences": alerts.silences,
    }
    return by_kind[kind]


def differences(desired: Any, current: Any, named: dict[str, Any], prefix: str = "") -> list[str]:
    """The named fields in which two resources differ, with those that the server keeps to itself.

    Fields that are not named are not compared: the server may have filled them in.
    """
    found: list[str] = []
    for key, value in named.items():
        field = _field(desired, key)
        behaviors = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
        if {field_behavior_pb2.OUTPUT_ONLY, field_behavior_pb2.IDENTIFIER} & set(behaviors) or field.name == "etag":
            continue
        path = f"{prefix}{field.name}"
        ours, theirs = getattr(desired, field.name), getattr(current, field.name)
        if field_behavior_pb2.INPUT_ONLY in behaviors or (
            field.has_presence and desired.HasField(field.name) != current.HasField(field.name)
        ):
            found.append(path)
        elif field.is_repeated and isinstance(value, list) and value and isinstance(value[0], dict):
            if len(ours) != len(theirs) or any(
                differences(our, their, item) for our, their, item in zip(ours, theirs, value, strict=True)
            ):
                found.append(path)
        elif isinstance(value, dict) and field.message_type is not None and not field.is_repeated:
            found += differences(ours, theirs, value, f"{path}.")
        elif ours != theirs:
            found.append(path)
    return found


def _items(path: Path, content: Any) -> Iterator[tuple[str, Any]]:
    if content is None:
        return
    if isinstance(content, list):
        for item in content:
            yield from _items(path, item)
        return
    if not isinstance(content, dict):
        raise ValueError(f"{path} must have lists like `rules:` and `channels:`, or resources with a name.")
    if "name" in content:
        yield str(content["name"]).partition("/")[0], content
        return
    for section, items in content.items():
        if section not in _SECTIONS or not isinstance(items, list):
            raise ValueError(f"{path}: {section!r} is not a list of {', '.join(_SECTIONS)}.")
        for item in items:
            yield _SECTIONS[section], item


def _document(path: Path, kind: str, item: Any) -> Document:
    if not isinstance(item, dict) or not item.get("name"):
        raise ValueError(f"{path}: each of {kind} needs a name.")
    if kind not in ORDER:
        raise ValueError(f"{path}: the name {item['name']!r} must begin with one of {', '.join(ORDER)}.")
    name = str(item["name"])
    named = {**item, "name": name if name.startswith(f"{kind}/") else f"{kind}/{name}"}
    try:
        return Document(kind, ParseDict(named, _SHAPES[kind].resource()), named)
    except ParseError as error:
        raise ValueError(f"{path}: {named['name']}: {str(error).rstrip('.')}.") from error


def _field(message: Any, key: str) -> Any:
    descriptor = message.DESCRIPTOR
    return descriptor.fields_by_name.get(key) or descriptor.fields_by_camelcase_name[key]
