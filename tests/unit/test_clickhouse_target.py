"""Where a ClickHouse is, as its DSN and the settings say."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.shared.clickhouse.config import ClickHouseConfig
from services.shared.clickhouse.target import read_target
from services.shared.errors import InvalidArgumentError


def test_a_dsn_says_host_user_password_and_database() -> None:
    target = read_target("https://us%40er:p%2Fss@click.example:9000/shop?ca_cert=/ca.pem", ClickHouseConfig())
    assert (target.database, target.is_embedded) == ("shop", False)
    assert target.arguments() == {
        "interface": "https",
        "host": "click.example",
        "port": 9000,
        "username": "us@er",
        "password": "p/ss",
        "ca_cert": "/ca.pem",
    }


@pytest.mark.parametrize(("dsn", "port"), [("http://h", 8123), ("https://h/", 8443), ("http://[::1]:1/", 1)])
def test_what_a_dsn_leaves_out_is_usual(dsn: str, port: int) -> None:
    target = read_target(dsn, ClickHouseConfig(database="other"))
    assert (target.database, target.arguments()["port"]) == ("other", port)
    assert (target.arguments()["username"], target.arguments()["password"]) == ("default", "")


def test_the_password_file_is_read_anew_for_each_connection(tmp_path: Path) -> None:
    file = tmp_path / "password"
    target = read_target("http://u@h", ClickHouseConfig(password_file=file))
    for password in ("one", "two"):
        file.write_text(f"{password}\n")
        assert target.arguments()["password"] == password


@pytest.mark.parametrize(
    "dsn",
    [
        "",
        "h:8123",
        "chdb:secret/data",
        "chdb://secret/data",
        "ftp://u:secret@h/",
        "http://u:secret@h:port/",
        "http://u:secret@h/a-b",
        "http://u:secret@h/a/b",
        "http://u:secret@h/x%20DROP",
        "http://u:secret@h/?session_id=1",
        "http://:secret@/",
    ],
)
def test_a_wrong_dsn_is_refused_without_telling_its_password(dsn: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        read_target(dsn, ClickHouseConfig())
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_password_is_given_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="password_file"):
        read_target("http://u:secret@h", ClickHouseConfig(password_file=tmp_path / "password"))


def test_statements_name_the_database_that_is_set() -> None:
    sql = "SELECT airis.samples.value, 'x' AS airis FROM airis.samples JOIN airis_x.y WHERE z = {p0:String}"
    assert read_target("http://h/shop", ClickHouseConfig()).localize(sql) == (
        "SELECT shop.samples.value, 'x' AS airis FROM shop.samples JOIN airis_x.y WHERE z = {p0:String}"
    )
    assert read_target("chdb:///data", ClickHouseConfig()).localize(sql) == sql
