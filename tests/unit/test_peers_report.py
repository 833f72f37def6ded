"""The report of the peers: what a kill cost, and what counts as a failure."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.ingest import Run
from bench.peers import __main__ as command
from bench.peers.kill import Killed
from bench.peers.questions import RARE, Answered
from bench.peers.report import PeerResults, kill_line, kill_rows, question_rows, write
from bench.results import Results, spread


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
    asked = [
        Answered("rare word", "AIRIS", 6.0, 9.0, 1, cpu_ms=spread([4.0, 5.0, 8.0])),
        Answered("rare word", "Elasticsearch", 3.0, 4.0, 1, cpu_ms=spread([10.0])),
    ]

    assert [row[4:7] for row in question_rows(asked)] == [("5 (4 to 8)", "1×", "1×"), ("10", "2×", "0.5×")]


def test_a_question_has_the_issues_goal_and_that_of_the_fastest_peer() -> None:
    asked = [
        Answered(RARE, name, p50) for name, p50 in (("AIRIS", 21.0), ("Elasticsearch", 9.0), ("VictoriaLogs", 3.0))
    ]
    asked.append(Answered(RARE, "no answer", fault="refused"))

    found = [(each.what, each.goal, each.figure, each.verdict) for each in PeerResults(results(), [], asked).outcomes()]

    assert found == [
        ("query beside peers: rare word, p50", 7.0, 21.0, "missed: 3.0 times"),
        ("query beside peers: rare word, p50, of that of VictoriaLogs", 1.0, 7.0, "missed: 7.0 times"),
    ]
    assert PeerResults(results(), [], asked[1:]).outcomes() == []


def test_a_question_that_failed_reaches_no_goal_and_is_no_bar() -> None:
    ours, failed = Answered(RARE, "AIRIS", 2.0), Answered(RARE, "fast", 1.0, fault="its answers are empty")
    slow = Answered(RARE, "slow", 9.0)

    def verdicts(*asked: Answered) -> list[str]:
        return [each.verdict for each in PeerResults(results(), [], list(asked)).outcomes()]

    assert verdicts(replace(ours, fault="its answers are empty"), slow) == ["not measured"] * 2
    assert verdicts(ours, failed, slow) == ["reached"] * 2


@pytest.mark.parametrize(("share", "verdict"), [(1.0, "reached"), (0.1, "not measured")])
def test_goals_are_judged_with_all_the_data_and_peers_are_compared_with_any(share: float, verdict: str) -> None:
    asked = [Answered(RARE, "AIRIS", 2.0), Answered(RARE, "slow", 9.0)]
    of_share = Results({}, {"question_share": share})
    assert [each.verdict for each in PeerResults(of_share, [], asked).outcomes()] == [verdict, "reached"]


def test_goals_and_ratios_of_questions_and_charts_are_written(tmp_path: Path) -> None:
    kills = [Killed("AIRIS", "logs", 10, 10), *(Killed("Peer", "logs", 10, stored) for stored in (4, 6))]
    asked = [
        Answered(RARE, "AIRIS", 6.0, 9.0, 1, "", spread([6.0]), spread([4.0])),
        Answered(RARE, "Peer", 3.0, 4.0, 1, "", spread([2.0, 3.0, 4.0]), spread([8.0])),
    ]
    write(PeerResults(results(), kills, asked), tmp_path)

    tree = json.loads((tmp_path / "results.json").read_text())
    assert [(each["ours_wall"], each["ours_cpu"]) for each in tree["peer_questions"]] == [(1.0, 1.0), (2.0, 0.5)]
    assert tree["peer_questions"][1]["parts_ms"] == {"median": 3.0, "lowest": 2.0, "highest": 4.0, "count": 3}
    verdicts = {each["what"]: each["verdict"] for each in tree["goals"]}
    assert verdicts["query beside peers: rare word, p50, of that of Peer"] == "missed: 2.0 times"
    page = (tmp_path / "results.html").read_text()
    assert "query beside peers: rare word, p50, of that of Peer" in page
    charts = dict(zip(re.findall("<h3>(.*?)</h3>", page), re.findall("<svg.*?</svg>", page), strict=True))
    assert list(charts) == [
        "logs: acknowledged items that are gone",
        "rare word: p50, ms",
        "rare word: server CPU, ms",
    ]
    assert "5 (4 to 6)" in charts["logs: acknowledged items that are gone"]
    assert charts["rare word: p50, ms"].count('class="goal"') == 2


@pytest.mark.parametrize(
    ("targets", "measured", "count", "code"),
    [
        ("airis,prometheus,collector", {"AIRIS": [], "prometheus": []}, 1, 0),
        ("airis,prometheus,collector", {"AIRIS": [], "prometheus": ["is not in the cache"]}, 0, 2),
        # It stores nothing.
        ("airis,prometheus,collector", {"AIRIS": [], "collector": []}, 1, 2),
        ("airis,prometheus", {"AIRIS": ["3 items are doubled"], "prometheus": []}, 1, 1),
        # No peer was asked for.
        ("airis,bare", {"AIRIS": []}, 0, 0),
    ],
)
def test_a_run_in_which_no_peer_could_be_measured_is_none(
    targets: str,
    measured: dict[str, list[str]],
    count: int,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs = [
        Run(command.PEERS[name].name if name in command.PEERS else name, "metrics", 0, faults=faults)
        for name, faults in measured.items()
    ]
    monkeypatch.setattr(command, "run_ingestion", lambda *_: runs)
    options = ["run", "--signals", "metrics", "--kills", "0", "--questions", "0", "--targets", targets]
    monkeypatch.setattr(sys, "argv", ["bench.peers", *options, "--results", str(tmp_path)])

    assert command.main() == code
    written = json.loads((tmp_path / "results.json").read_text())["options"]
    assert [written[name] for name in ("kills", "questions", "question_share")] == [0, 0, 1.0]
    assert f"peers measured: {count} of 7" in capsys.readouterr().out


def test_whoever_was_only_killed_or_asked_was_measured() -> None:
    measured = PeerResults(
        results(), [Killed("a", "logs"), Killed("b", "logs", fault="no port")], [Answered("x", "c", 1.0)]
    )

    assert measured.measured() == {"a", "c"}


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
