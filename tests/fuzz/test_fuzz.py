"""A short part of what `make fuzz` does: hostile inputs for the decoders, and what fuzzing a platform has found."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace

import grpc
import psutil
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from service_process import ServiceProcess

from services.mesh import convert
from services.supervisor.logs import ConsoleLog
from tests.fuzz import __main__ as program
from tests.fuzz import decoding, raw, watching
from tests.fuzz.addresses import Addresses
from tests.fuzz.contract import EVERY, MESH, ROOT, SIGNALS, rpcs, signal_rpcs
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
    try:
        running.start()
        yield running
    finally:
        running.stop()


def nothing_found(report: Report) -> None:
    assert not report.findings, "\n".join(line for line in report.lines() if line.startswith("FINDING"))


def test_every_rpc_and_route_of_the_contract_is_fuzzed() -> None:
    assert len(signal_rpcs()) > 60
    assert {rpc.signal for rpc in signal_rpcs()} == set(SIGNALS)
    without_route = {rpc.name for rpc in signal_rpcs() if not rpc.routes and not rpc.is_otlp}
    assert without_route == {"StreamLogs", "StreamMetrics", "StreamSpans"}


@pytest.mark.parametrize("signal", SIGNALS)
def test_what_a_running_service_says_that_it_serves_is_what_is_fuzzed(watched: Watched, signal: str) -> None:
    with grpc.insecure_channel(watched.addresses.grpc(signal)) as channel:
        listed = ProtoReflectionDescriptorDatabase(channel)
        pool = DescriptorPool(listed)
        served = {
            f"/{name}/{method.name}"
            for name in listed.get_services()
            for method in pool.FindServiceByName(name).methods
        }
    assert served == {rpc.path for rpc in rpcs() if rpc.signal in (signal, EVERY)}


def test_the_mesh_which_has_no_reflection_is_fuzzed() -> None:
    assert [rpc.path for rpc in rpcs() if rpc.signal == MESH] == [convert.METHOD]


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


def frame(kind: int, payload: bytes, flags: int = 4) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", 1) + payload


SETTINGS, HEADERS, RESET, GOAWAY = 4, 1, 3, 7
PADDED, PRIORITY = 0x8, 0x20


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param(frame(HEADERS, b"\x8e"), id="500 of the table"),
        pytest.param(frame(HEADERS, b"\x48\x03503\x88"), id="503"),
        pytest.param(frame(HEADERS, b"\x48\x83\x6c\x0c\xff"), id="503 in Huffman's code"),
        pytest.param(frame(HEADERS, b"\x02\x8e\0\0", PADDED), id="padded"),
        pytest.param(frame(HEADERS, bytes(5) + b"\x8e", PRIORITY), id="with a priority"),
        pytest.param(frame(HEADERS, b"\x01" + bytes(5) + b"\x8e\0", PADDED | PRIORITY), id="with both"),
        pytest.param(frame(HEADERS, b"\x20\x3f\xe1\x1f\x48\x03503"), id="after sizes of the table"),
        pytest.param(frame(GOAWAY, struct.pack(">II", 1, 99)), id="an error code that there is not"),
    ],
)
def test_frames_that_blame_the_server_are_a_finding(frames: bytes) -> None:
    with pytest.raises(AssertionError):
        raw.judged(frame(SETTINGS, b"") + frames)


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        (frame(HEADERS, b"\x88"), "frames"),
        (frame(HEADERS, b"\x48\x03501"), "frames"),
        (frame(HEADERS, b"\x48\x82\x6c\x01"), "frames"),
        (frame(HEADERS, b"\x48\x82"), "frames"),
        (frame(HEADERS, b"", PADDED), "frames"),
        (frame(RESET, struct.pack(">I", 1)), "reset 1"),
        (frame(GOAWAY, struct.pack(">II", 1, 11)), "GOAWAY 11"),
    ],
)
def test_frames_that_refuse_a_caller_are_told_apart(frames: bytes, said: str) -> None:
    assert raw.judged(frame(SETTINGS, b"") + frames) == said


def test_what_is_no_http_is_a_finding() -> None:
    with pytest.raises(AssertionError):
        raw.judged(b"Traceback (most recent call last)")


class _WholeCall(Random):
    """Chooses whole conversations of HTTP/2, and else the first of all."""

    def choice(self, seq):  # type: ignore[no-untyped-def]
        return "http2" if "http2" in seq else seq[0]


async def test_a_server_that_never_answers_a_whole_conversation_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw, "ANSWER_SECONDS", 0.05)
    left = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        left.set()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        at = SimpleNamespace(token="", all_ports=lambda: [port])
        with pytest.raises(TimeoutError):
            await raw.send(_WholeCall(1), at, "/a.B/C", b"")  # type: ignore[arg-type]
        await left.wait()


def test_as_many_inputs_go_over_the_wire_as_the_document_says(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def run(seed: int, arguments: argparse.Namespace) -> tuple[Report, dict[str, int]]:
        given.append(arguments)
        return Report(), {}

    monkeypatch.setattr(program, "run", run)
    monkeypatch.setattr("sys.argv", ["fuzz"])
    program.main()
    (arguments,) = given
    decoded = round(arguments.inputs * (1 - arguments.wire))
    assert f"{decoded:,} of a million, go to the decoders" in (ROOT / "docs" / "fuzzing.md").read_text()


@pytest.mark.parametrize(("cores", "processes"), [(1, 1), (6, 6), (64, 8)])
def test_as_many_processes_decode_as_there_are_cores_up_to_eight(
    cores: int, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert decoding.cores() == processes


@pytest.mark.usefixtures("temporary_files_in_memory")
def test_data_lies_on_a_disk_though_temporary_files_are_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "RESULTS", tmp_path / "results")
    folders = []

    class StartedError(Exception):
        pass

    def started(folder: Path, *, with_tokens: bool) -> Watched:
        folders.append(folder)
        raise StartedError

    monkeypatch.setattr(program, "Watched", started)
    monkeypatch.setattr("sys.argv", ["fuzz", "--only", "wire", "--inputs", "1", "--seed", "1"])
    with pytest.raises(StartedError):
        program.main()
    assert folders[0].parent.parent == tmp_path / "results" / "work"
    assert not list((tmp_path / "memory").iterdir())


class _Platform:
    """What a run has of a platform, without one."""

    is_broken = False

    def __init__(self, folder: Path, *_: str) -> None:
        self.offset, self.stopped = 0, False

    def start(self, within: float) -> None:
        assert not self.is_broken, "the platform did not start"

    def processes(self) -> list[psutil.Process]:
        assert not self.is_broken
        return []

    def stop(self) -> None:
        self.stopped = True


@pytest.fixture
def not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    monkeypatch.setattr(watching, "Platform", _Platform)
    return Watched(tmp_path / "data", with_tokens=False)


def test_of_what_starts_in_part_that_part_is_stopped(not_started: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: ServiceProcess) -> None:
        raise AssertionError("the mesh did not start")

    monkeypatch.setattr(ServiceProcess, "start", start)
    with pytest.raises(AssertionError, match="the mesh"):
        not_started.start()
    not_started.stop()
    assert not_started.platform.stopped  # type: ignore[attr-defined]


def test_a_platform_that_did_not_start_need_not_be_stopped(
    not_started: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Platform, "is_broken", True)
    with pytest.raises(AssertionError, match="the platform"):
        not_started.start()
    not_started.stop()


def test_lines_that_the_log_has_lost_are_a_finding(tmp_path: Path) -> None:
    with (tmp_path / "console").open("w") as console:
        log = ConsoleLog(console)
        log._dropped = 3
        log.line("metrics", "as ever")
        log.close()
    report = Report()
    watching.judge_lines((tmp_path / "console").read_text().splitlines(keepends=True), report, "the whole run")
    assert list(report.findings) == ["lines of the log were left out"]


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
