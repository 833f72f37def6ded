"""What Envoys are told, and when; and who may ask."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import yaml
from airis.client.cli import app
from airis.client.discovery import Instance
from typer.testing import CliRunner

from services.mesh import convert
from services.mesh.app import build
from services.mesh.config import MeshConfig
from services.mesh.directory import follow
from services.mesh.model import Ports
from services.mesh.rpc import EndpointServicer
from services.mesh.sets import Sets
from services.shared.discovery.config import DiscoveryConfig
from services.shared.errors import InvalidArgumentError

A, B = Ports("127.0.0.1", 8001, 9101), Ports("127.0.0.2", 8001, 9101)
EDGE = {"metrics/grpc", "metrics/http"}


class Envoy:
    """One Envoy's side of the stream."""

    def __init__(self, channel: grpc.aio.Channel, metadata: Any = None) -> None:
        method = channel.stream_stream(
            convert.METHOD,
            request_serializer=convert.DiscoveryRequest.SerializeToString,
            response_deserializer=convert.DiscoveryResponse.FromString,
        )
        self._call = method(metadata=metadata)
        self.last: Any = None

    async def ask(self, names: set[str], nonce: str | None = None, refusal: str = "") -> None:
        request = convert.DiscoveryRequest(type_url=convert.ENDPOINTS, resource_names=sorted(names))
        request.response_nonce = (self.last.nonce if self.last else "") if nonce is None else nonce
        if refusal:
            request.error_detail.message = refusal
        await self._call.write(request)

    async def told(self) -> dict[str, list[tuple[str, int]]]:
        """What comes next: addresses by set."""
        async with asyncio.timeout(5):
            self.last = await self._call.read()
        assert self.last is not grpc.aio.EOF
        found = {}
        for resource in self.last.resources:
            assignment = convert.ClusterLoadAssignment.FromString(resource.value)
            addresses = [each.endpoint.address.socket_address for each in assignment.endpoints[0].lb_endpoints]
            found[assignment.cluster_name] = [(address.address, address.port_value) for address in addresses]
        return found

    async def code(self) -> grpc.StatusCode:
        """How the stream ended."""
        found: grpc.StatusCode = await self._call.code()
        return found

    async def details(self) -> str:
        """What was said at its end."""
        found: str = await self._call.details()
        return found

    async def hears_nothing(self, seconds: float = 0.2) -> bool:
        done, _ = await asyncio.wait({asyncio.ensure_future(self._call.read())}, timeout=seconds)
        return not done


@pytest.fixture
async def sets() -> Sets:
    return Sets()


@pytest.fixture
async def mesh(sets: Sets, tmp_path: Path) -> Any:
    servicer = EndpointServicer(sets)
    server = grpc.aio.server()
    server.add_registered_method_handlers(*servicer.handlers())
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield SimpleNamespace(channel=channel, servicer=servicer, server=server)
    await servicer.close()
    await server.stop(None)


async def test_each_change_is_told_once_to_each_who_asked(sets: Sets, mesh: Any) -> None:
    await sets.update("metrics", [A])
    first, second = Envoy(mesh.channel), Envoy(mesh.channel)
    for envoy in (first, second):
        await envoy.ask(EDGE)
        assert await envoy.told() == {"metrics/grpc": [("127.0.0.1", 8001)], "metrics/http": [("127.0.0.1", 9101)]}
        await envoy.ask(EDGE)
    await sets.update("logs", [B])
    await sets.update("metrics", [B, A])
    for envoy in (first, second):
        assert (await envoy.told())["metrics/grpc"] == [("127.0.0.1", 8001), ("127.0.0.2", 8001)]
        assert await envoy.hears_nothing()


async def test_a_set_that_is_not_known_is_never_told_as_empty_and_the_last_instances_are_kept(
    sets: Sets, mesh: Any
) -> None:
    envoy = Envoy(mesh.channel)
    await envoy.ask(EDGE | {"logs/grpc", "none/grpc"})
    await sets.update("metrics", [A])
    assert set(await envoy.told()) == EDGE
    await sets.update("metrics", [])
    await sets.update("logs", [B])
    assert await envoy.told() == {
        "logs/grpc": [("127.0.0.2", 8001)],
        "metrics/grpc": [("127.0.0.1", 8001)],
        "metrics/http": [("127.0.0.1", 9101)],
    }


async def test_what_an_envoy_refused_is_not_told_again_until_it_changes(sets: Sets, mesh: Any) -> None:
    await sets.update("metrics", [A])
    envoy = Envoy(mesh.channel)
    await envoy.ask(EDGE)
    await envoy.told()
    await envoy.ask(EDGE, refusal="no such thing")
    await sets.update("logs", [A])
    await sets.update("metrics", [B])
    assert (await envoy.told())["metrics/grpc"] == [("127.0.0.2", 8001)]


async def test_an_answer_to_an_earlier_version_changes_nothing(sets: Sets, mesh: Any) -> None:
    await sets.update("metrics", [A])
    envoy = Envoy(mesh.channel)
    await envoy.ask({"metrics/grpc"})
    await envoy.told()
    await envoy.ask({"metrics/grpc", "metrics/http"}, nonce="0")
    await envoy.ask({"metrics/grpc"})
    await sets.update("metrics", [B])
    assert set(await envoy.told()) == {"metrics/grpc"}


async def test_a_name_that_is_asked_for_later_is_told_at_once(sets: Sets, mesh: Any) -> None:
    await sets.update("metrics", [A])
    await sets.update("logs", [B])
    envoy = Envoy(mesh.channel)
    await envoy.ask({"metrics/grpc"})
    await envoy.told()
    await envoy.ask({"metrics/grpc", "*/http"})
    assert (await envoy.told())["*/http"] == [("127.0.0.1", 9101), ("127.0.0.2", 9101)]


async def test_the_server_stops_at_once_although_streams_never_end(sets: Sets, mesh: Any) -> None:
    await sets.update("metrics", [A])
    envoy = Envoy(mesh.channel)
    await envoy.ask(EDGE)
    await envoy.told()
    async with asyncio.timeout(2):
        await mesh.servicer.close()
        await mesh.server.stop(10)


async def test_names_are_looked_up_again_and_one_that_fails_keeps_its_last_address(
    sets: Sets, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[str] = []
    asked = asyncio.Condition()
    lookups = 0

    async def getaddrinfo(host: str, *_: Any, **__: Any) -> list[Any]:
        nonlocal lookups
        assert host == "metrics-2"
        async with asked:
            lookups += 1
            asked.notify_all()
        if not answers:
            raise socket.gaierror(-3, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in answers]

    async def watch(service: str) -> AsyncIterator[Sequence[Instance]]:
        if service == "airis-metrics":
            yield (Instance("1", "127.0.0.2", 1), Instance("2", "metrics-2", 2))
        await asyncio.Event().wait()

    async def tried_twice() -> None:
        after = lookups + 2
        async with asked:
            await asked.wait_for(lambda: lookups >= after)

    def known() -> list[str]:
        return [address.host for address in sets.addresses("metrics/grpc")]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    following = asyncio.create_task(follow(sets, watch, "airis", lookup_interval=0.01))
    try:
        async with asyncio.timeout(30):
            await tried_twice()
            assert known() == ["127.0.0.2"]
            for address in ("127.0.0.3", "127.0.0.4"):
                version = sets.version
                answers[:] = [address]
                await sets.changed_since(version, lambda: False)
                assert known() == ["127.0.0.2", address]
            version = sets.version
            for answer in ([], ["127.0.0.5", "127.0.0.4"]):
                answers[:] = answer
                await tried_twice()
            assert (known(), sets.version) == (["127.0.0.2", "127.0.0.4"], version)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_only_who_shows_the_token_is_told(sets: Sets) -> None:
    await sets.update("metrics", [A])
    server = grpc.aio.server()
    server.add_registered_method_handlers(*EndpointServicer(sets, lambda: "s3cret").handlers())
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        envoy = Envoy(channel, metadata=(("authorization", "Bearer s3cret"),))
        await envoy.ask(EDGE)
        assert set(await envoy.told()) == EDGE
        for metadata in (None, (("authorization", "Bearer other"),)):
            # It is refused before it asks; were it to ask too, gRPC might tell of that failure in place of the refusal.
            stranger = Envoy(channel, metadata=metadata)
            assert await stranger.code() is grpc.StatusCode.UNAUTHENTICATED
    await server.stop(None)


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff"], ids=["gone", "empty", "blank", "not ASCII"])
async def test_while_there_is_no_token_nobody_is_told(sets: Sets, tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "token"
    file.write_text("s3cret")
    server = grpc.aio.server()
    server.add_registered_method_handlers(*EndpointServicer(sets, lambda: file.read_text("ascii").strip()).handlers())
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        for shown in ("Bearer ", "Bearer s3cret"):
            envoy = Envoy(channel, metadata=(("authorization", shown),))
            assert await envoy.code() is grpc.StatusCode.UNAVAILABLE
            assert await envoy.details() == "The mesh has no token now: see mesh.token_file there."
    await server.stop(None)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "cannot be read: No such file or directory"), (b" \n", "is empty"), (b"\xff", "is no token")],
)
def test_a_mesh_whose_token_is_none_does_not_start(tmp_path: Path, content: bytes | None, reason: str) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    mesh = MeshConfig(host="0.0.0.0", token_file=str(file))
    with pytest.raises(InvalidArgumentError, match=reason):
        build(SimpleNamespace(mesh=mesh, discovery=DiscoveryConfig(), port_offset=0))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "mesh"])
def test_a_mesh_that_everybody_could_ask_does_not_start(host: str) -> None:
    settings = SimpleNamespace(mesh=MeshConfig(host=host), discovery=DiscoveryConfig(), port_offset=0)
    with pytest.raises(InvalidArgumentError, match=r"set mesh\.token_file"):
        build(settings)


def test_the_bootstrap_has_the_address_and_the_token_and_is_for_its_owner_only(tmp_path: Path) -> None:
    token, written = tmp_path / "token", tmp_path / "envoy.yaml"
    token.write_text("s3cret\n")
    options = ["--mesh", "mesh:18006", "--token-file", str(token), "--listen", "0.0.0.0", "--node", "edge-2"]
    result = CliRunner().invoke(app, ["mesh", "bootstrap", *options, "--output", str(written)])
    assert result.exit_code == 0, result.output
    assert written.stat().st_mode & 0o077 == 0
    found = yaml.load(written.read_text(), Loader=yaml.CSafeLoader)
    (service,) = found["dynamic_resources"]["ads_config"]["grpc_services"]
    assert service["initial_metadata"] == [{"key": "authorization", "value": "Bearer s3cret"}]
    clusters = {cluster["name"]: cluster for cluster in found["static_resources"]["clusters"]}
    assert clusters["mesh"]["type"] == "STRICT_DNS"
    assert clusters["metrics-query"]["eds_cluster_config"]["service_name"] == "metrics/grpc"
    assert clusters["jwks"]["eds_cluster_config"]["service_name"] == "*/http"
    assert found["node"]["id"] == "edge-2"
    assert found["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"
    listening = {each["address"]["socket_address"]["address"] for each in found["static_resources"]["listeners"]}
    assert listening == {"0.0.0.0"}
