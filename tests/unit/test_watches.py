"""Streams that a stop ends, whatever they are doing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest

from services.shared.errors import UnavailableError
from services.shared.rpc.watching import Limits, Watches, tell_begun, ticks


class _Sending:
    """A call whose beginning is sent when the test says so."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.is_sent = False

    async def send_initial_metadata(self, _: object) -> None:
        self.begun.set()
        await self.may_end.wait()
        self.is_sent = True


async def _follow(request: Any, context: Any) -> AsyncGenerator[int, None]:
    if context is not None:
        await tell_begun(context)
    yield 1
    await asyncio.Event().wait()


async def _all(answers: AsyncIterator[int]) -> list[int]:
    return [answer async for answer in answers]


async def test_a_stream_that_waits_for_its_next_answer_ends_with_unavailable() -> None:
    watches = Watches()
    answers = watches.endable(_follow)(None, None)
    assert await anext(answers) == 1
    waiting = asyncio.ensure_future(_all(answers))
    await asyncio.sleep(0)
    watches.end()
    with pytest.raises(UnavailableError, match="stopping"):
        await waiting


async def test_a_stream_whose_answer_is_being_sent_is_not_cancelled_and_ends_after_it() -> None:
    watches, sent = Watches(), asyncio.Event()
    answers = watches.endable(_follow)(None, None)

    async def send() -> str:
        await anext(answers)
        # As gRPC does: within the same task.
        await sent.wait()
        with pytest.raises(UnavailableError, match="stopping"):
            await anext(answers)
        return "sent"

    sending = asyncio.ensure_future(send())
    await asyncio.sleep(0)
    watches.end()
    await asyncio.sleep(0)
    sent.set()
    assert await sending == "sent"


async def test_a_stream_whose_beginning_is_being_sent_ends_once_it_is() -> None:
    watches, call = Watches(), _Sending()
    ending = asyncio.ensure_future(_all(watches.endable(_follow)(None, call)))
    await call.begun.wait()
    watches.end()
    await asyncio.sleep(0)
    assert not ending.done()
    call.may_end.set()
    with pytest.raises(UnavailableError, match="stopping"):
        await ending
    assert call.is_sent


async def test_a_stream_that_begins_while_the_server_stops_is_told_so() -> None:
    watches = Watches()
    watches.end()
    with pytest.raises(UnavailableError, match="stopping"):
        await _all(watches.endable(_follow)(None, None))


async def test_a_caller_who_leaves_is_told_nothing() -> None:
    answers = Watches().endable(_follow)(None, None)
    await anext(answers)
    waiting = asyncio.ensure_future(_all(answers))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


class _Broken(_Sending):
    """A call whose caller has left before its beginning is sent."""

    async def send_initial_metadata(self, _: object) -> None:
        await super().send_initial_metadata(_)
        raise RuntimeError("the connection is gone")


async def test_a_caller_who_leaves_at_the_beginning_is_no_error_however_often_the_call_is_cancelled() -> None:
    call = _Broken()
    beginning = asyncio.ensure_future(tell_begun(call))
    await call.begun.wait()
    for _ in range(3):
        beginning.cancel()
        await asyncio.sleep(0)
    assert not call.is_sent
    call.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await beginning
    assert call.is_sent


async def test_what_came_while_the_reader_was_busy_is_left_out() -> None:
    now = [0.0]
    seen = []
    async for number in ticks(1.0, Limits(None, 20.0), lambda: now[0]):
        seen.append(number)
        # The first was read at once, the second took long.
        now[0] = 1.0 if number == 0 else 19.5
    assert seen == [0, 1]
