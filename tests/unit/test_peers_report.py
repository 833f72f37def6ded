"""The report of the peers: what a kill cost, and what counts as a failure."""

from __future__ import annotations

import json
from pathlib import Path

from bench.ingest import Run
from bench.peers.kill import Killed
from bench.peers.questions import Answered
from bench.peers.report import PeerResults, kill_line, kill_rows, question_rows, write
from bench.results import Results


def results(*runs: Run) -> Results:
    return Results({"cores": "2"}, {}, runs=list(runs))


def test_only_ours_may_not_lose_anything_when_it_is_killed() -> None:
    peer, ours = (Killed(name, "logs", acknowledged=10, stored=4) for name in ("VictoriaLogs 1.51", "AIRIS"))

    assert PeerResults(results(), [peer]).faults() == []
    assert PeerResults(results(), [ours]).faults() == ["logs, AIRIS, killed: 6 acknowledged items are lost, 0 doubled"]


def test_more_than_was_acknowledged_is_no_loss() -> None:
    killed = Killed("AIRIS", "logs", acknowledged=10, stored=11, in_flight=2)

    assert killed.lost == 0
    assert PeerResults(results(), [killed]).faults() == []


def test_more_than_was_sent_is_doubled() -> None:
    peer, ours = (Killed(name, "logs", acknowledged=10, stored=15, in_flight=2) for name in ("Jaeger", "AIRIS"))

    assert PeerResults(results(), [peer]).faults() == []
    assert PeerResults(results(), [ours]).faults() == ["logs, AIRIS, killed: 0 acknowledged items are lost, 3 doubled"]


def test_a_peer_that_did_not_run_is_told_and_no_failure_of_ours() -> None:
    measured = PeerResults(results(), [Killed("Prometheus", "metrics", fault="no port")])
    measured.questions.append(Answered("rare word", "Elasticsearch", fault="no index"))

    assert measured.faults() == ["metrics, Prometheus, killed: no port", "rare word, Elasticsearch: no index"]
    assert measured.own_faults() == []
    assert "FAILED: no port" in kill_line(measured.kills[0])
    assert kill_rows(measured.kills)[0][5] == "did not run"


def test_whatever_failed_of_ours_is_a_failure() -> None:
    lost = Run("AIRIS", "logs", 1, faults=["3 items are doubled"])
    killed = Killed("AIRIS", "metrics", fault="its counts differ: {}")
    asked = Answered("rare word", "AIRIS", fault="no answer")

    assert PeerResults(results(lost), [killed], [asked]).own_faults() == [
        "logs, AIRIS, repeat 1: 3 items are doubled",
        "metrics, AIRIS, killed: its counts differ: {}",
        "rare word, AIRIS: no answer",
    ]


def test_a_count_from_outside_tells_what_was_lost_or_doubled_too() -> None:
    killed = Killed("AIRIS", "logs", acknowledged=10, stored=10, audit={"distinct": 9, "in minutes": 12})

    assert (killed.lost, killed.doubled) == (1, 2)


def test_kills_of_one_target_are_one_row_with_the_median() -> None:
    kills = [Killed("Jaeger", "traces", 1000, stored, 0, 2.0) for stored in (0, 500, 900)]

    assert kill_rows(kills) == [("traces", "Jaeger", "1k (1k to 1k)", "500 (100 to 1k)", "0 (0 to 0)", "50 %", "2 s")]


def test_the_ratio_of_a_question_is_ours_to_theirs() -> None:
    asked = [Answered("rare word", "AIRIS", 6.0, 9.0, 1), Answered("rare word", "Elasticsearch", 3.0, 4.0, 1)]

    assert [row[4] for row in question_rows(asked)] == ["1×", "2×"]


def test_everything_is_written_to_json_and_html(tmp_path: Path) -> None:
    run = Run("AIRIS", "logs", 0, per_second=5.0, per_cpu_second=7.0, acknowledged=1, stored=1)
    measured = PeerResults(results(run), [Killed("VictoriaLogs <1>", "logs", 10, 4)], [Answered("map", "Jaeger")])

    write(measured, tmp_path)

    tree = json.loads((tmp_path / "results.json").read_text())
    assert tree["kills"][0]["lost"] == 6
    assert tree["peer_questions"][0]["p50_ms"] is None
    page = (tmp_path / "results.html").read_text()
    assert "VictoriaLogs &lt;1&gt;" in page
    assert "AIRIS" in page
