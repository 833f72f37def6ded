"""Ingest requests from their bytes: one reader for the three dialects of a signal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message

from services.shared.bus.ingest import Ends, ItemsT, Requests
from services.shared.errors import InvalidArgumentError
from services.shared.rpc.arrow_messages import ArrowMessages
from services.shared.rpc.message_count import Path, has_more_messages

# Millions of empty messages fit into a request that is not too large in bytes, and would take seconds and gigabytes to
# refuse once they are columns.
MOST_ITEMS = 2**18


@dataclass(frozen=True, slots=True)
class Dialect(Generic[ItemsT]):
    """One way of sending items.

    Attributes:
        message: The request message's class.
        items: The field that holds the items: of the request, or of its `batch`.
        convert: Turns the items, as ptars gives them, into columns.
        within: Where each of these holds many more: the names of the fields that lead there, level by level.
        columns: A variant of the message with the columns that `convert` needs (see `opaque`); None: all.
    """

    message: type[Message]
    items: str
    convert: Callable[[pa.StructArray], ItemsT]
    within: tuple[tuple[str, ...], ...] = ()
    columns: Descriptor | None = None

    @property
    def path(self) -> Path:
        """The numbers of the fields that lead from the request to its innermost items."""
        descriptor: Any = self.message.DESCRIPTOR
        first = () if self.items in descriptor.fields_by_name else (("batch",),)
        numbers = []
        for names in (*first, (self.items,), *self.within):
            fields = [descriptor.fields_by_name[name] for name in names]
            numbers.append(frozenset(field.number for field in fields))
            descriptor = fields[0].message_type
        return tuple(numbers)


class IngestWire(Generic[ItemsT]):
    """Reads requests.

    Args:
        dialects: What may be sent.
    """

    def __init__(self, *dialects: Dialect[ItemsT]) -> None:
        self._dialects = {dialect.message.DESCRIPTOR.full_name: dialect for dialect in dialects}
        self._paths = {name: dialect.path for name, dialect in self._dialects.items()}
        self._messages = {
            name: ArrowMessages(dialect.message, dialect.columns) for name, dialect in self._dialects.items()
        }

    def read(self, message_type: str, payloads: Sequence[bytes]) -> Requests[ItemsT]:
        """Turns the bytes of requests of one type into columns. All are refused if one is wrong.

        Args:
            message_type: Full name of the requests' message.
            payloads: The bytes of each.

        Raises:
            InvalidArgumentError: Bytes are not a message of the type (MALFORMED_REQUEST), or one has more than
                `MOST_ITEMS` items (SIZE_LIMIT_EXCEEDED).
        """
        dialect, path = self._dialects[message_type], self._paths[message_type]
        if any(has_more_messages(payload, path, MOST_ITEMS) for payload in payloads):
            raise InvalidArgumentError(
                f"The request has more than {MOST_ITEMS} items. Split it into several.", reason="SIZE_LIMIT_EXCEEDED"
            )
        try:
            request = self._messages[message_type].read(payloads)
            fields = dict(zip(request.schema.names, request.columns, strict=True))
            if dialect.items not in fields:
                names = [field.name for field in request.schema.field("batch").type]
                fields = dict(zip(names, fields["batch"].flatten(), strict=True))
            items = fields.pop(dialect.items)
            # What ptars leaves as bytes, values within values, is parsed only here.
            converted = dialect.convert(items.flatten())
        except (ValueError, DecodeError, json_format.Error) as error:
            raise malformed(message_type) from error
        plain = [column.to_pylist() for column in fields.values()]
        each = [dict(zip(fields, values, strict=True)) for values in zip(*plain, strict=True)] or [{} for _ in payloads]
        return Requests(converted, _ends(items, dialect.within), each)


def _ends(lists: pa.ListArray, within: tuple[tuple[str, ...], ...]) -> Ends:
    """Where the innermost items of each list end, on the last level that has one field."""
    ends: Ends = np.cumsum(pc.list_value_length(lists).fill_null(0).to_numpy(), dtype=np.int64)
    for names in within:
        if len(names) > 1:
            break
        lists = pc.struct_field(lists.flatten(), names[0])
        # What is null has none.
        before = np.concatenate(([0], np.cumsum(pc.list_value_length(lists).fill_null(0).to_numpy(), dtype=np.int64)))
        ends = before[ends]
    return ends


def malformed(message_type: str) -> InvalidArgumentError:
    """What is answered to bytes that are not the message they should be."""
    return InvalidArgumentError(f"The request is not a valid {message_type} message.", reason="MALFORMED_REQUEST")
