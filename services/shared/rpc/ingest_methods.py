"""The ingest methods of a servicer, the same for every signal: three dialects onto its one `ingest`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from airis.common.v1 import ingest_pb2

from services.shared.bus.ingest import Ingest
from services.shared.bus.intake import Origin, Receipt, summarize
from services.shared.errors import FailedPreconditionError, FieldViolation, InvalidArgumentError
from services.shared.rpc.context import Context, tenant
from services.shared.rpc.ingest_stream import StreamDialect, rejections, serve_stream

ResponseT = TypeVar("ResponseT")


@dataclass(frozen=True, slots=True)
class IngestContract(Generic[ResponseT]):
    """What differs between the signals.

    Attributes:
        domain: The ErrorInfo domain: "metrics.airis".
        unary: Request and response class of the unary method.
        stream: Those of the stream.
        otlp: Those of OTLP's `Export`.
        refused: The field of OTLP's `partial_success` that counts refused items.
    """

    domain: str
    unary: tuple[Any, Callable[..., ResponseT]]
    stream: tuple[Any, Any]
    otlp: tuple[Any, Any]
    refused: str


class IngestMethods(Generic[ResponseT]):
    """Answers a signal's ingest methods, which get wire bytes.

    Args:
        ingest: Takes the items.

    Attributes:
        contract: The messages.
    """

    def __init__(self, contract: IngestContract[ResponseT], ingest: Ingest[Any, Any]) -> None:
        self.contract = contract
        self._ingest = ingest
        # By tenant and producer, the stream that was opened last.
        self._newest: dict[tuple[str, str], object] = {}

    async def unary(self, payload: bytes) -> ResponseT:
        """Answers the unary method."""
        request, response = self.contract.unary
        message_type = request.DESCRIPTOR.full_name
        owner = tenant()
        checked = await self._ingest.check(message_type, owner, payload)
        origin = Origin(
            owner,
            message_type,
            request_id=checked.fields["request_id"],
            wait_queryable=checked.fields["wait_for"] == ingest_pb2.Acknowledgement.QUERYABLE,
        )
        receipt = await self._ingest.take(origin, payload, checked)
        if receipt.accepted_count == 0 and not receipt.rejected:
            # Over REST a misspelt field passes Envoy unseen: an empty batch that succeeds would hide it.
            field = request.DESCRIPTOR.fields_by_number[1].name
            raise InvalidArgumentError(
                f"{field} is empty or missing.", violations=(FieldViolation(field, "must have at least one item"),)
            )
        return response(
            accepted_count=receipt.accepted_count,
            rejections=rejections(receipt, self.contract.domain),
            position=receipt.position,
        )

    def stream(self, requests: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        """Answers the stream. An earlier one of its producer is over, whether or not its sender has gone."""
        request, response = self.contract.stream
        message_type, owner, intake = request.DESCRIPTOR.full_name, tenant(), self._ingest.intake
        this = object()

        def is_newest(producer_id: str) -> bool:
            return self._newest.get((owner, producer_id)) is this

        def ended(producer_id: str) -> None:
            if is_newest(producer_id):
                del self._newest[owner, producer_id]

        async def resume_after(producer_id: str, known: int | None) -> int:
            self._newest[owner, producer_id] = this
            try:
                return await intake.resume_after(owner, producer_id, known)
            except BaseException:
                ended(producer_id)
                raise

        def origin(producer_id: str, sequence: int) -> Origin:
            return Origin(owner, message_type, producer_id=producer_id, sequence=sequence)

        def settle(producer_id: str, sequence: int) -> None:
            if is_newest(producer_id):
                # Else its number may be that of other data by now.
                intake.settle(origin(producer_id, sequence))

        async def ingest(payload: bytes, producer_id: str, sequence: int) -> Receipt:
            try:
                checked = await self._ingest.check(message_type, owner, payload)
            except InvalidArgumentError:
                # Refused for good: those behind it go on.
                raise
            except Exception:
                if is_newest(producer_id):
                    intake.refuse_behind(origin(producer_id, sequence))
                raise
            if not is_newest(producer_id):
                # Its numbers may be those of other data by now.
                raise FailedPreconditionError(
                    f"Another stream of the producer {producer_id} was opened since: this one is over. "
                    "Give each sender an id of its own."
                )
            return await self._ingest.take(origin(producer_id, sequence), payload, checked)

        return serve_stream(
            requests,
            StreamDialect(
                self.contract.domain,
                request,
                response,
                ingest,
                settle=settle,
                resume_after=resume_after,
                ended=ended,
            ),
        )

    def check_room(self, size: int) -> None:
        """Raises what the methods would for a request of so many bytes, before it is parsed."""
        self._ingest.intake.check_room(size)

    async def export(self, payload: bytes, owner: str) -> Any:
        """Answers OTLP's `Export`, over gRPC and HTTP: with a partial success when items were refused."""
        request, response = self.contract.otlp
        message_type = request.DESCRIPTOR.full_name
        checked = await self._ingest.check(message_type, owner, payload)
        receipt = await self._ingest.take(Origin(owner, message_type), payload, checked)
        answer = response()
        if receipt.rejected:
            setattr(answer.partial_success, self.contract.refused, len(receipt.rejected))
            answer.partial_success.error_message = summarize(receipt.rejected.values())
        return answer


class OtlpServicer:
    """Answers a signal's OTLP service.

    Args:
        methods: The signal's ingest methods.
    """

    def __init__(self, methods: IngestMethods[Any]) -> None:
        self._methods = methods

    async def Export(self, payload: bytes, context: Context) -> Any:  # noqa: N802 (the name of the contract)
        """Takes a request's wire bytes."""
        return await self._methods.export(payload, tenant())
