"""`airis alerts`."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer
from airis.client.cli.invocation import Invocation, command, gather_pages, page_size
from airis.client.cli.output import labels_text, number
from airis.client.cli.times import format_moment
from rich.text import Text

app = typer.Typer(help="See alerts and take care of them.", no_args_is_help=True)

_COLORS = {"LOW": "", "MEDIUM": "yellow", "HIGH": "red", "CRITICAL": "bold red"}


@command(app, "list")
async def list_alerts(
    invocation: Invocation,
    filter: Annotated[  # noqa: A002
        str, typer.Argument(help="Which: state = FIRING AND severity >= HIGH; without it those pending or firing.")
    ] = "",
    limit: Annotated[int, typer.Option(help="How many at most.", min=1)] = 100,
) -> None:
    """List alerts; the newest first."""
    from airis.alerts.v1 import alerts_pb2

    answer = await gather_pages(invocation.client.alerts.list(filter, page_size=page_size(limit)), "alerts", limit)
    if invocation.out.is_json:
        invocation.out.document(answer)
        return
    rows = []
    for alert in answer.alerts:
        severity = alerts_pb2.AlertRule.Severity.Name(alert.severity)
        state = alerts_pb2.Alert.State.Name(alert.state)
        if alert.silenced:
            state += ", silenced"
        if alert.acknowledged_by or alert.HasField("acknowledge_time"):
            state += f", acknowledged by {alert.acknowledged_by or 'somebody'}"
        rows.append(
            (
                alert.name,
                alert.display_name or alert.rule,
                Text(severity, style=_COLORS.get(severity, "")),
                state,
                labels_text(dict(alert.labels)),
                number(alert.value),
                format_moment(alert.start_time.ToNanoseconds(), 0),
            )
        )
    headers = ("=alert", "rule", "severity", "state", "labels", ">value", "since (UTC)")
    invocation.out.table(headers, rows, "There are no such alerts.")


@command(app, "ack")
async def acknowledge(
    invocation: Invocation,
    name: Annotated[str, typer.Argument(help="The alert: alerts/ID or ID.")],
    comment: Annotated[str, typer.Option("--comment", "-c", help="Why.")] = "",
    actor: Annotated[str, typer.Option(help="Who; you, if absent.")] = "",
) -> None:
    """Say that you take care of an alert."""
    full_name = name if name.startswith("alerts/") else f"alerts/{name}"
    alert = await invocation.client.alerts.acknowledge(full_name, actor=actor or _user(), comment=comment)
    if invocation.out.is_json:
        invocation.out.document(alert)
    else:
        invocation.out.text(f"{alert.name} is acknowledged by {alert.acknowledged_by}.")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
