"""All targets are asked the same about the same data, and a question that fails fails alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from counting_target import CountingTarget
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bench.payloads import payloads
from bench.peers.questions import HOUR_SECONDS, Answered, Data, measure_questions

BASE_NS = 1_790_000_000_000_000_000


@pytest.mark.parametrize("number", range(30))
def test_the_hours_asked_for_lie_within_the_data(number: int) -> None:
    data = Data("metrics", BASE_NS, 5_000)

    begin, end = data.hour(number)

    assert end - begin == HOUR_SECONDS
    assert end % 60 == 0
    assert data.begin <= begin
    assert end <= data.end


def test_the_rare_word_is_in_one_line() -> None:
    data = Data("logs", BASE_NS, 2)
    lines = [
        record.body.string_value
        for number in range(data.requests)
        for resource in ExportLogsServiceRequest.FromString(payloads("logs", BASE_NS).request(number)).resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]

    for number in range(20):
        assert sum(data.line(number) in line for line in lines) == 1


def test_the_traces_asked_for_are_there() -> None:
    data = Data("traces", BASE_NS, 3)
    there = {
        span.trace_id.hex()
        for number in range(data.requests)
        for resource in ExportTraceServiceRequest.FromString(payloads("traces", BASE_NS).request(number)).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }

    assert set(data.trace_ids(10)) <= there


def test_each_target_is_asked_as_often_with_the_same_numbers_and_a_failure_is_told(tmp_path: Path) -> None:
    asked: list[tuple[str, int]] = []
    first, second = CountingTarget("durable"), CountingTarget("durable")
    first.name, second.name = "first", "second"

    def count(name: str, number: int) -> int:
        asked.append((name, number))
        return number

    def fail(_: int) -> int:
        raise ValueError("no such field")

    told: list[Answered] = []
    found = measure_questions(
        [
            (first, lambda _: {"how many": lambda number: count("first", number), "which": fail}),
            (second, lambda _: {"how many": lambda number: count("second", number)}),
        ],
        Data("traces", BASE_NS, 2),
        3,
        told.append,
        tmp_path,
    )

    assert asked == [(name, number) for number in range(5) for name in ("first", "second")]
    assert [(each.question, each.target) for each in found] == [
        ("how many", "first"),
        ("how many", "second"),
        ("which", "first"),
    ]
    assert [each.answers for each in found[:2]] == [3, 3]
    assert all(each.parts_ms.lowest <= each.p50_ms <= each.parts_ms.highest for each in found[:2])
    assert found[2].fault == "which: ValueError: no such field"
    assert told == found
    assert not list(tmp_path.iterdir())


def test_answers_that_are_empty_are_a_fault(tmp_path: Path) -> None:
    target = CountingTarget("durable")
    asked = [(target, lambda _: {"nothing": lambda number: 0, "something": lambda number: number % 4})]
    found = measure_questions(asked, Data("traces", BASE_NS, 2), 4, lambda _: None, tmp_path)
    assert [(each.question, each.fault) for each in found] == [
        ("nothing", "its answers are empty"),
        ("something", ""),
    ]


def test_what_a_question_costs_a_target_is_its_own_cpu_while_it_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = CountingTarget("durable"), CountingTarget("durable")
    first.name, second.name = "first", "second"
    used: defaultdict[int, float] = defaultdict(float)

    def ask(target: CountingTarget, seconds: Callable[[int], float]) -> Callable[[int], int]:
        def answer(number: int) -> int:
            (pid,) = target.pids()
            used[pid] += seconds(number)
            return 1

        return answer

    monkeypatch.setattr("bench.processes.cpu_seconds", lambda pids: sum(used[pid] for pid in pids))
    found = measure_questions(
        [
            (first, lambda _: {"how many": ask(first, lambda number: 0.001 * number)}),
            (second, lambda _: {"how many": ask(second, lambda _: 0.007)}),
        ],
        Data("traces", BASE_NS, 2),
        20,
        lambda _: None,
        tmp_path,
    )

    # The first two rounds do not count. Of the others, each tenth has a mean.
    costs = [each.cpu_ms for each in found]
    assert costs[0].count == costs[1].count == 10
    assert (costs[0].lowest, costs[0].median, costs[0].highest) == pytest.approx((2.5, 11.5, 20.5))
    assert (costs[1].lowest, costs[1].median, costs[1].highest) == pytest.approx((7.0, 7.0, 7.0))
