"""`airis mesh`: the control plane that tells Envoy which instances there are, and the Envoy configuration for it."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

app = typer.Typer(help="Tell Envoy which instances there are in Consul.")


@app.callback(invoke_without_command=True)
def mesh(context: typer.Context) -> None:
    """Serve the endpoints of all services to Envoy, as Consul has them, until Ctrl-C."""
    if context.invoked_subcommand is None:
        from services.__main__ import main

        raise typer.Exit(main(["mesh"]))


@app.command("bootstrap")
def bootstrap(
    mesh: Annotated[str, typer.Option(help="Host and port of `airis mesh`.")] = "127.0.0.1:8006",
    token_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="A file with the token of mesh.token_file.", exists=True, dir_okay=False),
    ] = None,
    listen: Annotated[str, typer.Option(help="The address of the listeners; the admin port stays on loopback.")] = (
        "127.0.0.1"
    ),
    node: Annotated[str, typer.Option(help="The name of this Envoy, of which there may be several.")] = "airis-edge",
    port_offset: Annotated[int, typer.Option(help="Added to the ports of the listeners.", min=0, max=50000)] = 0,
    with_auth: Annotated[bool, typer.Option("--auth/--no-auth", help="Ask every call for a token.")] = True,
    descriptors: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="The descriptor set of the contracts, where Envoy finds it."),
    ] = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="The file to write; without it, standard output."),
    ] = None,
) -> None:
    """Write the configuration of an Envoy that follows Consul through the mesh."""
    import yaml

    from services.supervisor.envoy_config import DESCRIPTORS, DISTRIBUTED, runtime_config

    configuration = runtime_config(port_offset, with_auth, DISTRIBUTED, descriptors or DESCRIPTORS)
    configuration["node"]["id"] = node
    for listener in configuration["static_resources"]["listeners"]:
        listener["address"]["socket_address"]["address"] = listen
    _set_mesh(configuration, mesh)
    if token_file is not None:
        _set_token(configuration, token_file.read_text(encoding="ascii").strip())
    text = yaml.dump(configuration, Dumper=yaml.CSafeDumper, sort_keys=False)
    if output is None:
        typer.echo(text)
        return
    # It may hold the token. A file that is there keeps its mode.
    with os.fdopen(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def _set_mesh(configuration: dict[str, Any], address: str) -> None:
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit():
        raise typer.BadParameter(f"{address!r} is no host and port; write for example 127.0.0.1:8006.")
    host = host.strip("[]")
    (cluster,) = [each for each in configuration["static_resources"]["clusters"] if each["name"] == "mesh"]
    try:
        ipaddress.ip_address(host)
    except ValueError:
        cluster["type"] = "STRICT_DNS"
    (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    endpoint["endpoint"]["address"]["socket_address"] = {"address": host, "port_value": int(port)}


def _set_token(configuration: dict[str, Any], token: str) -> None:
    (service,) = configuration["dynamic_resources"]["ads_config"]["grpc_services"]
    service["initial_metadata"] = [{"key": "authorization", "value": f"Bearer {token}"}]
