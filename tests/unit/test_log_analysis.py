"""Patterns and anomalies by cases whose answer is plain, and the choice of steps."""

from __future__ import annotations

import random

import pytest
from drain3.drain import Drain

from services.logs import anomalies, patterns
from services.logs.model import CountGroup, Counts, Level, Sample
from services.logs.query import choose_step
from services.shared.errors import DeadlineExceededError

MINUTE = 60_000_000_000
START = 1_790_000_040_000_000_000 // MINUTE * MINUTE


def test_messages_that_differ_in_one_word_are_one_pattern() -> None:
    samples = [Sample(f"user {n} logged in from 10.0.0.{n}", Level.INFO, "web") for n in range(7)]
    samples += [Sample(f"결제 요청 {n}번 실패", Level.ERROR if n else Level.FATAL, f"pay{n}") for n in range(3)]
    found = patterns.mine(samples)
    assert [(p.template, p.count, p.max_level, p.services) for p in found] == [
        ("user <*> logged in from <*>", 7, Level.INFO, ["web"]),
        ("결제 요청 <*> 실패", 3, Level.FATAL, ["pay0", "pay1", "pay2"]),
    ]
    assert [p.example for p in found] == ["user 0 logged in from 10.0.0.0", "결제 요청 0번 실패"]
    assert patterns.mine([]) == []


def test_every_sample_is_counted_in_one_pattern() -> None:
    chance = random.Random(7)
    words = ["cart", "order", "refused", "서비스", "timeout", "5", "x=1"]
    samples = [Sample(" ".join(chance.choices(words, k=chance.randint(1, 6))), Level.INFO, "") for _ in range(2000)]
    found = patterns.mine(samples)
    assert sum(pattern.count for pattern in found) == 2000
    assert [p.count for p in found] == sorted((p.count for p in found), reverse=True)


def different(messages: int, words: int) -> list[Sample]:
    """Messages that have only their first word in common."""
    return [
        Sample(" ".join(["job", *(f"w{n}.{at}" for at in range(words - 1))]), Level.INFO, "") for n in range(messages)
    ]


def test_long_messages_that_are_all_different_are_compared_with_few_templates(monkeypatch: pytest.MonkeyPatch) -> None:
    compare, compared = Drain.get_seq_distance, []

    def counting(tree: Drain, template: list[str], tokens: list[str], include_params: bool) -> tuple[float, int]:
        compared.append(len(tokens))
        distance: tuple[float, int] = compare(tree, template, tokens, include_params)
        return distance

    monkeypatch.setattr(Drain, "get_seq_distance", counting)
    samples = different(messages=300, words=500)
    assert len(patterns.mine(samples)) == 300
    assert sum(compared) <= len(samples) * patterns.MOST_COMPARED_WORDS


def test_a_frequent_message_stays_one_pattern_amid_many_different_ones() -> None:
    frequent = Sample(" ".join(["job", "done"] * 250), Level.INFO, "")
    mixed = [sample for other in different(messages=200, words=500) for sample in (frequent, other)]
    found = patterns.mine(mixed)
    assert (found[0].template, found[0].count) == (frequent.message, 200)
    assert len(found) == 201


def test_nothing_more_is_mined_once_it_is_over() -> None:
    asked = iter([False, False, True])
    with pytest.raises(DeadlineExceededError):
        patterns.mine([Sample("a", Level.INFO, "")] * 10, lambda: next(asked))
    assert next(asked, None) is None


def group(counts: list[int], service: str = "pay") -> CountGroup:
    buckets = [(START + at * MINUTE, count) for at, count in enumerate(counts) if count]
    return CountGroup({"service": service, "level": "ERROR"}, sum(counts), buckets)


def find(*groups: CountGroup, steps: int) -> list[anomalies.Anomaly]:
    return anomalies.find(Counts(list(groups), 0, MINUTE), START, START + steps * MINUTE)


def test_a_burst_and_a_silence_are_found_with_their_score() -> None:
    usual = [98, 100, 102, 100, 97, 103, 100, 100, 99, 101]
    burst, silence = find(group([*usual, 300, *usual, 0, *usual]), steps=32)
    assert (burst.timestamp, burst.count, burst.expected_count) == (START + 10 * MINUTE, 300, 100)
    # The median absolute deviation is 1, less than the scatter of a count of 100, which is 10.
    assert burst.score == pytest.approx(20)
    assert (silence.timestamp, silence.count) == (START + 21 * MINUTE, 0)
    assert silence.score == pytest.approx(-10)
    assert burst.level is Level.ERROR


def test_a_wide_scatter_is_measured_by_its_median_deviation() -> None:
    usual = [50, 150] * 10
    assert find(group([*usual, 300]), steps=21) == []
    (found,) = find(group([*usual, 800]), steps=21)
    assert found.score == pytest.approx((800 - 150) / (1.4826 * 100))


def test_steps_without_entries_count_as_zero_and_single_entries_are_not_unusual() -> None:
    assert find(group([0] * 30 + [1] + [0] * 29), steps=60) == []
    (found,) = find(group([0] * 30 + [9] + [0] * 29), steps=60)
    assert (found.expected_count, found.score) == (0, 9)


def test_the_strongest_come_first() -> None:
    found = find(group([1] * 9 + [50], "weak"), group([1] * 9 + [500], "strong"), steps=10)
    assert [each.service for each in found] == ["strong", "weak"]


@pytest.mark.parametrize("seconds", [1, 60, 600, 3600, 6 * 3600, 86400, 7 * 86400, 90 * 86400])
def test_a_range_gets_about_sixty_buckets(seconds: int) -> None:
    step = choose_step(0, seconds * 10**9)
    assert 10 <= seconds * 10**9 / step <= 100


def test_an_hour_gets_minutes() -> None:
    assert choose_step(0, 60 * MINUTE) == MINUTE
