"""The `airis` command. Nothing slow is imported before a command needs it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Optional

import typer
from airis.client.cli import alerts, auth, bus, canary, dev, logs, mesh, metrics, rules, traces
from airis.client.cli.data_dir import DataDir, default_data_dir

app = typer.Typer(
    name="airis",
    help="AIRIS EPM: metrics, logs, traces and alerts.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(metrics.app, name="metrics")
app.add_typer(logs.app, name="logs")
app.add_typer(traces.app, name="traces")
app.add_typer(alerts.app, name="alerts")
app.add_typer(rules.app, name="rules")
app.add_typer(auth.app, name="auth")
app.add_typer(mesh.app, name="mesh")
app.add_typer(bus.app, name="bus")
app.add_typer(dev.app, name="dev")
app.command("canary")(canary.canary)


@app.command("up")
def up(
    data_dir: DataDir = None,
    port_offset: Annotated[int, typer.Option(help="Added to every port.")] = 0,
    demo: Annotated[bool, typer.Option("--demo", help="Send live input from a small shop and this machine.")] = False,
    profile: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="A YAML file with settings of the services.", exists=True, dir_okay=False),
    ] = None,
    with_auth: Annotated[
        bool, typer.Option("--auth", help="Ask every call for a token; once keys exist, this is always so.")
    ] = False,
    frontends: Annotated[
        int,
        typer.Option(
            min=0,
            max=16,
            help="Further processes that take unary ingest calls (streams and queries stay with the services): for "
            "many small calls on many cores.",
        ),
    ] = 0,
) -> None:
    """Start the platform and keep it in the foreground until Ctrl-C."""
    from services import config
    from services.shared.auth.key_folder import KeyFolder
    from services.shared.errors import InvalidArgumentError
    from services.supervisor import app as supervisor

    data_dir = (data_dir or default_data_dir()).expanduser().resolve()
    if profile is not None:
        os.environ["AIRIS_PROFILE"] = str(profile.resolve())
    os.environ["AIRIS_EMBEDDED"] = "true"
    keys = KeyFolder(data_dir)
    if with_auth or keys.exists:
        os.environ["AIRIS_AUTH__ENABLED"] = "true"
        os.environ["AIRIS_AUTH__JWKS_FILE"] = str(keys.jwks_file)
    # Whoever starts the platform may have a token; its programs have their own.
    for name in ("AIRIS_TOKEN", "AIRIS_TOKEN_FILE"):
        os.environ.pop(name, None)
    try:
        # Each service reads it as well, but only after the engines have started.
        access = config.load().auth
    except InvalidArgumentError as error:
        typer.echo(f"airis: {error.message}", err=True)
        raise typer.Exit(1) from error
    if access.enabled and access.jwks_path.resolve() != keys.jwks_file:
        typer.echo(
            f"airis: `airis up` signs the platform's own tokens with the keys in {keys.path}: leave auth.jwks_file "
            "out, and use --auth.",
            err=True,
        )
        raise typer.Exit(1)
    raise typer.Exit(supervisor.up(data_dir, port_offset, demo, profile, access.enabled, frontends))


@app.command("status")
def status(data_dir: DataDir = None) -> None:
    """Show each process of the platform, its health and its engine."""
    from services.supervisor import app as supervisor

    raise typer.Exit(supervisor.status(data_dir or default_data_dir()))


def main() -> None:
    """Runs the command and exits: 0 done, 1 it failed, 2 called wrongly."""
    app()
