"""Where a client's token comes from, and that nothing shows it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from airis.client import AirisClient, AirisError, SyncAirisClient
from airis.client.credentials import TokenSource, acting_for

from services.shared.telemetry.token_headers import TokenHeaders

SECRET = "header.payload.signature"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRIS_TOKEN", raising=False)
    monkeypatch.delenv("AIRIS_TOKEN_FILE", raising=False)


def write(file: Path, text: str) -> Path:
    temporary = file.with_suffix(".new")
    temporary.write_text(text)
    temporary.replace(file)
    return file


def found(token: str | None = None, file: Path | None = None, **environment: str) -> str | None:
    source = TokenSource.find(token, file, environment)
    return None if source is None else source.header()


def test_what_is_given_wins_over_the_environment(tmp_path: Path) -> None:
    file = write(tmp_path / "token", "of-a-file\n")
    assert found() is None
    assert found(AIRIS_TOKEN="", AIRIS_TOKEN_FILE="") is None
    assert found(AIRIS_TOKEN="t") == "Bearer t"
    assert found(AIRIS_TOKEN_FILE=str(file)) == "Bearer of-a-file"
    assert found(AIRIS_TOKEN="t", AIRIS_TOKEN_FILE=str(file)) == "Bearer t"
    assert found("given", AIRIS_TOKEN="t", AIRIS_TOKEN_FILE="nowhere") == "Bearer given"
    assert found(None, file, AIRIS_TOKEN="t") == "Bearer of-a-file"


def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    file = write(tmp_path / "token", "one")
    source = TokenSource(file=file)
    assert source.header() == "Bearer one"
    write(file, "two")
    assert source.header() == "Bearer two"
    file.unlink()
    assert source.header() == "Bearer two"
    write(file, "three")
    assert source.header() == "Bearer three"


def test_a_file_that_never_was_is_named(tmp_path: Path) -> None:
    with pytest.raises(AirisError, match=r"nowhere cannot be read: No such file") as caught:
        TokenSource(file=tmp_path / "nowhere").header()
    assert caught.value.reason == "TOKEN_MISSING"


@pytest.mark.parametrize(
    "bad", ["", " ", f"{SECRET}\nsecond", f"a {SECRET}", f"ü{SECRET}", SECRET * 500, f"{SECRET}\x00"]
)
def test_what_can_be_no_token_is_refused_and_not_repeated(bad: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(bad)
    for make in (lambda: TokenSource(bad), lambda: TokenSource(file=file).header()):
        with pytest.raises(AirisError) as caught:
            make()
        assert SECRET not in str(caught.value)
        assert caught.value.__context__ is None or SECRET not in str(caught.value.__context__)


def test_both_a_token_and_a_file_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(AirisError, match="not both"):
        AirisClient(token=SECRET, token_file=tmp_path / "token")
    with pytest.raises(AirisError, match="not both"):
        TokenSource()


def test_no_representation_shows_a_token(tmp_path: Path) -> None:
    file = write(tmp_path / "token", SECRET)
    with_file = TokenSource(file=file)
    with_file.header()
    with SyncAirisClient(token=SECRET) as client:
        shown = [TokenSource(SECRET), with_file, AirisClient(token=SECRET), client, TokenHeaders(file)]
        for each in shown:
            assert SECRET not in f"{each!r} {each}"


def test_a_call_names_a_tenant_only_within_acting_for() -> None:
    source = TokenSource(SECRET)
    assert [key for key, _ in source.metadata()] == ["authorization"]
    with acting_for("acme"):
        assert ("airis-tenant", "acme") in source.metadata()
        with acting_for("other"):
            assert ("airis-tenant", "other") in source.metadata()
        assert ("airis-tenant", "acme") in source.metadata()
    assert len(source.metadata()) == 1


def test_exporters_get_the_token_of_the_moment_and_none_while_there_is_none(tmp_path: Path) -> None:
    file = tmp_path / "token"
    headers = TokenHeaders(file)
    assert headers
    assert tuple(headers) == ()
    write(file, "one")
    assert tuple(headers) == (("authorization", "Bearer one"),)
    write(file, "two")
    assert headers[0] == ("authorization", "Bearer two")
    os.utime(file, ns=(1, 1))
    assert tuple(headers) == (("authorization", "Bearer two"),)
