"""The load generator tells what it sent, and how late."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from overload_load import Call, Phase, Report, Traffic, _Load, lateness


class _Clock:
    """Goes on when somebody waits, and while a call keeps the program busy."""

    def __init__(self) -> None:
        self.now = 100.0

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        await asyncio.sleep(0)
        self.now = max(self.now, until)


class _Channel:
    """Each of its calls keeps the program busy for some seconds."""

    def __init__(self, clock: _Clock, busy: float) -> None:
        self._clock, self._busy = clock, busy

    def unary_unary(self, _method: str) -> Any:
        async def call(_request: bytes, timeout: float) -> None:
            self._clock.now += self._busy

        return call

    async def close(self) -> None:
        return


async def sent(monkeypatch: pytest.MonkeyPatch, busy: float, traffic: Traffic) -> Report:
    """What is reported of a second of load."""
    clock = _Clock()
    load = _Load("target", "health", 1.0, 1, clock=clock.time, sleep=clock.sleep)
    monkeypatch.setattr(load, "_bare", _Channel(clock, busy))
    phase = Phase("3x", 1.0, [traffic])
    (found,) = await load.run([phase])
    return Report(phase, [Call(*each) for each in found["calls"]], began=found["began"])


async def test_calls_that_are_sent_in_time_are_not_late(monkeypatch: pytest.MonkeyPatch) -> None:
    report = await sent(monkeypatch, 0.0, Traffic("/a/B", 100.0))
    assert report.began == 100.0
    assert all(call.at < 1.0 for call in report.calls)
    assert len(report.calls) == pytest.approx(100, rel=0.3)
    assert lateness(report.calls) == pytest.approx(0.0)


async def test_a_generator_that_does_not_keep_up_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    report = await sent(monkeypatch, 0.05, Traffic("/a/B", 100.0))
    # A hundred are due, and one takes 0.05 of the second.
    assert sum(call.at < 1.0 for call in report.calls) <= 20
    assert len(report.calls) == pytest.approx(100, rel=0.3)
    assert lateness(report.calls) > 1.0


async def test_callers_that_wait_for_answers_are_never_late(monkeypatch: pytest.MonkeyPatch) -> None:
    report = await sent(monkeypatch, 0.25, Traffic("/a/B", callers=2))
    assert len(report.calls) >= 4
    assert lateness(report.calls) == 0.0
