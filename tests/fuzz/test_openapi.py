"""The running platform answers as docs/openapi.yaml says: schemathesis asks it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from platform_process import Platform

from tests.fuzz.contract import ROOT

_CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
# Streams last as long as their reader likes.
_ENDLESS = "Watch|Tail"
# What these say of an answer is its status, which is judged by itself.
_OF_STATUS = frozenset({"UndefinedStatusCode", "ServerError"})


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("openapi") / "data"
    running = Platform(folder, "--data-dir", str(folder))
    running.start(300)
    yield running
    running.stop()


def faults(told: dict[str, Any], printed: str) -> list[str]:
    """What was found, but for statuses that the document does not have: what this version does not have answers 501,
    and what Envoy refuses as no request has other codes of 4xx. An answer's content is judged whatever its status."""
    found = [f"{each['count']} x {each['title']}" for each in told["errors"]]
    found += [f"{each['title']}: {each['operations']}" for each in told["failures"] if each["type"] not in _OF_STATUS]
    statuses = re.findall(r"^\s*\[((?!4)\d{3})\]", printed, re.MULTILINE)
    found += [f"HTTP {status}" for status in sorted(set(statuses) - {"501"})]
    # Each is printed with its status, unless that is printed in another way than it was.
    unseen = sum(each["count"] for each in told["failures"] if each["type"] == "ServerError")
    unseen -= sum(status.startswith("5") for status in statuses)
    found += [f"{unseen} x 5xx, which are not printed"] if unseen > 0 else []
    # `complete` says only that it came to an end of its own, be it because the server was gone.
    return found + ([] if told["stop_reason"] == "completed" else [f"it broke off: {told['stop_reason']}"])


def _told(*failures: dict[str, Any], stop_reason: str = "completed", errors: int = 0) -> dict[str, Any]:
    listed = [{"title": "Network Error", "count": errors}] if errors else []
    return {"failures": list(failures), "errors": listed, "complete": True, "stop_reason": stop_reason}


def _failure(kind: str) -> dict[str, Any]:
    return {"type": kind, "title": kind, "count": 1, "operations": ["POST /x"]}


def test_a_status_that_the_caller_earned_is_no_fault() -> None:
    assert not faults(_told(_failure("UndefinedStatusCode")), "[415] Unsupported Media Type:\n")
    assert not faults(_told(_failure("ServerError")), "[501] Not Implemented:\n")


@pytest.mark.parametrize(
    ("told", "printed"),
    [
        pytest.param(_told(_failure("ServerError")), "    [500] Internal Server Error:\n", id="5xx"),
        pytest.param(_told(_failure("JsonSchemaError")), "[400] Bad Request:\n", id="an error's body"),
        pytest.param(_told(_failure("UndefinedContentType")), "[400] Bad Request:\n", id="an error's content type"),
        pytest.param(_told(errors=1), "", id="no answer"),
        pytest.param(_told(_failure("ServerError")), "HTTP 500\n", id="5xx that is printed otherwise"),
        pytest.param(_told(stop_reason="max_time"), "", id="broken off for want of time"),
        pytest.param(_told(stop_reason="server_unavailable"), "", id="broken off by the server"),
    ],
)
def test_what_breaks_the_document_is_a_fault_whatever_the_status(told: dict[str, Any], printed: str) -> None:
    assert faults(told, printed)


@pytest.mark.timeout(600)
def test_every_operation_answers_as_the_generated_document_says(platform: Platform, tmp_path: Path) -> None:
    asked = subprocess.run(
        [
            Path(sys.executable).parent / "schemathesis",
            "run",
            ROOT / "docs" / "openapi.yaml",
            f"--url={platform.rest}",
            "--phases=coverage,fuzzing",
            "--max-examples=3",
            "--seed=1",
            "--no-shrink",
            "--request-timeout=60",
            "--suppress-health-check=all",
            f"--checks={_CHECKS}",
            f"--exclude-operation-id-regex={_ENDLESS}",
            "--warnings=off",
            f"--report-json-path={tmp_path / 'told.json'}",
            "--no-color",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=500,
    )
    # 1: it has found something, be it a status that is none of our faults.
    assert asked.returncode in (0, 1), asked.stdout[-3000:] + asked.stderr[-2000:]
    found = faults(json.loads((tmp_path / "told.json").read_text()), asked.stdout)
    assert not found, f"{found}\n{asked.stdout[-6000:]}"
    assert "Tested: 52" in asked.stdout, asked.stdout[-3000:]
