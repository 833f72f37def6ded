"""`airis up --frontends 2 --auth`: calls reach the services by way of frontends, and nobody sees a difference."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from airis.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from platform_process import WITHOUT_DEMO, Platform, eventually

AIRIS = Path(sys.executable).parent / "airis"
FRONTENDS = ("frontend-1", "frontend-2")
# Where they tell of the calls that they took for metrics.
FRONTENDS_METRICS = (9111, 9121)
INGEST = "MetricsService/IngestMetrics"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    running = Platform(
        tmp_path_factory.mktemp("frontends") / "data", *WITHOUT_DEMO, "--auth", "--frontends", str(len(FRONTENDS))
    )
    running.start()
    yield running
    running.stop()


def headers(platform: Platform, role: str, tenant: str = "default") -> dict[str, str]:
    command = [AIRIS, "auth", "token", "--role", role, "--tenant", tenant, "--subject", "test"]
    made = subprocess.run(
        [*command, "--data-dir", str(platform.data_dir)], capture_output=True, text=True, timeout=60, check=True
    )
    return {"Authorization": f"Bearer {made.stdout.strip()}"}


@pytest.fixture(scope="module")
def editor(platform: Platform) -> dict[str, str]:
    return headers(platform, "editor")


def points(name: str, number: int) -> dict[str, Any]:
    return {
        "metrics": [{"name": name, "value": number}] * 20,
        "requestId": f"{name}.{number}",
        "waitFor": "QUERYABLE",
    }


def stored(platform: Platform, name: str, asker: dict[str, str]) -> float:
    end = datetime.now(UTC) + timedelta(minutes=1)
    query = {"metric": name, "aggregation": "COUNT", "step": "7200s", "endTime": end.isoformat()}
    status, answer = platform.call("POST", "/api/v1/metrics:query", query, asker)
    assert status == 200, answer
    return sum(int(point["value"]) for series in answer["series"] for point in series["points"])


def calls(platform: Platform, port: int) -> float:
    """How many calls of the ingest method a process has answered, as it says itself."""
    url = f"http://127.0.0.1:{port + platform.offset}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    counted = [line for line in lines if line.startswith("rpc_server_duration_milliseconds_count") and INGEST in line]
    return sum(float(line.rpartition(" ")[2]) for line in counted)


def test_calls_are_taken_by_the_frontends_and_questions_by_the_service(
    platform: Platform, editor: dict[str, str]
) -> None:
    # Others get some, too: whoever else calls would only add to them.
    before = [calls(platform, port) for port in FRONTENDS_METRICS]
    for number in range(20):
        assert taken(platform, "front.taken", number, editor)["acceptedCount"] == 20
    assert sum(calls(platform, port) for port in FRONTENDS_METRICS) >= sum(before) + 20
    assert calls(platform, 9101) == 0
    assert stored(platform, "front.taken", editor) == 400


def test_a_call_is_stored_once_whichever_frontend_takes_it_again(platform: Platform, editor: dict[str, str]) -> None:
    for _ in range(6):
        status, answer = platform.call("POST", "/api/v1/metrics", points("front.once", 1), editor)
        assert (status, answer["acceptedCount"]) == (200, 20), answer
    assert stored(platform, "front.once", editor) == 20


def test_a_frontend_knows_who_calls_and_whose_data_it_is(platform: Platform, editor: dict[str, str]) -> None:
    body = points("front.secret", 1)
    assert platform.call("POST", "/api/v1/metrics", body)[0] == 401
    assert platform.call("POST", "/api/v1/metrics", body, headers(platform, "viewer"))[0] == 403
    assert platform.call("POST", "/api/v1/metrics", body, headers(platform, "editor", "acme"))[0] == 200
    assert stored(platform, "front.secret", headers(platform, "viewer", "acme")) == 20
    assert stored(platform, "front.secret", editor) == 0


@pytest.mark.parametrize("signal", ["metrics", "logs", "traces"])
def test_each_signal_has_its_owner(platform: Platform, editor: dict[str, str], signal: str) -> None:
    request = urllib.request.Request(f"{platform.otlp_http}/v1/{signal}", b"{}")
    for name, value in (("Content-Type", "application/json"), *editor.items()):
        request.add_header(name, value)
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert (answer.status, answer.read()) == (200, b"{}")
    wrong = {"metrics": "metrics", "logs": "entries", "traces": "spans"}[signal]
    path = {"metrics": "/api/v1/metrics", "logs": "/api/v1/logs", "traces": "/api/v1/spans"}[signal]
    status, answer = platform.call("POST", path, {wrong: []}, editor)
    assert (status, answer["details"][0]["domain"]) == (400, f"{signal}.airis"), answer


def test_a_frontend_asks_for_a_token_also_where_envoy_does_not_stand_before_it(platform: Platform) -> None:
    port = platform.state()["frontend-1"]["address"].rpartition(":")[2].partition(",")[0]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as told:
        metrics_pb2_grpc.MetricsServiceStub(channel).IngestMetrics(metrics_pb2.IngestMetricsRequest())
    assert told.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_bad_item_is_named_in_the_words_of_the_service(platform: Platform, editor: dict[str, str]) -> None:
    body = {"metrics": [{"name": "front.good", "value": 1}, {"name": "", "value": 1}]}
    status, answer = platform.call("POST", "/api/v1/metrics", body, editor)
    assert (status, answer["acceptedCount"]) == (200, 1), answer
    (rejection,) = answer["rejections"]
    assert rejection["index"] == 1
    assert "metrics.airis" in str(rejection)
    status, answer = platform.call("POST", "/api/v1/metrics", {}, editor)
    assert (status, answer["details"][0]["domain"]) == (400, "metrics.airis")


@pytest.mark.parametrize("victim", [*FRONTENDS, "metrics"])
def test_after_a_death_the_next_call_is_answered_and_nothing_is_stored_twice(
    platform: Platform, editor: dict[str, str], victim: str
) -> None:
    name = f"front.survives.{victim}"
    before = platform.state()[victim]["pid"]
    for number in range(10):
        if number == 5:
            psutil.Process(before).kill()
        # A call that was under way is the sender's to repeat.
        answer = eventually(lambda number=number: taken(platform, name, number, editor))
        assert answer["acceptedCount"] == 20
    eventually(lambda: platform.state()[victim]["pid"] not in (None, before), 60)
    for number in range(10):
        assert taken(platform, name, number, editor)
    assert stored(platform, name, editor) == 200


def taken(platform: Platform, name: str, number: int, editor: dict[str, str]) -> dict[str, Any]:
    status, answer = platform.call("POST", "/api/v1/metrics", points(name, number), editor)
    assert status == 200, answer
    return dict(answer)


def test_status_shows_frontends(platform: Platform) -> None:
    command = [AIRIS, "status", "--data-dir", str(platform.data_dir)]
    done = eventually(lambda: healthy(command), 30)
    for name in FRONTENDS:
        assert name in done.stdout


def healthy(command: list[Any]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done
