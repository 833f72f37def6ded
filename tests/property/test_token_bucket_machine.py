"""Takes, refusals and a clock that goes on, stands or goes back, in any order: the bucket against exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

from fakes.clock import FakeClock
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from resilience.token_bucket import TokenBucket


class TokenBucketMachine(RuleBasedStateMachine):
    @initialize(per_second=st.sampled_from([0.1, 0.3, 1, 3, 7.5, 1000, 123_456.789]), burst=st.integers(1, 50))
    def make(self, per_second: float, burst: int) -> None:
        self.clock = FakeClock(1_000.0)
        self.rate, self.burst = Fraction(str(per_second)), burst
        self.bucket = TokenBucket(per_second, burst, self.clock)
        self.tokens = Fraction(burst)
        self.latest = self.nanoseconds()
        self.began, self.taken = self.latest, 0

    def nanoseconds(self) -> int:
        return round(Fraction(self.clock.now) * 10**9)

    def refill(self) -> None:
        now = max(self.latest, self.nanoseconds())
        self.tokens = min(Fraction(self.burst), self.tokens + (now - self.latest) * self.rate / 10**9)
        self.latest = now

    @rule(seconds=st.one_of(st.floats(0, 0.001), st.floats(0, 2), st.floats(-10, 0), st.just(1e6)))
    def time_passes(self, seconds: float) -> None:
        self.clock.now = max(0.0, self.clock.now + seconds)

    @rule(tokens=st.integers(1, 50))
    def take(self, tokens: int) -> None:
        tokens = min(tokens, self.burst)
        self.refill()

        wait = self.bucket.take(tokens)

        if self.tokens >= tokens:
            assert wait == 0.0
            self.tokens -= tokens
            self.taken += tokens
        else:
            exact = (tokens - self.tokens) / self.rate
            assert exact <= Fraction(wait) + Fraction(1, 10**12)
            assert wait <= exact + Fraction(11, 10**7)

    @rule()
    def waiting_as_told_is_enough(self) -> None:
        self.clock.now = max(self.clock.now, self.latest / 10**9)
        wait = self.bucket.take()
        if wait:
            self.clock.now += wait
            wait = self.bucket.take()
        # So many seconds may have no float: then the clock itself is a few nanoseconds short.
        assert wait <= 1e-6
        if wait:
            self.clock.now += wait
            assert self.bucket.take() == 0.0
        self.refill()
        self.tokens -= 1
        self.taken += 1

    @rule()
    def a_copy_holds_the_same_and_is_another(self) -> None:
        copy = self.bucket.copy()
        assert copy.available() == self.bucket.available()
        before = self.bucket.available()
        copy.take()
        assert self.bucket.available() == before

    @invariant()
    def no_span_gives_more_than_the_burst_and_what_came(self) -> None:
        self.refill()
        assert self.taken <= self.burst + (self.latest - self.began) * self.rate / 10**9
        assert self.bucket.is_full() == (self.tokens == self.burst)


TokenBucketMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestTokenBucketMachine = TokenBucketMachine.TestCase
