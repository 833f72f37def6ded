"""A status is never so long that the client sees another error in its place."""

from __future__ import annotations

import pytest
from google.rpc import error_details_pb2

from services.shared.errors import FieldViolation, InvalidArgumentError
from services.shared.rpc.errors import to_status

LONG = ("a" * 70_000, "%\n" * 20_000, "배송" * 9_000)


@pytest.mark.parametrize("text", LONG)
def test_an_error_that_quotes_a_long_request_still_fits_into_trailers(text: str) -> None:
    violations = tuple(FieldViolation(f"conditions[{at}].{text}", text) for at in range(100))
    status = to_status(InvalidArgumentError(f"no such thing: {text}", violations=violations), "metrics.airis")
    assert status.ByteSize() < 4500
    assert status.message.startswith("no such thing: ")
    request = error_details_pb2.BadRequest()
    assert status.details[1].Unpack(request)
    assert request.field_violations[0].field.startswith("conditions[0].")


def test_half_of_a_surrogate_pair_that_is_quoted_is_told_as_a_question_mark() -> None:
    violation = FieldViolation("a\ud800", "b\udfff")
    status = to_status(InvalidArgumentError("no \ud800", violations=(violation,)), "logs.airis")
    assert status.message == "no ?"
    assert b"a?" in status.SerializeToString()


def test_an_error_of_usual_length_is_told_whole() -> None:
    violations = tuple(FieldViolation(f"metrics[{at}].value", "must be a finite number") for at in range(20))
    status = to_status(InvalidArgumentError("배송 " * 20, violations=violations), "metrics.airis")
    request = error_details_pb2.BadRequest()
    assert status.details[1].Unpack(request)
    assert status.message == "배송 " * 20
    assert len(request.field_violations) == 20
