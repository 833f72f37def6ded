"""Who listens to decisions never changes them."""

from __future__ import annotations

import logging

import pytest

from resilience import BreakerSettings, CircuitBreaker, Hedging, State
from resilience.events import Event, Events


def failing(event: Event) -> None:
    raise RuntimeError(f"the listener failed at {event.kind}")


def test_what_a_listener_raises_is_logged_and_the_others_are_told(caplog: pytest.LogCaptureFixture) -> None:
    events, told = Events("retry", "weather"), list[Event]()
    events.subscribe(failing)
    events.subscribe(told.append)
    with caplog.at_level(logging.ERROR):
        events.emit("retry", "attempt 1 failed")
    assert [event.kind for event in told] == ["retry"]
    assert "A listener failed at retry retry of weather." in caplog.text


def test_a_listener_that_raises_costs_no_answer_and_no_decision() -> None:
    breaker = CircuitBreaker("weather", BreakerSettings(consecutive_failures=1))
    breaker.events.subscribe(failing)
    assert breaker.run_sync(lambda: "sunny") == "sunny"
    with pytest.raises(ConnectionError):
        breaker.run_sync(_broken)
    assert breaker.state is State.OPEN


def test_a_listener_that_raises_costs_no_thread_of_a_hedged_call() -> None:
    hedging = Hedging("weather", max_attempts=2, delay=0.0, is_fatal=lambda _: False, max_threads=2)
    hedging.events.subscribe(failing)
    for _ in range(4):
        assert hedging.run_sync(lambda: "sunny") == "sunny"
    hedging.close()


def _broken() -> str:
    raise ConnectionError


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_exits_of_a_listener_pass(error: type[BaseException]) -> None:
    events = Events("retry", "weather")

    def leave(_: Event) -> None:
        raise error

    events.subscribe(leave)
    with pytest.raises(error):
        events.emit("retry")
