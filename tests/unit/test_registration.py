"""How an instance tells Consul of itself, at a Consul that a test plays: what it is told, and what it may answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from airis.client.discovery_consul import ConsulAgent, ConsulDirectory, ConsulError
from structlog.testing import capture_logs

from deploy.renderers.signals import read_signals
from resilience.contract import read_descriptor_set
from services.__main__ import SIGNALS
from services.shared.discovery.config import ConsulConfig
from services.shared.discovery.registration import AUTO, OwnInstance, Registration
from services.supervisor.envoy_config import DESCRIPTORS

SERVES = "airis.metrics.v1.MetricsService"


class Consul:
    """Knows no instance; keeps what it is told.

    Attributes:
        registered: What came.
        answers: What it says first, in place of the checks that it has.
    """

    def __init__(self) -> None:
        self.registered: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.answers: list[Any] = []
        self.tokens: list[str | None] = []
        self.address = ""

    async def checks(self, request: web.Request) -> web.Response:
        self.tokens.append(request.headers.get("X-Consul-Token"))
        return web.json_response(self.answers.pop(0) if self.answers else {})

    async def register(self, request: web.Request) -> web.Response:
        self.registered.put_nowait(await request.json())
        return web.Response()

    async def deregister(self, _: web.Request) -> web.Response:
        return web.Response()

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(30):
            return await self.registered.get()


@pytest.fixture
async def consul() -> AsyncIterator[Consul]:
    made, application = Consul(), web.Application()
    application.router.add_get("/v1/agent/checks", made.checks)
    application.router.add_put("/v1/agent/service/register", made.register)
    application.router.add_put("/v1/agent/service/deregister/{id}", made.deregister)
    runner = web.AppRunner(application)
    await runner.setup()
    listening = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listening).start()
    made.address = f"127.0.0.1:{listening.getsockname()[1]}"
    yield made
    await runner.cleanup()


def registration(consul: Consul, serves: str = SERVES, host: str = "10.0.0.7", **settings: Any) -> Registration:
    config = ConsulConfig(address=consul.address, refresh_interval=0.01, leave_seconds=0.0, **settings)
    return Registration(config, OwnInstance("metrics", host, 8001, 9101, "1", "all", serves))


@pytest.mark.parametrize(
    ("serves", "host", "target"),
    [
        (SERVES, "10.0.0.7", f"10.0.0.7:8001/{SERVES}"),
        (SERVES, "fd00::7", f"[fd00::7]:8001/{SERVES}"),
        ("", "10.0.0.7", "10.0.0.7:8001"),
    ],
)
async def test_the_check_asks_for_what_the_instance_serves(consul: Consul, serves: str, host: str, target: str) -> None:
    kept = registration(consul, serves, host)
    kept.start()
    # Another process at the same address must not be taken for this one.
    (check,) = (await consul.next())["checks"]
    assert check["grpc"] == target
    await kept.leave()


def test_what_a_service_is_asked_for_is_what_it_serves() -> None:
    signals = read_signals(read_descriptor_set(DESCRIPTORS))
    assert {signal.name: signal.service.full_name for signal in signals} == SIGNALS


async def test_an_instance_with_a_new_address_takes_its_own_place(consul: Consul) -> None:
    kept = registration(consul, host="0.0.0.0", advertise_host=AUTO)
    kept.start()
    told = await consul.next()
    assert told["address"] == "127.0.0.1"
    assert told["id"] == f"airis-metrics-{socket.gethostname()}-8001"
    await kept.leave()


async def test_an_answer_that_nobody_expects_is_logged_once_and_does_not_end_the_registration(consul: Consul) -> None:
    consul.answers = [["no object"], ["no object"]]
    kept = registration(consul)
    with capture_logs() as logs:
        kept.start()
        await consul.next()
    assert [each["log_level"] for each in logs if each["event"] == "registration_failed"] == ["error"]
    await kept.leave()


async def test_an_instance_registers_when_its_token_file_is_put_right(consul: Consul, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("AccessorID: 1\nSecretID: secret\n")
    kept = registration(consul, token_file=str(file))
    with capture_logs() as logs:
        kept.start()
        async with asyncio.timeout(30):
            while not logs:  # noqa: ASYNC110 (what is waited for is a line of the log)
                await asyncio.sleep(0.01)
    assert "more than one line" in logs[0]["error"]
    assert "secret" not in str(logs)
    file.write_text("right\n")
    await consul.next()
    assert set(consul.tokens) == {"right"}
    await kept.leave()


@pytest.mark.parametrize("text", ["", "\n", "two\nlines", "a b", "caf\u00e9", "x" * 5000, "nul\0"])
async def test_a_file_that_holds_no_token_is_said_without_showing_it(tmp_path: Path, text: str) -> None:
    file = tmp_path / "token"
    file.write_text(text)

    async def ask(client: Any, token: str | None) -> None:
        raise AssertionError("asked with a token that can be none")

    with pytest.raises(ConsulError, match="must hold the token and nothing else") as caught:
        await ConsulAgent("127.0.0.1:1", file).ask(ask, 30)
    assert str(caught.value) == (
        f"The token file {file} is empty, too long, or has more than one line of visible characters: it must hold the "
        "token and nothing else."
    )


async def test_who_follows_instances_says_that_its_token_can_be_none(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("two\nlines\n")
    directory = ConsulDirectory(ConsulAgent("127.0.0.1:1", file))
    watching = asyncio.ensure_future(anext(directory.watch("airis-metrics")))
    async with asyncio.timeout(30):
        while not directory.fault:  # noqa: ASYNC110 (what is waited for is a fact that it only keeps)
            await asyncio.sleep(0.01)
    assert not watching.done()
    assert "must hold the token" in directory.fault
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await directory.close()
