"""What an error of ClickHouse means for a caller."""

from __future__ import annotations

import structlog
from clickhouse_connect.driver.exceptions import ClickHouseError

from services.shared.errors import AirisError, DeadlineExceededError, ResourceExhaustedError, UnavailableError

logger = structlog.get_logger(__name__)

_TIMEOUT_CODES = {159, 160}
_TOO_LARGE_CODES = {158, 191, 307, 396}
_MEMORY_CODES = {241}
_DISK_FULL_CODES = {243}
# Network, aborted, overloaded and read-only states, replicas and keepers that are away: what passes by itself.
_PASSING_CODES = {202, 209, 210, 236, 242, 252, 279, 285, 319, 394, 425, 473, 517, 745, 999, 1000, 1001}
_NOT_ENOUGH_SPACE = "No space left on device"
# Of a change to a table that depends on an earlier one; the code is that of any wrong statement.
_UNFINISHED_CHANGE = "which is not finished yet"


def late() -> DeadlineExceededError:
    """A query took too long."""
    return DeadlineExceededError("The query took longer than its deadline. Ask for a shorter range.")


def unavailable() -> UnavailableError:
    """ClickHouse cannot be reached, or does not answer."""
    return UnavailableError(
        "The store does not answer. Try again shortly.", reason="STORE_UNAVAILABLE", retry_after=1.0
    )


def translate(error: ClickHouseError) -> AirisError:
    """The error that a caller is told; what he must not read is logged."""
    code = getattr(error, "code", None)
    if code in _TIMEOUT_CODES:
        return late()
    if code in _TOO_LARGE_CODES:
        return ResourceExhaustedError(
            "The result is too large. Ask for a shorter range, a longer step or fewer groups.",
            reason="RESULT_TOO_LARGE",
        )
    if code in _DISK_FULL_CODES or _NOT_ENOUGH_SPACE in str(error):
        return ResourceExhaustedError("The disk of the store is full.", reason="DISK_FULL", retry_after=30.0)
    if code in _MEMORY_CODES:
        return ResourceExhaustedError(
            "The query needs more memory than is allowed. Ask for a shorter range or fewer groups.",
            reason="RESULT_TOO_LARGE",
        )
    if _UNFINISHED_CHANGE in str(error):
        logger.info("clickhouse_changes_a_table", error=str(error)[:2000])
        return UnavailableError("The store is still changing a table.", reason="STORE_UNAVAILABLE", retry_after=5.0)
    # What ClickHouse says may hold parts of the data: it belongs into the log, not into the answer.
    logger.error("clickhouse_error", code=code, error=str(error)[:2000])
    if code is None or code in _PASSING_CODES:
        return UnavailableError(
            "The store failed to answer. Try again shortly.", reason="STORE_UNAVAILABLE", retry_after=1.0
        )
    return AirisError("The store refused the statement; the service's log says why.")
