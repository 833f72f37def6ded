"""The comments of the contracts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from google.protobuf import descriptor_pb2

_Path = tuple[int, ...]


def read_comments(descriptors: Path) -> Mapping[str, str]:
    """The comment above each message, field, enum, value, service and RPC, by its full name, as plain lines.

    Args:
        descriptors: A descriptor set with source information.
    """
    files = descriptor_pb2.FileDescriptorSet.FromString(descriptors.read_bytes())
    return {name: text for file in files.file for name, text in _of_file(file)}


def paragraph(comment: str) -> str:
    """A comment without its line breaks, but for those between paragraphs."""
    parts = ("\n".join(line.strip() for line in comment.splitlines())).split("\n\n")
    return "\n\n".join(" ".join(part.split()) for part in parts).strip()


def _of_file(file: descriptor_pb2.FileDescriptorProto) -> Iterator[tuple[str, str]]:
    names: dict[_Path, str] = dict(_services(file))
    for index, message in enumerate(file.message_type):
        names.update(_message(message, (4, index), file.package))
    for index, enum in enumerate(file.enum_type):
        names.update(_enum(enum, (5, index), file.package))
    for location in file.source_code_info.location:
        name = names.get(tuple(location.path))
        if name is not None and location.leading_comments:
            yield name, paragraph(location.leading_comments)


def _services(file: descriptor_pb2.FileDescriptorProto) -> Iterator[tuple[_Path, str]]:
    for index, service in enumerate(file.service):
        name = f"{file.package}.{service.name}"
        yield (6, index), name
        yield from _numbered(service.method, (6, index, 2), name)


def _message(message: descriptor_pb2.DescriptorProto, path: _Path, scope: str) -> Iterator[tuple[_Path, str]]:
    name = f"{scope}.{message.name}"
    yield path, name
    yield from _numbered(message.field, (*path, 2), name)
    for index, nested in enumerate(message.nested_type):
        yield from _message(nested, (*path, 3, index), name)
    for index, enum in enumerate(message.enum_type):
        yield from _enum(enum, (*path, 4, index), name)


def _enum(enum: descriptor_pb2.EnumDescriptorProto, path: _Path, scope: str) -> Iterator[tuple[_Path, str]]:
    yield path, f"{scope}.{enum.name}"
    yield from _numbered(enum.value, (*path, 2), f"{scope}.{enum.name}")


def _numbered(
    items: Iterable[
        descriptor_pb2.MethodDescriptorProto
        | descriptor_pb2.FieldDescriptorProto
        | descriptor_pb2.EnumValueDescriptorProto
    ],
    path: _Path,
    scope: str,
) -> Iterator[tuple[_Path, str]]:
    for index, item in enumerate(items):
        yield (*path, index), f"{scope}.{item.name}"
