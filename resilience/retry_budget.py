"""A limit on repeats that callers share, so that an outage is not made worse by those who try again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

# Whole parts of a token, so that ten deposits of 0.1 are one token and no rounding adds up.
_PARTS = 1_000_000


@dataclass(frozen=True, slots=True)
class RetryBudgetSnapshot:
    """What a budget holds.

    Attributes:
        tokens: Repeats that it would allow now.
        reserve: The most that it holds, in tokens.
        deposits: First attempts so far.
        withdrawals: Repeats that it allowed.
        refusals: Repeats that it did not allow.
    """

    tokens: float
    reserve: float
    deposits: int
    withdrawals: int
    refusals: int


class RetryBudget:
    """A bucket of tokens: each first attempt puts a part of one in, each repeat takes one out.

    While calls come, repeats never exceed `reserve + ratio * first attempts`, whatever stretch of time is looked at:
    a full outage raises the load to 1.1 times what is offered, and no more for long. The bucket holds no more than
    the reserve, so that a long calm does not save up a storm. A caller that was silent for `rest` seconds begins with
    the whole reserve again: it calls so seldom that its repeats burden nobody, and 0.1 a call would leave it without
    any for hours.

    Compared with the others: Finagle's `RetryBudget` deposits 0.2 a call, keeps deposits for 10 s and allows 10
    repeats a second beside them, so that its storm is 1.2 times the load, and more while it spends what was saved.
    gRPC's throttling (A6) takes a token for each failure and puts `tokenRatio` in for each success, and stops repeats
    when half are left; in an outage it ends them altogether after `maxTokens` / 2 failures. Here the limit is
    relative, as Finagle's, and what is saved is bounded, as gRPC's.

    Thread-safe; made once for an endpoint and shared by all calls to it.

    Args:
        ratio: Repeats allowed for each first attempt, 0 or more; kept to a millionth.
        reserve: Repeats allowed at once beside them, 0 or more. The bucket is full with it, or with 1 if that is less.
        clock: Gives monotonic seconds.
        rest: Seconds without a first attempt after which the reserve is whole again.

    Raises:
        ValueError: A number is negative.
    """

    def __init__(
        self,
        ratio: float = 0.1,
        reserve: float = 10,
        clock: Callable[[], float] = time.monotonic,
        *,
        rest: float = 60.0,
    ) -> None:
        if not (ratio >= 0 and reserve >= 0 and rest >= 0):
            raise ValueError(f"ratio, reserve and rest must be 0 or more, not {ratio}, {reserve} and {rest}.")
        self._deposit = round(ratio * _PARTS)
        self._reserve = round(reserve * _PARTS)
        self._capacity = max(self._reserve, _PARTS)
        self._clock = clock
        self._rest = rest
        self._lock = threading.Lock()
        self._parts = self._reserve
        self._last_deposit = clock()
        self._deposits = 0
        self._withdrawals = 0
        self._refusals = 0

    def deposit(self) -> None:
        """Counts a first attempt."""
        now = self._clock()
        with self._lock:
            self._deposits += 1
            parts = self._parts
            if now - self._last_deposit >= self._rest and parts < self._reserve:
                parts = self._reserve
            parts += self._deposit
            self._parts = parts if parts < self._capacity else self._capacity
            self._last_deposit = now

    def withdraw(self) -> bool:
        """Asks for a repeat. False: there are no tokens left, and the call must end with the error that it has."""
        with self._lock:
            if self._parts < _PARTS:
                self._refusals += 1
                return False
            self._parts -= _PARTS
            self._withdrawals += 1
            return True

    def snapshot(self) -> RetryBudgetSnapshot:
        """What the budget holds now."""
        with self._lock:
            return RetryBudgetSnapshot(
                tokens=self._parts / _PARTS,
                reserve=self._capacity / _PARTS,
                deposits=self._deposits,
                withdrawals=self._withdrawals,
                refusals=self._refusals,
            )
