"""What a service acknowledged under overload is counted once it has stopped."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from airis.metrics.v1 import metrics_pb2

sys.path.insert(0, str(Path(__file__).parents[2]))

from overload_load import Call, Phase, Report

from bench import overload, overload_audit, overload_traffic
from bench.airis_audit import Audit
from bench.overload_audit import items
from bench.overload_traffic import BATCH
from bench.target import TargetError
from services.shared.bus.adapters.journal_checkpoint import Checkpoint, Standing


def test_a_refused_batch_is_not_stored_and_one_without_an_answer_may_be() -> None:
    calls = [Call("", 0.0, 0.1, code, None) for code in ("OK", "OK", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED")]
    assert items(calls, further=1) == {"acknowledged": 2001, "unknown": 1000}


class _Service:
    """Stores two of three batches, and refuses the third."""

    def __init__(self) -> None:
        self.stored = 0
        self._runs = False

    @contextmanager
    def alone(self, service: str, folder: Path) -> Iterator[overload.Subject]:
        self._runs = True
        yield overload.Subject("service", "service", os.getpid())
        self._runs = False

    def fill(self, service: str, target: str) -> int:
        self.stored += 50
        return 50

    def store_all(self, service: str, target: str) -> float:
        self.stored += 1
        return 0.5

    def offer(self, target: str, phases: Sequence[Phase], **_: object) -> list[Report]:
        codes = ("OK", "OK", "RESOURCE_EXHAUSTED")
        reports = []
        for phase in phases:
            method = phase.traffic[0].method
            self.stored += 2 * BATCH if "Ingest" in method else 0
            reports.append(Report(phase, [Call(method, 0.1, 0.01, code, 1.0) for code in codes]))
        return reports

    def watch(self, pid: int, journal: Path) -> SimpleNamespace:
        assert self._runs
        assert (pid, journal.parts[-2:]) == (os.getpid(), ("metrics", "journal"))
        return SimpleNamespace(most_memory=1.0, stored=[(0.0, 2), (0.5, 5)], end=lambda: None)

    def audit(self, mistake: int) -> Callable[..., Audit]:
        def count(data_dir: Path, signal: str, names: Sequence[str]) -> Audit:
            assert not self._runs
            # Each batch is the same: there are fewer distinct ones.
            return Audit({"points": self.stored + mistake, "distinct points": BATCH}, {})

        return count


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> _Service:
    """Takes the place of a real one."""
    service = _Service()
    for name in ("alone", "fill", "store_all", "offer"):
        monkeypatch.setattr(overload, name, getattr(service, name))
    monkeypatch.setattr(overload, "Watch", service.watch)
    return service


@pytest.mark.parametrize("acknowledged", [False, True])
@pytest.mark.parametrize(("mistake", "told"), [(0, ""), (-1, "acknowledged items are lost"), (1, "items are doubled")])
def test_an_item_that_is_lost_or_doubled_is_a_goal_missed(
    mistake: int, told: str, acknowledged: bool, tmp_path: Path, service: _Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overload_audit, "audit", service.audit(mistake))

    query, ingest = overload.measure("metrics", 1.0, set(), tmp_path, through_envoy=False, acknowledged=acknowledged)

    assert query.faults == ()
    assert [told in fault for fault in ingest.faults] == ([True] if told else [])
    assert [miss for miss in ingest.misses if miss.startswith("metrics: 1 ")] == list(ingest.faults)


def test_what_cannot_be_counted_is_a_goal_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def audit(*_: object) -> Audit:
        raise TargetError("the count took too long")

    monkeypatch.setattr(overload_audit, "audit", audit)
    found = overload_audit.lost_or_doubled(tmp_path, "metrics", {"acknowledged": 1, "unknown": 0})
    assert found == ["metrics: not counted: the count took too long"]


@pytest.mark.parametrize(("acknowledged", "stored"), [(False, 3.0), (True, None)])
def test_what_the_store_took_under_overload_is_counted_where_the_peak_is_of_what_it_takes(
    acknowledged: bool, stored: float | None, tmp_path: Path, service: _Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overload_audit, "audit", service.audit(0))

    query, ingest = overload.measure("metrics", 1.0, set(), tmp_path, through_envoy=False, acknowledged=acknowledged)

    assert (query.stored, ingest.stored) == (None, stored)


def test_what_a_service_has_stored_is_read_from_its_journal_while_it_runs(tmp_path: Path) -> None:
    Checkpoint.create(tmp_path, uuid.uuid4())
    service = Checkpoint.open(tmp_path)
    watch = overload.Watch(os.getpid(), tmp_path)
    watch.end()
    for committed in (3, 7):
        service.write(Standing(committed, 1, 9, 9))
        watch.look_at_the_store()
    service.close()
    # The thread may have looked once before it ended.
    assert [stored for _, stored in watch.stored][-2:] == [3, 7]
    assert [at for at, _ in watch.stored] == sorted(at for at, _ in watch.stored)


class _TooLate(grpc.RpcError):
    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.DEADLINE_EXCEEDED


def test_what_fills_a_service_is_known_by_its_id_when_it_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    stored: dict[str, int] = {}

    def call(body: bytes, timeout: float) -> None:
        request = metrics_pb2.IngestMetricsRequest.FromString(body)
        is_new = request.request_id not in stored
        stored[request.request_id] = len(request.metrics)
        if is_new:
            raise _TooLate

    @contextmanager
    def ingest(service: str, target: str) -> Iterator[Any]:
        yield call

    monkeypatch.setattr(overload_traffic, "_ingest", ingest)
    monkeypatch.setattr(overload_traffic, "_PAUSE_SECONDS", 0.0)
    assert overload_traffic.fill("metrics", "service") == sum(stored.values())
