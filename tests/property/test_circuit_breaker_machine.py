"""Calls that begin and end in any order, time and force: the breaker against a plain model of it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from fakes.clock import FakeClock
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilience.circuit_breaker import BreakerSettings, CircuitBreaker, Permit, State
from resilience.errors import CircuitOpenError


@dataclass
class Call:
    permit: Permit
    began: float
    epoch: int
    probe: bool
    expired: bool = False


@dataclass
class Ended:
    failed: bool
    slow: bool
    bucket: int


SECONDS = st.sampled_from([0.0, 0.5, 1.0, 2.5, 4.0, 11.0])


class BreakerMachine(RuleBasedStateMachine):
    """The model keeps every call of the present epoch and counts afresh each time."""

    @initialize(
        consecutive=st.one_of(st.none(), st.integers(1, 4)),
        rate=st.one_of(st.none(), st.sampled_from([0.1, 0.5, 1.0])),
        slow_rate=st.one_of(st.none(), st.sampled_from([0.3, 1.0])),
        window=st.one_of(st.integers(1, 6), st.sampled_from([5.0, 12.0])),
        minimum=st.integers(1, 5),
        probes=st.integers(1, 4),
        needed=st.integers(1, 4),
    )
    def begin(
        self,
        consecutive: int | None,
        rate: float | None,
        slow_rate: float | None,
        window: float,
        minimum: int,
        probes: int,
        needed: int,
    ) -> None:
        by_time = isinstance(window, float)
        self.settings = BreakerSettings(
            consecutive_failures=consecutive if rate or slow_rate or consecutive else 2,
            failure_rate=rate,
            slow_call_rate=slow_rate,
            slow_call_seconds=2.0,
            window_calls=100 if by_time else int(window),
            window_seconds=window if by_time else None,
            minimum_calls=minimum,
            open_seconds=4.0,
            half_open_calls=probes,
            half_open_successes=min(needed, probes),
        )
        self.clock = FakeClock(0.0)
        self.breaker = CircuitBreaker("callee", self.settings, clock=self.clock)
        self.told: list[str] = []
        self.breaker.events.subscribe(lambda event: self.told.append(event.kind))
        self.expected: list[str] = []
        self.state = State.CLOSED
        self.epoch = 0
        self.opened_at = 0.0
        self.under_way: list[Call] = []
        self.ended: list[Ended] = []
        self.probe_results: list[bool] = []

    def become(self, state: State, *, silent: bool = False) -> None:
        self.state = state
        self.epoch += 1
        if state is State.OPEN:
            self.opened_at = self.clock.now
        if state is State.HALF_OPEN:
            self.probe_results = []
        if state is State.CLOSED:
            self.ended = []
        if not silent:
            self.expected.append({State.FORCED_OPEN: "open", State.FORCED_CLOSED: "closed"}.get(state, state.value))

    def bucket(self) -> int:
        length = self.settings.window_seconds
        return 0 if length is None else int(self.clock.now // (length / max(10, round(length))))

    def window(self) -> list[Ended]:
        length = self.settings.window_seconds
        if length is None:
            return self.ended[-self.settings.window_calls :]
        first = self.bucket() - max(10, round(length)) + 1
        return [call for call in self.ended if call.bucket >= first]

    def probing(self) -> list[Call]:
        """The probes of now that hold a place."""
        return [
            call
            for call in self.under_way
            if call.probe and call.epoch == self.epoch and self.clock.now - call.began < self.settings.open_seconds
        ]

    def lets_in(self) -> bool:
        if self.state is State.OPEN and self.clock.now >= self.opened_at + self.settings.open_seconds:
            self.become(State.HALF_OPEN)
        if self.state is State.HALF_OPEN:
            return len(self.probing()) + len(self.probe_results) < self.settings.half_open_calls
        return self.state in (State.CLOSED, State.FORCED_CLOSED)

    @precondition(lambda self: len(self.under_way) < 12)
    @rule(repeat=st.integers(1, 3))
    def enter(self, repeat: int) -> None:
        for _ in range(repeat):
            if self.lets_in():
                permit = self.breaker.enter()
                self.under_way.append(Call(permit, self.clock.now, self.epoch, self.state is State.HALF_OPEN))
                continue
            with pytest.raises(CircuitOpenError) as caught:
                self.breaker.enter()
            self.expected.append("rejected")
            if self.state is State.FORCED_OPEN:
                assert caught.value.retry_after is None
            else:
                assert caught.value.retry_after is not None
                assert 0 < caught.value.retry_after <= self.settings.open_seconds

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), how=st.sampled_from(["succeed", "succeed", "fail", "fail", "ignore"]), twice=st.booleans())
    def end(self, data: st.DataObject, how: str, twice: bool) -> None:
        call = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        getattr(call.permit, how)()
        if twice:
            call.permit.fail()
        if how == "ignore":
            return
        failed = how == "fail"
        self.expected.append("failure" if failed else "success")
        if call.epoch != self.epoch:
            return
        slow = self.clock.now - call.began > self.settings.slow_call_seconds
        if self.state is State.HALF_OPEN:
            self.probe_results.append(not failed and not (slow and self.settings.slow_call_rate is not None))
            if self.probe_results.count(True) == self.settings.half_open_successes:
                self.become(State.CLOSED)
            elif self.probe_results.count(False) > self.settings.half_open_calls - self.settings.half_open_successes:
                self.become(State.OPEN)
        elif self.state is State.CLOSED:
            self.ended.append(Ended(failed, slow, self.bucket()))
            if self.must_open():
                self.become(State.OPEN)

    def must_open(self) -> bool:
        limit = self.settings.consecutive_failures
        last = self.ended[-limit:] if limit else []
        if limit and len(last) == limit and all(call.failed for call in last):
            return True
        window = self.window()
        minimum = self.settings.minimum_calls
        if self.settings.window_seconds is None:
            minimum = min(minimum, self.settings.window_calls)
        if len(window) < minimum:
            return False
        failures, slow = sum(call.failed for call in window), sum(call.slow for call in window)
        return any(
            rate is not None and count / len(window) >= rate
            for rate, count in ((self.settings.failure_rate, failures), (self.settings.slow_call_rate, slow))
        )

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(state=st.sampled_from([State.FORCED_OPEN, State.FORCED_CLOSED, State.CLOSED, State.CLOSED]))
    def force(self, state: State) -> None:
        if state is State.CLOSED:
            self.breaker.reset()
            self.become(state)
            return
        (self.breaker.force_open if state is State.FORCED_OPEN else self.breaker.force_closed)()
        if self.state is not state:
            self.become(state)

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "breaker"):
            return
        assert self.breaker.state is self.state
        assert self.told == self.expected
        snapshot = self.breaker.snapshot()
        assert snapshot.rejected == self.expected.count("rejected")
        if self.state is State.CLOSED:
            window = self.window()
            assert snapshot.calls == len(window)
            assert snapshot.failures == sum(call.failed for call in window)
            assert snapshot.slow_calls == sum(call.slow for call in window)
        if self.state is State.HALF_OPEN:
            assert snapshot.probes == len(self.probing()) <= self.settings.half_open_calls
            assert snapshot.probe_successes == self.probe_results.count(True)
            assert snapshot.probe_failures == self.probe_results.count(False)


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
