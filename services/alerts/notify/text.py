"""A notification in words, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def subject(payload: Mapping[str, Any]) -> str:
    """One line: `[FIRING] HIGH: Checkout is slow`."""
    alert = payload["alert"]
    line = f"[{payload['event']}] {alert['severity']}: {alert['displayName']}"
    return " ".join(line.split())


def body(payload: Mapping[str, Any]) -> str:
    """All that is known, one thing a line."""
    alert = payload["alert"]
    value = "no data" if alert["value"] is None else f"{alert['value']:g}"
    lines = [subject(payload), ""]
    if alert["description"]:
        lines += [alert["description"], ""]
    lines += [f"Value: {value}", f"Since: {alert['startTime']}"]
    if alert["fireTime"]:
        lines.append(f"Fired: {alert['fireTime']}")
    if alert["resolveTime"]:
        lines.append(f"Resolved: {alert['resolveTime']}")
    lines += [f"{key}: {text}" for key, text in alert["labels"].items()]
    lines += ["", f"Rule: {alert['rule']}", f"Alert: {alert['name']}"]
    return "\n".join(lines) + "\n"
