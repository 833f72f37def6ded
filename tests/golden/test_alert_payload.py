"""What receivers of notifications are promised."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path

from services.alerts.message import idempotency_key, payload
from services.alerts.model import Alert, AlertEvent, AlertState, EventKind, Severity
from services.alerts.notify.text import body
from services.alerts.notify.webhook import signature

FOLDER = Path(__file__).parent / "alerts"
LABELS = {"service": "checkout", "host": "web-1"}
EVENT = AlertEvent(
    alert="01ken4x3y0a1b2c3d4e5f6g7h8",
    kind=EventKind.FIRING,
    event_time=datetime(2026, 11, 21, 12, 1, 0, tzinfo=UTC),
    value=97.5,
    rule="checkout-cpu",
    display_name="결제 서버가 뜨겁다",
    severity=Severity.CRITICAL,
    labels=LABELS,
    number=42,
)
ALERT = Alert(
    id=EVENT.alert,
    rule=EVENT.rule,
    display_name=EVENT.display_name,
    severity=EVENT.severity,
    state=AlertState.FIRING,
    labels=LABELS,
    value=97.5,
    start_time=datetime(2026, 11, 21, 12, 0, 0, 500, tzinfo=UTC),
    fire_time=EVENT.event_time,
)


def made() -> dict[str, object]:
    return payload(ALERT, EVENT, "Look at the dashboard.", idempotency_key(EVENT, "ops"))


def test_the_json_of_a_notification_is_what_receivers_know() -> None:
    assert made() == json.loads((FOLDER / "payload.json").read_text(encoding="utf-8"))


def test_the_words_of_a_notification_are_what_people_know() -> None:
    assert body(made()) == (FOLDER / "message.txt").read_text(encoding="utf-8")


def test_the_signature_is_what_receivers_compute() -> None:
    digest = "sha256=" + (FOLDER / "signature.txt").read_text(encoding="utf-8").strip()
    assert signature("s3cret", "1795262460", b'{"version":"1"}') == digest


def test_no_data_is_null_because_json_has_no_nan() -> None:
    alert = Alert(**{name: getattr(ALERT, name) for name in ALERT.__slots__} | {"value": math.nan})
    assert payload(alert, EVENT, "", "key")["alert"]["value"] is None


def test_every_golden_file_is_used() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {"payload.json", "message.txt", "signature.txt"}
