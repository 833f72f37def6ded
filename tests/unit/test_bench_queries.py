"""The data that queries are measured on is whole, or made anew, and what is asked of much of it is judged."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from bench import __main__ as every_part
from bench import goals, queries, query_places
from bench.query_places import QueryFigure
from bench.query_questions import QUESTIONS, Question, Sizes
from bench.results import Results
from bench.runner import Options

SIZES = Sizes(10_000, 100, 160, 1_790_000_000)


class _Children:
    """Stands in for the processes that load; `dies_at` is the load that does not end."""

    def __init__(self, dies_at: int = 0) -> None:
        self.loaded: list[str] = []
        self._dies_at = dies_at

    def __call__(self, target: Callable[..., Any], name: str, data_dir: Path, *_: object) -> list[Any]:
        if target is queries.load:
            (data_dir / name).mkdir()
            self.loaded.append(name)
            if len(self.loaded) == self._dies_at:
                raise BrokenProcessPool
        return []


class _Platform:
    """Stands in for the platform, whose ports are shifted by the last of the offsets."""

    def __init__(self, offsets: range) -> None:
        self._offset = offsets[-1]
        self.stopped = False

    def start(self, directory: Path) -> None: ...

    def pids(self) -> list[int]:
        return [os.getpid()]

    def address(self, port: int) -> str:
        return f"127.0.0.1:{port + self._offset}"

    def stop(self) -> None:
        self.stopped = True


def _figure(question: Question, p95_ms: float = 49.0, place: str = "grpc") -> QueryFigure:
    much = queries.LARGE[question.signal]
    return QueryFigure(question.name, question.signal, much, place, question.goal_ms, 1.0, 2.0, p95_ms, 3.0, 200, 4)


def test_what_an_interrupted_load_left_is_removed_and_loaded_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    children = _Children(dies_at=2)
    monkeypatch.setattr(queries, "_in_child", children)

    with pytest.raises(BrokenProcessPool):
        queries.measure(tmp_path, SIZES, in_process=True)
    queries.measure(tmp_path, SIZES, in_process=True)
    queries.measure(tmp_path, SIZES, in_process=True)

    assert children.loaded == ["metrics", "logs", "metrics", "logs", "traces"]


def test_data_that_is_counted_otherwise_than_it_was_loaded_is_not_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def miscount(platform: object, sizes: Sizes) -> None:
        raise RuntimeError("one is lost")

    children = _Children()
    monkeypatch.setattr(queries, "_in_child", children)
    monkeypatch.setattr(queries, "_check_counts", miscount)
    monkeypatch.setattr(queries, "AirisTarget", _Platform)

    with pytest.raises(RuntimeError, match="one is lost"):
        queries.measure(tmp_path, SIZES)
    queries.measure(tmp_path, SIZES, in_process=True)

    assert children.loaded == ["metrics", "logs", "traces"] * 2


def test_a_child_that_is_killed_is_an_error_and_not_waited_for() -> None:
    with pytest.raises(BrokenProcessPool):
        queries._in_child(os._exit, 1)


def test_a_folder_with_other_sizes_is_refused_in_one_sentence_and_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    children = _Children()
    monkeypatch.setattr(queries, "_in_child", children)
    queries.measure(tmp_path, SIZES, in_process=True)
    known = f"{tmp_path} has 10,000 points, 100 lines and 160 spans"
    assert capsys.readouterr().out == f"{known}\n"
    # Only whole rounds of all series and whole traces are made, and the time at which data ends is no size.
    queries.measure(tmp_path, replace(SIZES, points=10_001, spans=161, end=SIZES.end + 10), in_process=True)
    monkeypatch.setattr("sys.argv", ["queries", "--data-dir", str(tmp_path), "--points", "20000", "--in-process"])

    with pytest.raises(SystemExit) as ended:
        queries.main()

    other = "20,000 points, 1,000,000 lines and 1,000,000 spans"
    assert ended.value.code == f"{known}, not {other}: name its sizes, or another folder."
    assert children.loaded == ["metrics", "logs", "traces"]


@pytest.mark.parametrize(("slowest_ms", "code"), [(50.0, 0), (51.0, 1)])
def test_each_question_asked_of_much_data_is_judged_by_its_p95(
    slowest_ms: float, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    *others, service_map = QUESTIONS
    # Elsewhere than over gRPC nothing is judged.
    figures = [
        *(_figure(each) for each in others),
        _figure(service_map, 99.0, "rest"),
        _figure(service_map, slowest_ms),
    ]
    monkeypatch.setattr(queries, "measure", lambda *_, **__: figures)
    monkeypatch.setattr("sys.argv", ["queries", "--data-dir", str(tmp_path)])

    assert queries.main() == code

    printed = capsys.readouterr().out
    verdict = "missed by 2 %" if code else "reached"
    assert f"query of 10,000,000: service map, p95: {slowest_ms:.2f} ms, goal 50: {verdict}" in printed.splitlines()
    written = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert {each["stored"] for each in written if "stored" in each} == {100_000_000, 10_000_000}
    goals = [each for each in written if "goal" in each]
    assert [each["what"].split(": ")[1].removesuffix(", p95") for each in goals] == [each.name for each in QUESTIONS]
    assert [each["verdict"] for each in goals] == ["reached"] * 7 + [verdict]


def test_less_data_is_not_judged_by_the_goals_of_much() -> None:
    slow = [replace(_figure(each, 99.0), stored=queries.LARGE[each.signal] - 1) for each in QUESTIONS]
    assert queries.outcomes(slow) == []


def test_a_fast_answer_that_is_empty_reaches_no_goal() -> None:
    empty = replace(_figure(QUESTIONS[0]), items=0)
    of_little = goals.outcomes(Results({}, {}, queries=[asdict(empty)]))
    verdicts = [each.verdict for each in (*queries.outcomes([empty]), *of_little) if QUESTIONS[0].name in each.what]
    assert verdicts == ["not measured"] * 2
    assert not any(each.reached for each in queries.outcomes([empty]))


class _Answering:
    """A process that spends a second of CPU on each answer, over gRPC and as JSON."""

    def __init__(self) -> None:
        self._answers = 0

    def answer(self, *_: object) -> bytes:
        self._answers += 1
        return b""

    def cpu_times(self) -> tuple[float, float, float]:
        return (float(self._answers), 0.0, 100.0)


def test_what_an_answer_costs_is_counted_from_the_first_that_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    answering: Any = _Answering()
    monkeypatch.setattr("bench.query_places.http.client.HTTPConnection", lambda *_, **__: _Connection(answering))
    server = grpc.server(ThreadPoolExecutor(1))
    _, service, method = QUESTIONS[2].method.split("/")
    handlers = {method: grpc.unary_unary_rpc_method_handler(answering.answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    figures = [
        ask(QUESTIONS[2], f"127.0.0.1:{port}", SIZES, 10, answering)
        for ask in (query_places.over_grpc, query_places.over_rest)
    ]
    server.stop(None).wait()

    assert [(each.asked, each.cpu_ms) for each in figures] == [(10, 1000.0)] * 2


class _Connection:
    """Stands in for one to Envoy."""

    status = 200

    def __init__(self, answering: _Answering) -> None:
        self._answering = answering

    def request(self, *_: object) -> None: ...

    def getresponse(self) -> _Connection:
        return self

    def read(self) -> bytes:
        return self._answering.answer()

    def close(self) -> None: ...


def test_questions_are_asked_at_the_ports_that_the_platform_found_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    platforms: list[_Platform] = []
    asked: list[str] = []

    def started(offsets: range) -> _Platform:
        platforms.append(_Platform(offsets))
        return platforms[-1]

    def ask(question: Question, address: str, *_: object) -> QueryFigure:
        asked.append(address)
        return _figure(question)

    monkeypatch.setattr(queries, "_in_child", _Children())
    monkeypatch.setattr(queries, "AirisTarget", started)
    monkeypatch.setattr(queries, "_service", lambda platform, name: None)
    monkeypatch.setattr(queries, "over_grpc", ask)
    monkeypatch.setattr(queries, "over_rest", ask)

    queries.measure(tmp_path, SIZES, offsets=range(100, 400, 100), only=["logs"])

    assert asked == ["127.0.0.1:8302", "127.0.0.1:8380"] * 3
    assert [platform.stopped for platform in platforms] == [True]


def test_the_part_of_the_benchmark_keeps_its_data_below_the_work_folder_and_takes_any_free_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []

    def measure(folder: Path, sizes: Sizes, repeats: int, offsets: range) -> list[QueryFigure]:
        given.extend([folder.parent, folder.is_dir(), offsets])
        return [_figure(QUESTIONS[0])]

    monkeypatch.setattr(queries, "measure", measure)
    work, results = tmp_path / "work", Results({}, {})
    work.mkdir()
    offsets = range(10_000, 20_000, 10)
    chosen: Any = SimpleNamespace(quick=True, results=tmp_path / "results", port_offsets=offsets)

    every_part.PARTS["queries"](results, chosen, Options(0, work=work))

    assert given == [work, True, offsets]
    assert not list(work.iterdir())
    assert results.queries[0]["stored"] == 100_000_000
