"""The real Envoy with authentication on: who is let through, and what the others are told."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
import pytest_asyncio
from aiohttp import web
from airis.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from envoy_edge import Edge, running_edge, wait_until_healthy
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from service_process import free_offset

from services.shared.auth.http import JWKS_PATH
from services.supervisor import ports

pytestmark = pytest.mark.asyncio(loop_scope="module")


def new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass
class Issuer:
    """Makes tokens, and serves the keys that they are checked with."""

    keys: dict[str, rsa.RSAPrivateKey] = field(default_factory=lambda: {"one": new_key()})

    def token(
        self, *permissions: str, key: Any = None, algorithm: str = "RS256", kid: str = "one", **claims: Any
    ) -> str:
        now = int(time.time())
        content = {
            "iss": "airis-epm", "aud": "airis-services", "sub": "tester", "jti": "1", "tenant": "acme",
            "permissions": list(permissions), "iat": now, "exp": now + 600, **claims,
        }  # fmt: skip
        return jwt.encode(content, key or self.keys[kid], algorithm, headers={"kid": kid})

    async def jwks(self, _: web.Request) -> web.Response:
        keys = [
            {
                **jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True),
                "kid": kid,
                "alg": "RS256",
                "use": "sig",
            }
            for kid, key in self.keys.items()
        ]
        return web.json_response({"keys": keys})


@dataclass
class Guarded:
    edge: Edge
    issuer: Issuer


async def take(request: web.Request) -> web.Response:
    return web.json_response(
        {"bytes": len(await request.read()), "authorization": request.headers["authorization"][:7]}
    )


@asynccontextmanager
async def one_service(port: int, issuer: Issuer, *, readiness: int = 200) -> AsyncIterator[None]:
    """One of the four that serve the keys; the others are down."""

    async def ready(_: web.Request) -> web.Response:
        return web.Response(status=readiness)

    application = web.Application()
    application.add_routes([web.get(JWKS_PATH, issuer.jwks), web.get("/readyz", ready), web.post("/v1/metrics", take)])
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield
    finally:
        await runner.cleanup()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    offset, issuer = free_offset(*ports.ALL), Issuer()
    async with (
        one_service(9101 + offset, issuer),
        running_edge(tmp_path_factory.mktemp("envoy"), offset, authentication=True) as edge,
    ):
        await wait_until_healthy(edge.session, edge.url("", 9901), {"metrics-http", "jwks"})
        yield Guarded(edge, issuer)


@dataclass(frozen=True)
class Refusal:
    """What a caller was told."""

    code: int
    message: str
    reason: str
    domain: str
    metadata: dict[str, str]
    retry_delay: float | None


def from_status(status: status_pb2.Status) -> Refusal:
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(info)
    delay = retry.retry_delay.ToTimedelta().total_seconds() if _unpacked(status, retry) else None
    return Refusal(status.code, status.message, info.reason, info.domain, dict(info.metadata), delay)


def _unpacked(status: status_pb2.Status, detail: Any) -> bool:
    return any(each.Unpack(detail) for each in status.details)


def bearer(token: str | None) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"} if token else {}


async def over_grpc(edge: Edge, token: str | None) -> Refusal | None:
    async with edge.channel() as channel:
        stub = metrics_pb2_grpc.MetricsServiceStub(channel)
        call = stub.ListMetrics(metrics_pb2.ListMetricsRequest(), metadata=tuple(bearer(token).items()))
        code, message = await call.code(), await call.details()
        if code == grpc.StatusCode.OK:
            return None
        trailers = dict(await call.trailing_metadata())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert (code.value[0], message) == (status.code, status.message)
    return from_status(status)


async def over_rest(edge: Edge, token: str | None) -> Refusal | None:
    status, answer = await edge.call("GET", "/api/v1/metrics", headers=bearer(token))
    if status == 200:
        return None
    assert answer.keys() == {"code", "message", "details"}
    assert status == {16: 401, 7: 403, 14: 503}[answer["code"]]
    info = answer["details"][0]
    assert info["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    delays = [float(each["retryDelay"].rstrip("s")) for each in answer["details"][1:]]
    return Refusal(
        answer["code"],
        answer["message"],
        info["reason"],
        info["domain"],
        info["metadata"],
        delays[0] if delays else None,
    )


async def over_grpc_web(edge: Edge, token: str | None) -> Refusal | None:
    headers = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1", **bearer(token)}
    url = edge.url("/airis.metrics.v1.MetricsService/ListMetrics")
    async with edge.session.post(url, data=b"\0" + struct.pack(">I", 0), headers=headers) as response:
        assert response.status == 200
        assert response.content_type == "application/grpc-web+proto"
        if "grpc-status" not in response.headers:
            assert b"grpc-status:0" in await response.read()
            return None
        binary = response.headers["grpc-status-details-bin"]
        status = status_pb2.Status.FromString(base64.b64decode(binary + "=" * (-len(binary) % 4)))
        assert response.headers["grpc-status"] == str(status.code)
        assert response.headers["grpc-message"] == status.message
        return from_status(status)


WAYS = [over_grpc, over_rest, over_grpc_web]


@pytest.mark.parametrize("call", WAYS)
async def test_a_token_with_the_permission_is_let_through_and_reaches_the_service(guarded: Guarded, call: Any) -> None:
    token = guarded.issuer.token("logs.read", "metrics.read")
    assert await call(guarded.edge, token) is None
    assert guarded.edge.seen.last[2]["authorization"] == f"Bearer {token}"


@pytest.mark.parametrize("call", WAYS)
async def test_a_missing_permission_is_named(guarded: Guarded, call: Any) -> None:
    before = len(guarded.edge.seen.calls)
    for held in ((), ("metrics.write", "logs.read")):
        refusal = await call(guarded.edge, guarded.issuer.token(*held))
        assert (refusal.code, refusal.reason, refusal.domain) == (7, "PERMISSION_MISSING", "metrics.airis")
        assert refusal.metadata == {"permission": "metrics.read"}
        assert "metrics.read" in refusal.message
    assert len(guarded.edge.seen.calls) == before


def encoded(header: dict[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("=")


def unsigned(issuer: Issuer) -> str:
    return ".".join([encoded({"alg": "none", "typ": "JWT"}), issuer.token("metrics.read").split(".")[1], ""])


def signed_with_the_public_key(issuer: Issuer) -> str:
    # Put together by hand: the library refuses to do this.
    public = issuer.keys["one"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    claims = issuer.token("metrics.read").split(".")[1]
    content = f"{encoded({'alg': 'HS256', 'typ': 'JWT', 'kid': 'one'})}.{claims}".encode()
    signature = base64.urlsafe_b64encode(hmac.digest(public, content, "sha256")).decode().rstrip("=")
    return f"{content.decode()}.{signature}"


REFUSED: dict[str, tuple[str, Callable[[Issuer], str | None]]] = {
    "none": ("TOKEN_MISSING", lambda _: None),
    "expired": ("TOKEN_EXPIRED", lambda issuer: issuer.token("metrics.read", exp=int(time.time()) - 10)),
    "garbage": ("TOKEN_INVALID", lambda _: "abc"),
    "forged": ("TOKEN_INVALID", lambda issuer: issuer.token("metrics.read", key=new_key())),
    "unknown key": ("TOKEN_INVALID", lambda issuer: issuer.token("metrics.read", key=new_key(), kid="other")),
    "other audience": ("TOKEN_INVALID", lambda issuer: issuer.token("metrics.read", aud="others")),
    "other issuer": ("TOKEN_INVALID", lambda issuer: issuer.token("metrics.read", iss="others")),
    "other algorithm": ("TOKEN_INVALID", lambda issuer: issuer.token("metrics.read", algorithm="RS512")),
    "not yet valid": ("TOKEN_INVALID", lambda issuer: issuer.token("metrics.read", nbf=int(time.time()) + 60)),
    "unsigned": ("TOKEN_INVALID", unsigned),
    "public key as secret": ("TOKEN_INVALID", signed_with_the_public_key),
}


@pytest.mark.parametrize("call", WAYS)
@pytest.mark.parametrize("name", REFUSED)
async def test_other_tokens_are_unauthenticated(guarded: Guarded, name: str, call: Any) -> None:
    reason, make = REFUSED[name]
    before = len(guarded.edge.seen.calls)
    refusal = await call(guarded.edge, make(guarded.issuer))
    assert (refusal.code, refusal.reason, refusal.domain) == (16, reason, "edge.airis")
    assert refusal.message.endswith(".")
    assert len(guarded.edge.seen.calls) == before


async def test_what_does_not_exist_is_told_to_callers_with_a_token_only(guarded: Guarded) -> None:
    edge, token = guarded.edge, guarded.issuer.token()
    async with edge.channel() as channel:
        for method in ("/airis.metrics.v1.MetricsService/NoSuch", "/no.such.Service/Method"):
            for sent, code in ((bearer(token), "UNIMPLEMENTED"), ({}, "UNAUTHENTICATED")):
                call = channel.unary_unary(method)(b"", metadata=tuple(sent.items()))
                assert (await call.code()).name == code
    assert (await edge.call("GET", "/api/v1/nothing", headers=bearer(token)))[0] == 404
    assert (await edge.call("GET", "/api/v1/nothing"))[0] == 401


async def test_a_preflight_needs_no_token_and_pages_from_elsewhere_stay_out(guarded: Guarded) -> None:
    edge = guarded.edge
    asks = {"origin": "http://localhost:3000", "access-control-request-method": "POST"}
    async with edge.session.options(edge.url("/api/v1/metrics"), headers=asks) as answer:
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, "http://localhost:3000")
    far = {"origin": "https://elsewhere.example", **bearer(guarded.issuer.token("metrics.read"))}
    status, answer = await edge.call("GET", "/api/v1/metrics", headers=far)
    assert (status, answer["code"], answer["details"]) == (403, 7, [])


async def test_a_token_in_the_address_counts_for_nothing(guarded: Guarded) -> None:
    url = f"/api/v1/metrics?access_token={guarded.issuer.token('metrics.read')}"
    status, answer = await guarded.edge.call("GET", url)
    assert (status, answer["details"][0]["reason"]) == (401, "TOKEN_MISSING")


async def test_no_token_ends_up_in_the_log(guarded: Guarded) -> None:
    token = guarded.issuer.token("metrics.read")
    assert await over_rest(guarded.edge, token) is None
    assert await over_rest(guarded.edge, token[:-8]) is not None
    for _ in range(100):
        if "jwt_authn_access_denied" in guarded.edge.log.read_text():
            break
        await asyncio.sleep(0.05)
    assert token.split(".")[1] not in guarded.edge.log.read_text()


async def test_otlp_needs_the_permission_of_ingest(guarded: Guarded) -> None:
    edge, issuer = guarded.edge, guarded.issuer
    reader, writer = bearer(issuer.token("metrics.read")), bearer(issuer.token("metrics.write"))
    async with edge.channel(4317) as channel:
        stub = metrics_service_pb2_grpc.MetricsServiceStub(channel)
        request = metrics_service_pb2.ExportMetricsServiceRequest()
        await stub.Export(request, metadata=tuple(writer.items()))
        for headers, code in (({}, grpc.StatusCode.UNAUTHENTICATED), (reader, grpc.StatusCode.PERMISSION_DENIED)):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.Export(request, metadata=tuple(headers.items()))
            assert refused.value.code() == code
            assert rpc_status.from_call(refused.value).code == code.value[0]
    url = edge.url("/v1/metrics", 4318)
    assert await edge.call("POST", "", b"123", url=url, headers=writer) == (
        200,
        {"bytes": 3, "authorization": "Bearer "},
    )
    status, answer = await edge.call("POST", "", b"123", url=url, headers=reader)
    assert (status, answer["code"], answer["details"][0]["metadata"]) == (403, 7, {"permission": "metrics.write"})
    assert (await edge.call("POST", "", b"123", url=url))[0] == 401


async def test_a_new_key_is_known_within_seconds(guarded: Guarded) -> None:
    guarded.issuer.keys["two"] = new_key()
    token = guarded.issuer.token("metrics.read", kid="two")
    started = time.monotonic()
    for _ in range(60):
        if (refusal := await over_grpc(guarded.edge, token)) is None:
            break
        await asyncio.sleep(0.2)
    assert refusal is None
    assert time.monotonic() - started < 10
    assert await over_grpc(guarded.edge, guarded.issuer.token("metrics.read")) is None


async def watch(edge: Edge, channel: grpc.aio.Channel, token: str, *, endless: bool = False) -> Any:
    """Begins a watch and waits for its first answer; the refusal if there is one."""
    query = metrics_pb2.QueryMetricsRequest(metric="endless" if endless else "m")
    call = metrics_pb2_grpc.MetricsServiceStub(channel).WatchMetrics(
        metrics_pb2.WatchMetricsRequest(query=query, max_count=1), metadata=tuple(bearer(token).items())
    )
    try:
        await call.read()
    except grpc.aio.AioRpcError as error:
        return from_status(rpc_status.from_call(error))
    return call


async def test_each_tenant_has_a_bucket_of_its_own(guarded: Guarded) -> None:
    edge, issuer = guarded.edge, guarded.issuer
    busy, other = issuer.token("metrics.read", tenant="busy"), issuer.token("metrics.read", tenant="other")
    started = time.monotonic()
    async with edge.channel() as channel:
        answers = await asyncio.gather(*(watch(edge, channel, busy) for _ in range(200)))
        refused = [answer for answer in answers if isinstance(answer, Refusal)]
        # 100 at once, and 50 more each second.
        assert len(refused) == pytest.approx(100, abs=1 + 50 * (time.monotonic() - started))
        assert {(each.code, each.reason, each.domain, each.retry_delay) for each in refused} == {
            (8, "RATE_LIMITED", "metrics.airis", 0.02)
        }
        assert not isinstance(await watch(edge, channel, other), Refusal)
    body = {"query": {"metric": "m"}, "maxCount": 1}
    calls = (edge.call("POST", "/api/v1/metrics:watch", body, headers=bearer(busy)) for _ in range(20))
    status, answer = next(each for each in await asyncio.gather(*calls) if each[0] != 200)
    assert (status, answer["code"], [each.get("reason") for each in answer["details"]]) == (
        429,
        8,
        ["RATE_LIMITED", None],
    )
    assert answer["details"][1] == {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.02s"}


async def test_a_full_pool_refuses_at_once_and_stops_no_other_calls(guarded: Guarded) -> None:
    edge, issuer = guarded.edge, guarded.issuer
    tokens = [issuer.token("metrics.read", tenant=f"tenant-{number}") for number in range(4)]
    async with edge.channel() as channel:
        # 256 may be under way, of all tenants together.
        answers = await asyncio.gather(*(watch(edge, channel, tokens[n % 4], endless=True) for n in range(280)))
        refused = [answer for answer in answers if isinstance(answer, Refusal)]
        assert len(refused) == 24
        assert {(each.code, each.reason, each.domain, each.retry_delay) for each in refused} == {
            (8, "OVERLOADED", "metrics.airis", 0.1)
        }
        body = {"query": {"metric": "m"}, "maxCount": 1}
        status, answer = await edge.call("POST", "/api/v1/metrics:watch", body, headers=bearer(tokens[0]))
        assert (status, answer["code"], answer["details"][0]["reason"]) == (429, 8, "OVERLOADED")
        assert await over_grpc(edge, tokens[0]) is None
        for call in answers:
            if not isinstance(call, Refusal):
                call.cancel()


async def test_without_keys_no_token_is_called_wrong(tmp_path: Path) -> None:
    async with running_edge(tmp_path, free_offset(*ports.ALL), authentication=True) as edge:
        for call in WAYS:
            refusal = await call(edge, Issuer().token("metrics.read"))
            assert (refusal.code, refusal.reason, refusal.retry_delay) == (14, "NOT_READY", 1.0)


async def test_the_keys_of_one_service_are_enough_even_if_it_is_not_ready_for_calls(tmp_path: Path) -> None:
    offset, issuer = free_offset(*ports.ALL), Issuer()
    async with (
        one_service(9102 + offset, issuer, readiness=503),
        running_edge(tmp_path, offset, authentication=True) as edge,
    ):
        assert await over_grpc(edge, issuer.token("metrics.read")) is None
        # Each of the three listeners has asked for the keys, and none asked a service that is down.
        async with edge.session.get(edge.url("/stats?filter=jwks_fetch_failed", 9901)) as answer:
            counts = [line.rpartition(": ")[2] for line in (await answer.text()).splitlines()]
        assert counts == ["0", "0", "0"]


@pytest.mark.parametrize(
    "path", ["/logging?level=trace", "/quitquitquit", "/drain_listeners", "/healthcheck/fail", "/config_dump"]
)
async def test_who_reaches_the_admin_port_may_only_look(guarded: Guarded, path: str) -> None:
    edge = guarded.edge
    async with edge.session.post(edge.url(path, 9901)) as answer:
        assert answer.status == 403
    async with edge.session.get(edge.url("/ready", 9901)) as answer:
        assert answer.status == 200
