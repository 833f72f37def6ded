"""Updates after AIP-134: which fields a mask names, and what the resource becomes.

- Without paths, the fields that are set are meant; `*`, alone, is all fields.
- OUTPUT_ONLY and IDENTIFIER fields and the etag are the server's: naming them has no effect (AIP-203).
- An INPUT_ONLY field is never sent back, so a caller who sends what he got leaves it empty: then it stays as it
  was, unless the mask names it itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from google.api import field_behavior_pb2
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from services.shared.errors import FieldViolation, InvalidArgumentError

MessageT = TypeVar("MessageT", bound=Message)

_SERVERS_OWN = frozenset({field_behavior_pb2.OUTPUT_ONLY, field_behavior_pb2.IDENTIFIER})
_ETAG = "etag"


def merge(current: MessageT, patch: MessageT, mask: FieldMask) -> MessageT:
    """What `current` becomes.

    Args:
        current: The resource as it is kept, INPUT_ONLY fields included.
        patch: The resource of the request.
        mask: The mask of the request; empty if it has none.

    Raises:
        InvalidArgumentError: A path does not exist, or `*` is not alone.
    """
    merged = type(current)()
    merged.CopyFrom(current)
    paths = _paths(patch, mask)
    for path in paths:
        _replace(merged, patch, path.split("."))
    for steps in _input_only(current.DESCRIPTOR):
        if ".".join(steps) not in mask.paths:
            _keep(merged, current, steps)
    return merged


def without_servers_own(message: MessageT) -> MessageT:
    """The message without what only the server sets: for creations."""
    result = type(message)()
    result.CopyFrom(message)
    for field in message.DESCRIPTOR.fields:
        if _is_servers_own(field):
            result.ClearField(field.name)
    return result


def has_effect(request: Message, path: Sequence[str]) -> bool:
    """Whether a field matters: of an update's resource only what the mask names does.

    The rules of the contract are for whole resources, and an update carries a part of one.

    Args:
        request: Any request; all fields matter of one that has no `update_mask`.
        path: The names on the way to the field.
    """
    if "update_mask" not in request.DESCRIPTOR.fields_by_name or len(path) < 2 or path[0] == "update_mask":
        return True
    mask: FieldMask = getattr(request, "update_mask")  # noqa: B009
    resource: Message = getattr(request, path[0])
    named = list(mask.paths) or [field.name for field, _ in resource.ListFields()]
    below = list(path[1:])
    return "*" in named or any(
        all(one == other for one, other in zip(name.split("."), below, strict=False)) for name in named
    )


def _paths(patch: Message, mask: FieldMask) -> list[str]:
    named: list[str] = list(mask.paths)
    descriptor = patch.DESCRIPTOR
    if "*" in named:
        if len(named) > 1:
            raise _invalid("*", "must be the only path")
        named = [field.name for field in descriptor.fields]
    elif not named:
        named = [field.name for field, _ in patch.ListFields()]
    for path in named:
        _check(descriptor, path)
    return [path for path in named if not _is_servers_own(descriptor.fields_by_name[path.split(".")[0]])]


def _check(descriptor: Any, path: str) -> None:
    for part in path.split("."):
        field = None if descriptor is None else descriptor.fields_by_name.get(part)
        if field is None:
            raise _invalid(path, "does not exist")
        # Entries of lists and maps cannot be named: they are replaced as a whole.
        descriptor = None if field.is_repeated else field.message_type


def _is_servers_own(field: Any) -> bool:
    return field.name == _ETAG or not _SERVERS_OWN.isdisjoint(_behaviors(field))


def _behaviors(field: Any) -> list[int]:
    return list(field.GetOptions().Extensions[field_behavior_pb2.field_behavior])


def _replace(merged: Any, patch: Any, path: list[str]) -> None:
    name, *rest = path
    if rest:
        # A message that the patch does not have reads as empty: the field below becomes empty.
        if patch.HasField(name) or merged.HasField(name):
            _replace(getattr(merged, name), getattr(patch, name), rest)
        return
    field = patch.DESCRIPTOR.fields_by_name[name]
    if field.has_presence and not patch.HasField(name):
        merged.ClearField(name)
    elif field.is_repeated or field.message_type is not None:
        merged.ClearField(name)
        value = getattr(patch, name)
        if not field.is_repeated:
            getattr(merged, name).CopyFrom(value)
            getattr(merged, name).SetInParent()
        else:
            getattr(merged, name).MergeFrom(value)
    else:
        setattr(merged, name, getattr(patch, name))


def _input_only(descriptor: Any) -> Iterator[list[str]]:
    for field in descriptor.fields:
        if field_behavior_pb2.INPUT_ONLY in _behaviors(field):
            yield [field.name]
        elif field.message_type is not None and not field.is_repeated:
            if field.message_type.full_name.startswith("google.protobuf."):
                continue
            for path in _input_only(field.message_type):
                yield [field.name, *path]


def _keep(merged: Any, current: Any, path: list[str]) -> None:
    name, *rest = path
    if rest:
        if merged.HasField(name) and current.HasField(name):
            _keep(getattr(merged, name), getattr(current, name), rest)
    elif not getattr(merged, name):
        setattr(merged, name, getattr(current, name))


def _invalid(path: str, description: str) -> InvalidArgumentError:
    text = f"path {path!r} {description}"
    return InvalidArgumentError(f"update_mask: {text}.", violations=(FieldViolation("update_mask", text),))
