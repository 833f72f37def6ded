"""What a channel is told, as JSON. Its shape is a promise to receivers:

{
  "version": "1",
  "idempotencyKey": "<the same in every attempt to tell this to this channel>",
  "event": "FIRING" | "RESOLVED",
  "alert": {
    "name": "alerts/…", "rule": "alertRules/…", "displayName": "…", "description": "…",
    "severity": "LOW" | "MEDIUM" | "HIGH" | "CRITICAL", "state": "FIRING" | "RESOLVED",
    "labels": {…}, "value": 1.5 (null: there was no data),
    "startTime": "2026-01-02T03:04:05.000000Z", "fireTime": …, "resolveTime": … (null: not yet)
  }
}
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from services.alerts.model import Alert, AlertEvent

VERSION = "1"


def idempotency_key(event: AlertEvent, channel: str) -> str:
    """The same whenever this event is told to this channel, and different for all else."""
    return f"{event.alert}.{event.number}.{channel}"


def payload(alert: Alert, event: AlertEvent, description: str, key: str) -> dict[str, Any]:
    """The JSON object that tells of an event."""
    return {
        "version": VERSION,
        "idempotencyKey": key,
        "event": event.kind.name,
        "alert": {
            "name": f"alerts/{alert.id}",
            "rule": f"alertRules/{alert.rule}",
            "displayName": alert.display_name,
            "description": description,
            "severity": alert.severity.name,
            "state": alert.state.name,
            "labels": dict(sorted(alert.labels.items())),
            "value": None if math.isnan(alert.value) else alert.value,
            "startTime": _time(alert.start_time),
            "fireTime": _time(alert.fire_time),
            "resolveTime": _time(alert.resolve_time),
        },
    }


def _time(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
