"""What the demo's programs say on stderr while the receiver is away."""

from __future__ import annotations

import logging

from services.demo.telemetry import OncePerMinute


def record(logger: str) -> logging.LogRecord:
    return logging.LogRecord(logger, logging.ERROR, __file__, 1, "Failed to export", None, None)


def test_a_logger_is_heard_once_a_minute() -> None:
    now = 0.0
    heard = OncePerMinute(clock=lambda: now)
    assert heard.filter(record("exporter"))
    now = 59.9
    assert not heard.filter(record("exporter"))
    now = 60.0
    assert heard.filter(record("exporter"))


def test_one_logger_does_not_silence_another() -> None:
    heard = OncePerMinute(clock=lambda: 0.0)
    assert heard.filter(record("exporter"))
    assert heard.filter(record("asyncio"))
