"""Which tokens are refused, with which reason, and that what was verified is forgotten when it must be."""

from __future__ import annotations

import base64
import errno
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from fakes.clock import FakeClock
from hypothesis import given, settings
from hypothesis import strategies as st
from signed_tokens import KID, NOW, claims, key, public_pem, raw, token, write_jwks
from structlog.testing import capture_logs

from services.shared.auth.bearer import bearer_token
from services.shared.auth.jwks import JwksFile
from services.shared.auth.principal import OpenDoor, is_tenant_name
from services.shared.auth.tokens import TokenVerifier
from services.shared.errors import AirisError, FailedPreconditionError, PermissionDeniedError, UnauthenticatedError


class World:
    """A verifier, its key file, and both clocks."""

    def __init__(self, folder: Path, max_cached: int = 100) -> None:
        self.file = write_jwks(folder / "jwks.json", {KID: key()})
        self.time = FakeClock(NOW)
        self.monotonic = FakeClock()
        self.verifier = TokenVerifier(JwksFile(self.file, self.monotonic), clock=self.time, max_cached=max_cached)

    def refusal(self, shown: str | None, acting: str | None = None) -> AirisError:
        """The error for a token, which must not show any part of it."""
        with capture_logs() as logs, pytest.raises(AirisError) as caught:
            self.verifier.authenticate(shown, acting)
        error = caught.value
        if shown:
            told = f"{error.message} {error.metadata} {logs}"
            assert not any(part in told for part in shown.split(".") if len(part) > 8)
        return error


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_valid_token_says_who_calls_for_whom_and_what_they_may_do(world: World) -> None:
    principal = world.verifier.authenticate(token(), None)
    assert principal.subject == "someone"
    assert principal.tenant == "acme"
    assert principal.permissions == {"logs.read", "metrics.read"}
    assert principal.expires_at == NOW + 3600


@pytest.mark.parametrize("nothing", [None, ""])
def test_a_call_without_a_token_is_told_so(world: World, nothing: str | None) -> None:
    error = world.refusal(nothing)
    assert (error.code, error.reason) == ("UNAUTHENTICATED", "TOKEN_MISSING")


def test_another_key_under_the_same_id_is_a_forgery(world: World) -> None:
    assert world.refusal(token(key(1))).reason == "TOKEN_INVALID"


def hs256_with_the_public_key() -> str:
    header = {"alg": "HS256", "typ": "JWT", "kid": KID}
    unsigned = raw(header, claims()).rpartition(".")[0]
    signature = hmac.new(public_pem(key()), unsigned.encode(), hashlib.sha256).digest()
    return f"{unsigned}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def rs256_header_over_hs256() -> str:
    header = {"alg": "RS256", "typ": "JWT", "kid": KID}
    unsigned = raw(header, claims()).rpartition(".")[0]
    signature = hmac.new(public_pem(key()), unsigned.encode(), hashlib.sha256).digest()
    return f"{unsigned}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def tampered() -> str:
    header, _, signature = token().split(".")
    payload = base64.urlsafe_b64encode(json.dumps(claims(tenant="other")).encode()).rstrip(b"=").decode()
    return f"{header}.{payload}.{signature}"


@pytest.mark.parametrize(
    "forged",
    [
        hs256_with_the_public_key(),
        rs256_header_over_hs256(),
        tampered(),
        raw({"alg": "none", "typ": "JWT", "kid": KID}, claims()),
        raw({"alg": "None", "typ": "JWT", "kid": KID}, claims()),
        raw({"alg": "none", "typ": "JWT"}, claims()),
        raw({"typ": "JWT", "kid": KID}, claims()),
        raw({"alg": ["RS256"], "typ": "JWT", "kid": KID}, claims()),
        raw(["RS256"], claims()),
        raw({"alg": "RS256", "typ": "JWT", "kid": KID}, claims()),
        token(header={"typ": "at+jwt"}),
        token(header={"crit": ["unknown"], "unknown": True}),
        token(header={"b64": False, "crit": ["b64"]}),
        token(kid=None),
        token(header={"jwk": {"kty": "RSA"}, "jku": "http://127.0.0.1:1/"}, kid="other"),
        token(kid=""),
        token(kid="../../etc/passwd"),
        token().replace(".", "", 1),
        token() + ".more",
        token()[:-12],
        token().rpartition(".")[0] + ".",
        token().replace(".", ".!", 1),
        "not a token at all",
        "....",
        "\ud800.x.y",
        "ü" * 100,
    ],
)
def test_what_is_not_signed_by_a_known_key_is_refused(world: World, forged: str) -> None:
    error = world.refusal(forged)
    assert (error.code, error.reason) == ("UNAUTHENTICATED", "TOKEN_INVALID")


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "someone-else"},
        {"iss": None},
        {"aud": "another-service"},
        {"aud": ["another-service"]},
        {"aud": None},
        {"sub": None},
        {"sub": ""},
        {"sub": "s" * 257},
        {"jti": None},
        {"iat": None},
        {"exp": None},
        {"exp": int(NOW) + 3601},
        {"exp": 10**400},
        {"exp": float("nan")},
        {"exp": float("inf")},
        {"exp": True},
        {"nbf": int(NOW) + 60},
        {"iat": int(NOW) + 60, "nbf": int(NOW)},
        {"nbf": "soon"},
        {"tenant": None},
        {"tenant": ""},
        {"tenant": "Acme"},
        {"tenant": "acme/other"},
        {"tenant": ["acme"]},
        {"tenant": "**"},
        {"permissions": None},
        {"permissions": "logs.read"},
        {"permissions": [1]},
        {"permissions": ["p"] * 257},
    ],
)
def test_a_signed_token_with_a_wrong_claim_is_refused(world: World, changes: dict[str, Any]) -> None:
    header = {"alg": "RS256", "typ": "JWT", "kid": KID}
    # By hand: the library does not sign what is no time.
    unsigned = raw(header, claims(**changes)).rpartition(".")[0]
    signature = key().sign(unsigned.encode(), padding.PKCS1v15(), hashes.SHA256())
    error = world.refusal(f"{unsigned}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}")
    assert (error.code, error.reason) == ("UNAUTHENTICATED", "TOKEN_INVALID")


def test_a_token_expires_on_the_second_also_when_it_was_seen_before(world: World) -> None:
    shown = token(exp=int(NOW) + 60)
    world.time.advance(59.9)
    world.verifier.authenticate(shown, None)
    world.time.advance(0.1)
    assert world.refusal(shown).reason == "TOKEN_EXPIRED"


def test_a_clock_that_is_a_little_ahead_does_no_harm(world: World) -> None:
    world.time.now = NOW - 5
    world.verifier.authenticate(token(), None)
    world.time.now = NOW - 5.1
    assert world.refusal(token(jti="another")).reason == "TOKEN_INVALID"


def test_a_huge_token_is_refused_unread(world: World) -> None:
    huge = "a" * (8 * 1024 + 1)
    assert "longer than" in world.refusal(huge).message
    with pytest.raises(UnauthenticatedError, match="longer than"):
        bearer_token(f"Bearer {huge}")


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("a", True),
        ("9-lives", True),
        ("a" * 63, True),
        ("a" * 64, False),
        ("-a", False),
        ("a_b", False),
        ("a\n", False),
        ("é", False),
        ("", False),
        ("*", False),
    ],
)
def test_tenants_have_plain_names(name: str, valid: bool) -> None:
    assert is_tenant_name(name) is valid


def test_a_token_of_a_tenant_acts_for_no_other(world: World) -> None:
    assert world.verifier.authenticate(token(), "acme").tenant == "acme"
    for other in ("other", "*", "", "acme "):
        error = world.refusal(token(), other)
        assert error.code == "PERMISSION_DENIED"


def test_a_token_for_every_tenant_names_the_one_it_acts_for(world: World) -> None:
    platform = token(tenant="*")
    assert world.verifier.authenticate(platform, "acme").tenant == "acme"
    assert world.verifier.authenticate(platform, "other").tenant == "other"
    for wrong in (None, "", "*", "Acme", "a\n"):
        assert world.refusal(platform, wrong).code == "PERMISSION_DENIED"


def test_without_authentication_everybody_is_the_default_tenant() -> None:
    door = OpenDoor({"logs.read"})
    principal = door.authenticate("whatever", None)
    assert (principal.tenant, principal.permissions) == ("default", {"logs.read"})
    with pytest.raises(PermissionDeniedError):
        door.authenticate(None, "other")


@pytest.mark.parametrize(
    ("header", "expected"),
    [(None, None), ("", None), ("Bearer abc", "abc"), ("bearer  abc ", "abc"), (b"Bearer abc", "abc")],
)
def test_the_scheme_is_read_in_any_case(header: str | bytes | None, expected: str | None) -> None:
    assert bearer_token(header) == expected


@pytest.mark.parametrize("header", ["Basic dXNlcjpzZWNyZXQ=", "Bearer", "Bearer ", "s3cret", b"\xff\xfe"])
def test_another_scheme_is_refused_and_its_secret_not_repeated(header: str | bytes) -> None:
    with pytest.raises(UnauthenticatedError) as caught:
        bearer_token(header)
    assert "dXNlcjpzZWNyZXQ" not in caught.value.message
    assert "s3cret" not in caught.value.message


class CountingKeys:
    """Counts how often a key was asked for, which is once for each verification."""

    def __init__(self, inner: JwksFile) -> None:
        self.inner = inner
        self.asked = 0

    def generation(self) -> int:
        return self.inner.generation()

    def find(self, kid: str) -> Any:
        self.asked += 1
        return self.inner.find(kid)


def test_a_token_is_verified_once_and_the_least_used_is_forgotten_first(world: World) -> None:
    keys = CountingKeys(JwksFile(world.file, world.monotonic))
    verifier = TokenVerifier(keys, clock=world.time, max_cached=2)
    first, second, third = (token(jti=name) for name in "abc")
    for shown in (first, first, second, first, third, first):
        verifier.authenticate(shown, None)
    assert keys.asked == 3
    verifier.authenticate(second, None)
    assert keys.asked == 4


def test_what_was_verified_is_forgotten_when_its_key_is_withdrawn(world: World) -> None:
    shown = token()
    world.verifier.authenticate(shown, None)
    write_jwks(world.file, {"next": key(1)})
    world.monotonic.advance(1.0)
    assert world.refusal(shown).reason == "TOKEN_INVALID"
    world.verifier.authenticate(token(key(1), kid="next"), None)


def test_a_new_key_is_known_as_soon_as_a_token_names_it(world: World) -> None:
    new = token(key(1), kid="next")
    assert world.refusal(new).reason == "TOKEN_INVALID"
    write_jwks(world.file, {KID: key(), "next": key(1)})
    world.monotonic.advance(0.2)
    world.verifier.authenticate(new, None)


def test_unknown_keys_do_not_make_the_file_be_looked_at_each_time(world: World) -> None:
    world.monotonic.advance(0.2)
    world.refusal(token(kid="one"))
    write_jwks(world.file, {KID: key(), "two": key(1)})
    world.monotonic.advance(0.05)
    world.refusal(token(key(1), kid="two"))
    world.monotonic.advance(0.06)
    world.verifier.authenticate(token(key(1), kid="two"), None)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"keys": []}', b'{"keys": {}}', b"\xff", b"[" * 100_000])
def test_a_key_file_that_breaks_leaves_the_keys_as_they_were(world: World, content: bytes) -> None:
    world.file.write_bytes(content)
    world.monotonic.advance(2)
    with capture_logs() as logs:
        world.verifier.authenticate(token(), None)
    assert [entry["event"] for entry in logs] == ["jwks_unreadable"]
    world.file.unlink()
    world.monotonic.advance(2)
    world.verifier.authenticate(token(), None)


def test_a_new_key_file_that_could_not_be_opened_once_is_read_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_jwks(world.file, {KID: key(), "new": key(1)})
    with monkeypatch.context() as fails:
        fails.setattr(Path, "open", Mock(side_effect=OSError(errno.EMFILE, "Too many open files")))
        world.monotonic.advance(2)
        world.refusal(token(key(1), kid="new"))
    world.monotonic.advance(2)
    world.verifier.authenticate(token(key(1), kid="new"), None)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (None, "No such file"),
        (b"{}", "no JWKS document"),
        (b'{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "x"}]}', "no RSA key"),
        (b'{"keys": [{"kty": "RSA", "n": "!", "e": "AQAB", "kid": "x"}]}', "is broken"),
        (b" " * 300_000, "more than"),
    ],
)
def test_a_service_does_not_start_without_usable_keys(tmp_path: Path, content: bytes | None, cause: str) -> None:
    file = tmp_path / "jwks.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(FailedPreconditionError, match=cause):
        JwksFile(file)


def test_a_short_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FailedPreconditionError, match="fewer than 2048 bits"):
        JwksFile(write_jwks(tmp_path / "jwks.json", {"short": key(2, 1024)}))


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> TokenVerifier:
    file = write_jwks(tmp_path_factory.mktemp("keys") / "jwks.json", {KID: key()})
    return TokenVerifier(JwksFile(file), clock=FakeClock(NOW))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_token_with_any_character_changed_is_refused_or_the_same(
    verifier: TokenVerifier, data: st.DataObject
) -> None:
    good = token()
    position = data.draw(st.integers(0, len(good) - 1))
    character = data.draw(st.characters(max_codepoint=0x2FF))
    changed = good[:position] + character + good[position + 1 :]
    try:
        principal = verifier.authenticate(changed, None)
    except UnauthenticatedError:
        pass
    else:
        # The last character of a part holds bits that mean nothing.
        assert principal == verifier.authenticate(good, None)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_refused_as_unauthenticated(verifier: TokenVerifier, text: str) -> None:
    with pytest.raises(UnauthenticatedError):
        verifier.authenticate(text, None)
