"""Inputs over the wire of a running platform: gRPC directly and through Envoy, REST, gRPC-Web, OTLP/HTTP, raw bytes."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import struct
from collections.abc import AsyncIterator, Iterator
from random import Random
from typing import Any

import aiohttp
import grpc
from google.rpc import code_pb2, status_pb2
from yarl import URL

from tests.fuzz import messages, mutations, raw, rest, texts
from tests.fuzz.addresses import Addresses
from tests.fuzz.contract import EVERY, MESH, SIGNALS, Rpc, rpcs
from tests.fuzz.decoders import OURS, otlp_tree

DEADLINE = 20.0
"""Seconds for a call. The longest of the contract are 30 s and 60 s; what is asked here is small."""
_WATCH_SECONDS = 0.4
# Between the messages of a slow stream.
_SLOW_SECONDS = 0.5
_MAX_BYTES = 64 << 20
_TRANSPORTS = ("grpc", "grpc envoy", "rest", "grpc", "rest", "grpc-web", "otlp", "raw")
_COMPRESSIONS = (None, None, None, None, grpc.Compression.Gzip, grpc.Compression.Deflate)
# What gRPC itself answers, before any of our code, to bytes that are not what their headers say.
_OF_GRPC = (
    "decompress",
    "ompress",
    "nexpected EOS",
    "frame",
    # The client's own: it was sending when the server had answered.
    "Internal error from Core",
    # Envoy's, to what is no base64.
    "Bad gRPC-web request",
)
_OF_ODD_HEADERS = ("Error parsing 'grpc-timeout'", "Error parsing 'grpc-encoding'", "grpc-accept-encoding", "-bin'")


class LateError(Exception):
    """No answer in time."""


class Wire:
    """Sends inputs to a platform. A context manager.

    Args:
        seed: With an index it gives the same input again.
        addresses: Of the platform.
    """

    def __init__(self, seed: int, addresses: Addresses) -> None:
        self._seed = seed
        self._at = addresses
        self._rpcs = rpcs()
        self._otlp = tuple(rpc for rpc in self._rpcs if rpc.is_otlp)
        self._routed = tuple(rpc for rpc in self._rpcs if rpc.routes)

    async def __aenter__(self) -> Wire:
        options = (("grpc.max_receive_message_length", _MAX_BYTES), ("grpc.max_send_message_length", -1))
        targets = {f"{name} direct": self._at.grpc(name) for name in (*SIGNALS, MESH)}
        targets |= {"edge": self._at.edge, "otlp": self._at.otlp_grpc()}
        self._channels = {name: grpc.aio.insecure_channel(target, options) for name, target in targets.items()}
        self._http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=DEADLINE),
            auto_decompress=False,
            connector=aiohttp.TCPConnector(limit=0),
            max_line_size=65536,
            max_field_size=65536,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()
        for channel in self._channels.values():
            await channel.close()

    def target(self, index: int) -> tuple[str, Rpc]:
        """How an input is sent, and what it calls."""
        turn, place = divmod(index, len(_TRANSPORTS))
        transport = _TRANSPORTS[place]
        # The second of two alike goes on where the first does not.
        second = len(_TRANSPORTS[:place]) and transport in _TRANSPORTS[:place]
        of = self._otlp if transport == "otlp" else self._routed if transport == "rest" else self._rpcs
        return transport, of[(turn + (len(of) // 2 if second else 0)) % len(of)]

    def name(self, index: int) -> str:
        """The same in words."""
        transport, rpc = self.target(index)
        return f"{transport} {rpc.path}"

    async def run(self, index: int) -> tuple[str, str]:
        """Sends one input.

        Returns:
            What was called, and the status.

        Raises:
            AssertionError: The answer blames the server for a mistake of the caller.
            LateError: There was none.
        """
        transport, rpc = self.target(index)
        rng = Random(f"{self._seed}/wire/{index}")
        name = self.name(index)
        try:
            if transport.startswith("grpc") and transport != "grpc-web":
                return name, await self._grpc(rng, rpc, through_envoy=transport.endswith("envoy"))
            if transport == "rest":
                return name, await self._rest(rng, rpc)
            if transport == "grpc-web":
                return name, await self._grpc_web(rng, rpc)
            if transport == "otlp":
                return name, await self._otlp_http(rng, rpc)
            payload = self._payload(rng, rpc)
            return f"raw {rpc.path}", await raw.send(rng, self._at, rpc.path, payload)
        except TimeoutError as error:
            raise LateError(f"{name}: no answer within {DEADLINE:g} s") from error

    def _payload(self, rng: Random, rpc: Rpc) -> bytes:
        payload = messages.request(rng, rpc.request, rpc.name).SerializeToString()
        return mutations.wire(rng, payload) if rng.random() < 0.4 else payload

    def _credentials(self, rng: Random) -> str:
        secret = f"{texts.SECRET}-{rng.getrandbits(32):08x}"
        if self._at.token and rng.random() < 0.93:
            return f"Bearer {self._at.token}"
        if not self._at.token and rng.random() < 0.9:
            return f"Bearer {secret}"
        broken = self._at.token[:-9] + secret[-9:] if self._at.token else secret
        return rng.choice(
            (f"Bearer {secret}", f"Basic {secret}", secret, "Bearer ", f"Bearer {broken}", "Bearer a.b.c")
        )

    async def _grpc(self, rng: Random, rpc: Rpc, through_envoy: bool) -> str:
        signal = rng.choice(SIGNALS) if rpc.signal == EVERY else rpc.signal
        name = ("otlp" if rpc.is_otlp else "edge") if through_envoy else f"{signal} direct"
        channel = self._channels[name]
        metadata = [("authorization", self._credentials(rng))]
        if rng.random() < 0.1:
            metadata.append(_odd_metadata(rng))
        hostile = rng.random() < 0.02
        options: dict[str, Any] = {
            "metadata": metadata,
            "timeout": rng.choice((1e-9, 0.001, 1e9)) if hostile else DEADLINE,
            "compression": rng.choice(_COMPRESSIONS),
        }
        # A bomb: it is small when it is sent.
        payloads = [bytes(rng.choice((20, 40)) << 20)] if rng.random() < 0.002 else list(self._stream(rng, rpc))
        if len(payloads[0]) > 1 << 22:
            options["compression"] = grpc.Compression.Gzip
        path = rpc.path if rng.random() < 0.99 else rng.choice((rpc.path + "x", "/", "/a/b", "/airis.x.v1.Y/Z"))
        try:
            async with asyncio.timeout(DEADLINE + 10):
                await self._called(channel, path, rpc, payloads, options, rng.random() < 0.1)
        except grpc.aio.AioRpcError as error:
            code = error.code().name
            if code == "DEADLINE_EXCEEDED" and not hostile:
                raise LateError(f"{rpc.path}: {error.details()}") from error
            _judge_grpc(code, error.details() or "", len(metadata) > 1)
            _judge_details(error, path == rpc.path and rpc.signal in SIGNALS)
            return code
        return "OK"

    async def _called(
        self, channel: Any, path: str, rpc: Rpc, payloads: list[bytes], options: dict[str, Any], slow: bool
    ) -> None:
        if rpc.client_streams:

            async def requests() -> AsyncIterator[bytes]:
                for number, payload in enumerate(payloads):
                    if slow and number:
                        await asyncio.sleep(_SLOW_SECONDS)
                    yield payload

            call = channel.stream_stream(path)(requests(), **options)
        elif rpc.server_streams:
            call = channel.unary_stream(path)(payloads[0], **options)
        else:
            await channel.unary_unary(path)(payloads[0], **options)
            return
        # A watch has no end: it is left after a while.
        seconds = None if rpc.client_streams else _WATCH_SECONDS
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                async for _ in call:
                    pass
        call.cancel()

    def _stream(self, rng: Random, rpc: Rpc) -> Iterator[bytes]:
        if not rpc.client_streams:
            yield self._payload(rng, rpc)
            return
        if rpc.takes_items and rng.random() < 0.8:
            request: Any = rpc.request()
            request.open.producer_id = rng.choice(("fuzz", "fuzz-2", texts.text(rng)))
            yield request.SerializeToString()
        for sequence in range(rng.choice((1, 1, 2, 4))):
            request = messages.request(rng, rpc.request, rpc.name)
            if rpc.takes_items and rng.random() < 0.6:
                request.batch.sequence = sequence + 1
            payload = request.SerializeToString()
            yield mutations.wire(rng, payload) if rng.random() < 0.3 else payload

    async def _rest(self, rng: Random, rpc: Rpc) -> str:
        call = rest.call(rng, rng.choice(rpc.routes), messages.request(rng, rpc.request, rpc.name))
        headers = {"authorization": self._credentials(rng), **call.headers}
        headers["cookie"] = f"session={texts.SECRET}-{rng.getrandbits(32):08x}"
        url = URL(f"http://{self._at.edge}{call.path}", encoded=True)
        timeout = aiohttp.ClientTimeout(total=2.0 if rpc.server_streams else DEADLINE)
        try:
            async with self._http.request(call.verb, url, data=call.body, headers=headers, timeout=timeout) as response:
                body = await response.read()
        except TimeoutError:
            if rpc.server_streams:
                return "left"
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            return f"closed {type(error).__name__}"
        if "grpc" not in headers["content-type"]:
            _judge_http(response.status, body, response.headers.get("content-type", ""), call.verb)
        return str(response.status)

    async def _grpc_web(self, rng: Random, rpc: Rpc) -> str:
        payload = next(self._stream(rng, rpc))
        flag, size = 0, len(payload)
        headers = {
            "authorization": self._credentials(rng),
            "content-type": rng.choice(
                ("application/grpc-web+proto", "application/grpc-web", "application/grpc-web-text")
            ),
            "x-grpc-web": "1",
        }
        odd = rng.random() < 0.3
        if odd:
            size = rng.choice((size, size, size + 7, max(size - 3, 0), 2**32 - 1))
            flag = rng.choice((0, 0, 1, 2, 128, 255))
            headers["grpc-timeout"] = rng.choice(("1n", "x", "-5S", "99999999S", "99999999999999H", ""))
            headers["grpc-encoding"] = rng.choice(("gzip", "identity", "x", "snappy"))
        body = struct.pack(">BI", flag, size) + payload
        if headers["content-type"].endswith("text") and rng.random() < 0.9:
            body = base64.b64encode(body)
        url = URL(f"http://{self._at.edge}{rpc.path}", encoded=True)
        timeout = aiohttp.ClientTimeout(total=2.0 if rpc.server_streams or odd else DEADLINE)
        try:
            async with self._http.post(url, data=body, headers=headers, timeout=timeout) as response:
                answer = await response.read()
        except TimeoutError:
            # A message that is announced longer than it is never comes.
            if rpc.server_streams or odd:
                return "left"
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            return f"closed {type(error).__name__}"
        _in_time(response.status, answer)
        assert response.status < 500, f"HTTP {response.status} {answer[:300]!r}"
        code, text = _web_status(dict(response.headers), answer)
        if code:
            _judge_grpc(code, text, odd)
        return code or str(response.status)

    async def _otlp_http(self, rng: Random, rpc: Rpc) -> str:
        message = messages.request(rng, rpc.request, rpc.name)
        kind = "application/x-protobuf"
        if rng.random() < 0.5:
            kind, body = "application/json", mutations.json_text(rng, otlp_tree(message))
        else:
            body = message.SerializeToString()
            body = mutations.wire(rng, body) if rng.random() < 0.5 else body
        headers = {"authorization": self._credentials(rng), "content-type": kind}
        if rng.random() < 0.05:
            headers["content-type"] = rng.choice(rest.CONTENT_TYPES)
        if rng.random() < 0.4:
            headers["content-encoding"], body = mutations.squeezed(rng, body)
        directly = rng.random() < 0.5
        url = f"http://{self._at.otlp_http(rpc.signal, directly)}/v1/{rpc.signal}"
        data: Any = body
        if rng.random() < 0.2:
            data = _pieces(body)
        try:
            async with self._http.post(url, data=data, headers=headers) as response:
                answer = await response.read()
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            return f"closed {type(error).__name__}"
        content_type = response.headers.get("content-type", "")
        if content_type == "application/x-protobuf":
            _in_time(response.status, answer)
            assert response.status < 500, f"HTTP {response.status} {answer[:500]!r}"
        else:
            _judge_http(response.status, answer, content_type, "POST")
        return str(response.status)


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for at in range(0, min(len(body), 4096), 512):
        yield body[at : at + 512]
        await asyncio.sleep(0)
    yield body[4096:]


def _odd_metadata(rng: Random) -> tuple[str, str | bytes]:
    return rng.choice(
        (
            ("traceparent", "00-" + "f" * 60),
            ("traceparent", "x" * 3000),
            ("tracestate", "a=" + "b" * 3000),
            ("airis-tenant", "other"),
            ("airis-tenant", "'; DROP"),
            ("x-bin", rng.randbytes(50)),
            ("x-request-id", "a" * 2000),
            ("grpc-accept-encoding", "x,y"),
            ("x-envoy-original-path", "/api/v1/x"),
            ("x-envoy-upstream-rq-timeout-ms", "0"),
            ("baggage", "k=v," * 500),
        )
    )


def _judge_grpc(code: str, text: str, odd: bool) -> None:
    if code in ("INTERNAL", "UNKNOWN") and any(words in text for words in _OF_GRPC):
        return
    if code == "INTERNAL" and odd and any(words in text for words in _OF_ODD_HEADERS):
        return
    assert code not in OURS, f"{code}: {text[:300]}"


def _judge_details(error: grpc.aio.AioRpcError, is_ours: bool) -> None:
    """Our own refusals say why, in a form for programs."""
    if error.code().name not in ("INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "OUT_OF_RANGE") or not is_ours:
        return
    found = [value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin"]
    assert found, f"{error.code().name} without details: {error.details()}"
    status = status_pb2.Status.FromString(found[0])
    assert code_pb2.Code.Name(status.code) == error.code().name, f"another code within: {status.code}"
    assert status.details, f"{error.code().name} without ErrorInfo: {error.details()}"


def _in_time(status: int, body: bytes) -> None:
    """On a busy machine an answer may be late: it is asked for again, alone."""
    if status == 504 or (status == 503 and b"longer than its deadline" in body):
        raise LateError(f"HTTP {status} {body[:200]!r}")


def _judge_http(status: int, body: bytes, content_type: str, verb: str) -> None:
    _in_time(status, body)
    if status >= 500:
        # What this version does not have is 501.
        assert status == 501, f"HTTP {status} {body[:500]!r}"
    if status < 400 or verb in ("HEAD", "OPTIONS", "TRACE"):
        return
    if status == 400 and content_type.startswith("text/plain"):
        # The HTTP server's own, before there is a request: its body breaks off, or is not what its encoding says.
        return
    try:
        answer = json.loads(body)
    except ValueError:
        raise AssertionError(f"HTTP {status}, an error that is no JSON: {content_type} {body[:300]!r}") from None
    assert isinstance(answer, dict), f"HTTP {status}, an error that is no status: {body[:300]!r}"
    assert isinstance(answer.get("code"), int), f"HTTP {status}, an error without a code: {body[:300]!r}"


def _web_status(headers: dict[str, str], answer: bytes) -> tuple[str, str]:
    lowered = {name.lower(): value for name, value in headers.items()}
    number, text = lowered.get("grpc-status"), lowered.get("grpc-message", "")
    if number is None:
        with contextlib.suppress(ValueError):
            answer = base64.b64decode(answer, validate=True)
        at = answer.rfind(b"grpc-status:")
        if at < 0:
            return "", ""
        number = answer[at + 12 : at + 15].split(b"\r")[0].decode("latin-1").strip()
        told = answer.find(b"grpc-message:", at)
        text = answer[told + 13 : told + 300].decode("latin-1") if told > 0 else ""
    return code_pb2.Code.Name(int(number)), text
