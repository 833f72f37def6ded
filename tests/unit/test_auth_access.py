"""Roles, and the rule that nothing listens openly beyond this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from airis.client.cli import app
from typer.testing import CliRunner

from services import config
from services.shared.auth.config import AuthConfig, open_authenticator
from services.shared.auth.key_folder import KeyFolder
from services.shared.auth.permissions import contract_permissions
from services.shared.auth.principal import OpenDoor
from services.shared.auth.roles import Roles
from services.shared.auth.tokens import TokenVerifier
from services.shared.errors import FailedPreconditionError, InvalidArgumentError

READS = {"metrics.read", "logs.read", "traces.read", "alerts.read"}
WRITES = {"metrics.write", "logs.write", "traces.write"}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "PROFILE",
        "EMBEDDED",
        "HOST",
        "AUTH__ENABLED",
        "AUTH__JWKS_FILE",
        "AUTH__ROLES",
        "TOKEN",
        "TOKEN_FILE",
    ):
        # Set first, so that what a command leaves behind is undone as well.
        monkeypatch.setenv(f"AIRIS_{name}", "")
        monkeypatch.delenv(f"AIRIS_{name}")


@pytest.mark.parametrize(
    ("role", "permissions"),
    [
        ("viewer", READS),
        ("editor", READS | WRITES),
        ("operator", READS | WRITES | {"alerts.write"}),
        ("admin", READS | WRITES | {"alerts.write", "alerts.admin", "logs.admin"}),
    ],
)
def test_each_built_in_role_has_what_its_name_says(role: str, permissions: set[str]) -> None:
    assert Roles(contract_permissions()).permissions([role]) == permissions


def test_admin_has_what_a_later_contract_adds() -> None:
    roles = Roles({*contract_permissions(), "profiles.read", "profiles.write"})
    assert "profiles.write" in roles.permissions(["admin"])
    assert "profiles.read" in roles.permissions(["viewer"])
    assert "profiles.write" not in roles.permissions(["operator"])


def test_roles_of_ones_own_add_up_with_others() -> None:
    roles = Roles(contract_permissions(), {"auditor": ["logs.read"], "pager": ["alerts.write"]})
    assert roles.permissions(["auditor", "pager"]) == {"logs.read", "alerts.write"}
    assert roles.permissions([]) == frozenset()
    with pytest.raises(InvalidArgumentError, match="viewer, editor, operator, admin, auditor, pager"):
        roles.permissions(["nobody"])


@pytest.mark.parametrize(
    ("custom", "named"), [({"auditor": ["logs.reed"]}, "logs.reed"), ({"admin": ["logs.read"]}, "built-in")]
)
def test_a_wrong_role_refuses_the_start(
    custom: dict[str, list[str]], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidArgumentError, match=named):
        open_authenticator(AuthConfig(roles=custom), contract_permissions())
    profile = tmp_path / "mine.yaml"
    profile.write_text(f"embedded: true\nauth: {{roles: {custom}}}\n")
    monkeypatch.setenv("AIRIS_PROFILE", str(profile))
    with pytest.raises(InvalidArgumentError, match=named):
        config.load()


def test_the_authenticator_is_the_one_that_is_configured(tmp_path: Path) -> None:
    assert isinstance(open_authenticator(AuthConfig(), contract_permissions()), OpenDoor)
    keys = KeyFolder(tmp_path, key_bits=2048)
    settings = AuthConfig(enabled=True, jwks_file=keys.jwks_file)
    with pytest.raises(FailedPreconditionError, match="airis auth init"):
        open_authenticator(settings, contract_permissions())
    keys.init()
    assert isinstance(open_authenticator(settings, contract_permissions()), TokenVerifier)
    with pytest.raises(InvalidArgumentError, match=r"auth\.jwks_file"):
        open_authenticator(AuthConfig(enabled=True), contract_permissions())


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_on_this_machine_the_embedded_profile_needs_no_authentication(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRIS_HOST", host)
    assert config.load().is_loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "localhost.example.org"])
def test_any_other_address_is_refused_without_authentication(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRIS_HOST", host)
    with pytest.raises(InvalidArgumentError) as caught:
        config.load()
    assert host in caught.value.message
    assert "airis auth init" in caught.value.message
    monkeypatch.setenv("AIRIS_AUTH__ENABLED", "true")
    monkeypatch.setenv("AIRIS_AUTH__JWKS_FILE", "jwks.json")
    assert not config.load().is_loopback


def test_another_profile_is_refused_without_authentication(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = tmp_path / "mine.yaml"
    profile.write_text("metrics: {max_labels: 10}\n")
    monkeypatch.setenv("AIRIS_PROFILE", str(profile))
    with pytest.raises(InvalidArgumentError, match="embedded profile only"):
        config.load()
    # This is how `airis up` starts it.
    monkeypatch.setenv("AIRIS_EMBEDDED", "true")
    assert config.load().metrics.max_labels == 10


@pytest.mark.parametrize(
    "host", ["", " ", "not a host", "999.1.1.1", "1.2.3", "a..b", "-a", "http://x", "127.0.0.1:80", "x" * 64]
)
def test_a_host_that_is_none_is_named(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRIS_HOST", host)
    with pytest.raises(InvalidArgumentError, match="host: "):
        config.load()


def test_an_address_of_ipv6_is_bracketed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRIS_HOST", "::1")
    assert config.load().address(8001) == "[::1]:8001"


def test_the_platform_refuses_an_open_address_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRIS_HOST", "0.0.0.0")
    answer = CliRunner().invoke(app, ["up", "--data-dir", str(tmp_path / "data")])
    assert answer.exit_code == 1
    assert "Without authentication AIRIS listens on a loopback address only" in answer.stderr
    assert not (tmp_path / "data").exists()


def test_keys_of_others_cannot_sign_the_platforms_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRIS_AUTH__ENABLED", "true")
    monkeypatch.setenv("AIRIS_AUTH__JWKS_FILE", str(tmp_path / "theirs.json"))
    answer = CliRunner().invoke(app, ["up", "--data-dir", str(tmp_path / "data")])
    assert answer.exit_code == 1
    assert "auth.jwks_file" in answer.stderr


def run(*arguments: str) -> tuple[int, str, str]:
    answer = CliRunner().invoke(app, ["auth", *arguments])
    return answer.exit_code, answer.stdout, answer.stderr


def test_the_command_makes_keys_and_prints_a_token_and_nothing_else(tmp_path: Path) -> None:
    at = ("--data-dir", str(tmp_path))
    code, _, error = run("token", "--role", "viewer", "--subject", "me", *at)
    assert code == 1
    assert "airis auth init" in error
    assert run("init", *at)[0] == 0
    assert "already" in run("init", *at)[1]
    code, out, error = run("token", "--role", "viewer", "--role", "editor", "--subject", "me", "--tenant", "acme", *at)
    assert (code, error, out.count("\n"), out.count(".")) == (0, "", 1, 2)
    settings = AuthConfig(enabled=True, jwks_file=tmp_path / "auth" / "jwks.json")
    principal = open_authenticator(settings, contract_permissions()).authenticate(out.strip(), None)
    assert (principal.subject, principal.tenant, principal.permissions) == ("me", "acme", READS | WRITES)
    code, out, _ = run("keys", "rotate", *at)
    assert "is published" in out
    code, out, _ = run("keys", "list", *at)
    assert "signs" in out
    assert "waits" in out


def test_the_command_knows_roles_of_ones_own(tmp_path: Path) -> None:
    profile = tmp_path / "mine.yaml"
    profile.write_text("auth: {roles: {auditor: [logs.read]}}\n")
    run("init", "--data-dir", str(tmp_path))
    arguments = ("token", "--role", "auditor", "--subject", "me", "--data-dir", str(tmp_path))
    code, out, error = run(*arguments)
    assert (code, out) == (1, "")
    assert "There is no role 'auditor'" in error
    code, out, _ = run(*arguments, "--profile", str(profile))
    settings = AuthConfig(enabled=True, jwks_file=tmp_path / "auth" / "jwks.json")
    verifier = open_authenticator(settings, contract_permissions())
    assert verifier.authenticate(out.strip(), None).permissions == {"logs.read"}


@pytest.mark.parametrize(
    ("wrong", "code"),
    [(("--ttl", "2h"), 1), (("--ttl", "x"), 2), (("--ttl", "0s"), 1), (("--tenant", "*"), 2), (("--tenant", "A"), 1)],
)
def test_the_command_refuses_what_no_service_would_take(wrong: tuple[str, str], code: int, tmp_path: Path) -> None:
    run("init", "--data-dir", str(tmp_path))
    answer = run("token", "--role", "viewer", "--subject", "me", "--data-dir", str(tmp_path), *wrong)
    assert answer[:2] == (code, "")
    assert answer[2]
