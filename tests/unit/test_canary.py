"""The canary tells what a platform does: here one in memory, in time that passes at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from airis.client.canary import flock
from airis.client.canary.latencies import Latencies
from airis.client.canary.measures import MeterMeasures
from airis.client.canary.objectives import Objective, objective
from airis.client.canary.probes import Mark
from airis.client.canary.record import Counts, Record
from airis.client.canary.rounds import Rhythm, Rounds
from fakes.signal_store import SignalStore
from fakes.virtual_time import in_virtual_time
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

RHYTHM = Rhythm(interval=1.0, within=5.0, within_alerts=5.0, check_after=10.0, lost_after=25.0)


def sing(
    store: SignalStore,
    signal: str,
    seconds: float,
    *events: tuple[float, Callable[[], object]],
    rhythm: Rhythm = RHYTHM,
    reader: InMemoryMetricReader | None = None,
) -> Counts:
    """What the canary counts of one signal; events are what happens to the platform, and when, in seconds."""
    measures = MeterMeasures(MeterProvider([reader] if reader else []).get_meter("test"))

    async def main() -> Counts:
        loop = asyncio.get_running_loop()
        record = Record(signal, measures, loop.time)
        measures.start([signal])
        measures.observe([record])
        probe = flock.probe_of(signal, store, "test")  # type: ignore[arg-type]
        stopped = asyncio.Event()
        await probe.prepare()
        for after, happens in events:
            loop.call_later(after, happens)
        loop.call_later(seconds, stopped.set)
        rounds = Rounds(
            probe, record, rhythm, clock=loop.time, wall=lambda: int(loop.time() * 1e9), dice=random.Random(7)
        )
        await rounds.run(stopped)
        await probe.end()
        return record.total

    return in_virtual_time(main())


def change(target: Any, name: str, value: object) -> Callable[[], None]:
    return lambda: setattr(target, name, value)


@pytest.mark.parametrize("signal", flock.SIGNALS)
def test_a_platform_that_works_is_all_well(signal: str) -> None:
    counts = sing(SignalStore(), signal, 59.5)
    assert counts.rounds >= 59
    assert (counts.failed, counts.missing, counts.doubled, counts.late, counts.unverified) == (0, 0, 0, 0, 0)
    assert counts.errors == {}
    assert counts.visible.count == counts.rounds
    assert objective(signal).misses(counts) == []


@pytest.mark.parametrize("signal", flock.SIGNALS)
def test_a_service_that_is_away_fails_its_rounds_and_nothing_is_missing(signal: str) -> None:
    store = SignalStore()
    of = store.of[signal]
    counts = sing(store, signal, 60, (20.5, change(of, "down", True)), (30.5, change(of, "down", False)))
    # One by one, a round waits as long as it may.
    assert counts.failed >= (10 if signal != "alerts" else 1)
    assert counts.failed < 15
    assert {code for _, code, _ in counts.errors} == {"UNAVAILABLE"}
    assert (counts.missing, counts.doubled, counts.unverified) == (0, 0, 0)
    assert any("availability" in miss for miss in objective(signal).misses(counts))


@pytest.mark.parametrize("signal", ["metrics", "logs", "traces"])
def test_what_was_acknowledged_and_is_not_there_is_missing(signal: str) -> None:
    store = SignalStore()
    of = store.of[signal]
    counts = sing(store, signal, 60, (20.5, change(of, "copies", 0)), (23.5, change(of, "copies", 1)))
    assert (counts.missing, counts.failed, counts.doubled) == (3, 3, 0)
    assert "3 missing" in objective(signal).misses(counts)


@pytest.mark.parametrize("signal", ["metrics", "logs", "traces"])
def test_what_is_stored_twice_is_doubled(signal: str) -> None:
    store = SignalStore()
    of = store.of[signal]
    counts = sing(store, signal, 60, (20.5, change(of, "copies", 2)), (23.5, change(of, "copies", 1)))
    assert (counts.doubled, counts.failed, counts.missing) == (3, 3, 0)


@pytest.mark.parametrize("signal", ["metrics", "logs", "traces"])
def test_what_doubles_only_later_is_found_too(signal: str) -> None:
    store = SignalStore()
    of = store.of[signal]
    counts = sing(store, signal, 60, (20.5, lambda: of.items.append(of.items[-1])))
    assert (counts.doubled, counts.failed, counts.missing) == (1, 0, 0)


@pytest.mark.parametrize("signal", ["metrics", "logs", "traces"])
def test_what_is_lost_after_it_was_seen_is_missing(signal: str) -> None:
    store = SignalStore()
    of = store.of[signal]
    counts = sing(store, signal, 60, (20.5, of.items.pop))
    assert (counts.missing, counts.failed) == (1, 0)


@pytest.mark.parametrize("signal", ["metrics", "logs", "traces"])
def test_what_comes_too_late_is_late_and_not_missing(signal: str) -> None:
    store = SignalStore()
    of = store.of[signal]
    counts = sing(store, signal, 60, (20.5, change(of, "hidden_for", 7.0)), (22.5, change(of, "hidden_for", 0.0)))
    assert (counts.late, counts.failed, counts.missing) == (2, 2, 0)


def test_what_comes_much_too_late_is_not_taken_for_lost() -> None:
    store = SignalStore()
    of = store.of["metrics"]
    counts = sing(store, "metrics", 60, (20.5, change(of, "hidden_for", 20.0)), (22.5, change(of, "hidden_for", 0.0)))
    assert (counts.late, counts.failed, counts.missing) == (2, 2, 0)


def test_what_nobody_could_look_for_is_unverified_and_not_missing() -> None:
    store = SignalStore()
    counts = sing(store, "metrics", 20, (15.5, change(store.of["metrics"], "down", True)))
    assert counts.missing == 0
    assert counts.unverified > 0


def test_another_value_than_what_was_written_is_not_the_item() -> None:
    store = SignalStore()

    def falsify() -> None:
        store.of["metrics"].items[-1][1].value += 0.25

    assert sing(store, "metrics", 60, (20.5, falsify)).missing == 1


def test_an_item_that_is_refused_fails_its_round_and_is_not_missing() -> None:
    store = SignalStore()
    store.of["logs"].refuses = True
    counts = sing(store, "logs", 9.5)
    assert (counts.failed, counts.missing) == (10, 0)
    assert {(operation, code) for operation, code, _ in counts.errors} == {("write", "OUT_OF_RANGE")}


def test_a_rule_that_is_not_evaluated_is_missed_once_and_late_once_it_is() -> None:
    store = SignalStore()
    counts = sing(
        store, "alerts", 60, (20.5, change(store, "evaluates", False)), (29.0, change(store, "evaluates", True))
    )
    assert counts.failed in (1, 2)
    assert counts.missing == 0
    assert counts.late >= 1


def test_a_rule_that_never_fires_is_missing() -> None:
    store = SignalStore()
    store.evaluates = False
    counts = sing(store, "alerts", 60)
    assert counts.failed == counts.rounds
    # The last ones may still be on their way.
    assert counts.missing == counts.rounds - counts.unverified > 0


def test_two_alerts_where_one_should_fire_are_doubled() -> None:
    store = SignalStore()
    store.alerts_at_once = 2
    assert sing(store, "alerts", 10).doubled > 0


def test_the_rule_of_a_run_that_was_killed_is_replaced_and_none_is_left() -> None:
    store = SignalStore()

    async def be_killed() -> None:
        probe = flock.probe_of("alerts", store, "test")  # type: ignore[arg-type]
        await probe.prepare()
        await probe.write(Mark(1, 1_000_000, "1"))
        assert await probe.read(Mark(1, 1_000_000, "1")) == 1

    in_virtual_time(be_killed())
    assert sing(store, "alerts", 20).failed == 0
    assert store.rules_there == {}


def test_rounds_begin_when_they_are_due_and_no_more_are_under_way_than_allowed() -> None:
    store = SignalStore()
    store.of["logs"].hidden_for = 1_000.0
    rhythm = Rhythm(interval=0.1, within=100.0, check_after=1_000.0, most_under_way=5, most_unchecked=3)
    counts = sing(store, "logs", 9.95, rhythm=rhythm)
    assert (counts.rounds, counts.failed, counts.skipped) == (100, 100, 95)
    # Of the five, three may wait for another look.
    assert (counts.unverified, counts.missing) == (2, 3)


def test_what_it_finds_is_told_to_opentelemetry() -> None:
    reader, store = InMemoryMetricReader(), SignalStore()
    of = store.of["logs"]
    sing(store, "logs", 59.5, (20.5, change(of, "copies", 2)), (23.5, change(of, "copies", 1)), reader=reader)
    data: Any = reader.get_metrics_data()
    metrics = {metric.name: metric for metric in data.resource_metrics[0].scope_metrics[0].metrics}

    def values(name: str) -> dict[str, float]:
        return {
            str(point.attributes.get("outcome", point.attributes["signal"])): getattr(point, "value", 0)
            for point in metrics[name].data.data_points
        }

    assert values("airis.canary.rounds") == {"ok": 57, "failed": 3}
    assert values("airis.canary.doubled") == {"logs": 3}
    assert values("airis.canary.missing") == {"logs": 0}
    assert values("airis.canary.availability")["logs"] == pytest.approx(57 / 60)
    assert values("airis.canary.burn")["logs"] == pytest.approx(50)
    (visible,) = metrics["airis.canary.visible.duration"].data.data_points
    assert visible.count == 60


def test_the_objective_is_what_the_contract_says() -> None:
    assert objective("metrics") == Objective(availability=0.999, write_p95=0.1, read_p95=0.1)
    counts = Counts(rounds=1000, failed=2)
    assert objective("metrics").burn(counts.availability) == pytest.approx(2.0)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.95, 1.0])
def test_a_quantile_is_at_most_four_percent_too_much(share: float) -> None:
    dice, latencies = random.Random(3), Latencies()
    lengths = sorted(dice.lognormvariate(-3, 1.5) for _ in range(1000))
    for length in lengths:
        latencies.add(length)
    exact = lengths[round(share * 1000) - 1]
    assert exact <= latencies.quantile(share) * (1 + 1e-9) <= exact * 1.041
