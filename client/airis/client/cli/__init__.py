"""The `airis` command. Nothing slow is imported before a command needs it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Optional

import typer
from airis.client.cli import alerts, logs, metrics, rules, traces

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


def default_data_dir() -> Path:
    """`$XDG_DATA_HOME/airis`, or `~/.local/share/airis`."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "airis"


DataDir = Annotated[
    Optional[Path],  # noqa: UP045 (typer resolves annotations itself)
    typer.Option("--data-dir", help="Where data lives.", show_default="~/.local/share/airis", file_okay=False),
]


@app.command("up")
def up(
    data_dir: DataDir = None,
    port_offset: Annotated[int, typer.Option(help="Added to every port.")] = 0,
    demo: Annotated[bool, typer.Option("--demo", help="Send live input from a small shop and this machine.")] = False,
    profile: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="A YAML file with settings of the services.", exists=True, dir_okay=False),
    ] = None,
) -> None:
    """Start the platform and keep it in the foreground until Ctrl-C."""
    from services import config
    from services.shared.errors import InvalidArgumentError
    from services.supervisor import app as supervisor

    if profile is not None:
        os.environ["AIRIS_PROFILE"] = str(profile.resolve())
    try:
        # Each service reads it as well, but only after the engines have started.
        config.load()
    except InvalidArgumentError as error:
        typer.echo(f"airis: {error.message}", err=True)
        raise typer.Exit(1) from error
    raise typer.Exit(supervisor.up(data_dir or default_data_dir(), port_offset, demo, profile))


@app.command("status")
def status(data_dir: DataDir = None) -> None:
    """Show each process of the platform, its health and its engine."""
    from services.supervisor import app as supervisor

    raise typer.Exit(supervisor.status(data_dir or default_data_dir()))


def main() -> None:
    """Runs the command and exits: 0 done, 1 it failed, 2 called wrongly."""
    app()
