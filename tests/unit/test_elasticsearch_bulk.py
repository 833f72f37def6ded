"""Bulk requests whose items are answered with what a server says of errors in its own code."""

from __future__ import annotations

from typing import Any

import pytest

from services.logs.config import ElasticsearchConfig
from services.logs.store.adapters.elasticsearch_bulk import Bulk
from services.logs.store.adapters.elasticsearch_client import Call, Elasticsearch
from services.shared.errors import UnavailableError

ITEM = b'{"create":{}}\n{"message":"m"}\n'


class Answers(Elasticsearch):
    """Gives one answer after the other, the last again and again."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        super().__init__(ElasticsearchConfig())
        self.answers = list(answers)

    async def call(self, call: Call, seconds: float) -> Any:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def failed(**error: Any) -> dict[str, Any]:
    return {"errors": True, "items": [{"create": {"status": 500, "error": error}}]}


async def no_sleep(seconds: float) -> None:
    pass


@pytest.mark.parametrize("error", [{"type": "null_pointer_exception", "reason": None}, {"type": None}, {}])
async def test_an_error_without_a_reason_is_waited_for(error: dict[str, Any]) -> None:
    await Bulk(Answers(failed(**error), {"errors": False}), sleep=no_sleep).write([ITEM])
    with pytest.raises(UnavailableError):
        await Bulk(Answers(failed(**error)), sleep=no_sleep).write([ITEM])
