"""Webhooks: a POST of the JSON of `services.alerts.message`.

Headers: `Idempotency-Key`, the same in every attempt; and, where the channel has a secret, `X-Airis-Timestamp`,
when this attempt began in seconds since 1970, and `X-Airis-Signature`, `sha256=` and the HMAC-SHA256 in hexadecimal
of the timestamp, a full stop and the body. A receiver computes it with the secret, compares in constant time, and
refuses old timestamps.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from services.alerts.model import WebhookTarget
from services.alerts.notify.http import HttpPoster


class WebhookSender:
    """Tells webhooks."""

    def __init__(self, poster: HttpPoster) -> None:
        self._poster = poster

    async def send(self, target: WebhookTarget, key: str, payload: Mapping[str, Any], at: datetime) -> None:
        """See `TargetSender`."""
        body = json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        if target.secret:
            timestamp = str(int(at.timestamp()))
            headers["X-Airis-Timestamp"] = timestamp
            headers["X-Airis-Signature"] = signature(target.secret, timestamp, body)
        await self._poster.post(target.url, body, headers)


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """The value of `X-Airis-Signature`."""
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return f"sha256={digest.hexdigest()}"
