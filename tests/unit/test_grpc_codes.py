"""What the end of a gRPC call says: of the callee's health, of whether to try again, and of why it was refused."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import grpc
import pytest
from fakes import trial_contract
from fakes.clock import FakeClock
from google.rpc import error_details_pb2, status_pb2

from resilience import deadline
from resilience.contract import MethodPolicy, RetryRule, method_policy
from resilience.errors import (
    BulkheadFullError,
    CircuitOpenError,
    DeadlineExceededError,
    OverloadedError,
    RateLimitedError,
    ResilienceError,
)
from resilience.grpc.codes import RefusedCallError, classify, classify_code, code_of, retryable
from resilience.grpc.status import (
    RETRY_TRAILER,
    STATUS_TRAILER,
    make_status,
    refusal,
    retry_after,
    retry_info,
    trailers,
)
from resilience.outcome import Outcome

CALLEE_FAILED = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN", "DATA_LOSS"}
NOTHING = {"CANCELLED", "RESOURCE_EXHAUSTED"}
CODES = sorted(grpc.StatusCode, key=lambda code: code.value[0])


def failed(code: grpc.StatusCode, *trailing: tuple[str, str | bytes]) -> grpc.aio.AioRpcError:
    """A call that ended so."""
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), details="told")


def told_to_wait(code: grpc.StatusCode, seconds: float) -> grpc.aio.AioRpcError:
    """A call that ended with RetryInfo."""
    return failed(code, *trailers(make_status(code.name, "told", [retry_info(seconds)])))


def trial(method: str) -> MethodPolicy:
    return method_policy(trial_contract.load().methods_by_name[method])


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
def test_each_code_says_that_the_callee_failed_or_works_or_nothing(code: grpc.StatusCode) -> None:
    expected = Outcome.SUCCESS
    if code.name in CALLEE_FAILED:
        expected = Outcome.FAILURE
    elif code.name in NOTHING:
        expected = Outcome.IGNORED
    assert classify_code(code) is expected
    assert classify(failed(code)) is expected


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (asyncio.CancelledError(), Outcome.IGNORED),
        (CircuitOpenError("refused"), Outcome.IGNORED),
        (DeadlineExceededError("before the callee was asked"), Outcome.IGNORED),
        (KeyboardInterrupt(), Outcome.IGNORED),
        (ValueError("of the caller's serializer, or of gRPC"), Outcome.FAILURE),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else value.name,
)
def test_what_is_no_status_is_classified_too(error: BaseException, outcome: Outcome) -> None:
    assert classify(error) is outcome
    assert code_of(error) is None


def test_the_code_of_a_call_is_found_and_an_rpc_error_without_one_has_none() -> None:
    assert code_of(failed(grpc.StatusCode.NOT_FOUND)) is grpc.StatusCode.NOT_FOUND
    assert code_of(grpc.RpcError()) is None
    assert classify(grpc.RpcError()) is Outcome.FAILURE


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
def test_only_what_the_contract_names_is_repeated(code: grpc.StatusCode) -> None:
    assert retryable(trial("Get"))(failed(code)) is (code.name == "UNAVAILABLE")


def test_nothing_but_a_failed_call_is_repeated() -> None:
    repeatable = retryable(trial("Put"))
    assert not repeatable(CircuitOpenError("refused", retry_after=0.1))
    assert not repeatable(asyncio.CancelledError())
    assert not repeatable(grpc.RpcError())


def test_shed_load_is_repeated_only_if_the_callee_says_when() -> None:
    repeatable = retryable(trial("Put"))
    assert not repeatable(failed(grpc.StatusCode.RESOURCE_EXHAUSTED))
    assert repeatable(told_to_wait(grpc.StatusCode.RESOURCE_EXHAUSTED, 0.5))
    assert not retryable(trial("Get"))(told_to_wait(grpc.StatusCode.RESOURCE_EXHAUSTED, 0.5)), "it is not named"


def test_an_attempt_that_was_too_long_is_repeated_while_the_call_has_time() -> None:
    too_long = failed(grpc.StatusCode.DEADLINE_EXCEEDED)
    repeatable = retryable(trial("Try"))
    clock = FakeClock()
    assert repeatable(too_long), "without a deadline there is time"
    with deadline.within(1.0, clock):
        assert repeatable(too_long)
        clock.advance(1.0)
        assert not repeatable(too_long)
    assert not retryable(trial("Get"))(too_long), "its attempts have no limit of their own, so the call's was spent"


def test_a_hedged_call_goes_on_after_unavailable_only() -> None:
    repeatable = retryable(trial("Hedge"))
    assert [code.name for code in CODES if repeatable(failed(code))] == ["UNAVAILABLE"]


def test_a_rule_that_names_deadline_exceeded_repeats_it() -> None:
    rule = RetryRule(3, 0.1, 1.0, 2.0, frozenset({"DEADLINE_EXCEEDED"}), None)
    assert retryable(replace(trial("Get"), retry=rule))(failed(grpc.StatusCode.DEADLINE_EXCEEDED))


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (DeadlineExceededError("late"), grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
        (CircuitOpenError("open"), grpc.StatusCode.UNAVAILABLE, "CIRCUIT_OPEN"),
        (BulkheadFullError("full"), grpc.StatusCode.RESOURCE_EXHAUSTED, "BULKHEAD_FULL"),
        (RateLimitedError("often"), grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED"),
        (OverloadedError("much"), grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED"),
        (ResilienceError("else"), grpc.StatusCode.UNAVAILABLE, "REFUSED"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_a_refusal_is_to_its_caller_as_any_failed_call(
    error: ResilienceError, code: grpc.StatusCode, reason: str
) -> None:
    refused = RefusedCallError(error, "metrics.airis")
    assert isinstance(refused, grpc.RpcError)
    assert (refused.code(), refused.details(), refused.reason) == (code, error.message, reason)
    status = status_pb2.Status.FromString(dict(refused.trailing_metadata())[STATUS_TRAILER])
    assert status.code == code.value[0]
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain) == (reason, "metrics.airis")


def test_a_refusal_says_when_to_come_again_in_both_places_that_are_read() -> None:
    refused = RefusedCallError(RateLimitedError("often", retry_after=1.25), "metrics.airis")
    assert refused.retry_after == 1.25
    assert retry_after(refused) == 1.25
    info = error_details_pb2.RetryInfo.FromString(dict(refused.trailing_metadata())[RETRY_TRAILER])
    assert info.retry_delay.ToTimedelta().total_seconds() == 1.25
    assert RETRY_TRAILER not in dict(trailers(refusal(RateLimitedError("often"), "metrics.airis")))


def test_when_to_come_again_is_read_from_refusals_and_statuses_and_nothing_is_made_up() -> None:
    unavailable = grpc.StatusCode.UNAVAILABLE
    assert retry_after(OverloadedError("much", retry_after=2.0)) == 2.0
    assert retry_after(told_to_wait(unavailable, 0.5)) == 0.5
    assert retry_after(told_to_wait(unavailable, -1.0)) == 0.0
    assert retry_after(failed(unavailable)) is None
    assert retry_after(failed(unavailable, *trailers(make_status("UNAVAILABLE", "told")))) is None
    assert retry_after(failed(unavailable, (STATUS_TRAILER, b"\xff no status"))) is None
    assert retry_after(ValueError()) is None
