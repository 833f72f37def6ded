"""What an attempt's end says of the callee."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import TypeAlias

from resilience.errors import ResilienceError


class Outcome(Enum):
    """What an attempt's end says of the callee."""

    SUCCESS = "success"
    FAILURE = "failure"
    IGNORED = "ignored"
    """Nothing: the caller was wrong, or gave up, or a policy refused before the callee was asked."""


Classify: TypeAlias = Callable[[BaseException], Outcome]
"""Tells what an exception says of the callee."""


def classify(error: BaseException) -> Outcome:
    """What an exception says of the callee, where nothing more is known of it.

    Cancellation, exits and refusals of our own policies say nothing; every other exception is a failure.
    """
    if isinstance(error, TimeoutError):
        return Outcome.FAILURE
    if isinstance(error, (ResilienceError, asyncio.CancelledError)) or not isinstance(error, Exception):
        return Outcome.IGNORED
    return Outcome.FAILURE
