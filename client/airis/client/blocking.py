"""Turns asynchronous methods into blocking ones, with their types: the loop runs in a thread of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast

from airis.client.paging import Paged

P = ParamSpec("P")
ResultT = TypeVar("ResultT")
ResponseT = TypeVar("ResponseT")
ItemT = TypeVar("ItemT")
TargetT = TypeVar("TargetT")

_JOIN_SECONDS = 5.0
_END = object()


class LoopThread:
    """An event loop in a daemon thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="airis client", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Waits for a coroutine's result; an interrupt of the waiting thread cancels it."""
        if self.is_stopped:
            coroutine.close()
            raise RuntimeError("The client is closed.")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise
        except BaseException:
            future.cancel()
            raise

    def iterate(self, items: AsyncIterator[ItemT]) -> Iterator[ItemT]:
        """The items of an asynchronous iterator; leaving the loop ends it."""
        try:
            while (item := self.run(_next(items))) is not _END:
                yield cast(ItemT, item)
        finally:
            self.run(_end(items))

    @property
    def is_stopped(self) -> bool:
        """Whether nothing runs any more."""
        return self._loop.is_closed() or not self._thread.is_alive()

    def stop(self) -> None:
        """Ends the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_JOIN_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()


class Blocking(Generic[TargetT]):
    """Something asynchronous, and the loop that it runs on.

    Args:
        target: The asynchronous object.
        loop: Where it runs.
    """

    def __init__(self, target: TargetT, loop: LoopThread) -> None:
        self.target = target
        self.loop = loop


def blocking(
    method: Callable[Concatenate[TargetT, P], Coroutine[Any, Any, ResultT]],
) -> Callable[Concatenate[Blocking[TargetT], P], ResultT]:
    """The blocking form of a method that is awaited."""

    def call(self: Blocking[TargetT], /, *args: P.args, **kwargs: P.kwargs) -> ResultT:
        return self.loop.run(method(self.target, *args, **kwargs))

    functools.update_wrapper(call, method)
    return call


def iterating(
    method: Callable[Concatenate[TargetT, P], AsyncIterator[ItemT]],
) -> Callable[Concatenate[Blocking[TargetT], P], Iterator[ItemT]]:
    """The blocking form of a method that is iterated over."""

    def call(self: Blocking[TargetT], /, *args: P.args, **kwargs: P.kwargs) -> Iterator[ItemT]:
        return self.loop.iterate(method(self.target, *args, **kwargs))

    functools.update_wrapper(call, method)
    return call


def paging(
    method: Callable[Concatenate[TargetT, P], Paged[ResponseT, ItemT]],
) -> Callable[Concatenate[Blocking[TargetT], P], SyncPaged[ResponseT, ItemT]]:
    """The blocking form of a method that gives a list in pages."""

    def call(self: Blocking[TargetT], /, *args: P.args, **kwargs: P.kwargs) -> SyncPaged[ResponseT, ItemT]:
        return SyncPaged(method(self.target, *args, **kwargs), self.loop)

    functools.update_wrapper(call, method)
    return call


class SyncPaged(Generic[ResponseT, ItemT]):
    """The items of a list, over all its pages; see `Paged`."""

    def __init__(self, paged: Paged[ResponseT, ItemT], loop: LoopThread) -> None:
        self._paged = paged
        self._loop = loop

    def __iter__(self) -> Iterator[ItemT]:
        return self._loop.iterate(aiter(self._paged))

    def pages(self) -> Iterator[ResponseT]:
        """The responses, one a page."""
        return self._loop.iterate(self._paged.pages())

    def first_page(self) -> ResponseT:
        """The first page, with its `next_page_token`."""
        return self._loop.run(self._paged.first_page())

    def collect(self, limit: int) -> list[ItemT]:
        """The first items, at most `limit`."""
        return self._loop.run(self._paged.collect(limit))


async def _next(items: AsyncIterator[Any]) -> object:
    return await anext(items, _END)


async def _end(items: AsyncIterator[Any]) -> None:
    if close := getattr(items, "aclose", None):
        await close()
