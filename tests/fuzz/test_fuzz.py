"""A short part of what `make fuzz` does: hostile inputs for the decoders, and what fuzzing a platform has found."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz import decoding, raw
from tests.fuzz.addresses import Addresses
from tests.fuzz.contract import SIGNALS, rpcs
from tests.fuzz.decoders import Decoders
from tests.fuzz.report import Report
from tests.fuzz.watching import Watched

SEED = 20261121
_SECONDS = 20.0
# Coprime to the inputs of one message: all targets come early.
_STRIDE = 17
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    running = Watched(tmp_path_factory.mktemp("fuzz") / "data", with_tokens=False)
    running.start()
    yield running
    running.stop()


def nothing_found(report: Report) -> None:
    assert not report.findings, "\n".join(line for line in report.lines() if line.startswith("FINDING"))


def test_every_rpc_and_route_of_the_contract_is_fuzzed() -> None:
    assert len(rpcs()) > 60
    assert {rpc.signal for rpc in rpcs()} == set(SIGNALS)
    without_route = {rpc.name for rpc in rpcs() if not rpc.routes and not rpc.is_otlp}
    assert without_route == {"StreamLogs", "StreamMetrics", "StreamSpans"}


def test_no_decoder_fails_over_a_callers_mistake() -> None:
    decoders, report = Decoders(SEED), Report()
    began = time.monotonic()
    for index in itertools.count(0, _STRIDE):
        if time.monotonic() - began > _SECONDS:
            break
        decoding.one(decoders, index, report, f"{SEED}:d{index}")
    assert report.inputs > 100
    nothing_found(report)


@pytest.mark.parametrize("field", [("grpc-timeout", "x"), ("grpc-encoding", "x" * 9), ("te", "x"), ("x-bin", "%%%")])
async def test_a_bad_header_of_one_caller_fails_no_call_of_another(watched: Watched, field: tuple[str, str]) -> None:
    at: Addresses = watched.addresses
    for rpc in rpcs():
        if rpc.name in ("ListMetrics", "CountLogs", "ListServices", "ListAlerts"):
            fields = [field, ("authorization", f"Bearer {at.token or 'x'}")]
            await raw.call(int(at.edge.rpartition(":")[2]), rpc.path, fields)
    await asyncio.to_thread(watched.plain_calls)


def test_a_finding_names_the_input_that_shows_it_again(tmp_path: Path) -> None:
    report = Report()
    try:
        raise ValueError("seen")
    except ValueError as error:
        report.raised(error, "target", "7:d42")
        report.raised(error, "target", "7:d43")
    (finding,) = report.findings.values()
    assert (finding.replay, finding.count) == ("7:d42", 2)
    assert any("--replay 7:d42" in line for line in report.lines())
