"""Messages read in part: fields that are to stay bytes, and fields that are not to be read at all.

What is read of a message costs the same for each of its columns, however few items there are. A variant has the same
field numbers as its original, so it reads the same bytes.
"""

from __future__ import annotations

from collections.abc import Set

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor, FileDescriptor


def variant(message: Descriptor, as_bytes: Set[str], without: Set[str]) -> Descriptor:
    """A message like another one, to be read from the same bytes.

    Args:
        message: The original.
        as_bytes: Names of fields, anywhere within it, that are messages and stay bytes.
        without: Names of fields, anywhere within it, that are not read.
    """
    pool = descriptor_pool.DescriptorPool()
    added: set[str] = set()

    def add(file: FileDescriptor) -> None:
        if file.name in added:
            return
        added.add(file.name)
        for dependency in file.dependencies:
            add(dependency)
        found = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(found)
        for each in found.message_type:
            _reduce(each, as_bytes, without)
        pool.Add(found)

    add(message.file)
    return pool.FindMessageTypeByName(message.full_name)


def _reduce(message: descriptor_pb2.DescriptorProto, as_bytes: Set[str], without: Set[str]) -> None:
    kept = [field for field in message.field if field.name not in without]
    for field in kept:
        if field.name in as_bytes:
            field.type = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
            field.ClearField("type_name")
    copies = [descriptor_pb2.FieldDescriptorProto.FromString(field.SerializeToString()) for field in kept]
    del message.field[:]
    message.field.extend(copies)
    for nested in message.nested_type:
        _reduce(nested, as_bytes, without)
