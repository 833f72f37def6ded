"""Where a session's delivery stands: what its sender, and one connection after the other, share."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import grpc
from airis.client.backoff import Backoff
from airis.client.dialect import BatchRejection, batch_rejection
from airis.client.errors import AirisError, FailedPreconditionError, failure
from airis.client.outbox import Outbox
from airis.client.waiting import Changed, Patience
from airis.common.v1 import ingest_pb2

_KEPT_REJECTIONS = 1000


class Delivery:
    """The state of a session. Used from one event loop, never waits.

    Args:
        producer_id: The sender's name.
        outbox: What is not settled.
        patience: How long nothing may move.
        backoff: Delays between connections.
        on_rejection: Is told what was refused.

    Attributes:
        changed: Tells those who wait for any of this.
        is_closing: Whether the stream ends when everything is settled.
        has_opened: Whether the server has answered once.
        resume_after: What the server had of the producer then.
        failure: Why nothing is sent any more; None: it is.
    """

    def __init__(
        self,
        producer_id: str,
        outbox: Outbox,
        patience: Patience,
        backoff: Backoff,
        on_rejection: Callable[[BatchRejection], None] | None = None,
    ) -> None:
        self.producer_id = producer_id
        self.outbox = outbox
        self.patience = patience
        self.backoff = backoff
        self.changed = Changed()
        self.is_closing = False
        self.has_opened = False
        self.resume_after = 0
        self.failure: AirisError | None = None
        self.rejections: deque[BatchRejection] = deque(maxlen=_KEPT_REJECTIONS)
        self.rejected_items = 0
        self._rejected_through = 0
        self._on_rejection = on_rejection

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.is_closing and self.outbox.is_empty

    @property
    def has_patience(self) -> bool:
        """Whether to go on although nothing moves: a session that waits for nothing may idle for ever."""
        waits = not (self.has_opened and self.outbox.is_empty)
        return not (waits and self.patience.is_spent)

    def opened(self, resume_after: int) -> None:
        """The server has said what it has.

        Raises:
            FailedPreconditionError: It has more of this producer than was sent.
        """
        if not self.has_opened:
            self.has_opened = True
            self.resume_after = resume_after
            self.outbox.begin_after(resume_after)
        elif resume_after > self.outbox.last_sequence:
            raise FailedPreconditionError(
                f"Another session uses the producer id {self.producer_id!r}: the server has its sequence "
                f"{resume_after}, and this session sent only up to {self.outbox.last_sequence}.",
                code=grpc.StatusCode.FAILED_PRECONDITION,
            )
        else:
            self.acknowledged(resume_after)
        self.outbox.send_again_from(0)

    def acknowledged(self, through: int) -> None:
        """Everything up to a sequence is settled."""
        if self.outbox.settle(through):
            self.patience.restart()
            self.backoff.reset()

    def rejected(self, rejection: ingest_pb2.StreamRejection) -> None:
        """A batch, or items of it, were refused."""
        batch = self.outbox.find(rejection.sequence)
        if batch is None or rejection.sequence <= self._rejected_through:
            # A batch that was sent again is refused again.
            return
        self._rejected_through = rejection.sequence
        status = rejection.status if rejection.HasField("status") else None
        told = batch_rejection(rejection.sequence, batch.first_item, batch.item_count, status, rejection.items)
        self.rejected_items += told.item_count
        self.rejections.append(told)
        if self._on_rejection is not None:
            self._on_rejection(told)

    def fail(self, error: AirisError) -> None:
        """Ends the delivery; the first reason counts."""
        self.failure = self.failure or error
        self.changed.tell()

    def check(self) -> None:
        """Raises what has ended the delivery: anew each time, as an exception gathers traces."""
        if (known := self.failure) is not None:
            raise failure(
                known.code, known.message, reason=known.reason, violations=known.violations, metadata=known.metadata
            ) from known
