"""What a peer has stored is read from its own answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest

from bench.payloads import METRIC_NAMES
from bench.peers.ask import ask, metric
from bench.peers.promql import points_stored
from bench.target import TargetError

Answer = Callable[[str, str], tuple[int, str]]


@pytest.fixture
def server() -> Iterator[Callable[[Answer], str]]:
    """Starts a server that answers by a function of path and body; gives its address."""
    running: list[ThreadingHTTPServer] = []

    def start(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                status, text = answer(self.path, body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            do_GET = do_POST  # noqa: N815

            def log_message(self, *_: object) -> None: ...

        running.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=running[-1].serve_forever, daemon=True).start()
        return f"127.0.0.1:{running[-1].server_port}"

    yield start
    for each in running:
        each.shutdown()
        each.server_close()


def promql(values: dict[str, str], **more: object) -> Answer:
    """Answers with the value of the first name that a query holds, or with nothing."""

    def answer(_: str, body: str) -> tuple[int, str]:
        query = parse_qs(body)["query"][0]
        found = [{"metric": {}, "value": [0, value]} for name, value in values.items() if f'"{name}(' in query]
        return 200, json.dumps({"status": "success", "data": {"result": found}, **more})

    return answer


def test_points_are_the_sum_over_all_metrics(server: Callable[[Answer], str]) -> None:
    address = server(promql({name: str(number + 1) for number, name in enumerate(METRIC_NAMES)}))

    assert points_stored(address) == sum(range(len(METRIC_NAMES) + 1))


def test_an_empty_store_has_no_points(server: Callable[[Answer], str]) -> None:
    assert points_stored(server(promql({}))) == 0


def test_no_question_is_asked_twice_as_its_answer_would_be_remembered(server: Callable[[Answer], str]) -> None:
    asked: list[str] = []

    def answer(path: str, body: str) -> tuple[int, str]:
        asked.append(parse_qs(body)["query"][0])
        return promql({})(path, body)

    address = server(answer)
    points_stored(address)
    points_stored(address)

    assert len(set(asked)) == len(asked)


def test_a_partial_answer_is_no_count(server: Callable[[Answer], str]) -> None:
    with pytest.raises(TargetError, match="cannot count"):
        points_stored(server(promql({}, isPartial=True)))


def test_an_error_is_told_with_its_reason(server: Callable[[Answer], str]) -> None:
    with pytest.raises(TargetError, match="HTTP 422: too many samples"):
        ask(server(lambda *_: (422, "too many samples")), "GET", "/")


def test_a_server_that_is_away_is_told() -> None:
    with pytest.raises(TargetError, match="ConnectionRefusedError"):
        ask("127.0.0.1:1", "GET", "/")


def test_a_metric_is_summed_over_its_series(server: Callable[[Answer], str]) -> None:
    text = 'rows{type="memory"} 3\nrows{type="disk"} 1e2\nrows_total 7\n# rows 5\nplain 4\n'
    address = server(lambda *_: (200, text))

    assert metric(address, "rows") == 103
    assert metric(address, "rows", 'type="memory"') == 3
    assert metric(address, "plain") == 4
    assert metric(address, "absent") == 0
