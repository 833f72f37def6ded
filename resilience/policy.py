"""What every policy is, and how several become one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol, TypeVar

T = TypeVar("T")


class Policy(Protocol):
    """Decides whether, when and how often an operation runs.

    A policy is made once and shared by all calls that it is for; it is safe to use from several threads, and from one
    event loop at a time.
    """

    async def run(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Runs an asynchronous operation.

        Args:
            operation: Begins one attempt; may be called several times.

        Raises:
            ResilienceError: The policy refused the call or ended it.
            Exception: What the operation raised.
        """

    def run_sync(self, operation: Callable[[], T]) -> T:
        """Runs a blocking operation, as `run` does an asynchronous one."""


class Chain:
    """Several policies as one, the outermost first: `Chain(deadline, retry, breaker, bulkhead)`.

    Args:
        policies: In the order in which a call meets them.
    """

    def __init__(self, *policies: Policy) -> None:
        self.policies = policies

    async def run(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Runs an asynchronous operation under all policies."""
        for policy in reversed(self.policies):
            operation = partial(policy.run, operation)
        return await operation()

    def run_sync(self, operation: Callable[[], T]) -> T:
        """Runs a blocking operation under all policies."""
        for policy in reversed(self.policies):
            operation = partial(policy.run_sync, operation)
        return operation()
