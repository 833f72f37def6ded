"""Slack: a POST of text to an incoming webhook."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from services.alerts.model import SlackTarget
from services.alerts.notify.http import HttpPoster
from services.alerts.notify.text import body


class SlackSender:
    """Tells Slack."""

    def __init__(self, poster: HttpPoster) -> None:
        self._poster = poster

    async def send(self, target: SlackTarget, key: str, payload: Mapping[str, Any], at: datetime) -> None:
        """See `TargetSender`. Slack knows no idempotency key: an attempt whose answer is lost may show twice."""
        content = json.dumps({"text": _escaped(body(payload))}, ensure_ascii=False).encode()
        await self._poster.post(target.url, content, {"Content-Type": "application/json"})


def _escaped(text: str) -> str:
    """Labels must not become Slack's links and mentions."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
