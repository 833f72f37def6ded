"""What every `ingest.py` does with a decoded batch: check it, make it durable, answer. The checks are the signal's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from services.shared.bus.intake import Intake, Origin, Receipt
from services.shared.errors import FieldViolation, InvalidArgumentError

ColumnsT = TypeVar("ColumnsT")


class Items(Protocol):
    """Decoded items of any dialect."""

    @property
    def count(self) -> int:
        """How many there are."""
        ...

    @property
    def dialect_field(self) -> str:
        """How a violation names item i: "metrics" gives `metrics[i]`."""
        ...


ItemsT = TypeVar("ItemsT", bound=Items)
ItemsT_contra = TypeVar("ItemsT_contra", bound=Items, contravariant=True)


@dataclass(frozen=True, slots=True)
class Checked(Generic[ColumnsT]):
    """A checked batch: what is accepted, and for each refused index why."""

    columns: ColumnsT
    rejected: dict[int, FieldViolation]


class Checker(Protocol[ItemsT_contra, ColumnsT]):
    """A signal's rules."""

    def check(self, items: ItemsT_contra, tenant: str, now_ns: int, /) -> Checked[ColumnsT]:
        """Splits items into accepted columns and refused indices."""
        ...


class Ingest(Generic[ItemsT, ColumnsT]):
    """Checks and acknowledges batches.

    Args:
        checker: Gives the columns.
        intake: Makes them durable.
    """

    def __init__(self, checker: Checker[ItemsT, ColumnsT], intake: Intake[ColumnsT]) -> None:
        self._checker = checker
        self.intake = intake

    async def ingest(self, items: ItemsT, payload: bytes, origin: Origin) -> Receipt:
        """Makes the valid items of a batch durable, once.

        Args:
            items: The decoded payload.
            payload: Its bytes.
            origin: Where it comes from.

        Raises:
            InvalidArgumentError: The batch is too large, or its request id too long.
            ResourceExhaustedError: The backlog or the disk is full.
            UnavailableError: It is not known whether the batch was taken.
        """
        now = self.intake.clock()
        checked = self._checker.check(items, origin.tenant, now)
        return await self.intake.take(origin, now, payload, checked.columns, items.count, checked.rejected)


def limit_items(items: Items, most: int, noun: str) -> None:
    """Refuses a batch as a whole that is too large to look at.

    Raises:
        InvalidArgumentError: It has more items than a request may have (SIZE_LIMIT_EXCEEDED).
    """
    if items.count > most:
        raise InvalidArgumentError(
            f"The request has {items.count} {noun}; at most {most} are allowed. Split it into several.",
            reason="SIZE_LIMIT_EXCEEDED",
            violations=(FieldViolation(items.dialect_field, f"at most {most} items", "SIZE_LIMIT_EXCEEDED"),),
        )
