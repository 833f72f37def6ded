"""docs/resilience.md says what the code does: parameters, events, snapshots, and each behaviour compared with a peer's.

The tests here prove the rows of the page's last table that the tests of the policies do not prove already.
"""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import importlib
import inspect
import pkgutil
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import protovalidate
import pytest
from airis.policy.v1 import policy_pb2
from fakes import trial_contract
from fakes.clock import FakeClock
from fakes.virtual_time import in_virtual_time
from google.protobuf import descriptor_pb2, descriptor_pool

import resilience
from resilience import (
    Admission,
    BreakerSettings,
    Bulkhead,
    Chain,
    CircuitBreaker,
    CircuitOpenError,
    ConcurrencyLimit,
    DeadlineExceededError,
    DeadlinePolicy,
    Event,
    FaultInjection,
    Hedging,
    Outcome,
    RateLimit,
    RateLimitedError,
    Retry,
    RetryBudget,
    SharedRateLimit,
    State,
)
from resilience.contract import method_policy
from resilience.grpc.chain import ClientSettings, EndpointParts, MethodChain
from resilience.grpc.codes import RefusedCallError

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "resilience.md"
ERROR_COLUMNS = ("Error", "`reason`", "Over gRPC", "When")
PEERS = {"resilience4j", "failsafe-go", "A6"}


class BusyError(Exception):
    """Another attempt may succeed."""

    def __init__(self, after: float | None = None) -> None:
        super().__init__("busy")
        self.after = after


# The page itself.


def tables() -> Iterator[tuple[list[str], list[list[str]]]]:
    """The tables of the page: the header and the rows, as cells."""
    header: list[str] = []
    rows: list[list[str]] = []
    for line in [*PAGE.read_text().splitlines(), ""]:
        if line.startswith("|"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if not header:
                header = cells
            elif not set("".join(cells)) <= {"-", ":"}:
                rows.append(cells)
        elif header:
            yield header, rows
            header, rows = [], []


def table(*columns: str) -> list[list[str]]:
    """The rows of the one table that has these columns."""
    (found,) = [rows for header, rows in tables() if header == list(columns)]
    return found


def quoted(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


PARAMETER_TABLES = {header[0].strip("`"): rows for header, rows in tables() if header[1:2] == ["Default"]}


def parameters(documented: str) -> tuple[list[str], dict[str, Any]]:
    """The names of what a class is made with, and the defaults of those that have one."""
    described = pkgutil.resolve_name(documented if "." in documented else f"resilience.{documented}")
    if dataclasses.is_dataclass(described):
        fields = dataclasses.fields(described)
        defaults = {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}
        factories = [field for field in fields if field.default_factory is not dataclasses.MISSING]
        return [field.name for field in fields], defaults | {field.name: field.default_factory() for field in factories}
    signature = inspect.signature(described).parameters
    return list(signature), {
        name: parameter.default for name, parameter in signature.items() if parameter.default is not parameter.empty
    }


@pytest.mark.parametrize("documented", PARAMETER_TABLES)
def test_the_page_gives_each_parameter_and_its_default(documented: str) -> None:
    names, defaults = parameters(documented)
    rows = PARAMETER_TABLES[documented]
    assert [row[0].strip("`") for row in rows] == names
    known = {"random": random, "time": time, "asyncio": asyncio, "threading": threading, "resilience": resilience}
    for name, default, *rest in rows:
        assert all(rest), f"{name} of {documented} has an empty cell."
        (text,) = quoted(default) or ["required"]
        if text == "required":
            assert name.strip("`") not in defaults, f"{name} of {documented} has a default."
        else:
            value = eval(text, known | vars(resilience))
            assert value == defaults[name.strip("`")], f"{name} of {documented}"


def made() -> dict[str, Any]:
    """A policy of each kind."""
    limit = ConcurrencyLimit("x")
    fallback = RateLimit("x", 1, 1)
    return {
        "DeadlinePolicy": DeadlinePolicy(1.0, "x"),
        "Retry": Retry("x", max_attempts=1, initial_backoff=0, max_backoff=0, is_retryable=bool),
        "Hedging": Hedging("x", max_attempts=1, delay=0, is_fatal=bool),
        "CircuitBreaker": CircuitBreaker("x"),
        "Bulkhead": Bulkhead("x", 1),
        "RateLimit": fallback,
        "SharedRateLimit": SharedRateLimit("x", 1, 1, object(), prefix="x", fallback=fallback, timeout=1),  # type: ignore[arg-type]
        "ConcurrencyLimit": limit,
        "Admission": Admission("x", limit),
        "FaultInjection": FaultInjection("x", random=random.Random(1)),
    }


def test_the_page_has_the_parameters_of_every_policy() -> None:
    assert set(PARAMETER_TABLES) >= {*made(), "BreakerSettings", "RetryBudget", "TokenBucket"}


def test_the_page_has_the_events_and_the_snapshot_of_every_policy() -> None:
    rows = {row[0].strip("`"): row[1:] for row in table("Policy", "`Event.policy`", "Kinds", "Snapshot")}
    assert set(rows) == set(made())
    for name, policy in made().items():
        kind, kinds, snapshot = rows[name]
        told: list[Event] = []
        policy.events.subscribe(told.append)
        policy.events.emit("anything")
        assert kind == f"`{told[0].policy}`"
        promised = re.search(r"\n    Events?: (.*?)\n\n", type(policy).__doc__ or "", re.DOTALL)
        assert promised, f"{name} does not say what it tells."
        assert quoted(kinds) == quoted(promised[1]), name
        snapshot_name, *fields = quoted(snapshot)
        assert snapshot_name == type(policy.snapshot()).__name__
        assert fields == [field.name for field in dataclasses.fields(policy.snapshot())], name


def test_the_page_has_what_a_server_tells_of_its_refusals() -> None:
    guard = ast.parse((ROOT / "resilience/grpc/guard.py").read_text())
    told = {
        node.args[0].value
        for node in ast.walk(guard)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "emit"
        and isinstance(node.args[0], ast.Constant)
    }  # fmt: skip
    (sentence,) = re.findall(r"With `policy` = `server`: (.*?)\.", PAGE.read_text(), re.DOTALL)
    assert set(quoted(sentence)) == told


def test_the_page_has_every_error_and_what_it_is_over_grpc() -> None:
    rows = {error.strip("`"): (reason.strip("`"), code.strip("`")) for error, reason, code, _ in table(*ERROR_COLUMNS)}
    errors = {name: found for name, found in vars(resilience).items() if name.endswith("Error")}
    assert set(rows) == set(errors) - {"ResilienceError"}
    for name, (reason, code) in rows.items():
        assert errors[name].reason == reason
        assert RefusedCallError(errors[name]("x"), "x").code().name == code


def test_the_chain_of_a_grpc_method_has_the_order_that_the_page_shows() -> None:
    (shown,) = re.findall(r"^OverallDeadline\(.*call \)+$", PAGE.read_text(), re.MULTILINE)
    policy = method_policy(trial_contract.load().methods_by_name["Try"])
    chain = MethodChain(trial_contract.path("Try"), "trial", policy, EndpointParts(ClientSettings()))
    found = [type(part).__name__ for part in chain.unary.policies]
    assert found == [re.sub(r".*Deadline", "DeadlinePolicy", name) for name in re.findall(r"\w+(?=\()", shown)]


def test_every_policy_of_a_grpc_method_tells_its_decisions() -> None:
    told: list[Event] = []
    policy = method_policy(trial_contract.load().methods_by_name["Try"])
    chain = MethodChain(
        trial_contract.path("Try"), "trial", policy, EndpointParts(ClientSettings(listener=told.append))
    )
    parts: tuple[Any, ...] = chain.unary.policies
    for part in parts:
        part.events.emit("anything")
    assert [event.name for event in told] == [part.name for part in parts]


def test_every_public_name_is_exported_documented_and_needs_no_grpc() -> None:
    assert sorted(resilience.__all__) == sorted(set(resilience.__all__))
    for name in resilience.__all__:
        exported = getattr(resilience, name)
        if inspect.isclass(exported) or inspect.isfunction(exported):
            assert inspect.getdoc(exported), name
            assert exported.__module__.startswith("resilience.")
    modules = [module.name for module in pkgutil.iter_modules(resilience.__path__)]
    public = {
        name
        for module in set(modules) - {"contract", "telemetry", "grpc"}
        for name, found in vars(importlib.import_module(f"resilience.{module}")).items()
        if inspect.isclass(found) and found.__module__ == f"resilience.{module}" and not name.startswith("_")
    }
    inner = {"Limit", "FullJitter", "Timer", "Window", "CountWindow", "TimeWindow", "ScriptRunner"}
    assert public - inner <= set(resilience.__all__)


# The table of documented behaviours.


def names_of_tests(file: Path) -> set[str]:
    """The names of a file's tests, without running it."""
    tree = ast.parse(file.read_text())
    names = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }
    # A Hypothesis state machine is collected under the name that its case is bound to.
    return names | {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id.startswith("Test")
    }


def test_every_documented_behaviour_says_same_or_different_and_names_tests_that_exist() -> None:
    rows = table("Peer", "Behaviour", "What its documentation says", "Ours", "Test")
    files = {file.name: file for file in (ROOT / "tests").rglob("test_*.py")}
    assert {row[0] for row in rows} == PEERS
    for row in rows:
        assert all(row), row
        assert row[3].startswith(("Same", "Differs")), f"Say which, first: {row[3]}"
        named = quoted(row[4])
        assert named, f"{row[1]} has no test."
        for test in named:
            file, _, name = test.partition("::")
            assert file in files, f"{test}: there is no such file."
            assert name in names_of_tests(files[file]), f"{test}: there is no such test."


# resilience4j


def test_half_open_begins_with_the_next_call_and_not_by_itself() -> None:
    clock = FakeClock()
    breaker = CircuitBreaker("callee", BreakerSettings(consecutive_failures=1, open_seconds=10), clock=clock)
    breaker.enter().fail()
    clock.advance(100)
    assert breaker.state is State.OPEN
    breaker.enter()
    assert breaker.state is State.HALF_OPEN


def test_every_opening_lasts_equally_long() -> None:
    clock = FakeClock()
    settings = BreakerSettings(consecutive_failures=1, open_seconds=10, half_open_calls=1, half_open_successes=1)
    breaker = CircuitBreaker("callee", settings, clock=clock)
    breaker.enter().fail()
    for _ in range(5):
        assert breaker.snapshot().retry_after == pytest.approx(10)
        clock.advance(10)
        breaker.enter().fail()


def test_an_answer_can_be_counted_as_a_failure_by_its_permit() -> None:
    breaker = CircuitBreaker("callee", BreakerSettings(consecutive_failures=2))
    for answer in ("error page", "error page"):
        permit = breaker.enter()
        if answer == "error page":
            permit.fail()
    assert breaker.state is State.OPEN


def test_an_ignored_error_counts_neither_as_failure_nor_as_success() -> None:
    breaker = CircuitBreaker(
        "callee",
        BreakerSettings(consecutive_failures=2, minimum_calls=1),
        classify=lambda error: Outcome.IGNORED if isinstance(error, LookupError) else Outcome.FAILURE,
    )

    def absent() -> None:
        raise LookupError

    for _ in range(10):
        with pytest.raises(LookupError):
            breaker.run_sync(absent)
    snapshot = breaker.snapshot()
    assert (snapshot.calls, snapshot.failures, snapshot.consecutive_failures) == (0, 0, 0)


def test_no_span_of_time_gets_more_than_the_burst_and_what_came_meanwhile() -> None:
    clock = FakeClock()
    limit = RateLimit("api", per_second=10, burst=10, clock=clock)

    def admitted(calls: int) -> int:
        count = 0
        for _ in range(calls):
            try:
                limit.check("tenant")
            except RateLimitedError:
                continue
            count += 1
        return count

    # Where permissions come back all at once at the end of each second, these two moments get 10 calls each.
    assert admitted(20) == 10
    clock.advance(0.1)
    assert admitted(20) == 1


# failsafe-go


def fail() -> None:
    raise BusyError


def busy_for(seconds: float, then: Callable[[], Any]) -> Callable[[], Any]:
    async def operation() -> Any:
        await asyncio.sleep(seconds)
        return then()

    return operation


def repeated(**arguments: Any) -> Retry:
    return Retry(
        "callee",
        **{
            "max_attempts": 3,
            "initial_backoff": 1.0,
            "max_backoff": 8.0,
            "is_retryable": lambda error: isinstance(error, BusyError | DeadlineExceededError),
            "retry_after": lambda error: getattr(error, "after", None),
            "uniform": lambda low, high: high,
            **arguments,
        },
    )


def test_each_attempt_has_its_own_time_and_may_be_repeated() -> None:
    async def main() -> tuple[str, float, int]:
        now = asyncio.get_running_loop().time
        began, attempts = now(), 0

        async def operation() -> str:
            nonlocal attempts
            attempts += 1
            await asyncio.sleep(100.0 if attempts == 1 else 0.1)
            return "answer"

        chain = Chain(repeated(), DeadlinePolicy(0.5, "an attempt", clock=now))
        return await chain.run(operation), now() - began, attempts

    assert in_virtual_time(main()) == ("answer", pytest.approx(0.5 + 1.0 + 0.1), 2)


def test_the_deadline_of_the_call_ends_its_repeats() -> None:
    async def main() -> float:
        now = asyncio.get_running_loop().time
        began = now()
        chain = Chain(DeadlinePolicy(2.0, "the call", clock=now), repeated(max_attempts=10))
        with pytest.raises(DeadlineExceededError):
            await chain.run(busy_for(0.8, fail))
        return now() - began

    # Two attempts and one delay do not fit: the second attempt is cut off.
    assert in_virtual_time(main()) == pytest.approx(2.0)


# A6


def test_the_limits_of_the_delays_are_those_of_a6() -> None:
    initial, longest, multiplier = 0.1, 1.0, 2.0
    expected = [min(initial * multiplier ** (n - 1), longest) for n in range(1, 8)]
    for share in (0.0, 0.5, 1.0):
        slept = list[float]()
        retry = repeated(
            max_attempts=8,
            initial_backoff=initial,
            max_backoff=longest,
            multiplier=multiplier,
            uniform=lambda low, high, share=share: low + share * (high - low),
            sleep_sync=slept.append,
        )
        with pytest.raises(BusyError):
            retry.run_sync(fail)
        assert slept == pytest.approx([share * limit for limit in expected])


def slept_after(*ends: Exception) -> list[float]:
    """The delays of a call whose attempts end so; one that is left over was not made."""
    slept: list[float] = []
    left = iter(ends)

    def fail() -> None:
        raise next(left)

    with pytest.raises(BusyError):
        repeated(max_attempts=len(ends), sleep_sync=slept.append).run_sync(fail)
    return slept


def test_a_wait_that_the_callee_asked_for_does_not_begin_the_backoff_anew() -> None:
    assert slept_after(BusyError(), BusyError(after=10.0), BusyError(), BusyError()) == [1.0, 12.0, 4.0]


def test_who_asks_to_wait_after_the_last_attempt_is_not_asked_again() -> None:
    assert slept_after(BusyError(), BusyError(after=0.1)) == [1.0]


def test_a_delay_of_zero_sends_all_attempts_at_once() -> None:
    async def main() -> list[float]:
        now = asyncio.get_running_loop().time
        began_at, begun = now(), list[float]()

        async def operation() -> None:
            begun.append(now() - began_at)
            await asyncio.sleep(1.0)

        await Hedging("callee", max_attempts=4, delay=0.0, is_fatal=lambda error: True).run(operation)
        return begun

    assert in_virtual_time(main()) == [0.0] * 4


@pytest.mark.parametrize(
    ("rule", "least", "most"),
    [
        (
            lambda count: policy_pb2.Retry(
                max_attempts=count, initial_backoff="0.1s", max_backoff="1s", backoff_multiplier=2
            ),
            2,
            10,
        ),
        (lambda count: policy_pb2.Hedging(max_attempts=count, delay="0.1s"), 2, 5),
    ],
    ids=["retry", "hedging"],
)
def test_a_contract_with_too_few_or_too_many_attempts_is_wrong(
    rule: Callable[[int], Any], least: int, most: int
) -> None:
    for count in (least, most):
        protovalidate.validate(rule(count))
    for count in (least - 1, most + 1):
        with pytest.raises(protovalidate.ValidationError, match="max_attempts"):
            protovalidate.validate(rule(count))


def contract_of(policy: policy_pb2.Policy) -> Any:
    """The one RPC of a contract of its own."""
    trial_contract.load()
    file = descriptor_pb2.FileDescriptorProto(name="lone.proto", package="lone", syntax="proto3")
    file.dependency.extend(["airis/policy/v1/policy.proto"])
    file.message_type.add(name="Nothing")
    service = file.service.add(name="Lone")
    service.options.Extensions[policy_pb2.service_policy].bulkheads.add(
        name="wide", max_concurrent=1, max_waiting=0, max_wait="0s"
    )
    method = service.method.add(name="Call", input_type=".lone.Nothing", output_type=".lone.Nothing")
    method.options.Extensions[policy_pb2.policy].CopyFrom(policy)
    pool = descriptor_pool.DescriptorPool()
    added: set[str] = set()

    def add(name: str) -> None:
        found = descriptor_pool.Default().FindFileByName(name)
        for dependency in found.dependencies:
            if dependency.name not in added:
                add(dependency.name)
        added.add(name)
        pool.AddSerializedFile(found.serialized_pb)

    add("airis/policy/v1/policy.proto")
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindMethodByName("lone.Lone.Call")


RETRIED = trial_contract.retry(["UNAVAILABLE"])
HEDGED = policy_pb2.Hedging(max_attempts=2, delay="0.1s")


def test_an_rpc_has_retry_or_hedging_and_never_both() -> None:
    assert method_policy(contract_of(trial_contract.policy(idempotent=True, retry=RETRIED))).retry
    assert method_policy(contract_of(trial_contract.policy(idempotent=True, hedging=HEDGED))).hedging
    with pytest.raises(LookupError, match="retry and hedging"):
        method_policy(contract_of(trial_contract.policy(idempotent=True, retry=RETRIED, hedging=HEDGED)))


@pytest.mark.parametrize("rule", [{"retry": RETRIED}, {"hedging": HEDGED}], ids=["retry", "hedging"])
def test_only_an_idempotent_rpc_may_be_repeated(rule: dict[str, Any]) -> None:
    with pytest.raises(LookupError, match="not idempotent"):
        method_policy(contract_of(trial_contract.policy(idempotent=False, **rule)))


class Callee:
    """Methods of an endpoint that is unavailable, in virtual time."""

    def __init__(self, *, reserve: float = 10) -> None:
        self.attempts = 0
        clock = asyncio.get_running_loop().time
        self.parts = EndpointParts(
            ClientSettings(breaker=BreakerSettings(consecutive_failures=10_000, failure_rate=None), clock=clock)
        )
        self.parts.budget = RetryBudget(ratio=0, reserve=reserve, clock=clock)

    async def call(self, method: str, *, repeat: bool = True) -> None:
        policy = method_policy(trial_contract.load().methods_by_name[method])
        chain = MethodChain(trial_contract.path(method), "trial", policy, self.parts)

        async def attempt() -> None:
            self.attempts += 1
            none = grpc.aio.Metadata()
            raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, none, none, details="away")

        with pytest.raises(grpc.RpcError):
            await chain.run(attempt, None, repeat=repeat)


def test_a_client_can_do_without_repeats() -> None:
    async def main() -> tuple[int, int]:
        callee = Callee()
        await callee.call("Get", repeat=False)
        once = callee.attempts
        await callee.call("Get")
        return once, callee.attempts - once

    assert in_virtual_time(main()) == (1, trial_contract.MAX_ATTEMPTS)


def test_the_methods_of_an_endpoint_share_one_budget() -> None:
    async def main() -> int:
        callee = Callee(reserve=3)
        for method in ("Get", "Put", "Hedge", "Get"):
            await callee.call(method)
        return callee.attempts

    # Four first attempts, and three repeats of whichever came first.
    assert in_virtual_time(main()) == 4 + 3


def test_an_open_breaker_is_not_worth_a_repeat() -> None:
    breaker = CircuitBreaker("callee", replace(BreakerSettings(), consecutive_failures=1))
    breaker.enter().fail()
    slept: list[float] = []
    chain = Chain(repeated(sleep_sync=slept.append), breaker)
    with pytest.raises(CircuitOpenError):
        chain.run_sync(lambda: None)
    assert slept == []
