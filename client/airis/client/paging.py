"""Lists that come in pages (AIP-158)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Generic, TypeVar

ResponseT = TypeVar("ResponseT")
ItemT = TypeVar("ItemT")


class Paged(Generic[ResponseT, ItemT]):
    """The items of a list, over all its pages: `async for item in client.metrics.list()`.

    Nothing is asked before the first item is; each iteration starts anew.

    Args:
        fetch: Gives the page that a token names.
        field: The response's field with the items.
        page_token: Where to begin; empty: at the start.
    """

    def __init__(self, fetch: Callable[[str], Awaitable[ResponseT]], field: str, page_token: str = "") -> None:
        self._fetch = fetch
        self._field = field
        self._page_token = page_token

    async def pages(self) -> AsyncIterator[ResponseT]:
        """The responses, one a page. Raises `AirisError` if a call fails."""
        token = self._page_token
        while True:
            page: Any = await self._fetch(token)
            yield page
            token = page.next_page_token
            if not token:
                return

    async def __aiter__(self) -> AsyncIterator[ItemT]:
        async for page in self.pages():
            for item in getattr(page, self._field):
                yield item

    async def first_page(self) -> ResponseT:
        """The first page, with its `next_page_token`."""
        return await self._fetch(self._page_token)

    async def collect(self, limit: int) -> list[ItemT]:
        """The first items, at most `limit`."""
        items: list[ItemT] = []
        async for item in self:
            items.append(item)
            if len(items) >= limit:
                break
        return items[:limit]
