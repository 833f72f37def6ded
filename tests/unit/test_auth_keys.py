"""Keys: who may read them, when they sign, and that a rotation locks nobody out."""

from __future__ import annotations

import asyncio
import json
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.clock import FakeClock
from signed_tokens import NOW
from structlog.testing import capture_logs

from services.shared.auth import key_folder
from services.shared.auth.issuing import TokenIssuer
from services.shared.auth.jwks import JwksFile
from services.shared.auth.key_folder import PUBLISH_SECONDS, KeyFolder
from services.shared.auth.tokens import MAX_LIFETIME, TokenVerifier
from services.shared.errors import AirisError, FailedPreconditionError, InvalidArgumentError
from services.supervisor import authentication
from services.supervisor.authentication import RENEW_BEFORE_SECONDS, PlatformTokens


class World:
    """A key folder, what makes tokens with it, and a service that checks them."""

    def __init__(self, data_dir: Path) -> None:
        self.clock = FakeClock(NOW)
        self.keys = KeyFolder(data_dir, clock=self.clock, key_bits=2048)
        self.keys.init()
        self.issuer = TokenIssuer(self.keys, clock=self.clock)
        self.verifier = TokenVerifier(JwksFile(self.keys.jwks_file, self.clock), clock=self.clock)

    def token(self) -> str:
        return self.issuer.issue(subject="me", tenant="acme", permissions={"logs.read"}, roles=["viewer"])

    def is_valid(self, token: str) -> bool:
        try:
            self.verifier.authenticate(token, None)
        except AirisError:
            return False
        return True


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "data")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_private_keys_are_for_their_owner_only(world: World) -> None:
    world.keys.rotate()
    assert mode(world.keys.path) == 0o700
    private = list(world.keys.path.glob("*.pem"))
    assert len(private) == 2
    assert {mode(file) for file in private} == {0o600}
    assert not list(world.keys.path.glob("*.tmp"))


def test_what_is_published_holds_nothing_private(world: World) -> None:
    entries = json.loads(world.keys.jwks_file.read_text())["keys"]
    assert [set(entry) for entry in entries] == [{"kty", "use", "alg", "kid", "n", "e"}]


def test_a_key_that_others_can_read_signs_nothing(world: World) -> None:
    next(world.keys.path.glob("*.pem")).chmod(0o640)
    with pytest.raises(FailedPreconditionError, match="chmod 600"):
        world.token()


def test_the_first_key_signs_at_once_and_is_made_once(world: World) -> None:
    before = world.keys.jwks_file.read_bytes()
    assert world.is_valid(world.token())
    assert world.keys.init() is False
    assert world.keys.jwks_file.read_bytes() == before


def test_a_token_carries_who_and_what_and_expires(world: World) -> None:
    token = world.issuer.issue(subject="me", tenant="acme", permissions={"logs.read"}, lifetime=60)
    principal = world.verifier.authenticate(token, None)
    assert (principal.subject, principal.tenant, principal.permissions) == ("me", "acme", {"logs.read"})
    assert principal.expires_at == NOW + 60
    assert token != world.issuer.issue(subject="me", tenant="acme", permissions={"logs.read"}, lifetime=60)


@pytest.mark.parametrize(
    "wrong",
    [
        {"tenant": "Acme"},
        {"tenant": ""},
        {"subject": ""},
        {"subject": "s" * 257},
        {"subject": "a\nb"},
        {"lifetime": 0},
        {"lifetime": MAX_LIFETIME + 1},
        {"permissions": {f"custom.permission-{number}" for number in range(500)}},
    ],
)
def test_a_token_that_no_service_would_take_is_not_made(world: World, wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidArgumentError):
        world.issuer.issue(**{"subject": "me", "tenant": "acme", "permissions": set(), **wrong})  # type: ignore[arg-type]


def test_a_rotation_locks_nobody_out(world: World) -> None:
    old = world.token()
    assert world.is_valid(old)
    made = world.keys.rotate()
    first = world.keys.states()[0].kid

    def signs() -> str:
        return world.keys.signing_key()[0]

    # Not everybody has read the new key yet: nothing is signed with it.
    assert signs() == first
    world.clock.advance(PUBLISH_SECONDS - 0.5)
    last_of_the_old = world.token()
    assert signs() == first
    world.clock.advance(0.5)
    assert signs() == made.kid
    new = world.token()
    assert world.is_valid(old)
    assert world.is_valid(new)
    world.clock.advance(MAX_LIFETIME - 1.5)
    assert world.is_valid(last_of_the_old)
    assert not world.is_valid(old)
    world.keys.prune()
    assert [key.kid for key in world.keys.states()] == [first, made.kid]
    assert world.is_valid(last_of_the_old)
    world.clock.advance(10)
    world.keys.prune()
    assert [key.kid for key in world.keys.states()] == [made.kid]
    assert [file.stem for file in world.keys.path.glob("*.pem")] == [made.kid]


def test_rotating_twice_in_a_row_keeps_the_key_that_signs(world: World) -> None:
    first = world.keys.states()[0].kid
    world.keys.rotate()
    world.clock.advance(1)
    third = world.keys.rotate().kid
    world.clock.advance(PUBLISH_SECONDS - 2)
    assert world.keys.signing_key()[0] == first
    assert world.is_valid(world.token())
    world.clock.advance(3)
    assert world.keys.signing_key()[0] == third


def test_the_key_set_stays_small(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_folder, "MAX_KEYS", 2)
    world.keys.rotate()
    with pytest.raises(FailedPreconditionError, match="Wait until they have expired"):
        world.keys.rotate()
    world.clock.advance(PUBLISH_SECONDS + MAX_LIFETIME + 10)
    world.keys.rotate()


def test_rotations_at_the_same_time_all_count(world: World) -> None:
    threads = [threading.Thread(target=world.keys.rotate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(world.keys.states()) == 5
    assert len(list(world.keys.path.glob("*.pem"))) == 5


def test_what_an_interrupted_rotation_left_goes_and_never_signs(world: World) -> None:
    good = next(world.keys.path.glob("*.pem"))
    stray = good.with_name("20270115T080000.000000-ffffffff.pem")
    stray.write_bytes(good.read_bytes())
    stray.with_suffix(".pem.12345678.tmp").write_bytes(b"")
    world.clock.advance(1000)
    assert world.keys.signing_key()[0] == good.stem
    world.keys.rotate()
    assert not stray.exists()
    assert not list(world.keys.path.glob("*.tmp"))


@pytest.mark.parametrize("content", [b"", b"{}", b'{"keys": [{}]}', b'{"keys": []}', b'{"keys": [{"kid": "mine"}]}'])
def test_a_broken_key_set_is_named_and_nothing_is_overwritten(world: World, content: bytes) -> None:
    world.keys.jwks_file.write_bytes(content)
    for use in (world.keys.rotate, world.keys.states, world.token):
        with pytest.raises(FailedPreconditionError, match=r"jwks\.json"):
            use()
    assert world.keys.jwks_file.read_bytes() == content


def test_without_keys_one_is_told_how_to_make_them(tmp_path: Path) -> None:
    keys = KeyFolder(tmp_path)
    for use in (keys.rotate, keys.states, keys.signing_key):
        with pytest.raises(FailedPreconditionError, match="airis auth init"):
            use()


def test_keys_and_tokens_are_in_no_log(world: World) -> None:
    with capture_logs() as logs:
        token = world.token()
        world.keys.rotate()
        world.clock.advance(PUBLISH_SECONDS)
        world.is_valid(token)
        world.is_valid(world.token())
        world.is_valid(token[:-3])
    text = str(logs)
    assert "jwks_read" in text
    assert "PRIVATE KEY" not in text
    assert not any(part in text for part in token.split("."))


def test_the_platform_renews_its_own_tokens_before_they_expire(world: World, tmp_path: Path) -> None:
    tokens = PlatformTokens(world.keys, tmp_path, world.clock)
    tokens.mint()
    first = tokens.alerts.read_text().strip()
    assert {mode(file) for file in (tokens.alerts, tokens.telemetry)} == {0o600}
    assert mode(tokens.alerts.parent) == 0o700
    assert not tokens.mint_when_due()
    world.clock.advance(MAX_LIFETIME - RENEW_BEFORE_SECONDS)
    assert tokens.mint_when_due()
    second = tokens.alerts.read_text().strip()
    assert first != second
    assert world.is_valid(tokens.telemetry.read_text().strip())
    assert world.verifier.authenticate(first, "acme").tenant == "acme"
    assert world.verifier.authenticate(second, "other").permissions == {"metrics.read", "logs.read", "traces.read"}
    telemetry = world.verifier.authenticate(tokens.telemetry.read_text().strip(), None)
    assert (telemetry.tenant, telemetry.permissions) == ("default", {"metrics.write", "logs.write", "traces.write"})


def test_a_renewal_that_fails_is_tried_again_a_minute_later(world: World, tmp_path: Path) -> None:
    tokens = PlatformTokens(world.keys, tmp_path, world.clock)
    tokens.mint()
    private = next(world.keys.path.glob("*.pem"))
    hidden = private.rename(tmp_path / "hidden.pem")
    world.clock.advance(MAX_LIFETIME - RENEW_BEFORE_SECONDS)
    with pytest.raises(FailedPreconditionError):
        tokens.mint_when_due()
    assert not tokens.mint_when_due()
    hidden.rename(private)
    world.clock.advance(60)
    assert tokens.mint_when_due()


def test_tokens_of_a_clock_that_was_ahead_are_replaced_when_it_is_right(world: World, tmp_path: Path) -> None:
    tokens = PlatformTokens(world.keys, tmp_path, world.clock)
    world.clock.now += 9 * 3600
    tokens.mint()
    world.clock.now -= 9 * 3600
    assert not world.is_valid(tokens.telemetry.read_text().strip())
    assert tokens.mint_when_due()
    assert world.is_valid(tokens.telemetry.read_text().strip())
    assert not tokens.mint_when_due()


def test_a_renewal_that_fails_after_a_clock_was_put_right_waits_a_minute_too(world: World, tmp_path: Path) -> None:
    tokens = PlatformTokens(world.keys, tmp_path, world.clock)
    world.clock.now += 9 * 3600
    tokens.mint()
    world.clock.now -= 9 * 3600
    next(world.keys.path.glob("*.pem")).rename(tmp_path / "hidden.pem")
    with pytest.raises(FailedPreconditionError):
        tokens.mint_when_due()
    assert not tokens.mint_when_due()


async def test_the_renewal_goes_on_whatever_has_gone_wrong_once(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens, lines, renewed = PlatformTokens(world.keys, tmp_path, world.clock), [], asyncio.Event()

    async def to_thread(work: Callable[[], object]) -> None:
        if not lines:
            raise RuntimeError("can't start new thread")
        work()
        renewed.set()

    monkeypatch.setattr(authentication, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(asyncio, "to_thread", to_thread)
    keeping = asyncio.create_task(tokens.keep(lambda name, line: lines.append(line)))
    async with asyncio.timeout(10):
        await renewed.wait()
    keeping.cancel()
    assert lines == ["the platform's own tokens cannot be renewed: can't start new thread"]
    assert world.is_valid(tokens.telemetry.read_text().strip())


def test_the_environment_of_the_platform_holds_no_token(world: World, tmp_path: Path) -> None:
    tokens = PlatformTokens(world.keys, tmp_path, world.clock)
    tokens.mint()
    told = str(tokens.environment())
    assert tokens.alerts.read_text().strip() not in told
    assert tokens.telemetry.read_text().strip() not in told
