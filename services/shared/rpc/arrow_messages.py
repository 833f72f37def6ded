"""Messages of one type as columns, from their bytes."""

from __future__ import annotations

from collections.abc import Sequence

import ptars
import pyarrow as pa
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

# ptars makes room for a thousand items in every column, some 170 KB, which a batch keeps as long as it waits for the
# store. In larger ones that is little beside what they hold.
_SMALL_BYTES = 64 * 1024


class ArrowMessages:
    """Reads messages.

    Args:
        message: Their class.
        columns: A variant of its descriptor with the columns that are wanted (see `opaque`); None: all.
    """

    def __init__(self, message: type[Message], columns: Descriptor | None = None) -> None:
        self._message = message
        chosen = columns or message.DESCRIPTOR
        self._handler = ptars.HandlerPool([chosen.file]).get_for_message(chosen)

    def read(self, payloads: Sequence[bytes]) -> pa.RecordBatch:
        """One row a message.

        Raises:
            ValueError: The bytes are not a message of the type.
            DecodeError: Likewise.
        """
        try:
            return self._to_arrow(payloads)
        except ValueError:
            # ptars stumbles over some bytes that are allowed, such as a map's entry without its value. What
            # protobuf's own parser takes and writes anew it reads.
            return self._to_arrow([self._message.FromString(each).SerializeToString() for each in payloads])

    def _to_arrow(self, payloads: Sequence[bytes]) -> pa.RecordBatch:
        try:
            batch = self._handler.list_to_record_batch(list(payloads))
        except BaseException as error:
            # A panic in Rust is no Exception: nothing else would answer the call.
            if type(error).__module__ != "pyo3_runtime":
                raise
            raise ValueError(str(error)) from error
        return _without_spare_room(batch) if sum(map(len, payloads)) < _SMALL_BYTES else batch


def _without_spare_room(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same in one buffer that has no more than it needs."""
    return pa.ipc.read_record_batch(batch.serialize(), batch.schema)
