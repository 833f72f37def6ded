"""Whether a server takes a call: deadline, identity, permission, rate, load, in this order; the cheapest and surest
refusals come first, and nobody who may not call uses up what others may."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from resilience import load
from resilience.admission import Admission
from resilience.bulkhead import Bulkhead
from resilience.concurrency_limit import ConcurrencyLimit
from resilience.contract import BulkheadRule, MethodPolicy
from resilience.errors import BulkheadFullError, DeadlineExceededError, ResilienceError
from resilience.events import Events, Listener
from resilience.priority import Priority
from resilience.rate_limit import RateLimit
from resilience.telemetry import observe

TOKEN_HEADER = "authorization"  # noqa: S105 (the name of a header)
TENANT_HEADER = "airis-tenant"

# Ordinary clients together have some tens of calls under way, quick and slow ones mixed. Fewer are let in only when
# calls miss their deadlines.
_MIN_CONCURRENT = 96
_INITIAL_CONCURRENT = 128
_LEAST_CONCURRENT = 16
_RETRY_SECONDS = 0.5
# Of a queue and of the wait in it, once it stands: https://queue.acm.org/detail.cfm?id=2839461
_STANDING = 0.05


class Caller(Protocol):
    """Who calls."""

    @property
    def tenant(self) -> str:
        """Whose data the call is about."""

    @property
    def permissions(self) -> Collection[str]:
        """What the caller may do: "metrics.read"."""

    @property
    def expires_at(self) -> float:
        """Until when this is known, in seconds since 1970; may be infinite."""


Authenticate = Callable[[str | None, str | None], Caller]
"""Takes the `authorization` and `airis-tenant` headers of a call; gives the caller or raises."""


class PermissionMissingError(ResilienceError):
    """The caller is known and may not do this."""

    reason = "PERMISSION_MISSING"

    def __init__(self, permission: str) -> None:
        super().__init__(
            f"This call needs the permission {permission}; the token does not carry it. "
            "Use one with a role that has it."
        )
        self.permission = permission


class TokenExpiredError(ResilienceError):
    """A stream has lasted as long as the token that it was begun with."""

    reason = "TOKEN_EXPIRED"

    def __init__(self) -> None:
        super().__init__("The token has expired since the stream was begun. Call again with a new one.")


@dataclass(frozen=True, slots=True)
class Rule:
    """What one method's calls are measured by."""

    policy: MethodPolicy
    rate: RateLimit | None
    bulkhead: Bulkhead
    refusals: Events


class Load:
    """The part of the load that a call is, until it ends."""

    __slots__ = ("_admission", "_started")

    def __init__(self, admission: Admission, started: float) -> None:
        self._admission = admission
        self._started: float | None = started

    def end(self, dropped: bool = False, *, observed: bool = True) -> None:
        """Ends it, if that was not done yet. See `Admission.leave`."""
        started, self._started = self._started, None
        if started is not None:
            self._admission.leave(started, dropped, observed=observed)


@dataclass(frozen=True, slots=True)
class Entry:
    """A call that was let in.

    Attributes:
        caller: Who calls.
        limit: Seconds that it may take; None: no limit.
        valid_for: Seconds until the caller's token expires; may be infinite.
        load: Its part of the load; None: it is not measured.
    """

    caller: Caller
    limit: float | None
    valid_for: float
    load: Load | None


class Guard:
    """Lets the calls of one server process in, or not.

    Args:
        policies: What the contract says, of every method that is served.
        authenticate: Tells who calls, or raises.
        aliases: Methods without a policy of their own, with the path of the one whose policy they have: OTLP's.
        listener: Is told every decision; None: OpenTelemetry's metrics and spans only.
        clock: Gives monotonic seconds.
        now: Gives seconds since 1970, as tokens have them.

    Attributes:
        admission: What sheds load.
    """

    def __init__(
        self,
        policies: Iterable[MethodPolicy],
        authenticate: Authenticate,
        *,
        aliases: Mapping[str, str] | None = None,
        listener: Listener | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._authenticate = authenticate
        self._now = now
        self._clock = clock
        self._listener = listener
        known = {policy.method: policy for policy in policies}
        pools: dict[tuple[str, str], Bulkhead] = {}
        self._rules = {
            method: self._rule(method, known[origin], pools)
            for method, origin in [*((method, method) for method in known), *(aliases or {}).items()]
        }
        most = sum(pool.max_concurrent + pool.max_waiting for pool in _pools_of_answers(known.values()))
        limit = ConcurrencyLimit(
            "server",
            initial=min(_INITIAL_CONCURRENT, max(most, 1)),
            minimum=min(_MIN_CONCURRENT, max(most, 1)),
            maximum=max(most, 1),
            least=min(_LEAST_CONCURRENT, max(most, 1)),
            clock=clock,
        )
        self.admission = Admission("server", limit)
        self._listen(self.admission.events)

    def rule(self, method: str) -> Rule:
        """What a method's calls are measured by. Raises `LookupError`: the method has no policy."""
        try:
            return self._rules[method]
        except KeyError:
            raise LookupError(f"{method} has no airis.policy.v1.policy.") from None

    def may_turn_away(self, method: str) -> bool:
        """Whether `turn_away` may refuse calls of a method: bulk, whose messages are what costs.

        Others are few and small, and who refuses them takes from bulk: that is for callers who are known.
        """
        rule = self._rules.get(method)
        return rule is not None and rule.policy.priority == Priority.BULK and rule.policy.deadline is not None

    def turn_away(self, method: str, coming: int, stands: bool) -> ResilienceError | None:
        """Refuses a bulk call of which nothing is known but its method, if load or pool refuse it whoever makes it.

        A pool that is full says nothing to the limit here: the call took no part of it.

        Args:
            method: One of which `may_turn_away`.
            coming: Such calls that were not turned away and whose messages are still being received. They take
                places soon, but who sends them slowly must not keep others out: they count for a quarter of the
                limit at most.
            stands: Whether more of them have waited for some time than the server can look at: a quarter of the share
                is left then.

        Returns:
            Why it is refused, and counted as such; None: `enter` decides.
        """
        rule = self._rules[method]
        refusal: ResilienceError | None = self.admission.turn_away(Priority.BULK, coming, stands)
        if refusal is None and (refusal := rule.bulkhead.turn_away()) is not None:
            refusal.retry_after = _RETRY_SECONDS
        return refusal

    async def enter(
        self, rule: Rule, headers: Sequence[tuple[str, str | bytes]], left: float | None, *, streams: bool = False
    ) -> Entry:
        """Lets a call in, when there is a place for it. Every entry is left exactly once.

        Args:
            rule: The method's.
            headers: The call's metadata.
            left: Seconds that the caller will wait; None: no limit.
            streams: Whether the call lasts as long as its caller likes, and so tells nothing of the load.

        Raises:
            ResilienceError: It is not let in.
            Exception: What `authenticate` raises.
        """
        return await self._wait(rule, self._check(rule, headers, left, streams))

    async def enter_again(self, rule: Rule, caller: Caller, left: float) -> Entry:
        """As `enter`, of a call that another process has let in: it knows who calls, what they may, and how often."""
        return await self._wait(rule, self._measured(rule, caller, left, streams=False))

    def enter_sync(
        self, rule: Rule, headers: Sequence[tuple[str, str | bytes]], left: float | None, *, streams: bool = False
    ) -> Entry:
        """As `enter`, for blocking servers."""
        entry = self._check(rule, headers, left, streams)
        try:
            rule.bulkhead.acquire_sync()
        except BaseException as error:
            self._refused(entry, error)
            raise
        return entry

    def leave(self, rule: Rule, entry: Entry, code: str) -> None:
        """Gives the place back.

        Args:
            rule: The method's.
            entry: What `enter` gave.
            code: How the call ended, as a name of `google.rpc.Code`: only what was answered tells how long work takes,
                and what was not finished in its time tells of too much load.
        """
        rule.bulkhead.release()
        self._let_go(entry, dropped=code == "DEADLINE_EXCEEDED", observed=code == "OK")

    def _check(
        self, rule: Rule, headers: Sequence[tuple[str, str | bytes]], left: float | None, streams: bool
    ) -> Entry:
        if left is not None and left <= 0:
            rule.refusals.emit("deadline_spent", "the caller's deadline had passed on arrival")
            raise DeadlineExceededError("The deadline had passed before the call was begun.")
        token: str | None = None
        tenant: str | None = None
        for key, value in headers:
            if key == TOKEN_HEADER:
                token = _joined(token, value)
            elif key == TENANT_HEADER:
                tenant = _joined(tenant, value)
        try:
            caller = self._authenticate(token, tenant)
        except Exception as error:
            rule.refusals.emit("unauthenticated", getattr(error, "reason", type(error).__name__))
            raise
        if rule.policy.permission not in caller.permissions:
            rule.refusals.emit("permission_missing", rule.policy.permission)
            raise PermissionMissingError(rule.policy.permission)
        if rule.rate is not None:
            rule.rate.check(caller.tenant)
        return self._measured(rule, caller, left, streams)

    def _measured(self, rule: Rule, caller: Caller, left: float | None, streams: bool) -> Entry:
        limits = [limit for limit in (rule.policy.deadline, left) if limit is not None]
        part = None if streams else Load(self.admission, self.admission.enter(rule.policy.priority))
        load.begin(None if part is None else part.end)
        return Entry(caller, min(limits) if limits else None, caller.expires_at - self._now(), part)

    async def _wait(self, rule: Rule, entry: Entry) -> Entry:
        try:
            await rule.bulkhead.acquire()
        except BaseException as error:
            self._refused(entry, error)
            raise
        return entry

    def _refused(self, entry: Entry, error: BaseException) -> None:
        if isinstance(error, BulkheadFullError) and error.retry_after is None:
            error.retry_after = _RETRY_SECONDS
        self._let_go(entry, dropped=isinstance(error, BulkheadFullError), observed=False)

    def _let_go(self, entry: Entry, *, dropped: bool, observed: bool) -> None:
        if entry.load is not None:
            entry.load.end(dropped, observed=observed)

    def _rule(self, method: str, policy: MethodPolicy, pools: dict[tuple[str, str], Bulkhead]) -> Rule:
        service, pool = policy.method.split("/")[1], policy.bulkhead
        if (service, pool.name) not in pools:
            pools[service, pool.name] = Bulkhead(
                f"{service}/{pool.name}",
                pool.max_concurrent,
                pool.max_waiting,
                pool.max_wait,
                standing=_STANDING,
                clock=self._clock,
            )
            self._listen(pools[service, pool.name].events)
        rate = None
        if policy.rate_limit is not None:
            rate = RateLimit(method, policy.rate_limit.per_second, policy.rate_limit.burst, clock=self._clock)
            self._listen(rate.events)
        refusals = Events("server", method)
        self._listen(refusals)
        return Rule(policy, rate, pools[service, pool.name], refusals)

    def _listen(self, events: Events) -> None:
        observe(events)
        if self._listener is not None:
            events.subscribe(self._listener)


def _joined(earlier: str | None, value: str | bytes) -> str:
    # As HTTP reads a header that is there twice. Whoever checks calls before us must not have looked at another one.
    text = value if isinstance(value, str) else value.decode("latin-1")
    return text if earlier is None else f"{earlier},{text}"


def _pools_of_answers(policies: Iterable[MethodPolicy]) -> Collection[BulkheadRule]:
    # Streams have pools of their own and are not measured.
    return {
        (policy.method.split("/")[1], policy.bulkhead.name): policy.bulkhead
        for policy in policies
        if policy.deadline is not None
    }.values()
