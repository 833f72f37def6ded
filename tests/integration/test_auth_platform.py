"""`airis up --auth`: the whole platform asks for tokens, shows its own, and still works."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from platform_process import Platform, eventually

AIRIS = Path(sys.executable).parent / "airis"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    running = Platform(tmp_path_factory.mktemp("auth") / "data", "--auth", "--demo")
    running.start()
    yield running
    running.stop()


def airis(platform: Platform, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([AIRIS, *arguments], capture_output=True, text=True, timeout=60)


def token(platform: Platform, role: str = "viewer", tenant: str = "default") -> dict[str, str]:
    at = ("--data-dir", str(platform.data_dir))
    made = airis(platform, "auth", "token", "--role", role, "--tenant", tenant, "--subject", "test", *at)
    assert made.returncode == 0, made.stderr
    return {"Authorization": f"Bearer {made.stdout.strip()}"}


def test_without_a_token_nothing_is_told(platform: Platform) -> None:
    for path in ("/api/v1/metrics", "/api/v1/logs:search", "/api/v1/traces", "/api/v1/alerts"):
        assert platform.call("GET", path)[0] == 401
        assert platform.call("GET", path, headers={"Authorization": "Bearer not.a.token"})[0] == 401


def test_otlp_asks_for_a_token_too(platform: Platform) -> None:
    def send(headers: dict[str, str]) -> int:
        body = json.dumps({"resourceLogs": []}).encode()
        request = urllib.request.Request(
            f"{platform.otlp_http}/v1/logs", body, {"Content-Type": "application/json", **headers}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code

    assert send({}) == 401
    assert send(token(platform, "viewer")) == 403
    assert send(token(platform, "editor")) == 200


def test_a_role_may_do_what_it_says_and_no_more(platform: Platform) -> None:
    point = {"metrics": [{"name": "auth.test", "value": 1.0}]}
    assert platform.call("POST", "/api/v1/metrics", point, token(platform, "editor"))[0] == 200
    status, answer = platform.call("POST", "/api/v1/metrics", point, token(platform, "viewer"))
    assert status == 403, answer
    assert "metrics.write" in json.dumps(answer)


def test_a_tenant_sees_nothing_of_another(platform: Platform) -> None:
    point = {"metrics": [{"name": "auth.secret", "value": 1.0}], "wait_for": "QUERYABLE"}
    status, answer = platform.call("POST", "/api/v1/metrics", point, token(platform, "editor", "acme"))
    assert status == 200, answer

    def names(tenant: str) -> str:
        return json.dumps(
            platform.call("GET", "/api/v1/metrics?page_size=1000", headers=token(platform, "viewer", tenant))
        )

    assert "auth.secret" in names("acme")
    assert "auth.secret" not in names("default")
    assert "system.memory.usage" not in names("acme")


def test_the_demo_and_the_platform_itself_send_their_telemetry(platform: Platform) -> None:
    headers = token(platform)

    def services() -> bool:
        _, answer = platform.call("GET", "/api/v1/services", headers=headers)
        return "frontend" in json.dumps(answer)

    def names() -> bool:
        _, answer = platform.call("GET", "/api/v1/metrics?page_size=1000", headers=headers)
        return "system.memory.usage" in json.dumps(answer)

    def logs() -> bool:
        _, answer = platform.call("GET", "/api/v1/logs:search?filter=service%3D%22airis-alerts%22", headers=headers)
        return bool(answer.get("entries"))

    eventually(services, 60)
    eventually(names, 60)
    eventually(logs, 60)


def test_alerts_reads_the_metrics_of_the_tenant_whose_rule_it_is(platform: Platform) -> None:
    acme, default = token(platform, "admin", "acme"), token(platform, "admin")
    rule = {
        "displayName": "hot",
        "severity": "HIGH",
        "evaluationInterval": "1s",
        "conditions": [
            {"metric": "auth.heat", "aggregation": "MAX", "window": "30s", "operator": "GT", "threshold": 5}
        ],
    }
    for headers in (acme, default):
        status, answer = platform.call("POST", "/api/v1/alertRules?alert_rule_id=hot", rule, headers)
        assert status == 200, answer

    def alerts(headers: dict[str, str]) -> list[dict[str, str]]:
        status, answer = platform.call("GET", "/api/v1/alerts", headers=headers)
        assert status == 200, answer
        return [alert for alert in answer.get("alerts", []) if alert["rule"] == "alertRules/hot"]

    def fired() -> bool:
        platform.call("POST", "/api/v1/metrics", {"metrics": [{"name": "auth.heat", "value": 9}]}, acme)
        return bool(alerts(acme))

    eventually(fired, 40)
    assert alerts(acme)[0]["state"] == "FIRING"
    assert alerts(default) == []


def test_status_needs_no_token(platform: Platform) -> None:
    answer = airis(platform, "status", "--data-dir", str(platform.data_dir))
    assert answer.returncode == 0, answer.stdout
    assert "healthy" in answer.stdout


def test_a_rotation_is_known_everywhere_and_locks_nobody_out(platform: Platform) -> None:
    headers = token(platform)
    assert airis(platform, "auth", "keys", "rotate", "--data-dir", str(platform.data_dir)).returncode == 0
    keys = json.loads((platform.data_dir / "auth" / "jwks.json").read_text())["keys"]
    for port in (9101, 9102, 9103, 9104):
        url = f"http://127.0.0.1:{port + platform.offset}/.well-known/jwks.json"
        with urllib.request.urlopen(url, timeout=10) as response:
            assert json.loads(response.read())["keys"] == keys
    assert platform.call("GET", "/api/v1/metrics", headers=headers)[0] == 200


def test_no_token_and_no_key_is_in_what_the_platform_prints(platform: Platform) -> None:
    runtime = Path(json.loads((platform.data_dir / "run" / "state.json").read_text())["runtime"])
    tokens = [file.read_text().strip() for file in (runtime / "tokens").glob("*.jwt")]
    assert len(tokens) == 2
    assert {stat.S_IMODE(file.stat().st_mode) for file in (runtime / "tokens").glob("*.jwt")} == {0o600}
    printed = platform.output()
    assert "authentication is off" not in printed
    assert "PRIVATE KEY" not in printed
    assert "Bearer" not in printed
    assert not any(part in printed for made in tokens for part in made.split("."))
    for process in platform.processes():
        environment = json.dumps(process.environ())
        assert not any(made in environment for made in tokens)
        assert not any(made in " ".join(process.cmdline()) for made in tokens)
