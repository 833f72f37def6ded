"""`airis auth`: the keys of this installation, and tokens signed with them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from airis.client.cli.data_dir import DataDir, default_data_dir
from airis.client.cli.invocation import fail
from airis.client.cli.output import Format, Output, stdout_console
from airis.client.cli.times import format_moment, parse_length

if TYPE_CHECKING:
    from services.shared.auth.key_folder import KeyFolder

app = typer.Typer(help="Make keys and tokens.", no_args_is_help=True)
keys = typer.Typer(help="The keys that sign tokens.", no_args_is_help=True)
app.add_typer(keys, name="keys")

_SECOND = 1_000_000_000
# Whole seconds, for people.
_FRACTION = 0


@app.command("init")
def init(data_dir: DataDir = None) -> None:
    """Make the first key. From the next start on, every call needs a token."""
    with _telling():
        folder = _folder(data_dir)
        made = folder.init()
    if made:
        _say(f"Keys are in {folder.path}. Authentication is on from the next `airis up`.")
    else:
        _say(f"There are keys in {folder.path} already; nothing was changed.")


@app.command("token")
def token(
    role: Annotated[list[str], typer.Option(help="What it may do: viewer, editor, operator, admin, or one of yours.")],
    subject: Annotated[str, typer.Option(help="Who shows it: a person or a program.")],
    tenant: Annotated[str, typer.Option(help="Whose data it reaches.")] = "default",
    ttl: Annotated[str, typer.Option(help="How long it is valid, 1h at most.")] = "1h",
    profile: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="The YAML file with your roles.", exists=True, dir_okay=False),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Print a token, and nothing else."""
    from services import config
    from services.shared.auth.issuing import TokenIssuer
    from services.shared.auth.permissions import contract_permissions
    from services.shared.auth.principal import ANY_TENANT
    from services.shared.auth.roles import Roles

    if tenant == ANY_TENANT:
        raise typer.BadParameter("a token is for one tenant; only the platform's own services act for all.")
    try:
        lifetime = parse_length(ttl) // _SECOND
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if profile is not None:
        os.environ["AIRIS_PROFILE"] = str(profile.resolve())
    with _telling():
        roles = Roles(contract_permissions(), config.read().auth.roles)
        made = TokenIssuer(_folder(data_dir)).issue(
            subject=subject, tenant=tenant, permissions=roles.permissions(role), roles=role, lifetime=lifetime
        )
    typer.echo(made)


@app.command("publish")
def publish(
    into: Annotated[Path, typer.Option(help="The folder that services read: public keys, and the platform's tokens.")],
    data_dir: DataDir = None,
) -> None:
    """Keep public keys and the platform's own tokens in a folder for services elsewhere, until SIGTERM."""
    import asyncio
    import signal

    from services.supervisor.publication import Publication

    async def run() -> None:
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        await Publication(_folder(data_dir), into).run(ended, lambda text: typer.echo(text, err=True))

    with _telling():
        asyncio.run(run())


@keys.command("rotate")
def rotate(data_dir: DataDir = None) -> None:
    """Make a new key; tokens that were made before stay valid until they expire."""
    with _telling():
        made = _folder(data_dir).rotate()
    _say(f"Key {made.kid} is published, and signs from {_time(made.signs_from)} on.")


@keys.command("list")
def list_keys(data_dir: DataDir = None) -> None:
    """Show the published keys, without the keys themselves."""
    with _telling():
        states = _folder(data_dir).states()
    rows = [
        (
            state.kid,
            "signs" if state.signs else "waits" if state.leaves_at is None else "verifies",
            _time(state.created_at),
            _time(state.signs_from),
            _time(state.leaves_at) if state.leaves_at is not None else "",
        )
        for state in states
    ]
    Output(Format.TABLE).table(["=key", "=state", "made", "signs from", "leaves"], rows, "There are no keys.")


def _folder(data_dir: Path | None) -> KeyFolder:
    from services.shared.auth.key_folder import KeyFolder

    return KeyFolder((data_dir or default_data_dir()).expanduser().resolve())


@contextlib.contextmanager
def _telling() -> Iterator[None]:
    from services.shared.errors import AirisError

    try:
        yield
    except AirisError as error:
        fail(error.message)
    except OSError as error:
        fail(f"{error.filename or 'The key folder'}: {error.strerror}.")


def _say(text: str) -> None:
    stdout_console().print(text, markup=False, soft_wrap=True, highlight=False)


def _time(seconds: float) -> str:
    return format_moment(int(seconds) * _SECOND, _FRACTION)
