"""`airis dev`: for those who work on AIRIS itself, in a checkout of it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from airis.client.cli.invocation import fail
from airis.client.cli.output import Format, Output

if TYPE_CHECKING:
    from deploy.servers.dev import DevServers

app = typer.Typer(help="Work on AIRIS itself.", no_args_is_help=True)
servers = typer.Typer(help="The real servers of the distributed profile, on this machine.", no_args_is_help=True)
app.add_typer(servers, name="servers")

Names = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Argument(
        help="kafka, clickhouse, elasticsearch, consul, jaeger, zookeeper, postgres, redis.", show_default=False
    ),
]


@servers.command("up")
def up(names: Names = None) -> None:
    """Start servers in the background, and print the environment that points AIRIS at them.

    None named: all but jaeger and zookeeper. With jaeger, AIRIS keeps its traces there in place of ClickHouse.
    """
    with _dev_servers() as dev:
        settings = dev.up(names or (), lambda line: typer.echo(line, err=True))
    for name, value in sorted(settings.items()):
        typer.echo(f"export {name}={shlex.quote(value)}")


@servers.command("down")
def down(names: Names = None) -> None:
    """Stop servers and remove their data; none named: all that were started."""
    with _dev_servers() as dev:
        dev.down(names or (), lambda line: typer.echo(line, err=True))


@servers.command("status")
def status() -> None:
    """Show each server, where it is, and whether it answers. The exit code is 1 if one that was started does not."""
    with _dev_servers() as dev:
        found = dev.status()
    rows = [
        (each.name, each.version, each.health, each.address, "" if each.pid is None else str(each.pid))
        for each in found
    ]
    Output(Format.TABLE).table(
        ["=server", "=version", "=health", "=address", ">process"], rows, "There are no servers."
    )
    if any(each.health not in ("healthy", "stopped") for each in found):
        raise typer.Exit(1)


@contextmanager
def _dev_servers() -> Iterator[DevServers]:
    try:
        from deploy.servers.dev import DevServers
        from deploy.servers.errors import ServerError
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "deploy":
            raise
        fail("The servers come with the source code: run this in a checkout of AIRIS, after `make setup`.")
    try:
        yield DevServers()
    except ServerError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or 'The servers'}: {error.strerror}.")
