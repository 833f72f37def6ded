"""Searches that go on: page after page of one point in time, within one deadline."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from services.logs.store.adapters.elasticsearch_client import Elasticsearch, answered_in_full
from services.shared.errors import AirisError

Body = dict[str, Any]

PAGE = 1000
_CLOSE_SECONDS = 2.0


class Pages:
    """Asks for pages.

    Args:
        elasticsearch: An open connection.
    """

    def __init__(self, elasticsearch: Elasticsearch) -> None:
        self._elasticsearch = elasticsearch

    async def documents(
        self, indices: str, body: Body, limit: int, timeout: float, take: Callable[[dict[str, Any]], None]
    ) -> None:
        """Hands on the sources of the first documents in the order of the body's `sort`.

        Args:
            indices: Their names.
            body: The search, without its size.
            limit: How many at most.
            timeout: Seconds.
            take: Gets each.
        """
        left = limit

        def proceed(answer: Any) -> bool:
            nonlocal left
            hits = answer["hits"]["hits"]
            for hit in hits:
                take(hit["_source"])
            left -= len(hits)
            if len(hits) < PAGE or left <= 0:
                return False
            body.update(search_after=hits[-1]["sort"], size=min(left, PAGE))
            return True

        body |= {"size": min(limit, PAGE), "track_total_hits": False}
        await self.each(indices, body, timeout, proceed, is_long=limit > PAGE)

    async def each(
        self, indices: str, body: Body, timeout: float, proceed: Callable[[Any], bool], *, is_long: bool
    ) -> None:
        """Asks for a page, and for the next as long as `proceed` changes the body for it and returns true.

        Args:
            indices: Their names; those that do not exist are passed over.
            body: The search.
            timeout: Seconds for all.
            proceed: Gets each answer.
            is_long: Whether there may be more than one page: then all are of one point in time.

        Raises:
            DeadlineExceededError: It took longer.
            UnavailableError: A part of the store does not answer.
        """
        ends_at = time.monotonic() + timeout
        if not is_long:
            proceed(await self._page(body, ends_at, index=indices, ignore_unavailable=True))
            return
        opened = await self._elasticsearch.call(
            lambda client: client.open_point_in_time(
                index=indices, keep_alive=f"{timeout + 5:.0f}s", ignore_unavailable=True
            ),
            timeout,
        )
        point = opened["id"]
        try:
            while True:
                answer = await self._page(body | {"pit": {"id": point}}, ends_at)
                point = answer.get("pit_id", point)
                if not proceed(answer):
                    return
        finally:
            # It ends by itself, only later.
            with contextlib.suppress(AirisError):
                await self._elasticsearch.call(lambda client: client.close_point_in_time(id=point), _CLOSE_SECONDS)

    async def _page(self, body: Body, ends_at: float, **where: Any) -> Any:
        left = ends_at - time.monotonic()
        limited = body | {"timeout": f"{max(int(left * 1000), 1)}ms"}
        answer = await self._elasticsearch.call(
            lambda client: client.search(body=limited, allow_partial_search_results=False, **where), left
        )
        return answered_in_full(answer)
