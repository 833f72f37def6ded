"""Whoever has the private keys publishes what services elsewhere need, and no private key."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import jwt
import pytest

from services.shared.auth.key_folder import KeyFolder
from services.shared.errors import FailedPreconditionError
from services.supervisor.authentication import PlatformTokens
from services.supervisor.publication import Publication

NOW = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def published(tmp_path: Path, clock: Clock) -> tuple[KeyFolder, Path, Publication]:
    keys, into = KeyFolder(tmp_path / "data", clock=clock, key_bits=2048), tmp_path / "public"
    into.mkdir()
    return keys, into, Publication(keys, into, PlatformTokens(keys, into, clock))


def test_public_keys_and_tokens_are_published_and_nothing_else(tmp_path: Path) -> None:
    clock = Clock()
    keys, into, publication = published(tmp_path, clock)
    keys.init()
    publication.update()
    found = sorted(str(file.relative_to(into)) for file in into.rglob("*") if file.is_file())
    assert found == ["jwks.json", "tokens/alerts.jwt", "tokens/telemetry.jwt"]
    assert (into / "jwks.json").read_bytes() == keys.jwks_file.read_bytes()
    assert (into / "tokens/alerts.jwt").stat().st_mode & 0o077 == 0
    claims = jwt.decode((into / "tokens/alerts.jwt").read_text().strip(), options={"verify_signature": False})
    assert claims["tenant"] == "*"


def test_tokens_are_replaced_before_they_expire_and_new_keys_at_once(tmp_path: Path) -> None:
    clock = Clock()
    keys, into, publication = published(tmp_path, clock)
    keys.init()
    publication.update()
    first = (into / "tokens/alerts.jwt").read_text()
    clock.now += 60
    keys.rotate()
    publication.update()
    assert len(json.loads((into / "jwks.json").read_bytes())["keys"]) == 2
    assert (into / "tokens/alerts.jwt").read_text() == first
    clock.now += 3000
    publication.update()
    claims = jwt.decode((into / "tokens/alerts.jwt").read_text().strip(), options={"verify_signature": False})
    assert claims["exp"] > clock.now + 3000


def test_tokens_of_a_clock_that_was_ahead_are_replaced_when_it_is_right(tmp_path: Path) -> None:
    clock = Clock()
    keys, into, publication = published(tmp_path, clock)
    keys.init()
    clock.now += 9 * 3600
    publication.update()
    clock.now -= 9 * 3600
    publication.update()
    for name in ("alerts", "telemetry"):
        token = (into / f"tokens/{name}.jwt").read_text().strip()
        assert jwt.decode(token, options={"verify_signature": False})["nbf"] == clock.now


async def test_without_keys_it_ends_and_says_what_to_do(tmp_path: Path) -> None:
    _, into, publication = published(tmp_path, Clock())
    with pytest.raises(FailedPreconditionError, match="airis auth init"):
        await publication.run(asyncio.Event(), print)
    assert list(into.iterdir()) == []


async def test_it_ends_when_asked(tmp_path: Path) -> None:
    keys, into, publication = published(tmp_path, Clock())
    keys.init()
    ended = asyncio.Event()
    ended.set()
    await publication.run(ended, print)
    assert (into / "jwks.json").exists()
