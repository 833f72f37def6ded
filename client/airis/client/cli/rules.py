"""`airis rules`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from airis.client.cli.invocation import CommandError, Invocation, command, gather_pages, page_size
from rich.text import Text

app = typer.Typer(help="Keep alert rules, channels and silences in files.", no_args_is_help=True)

_COLORS = {"created": "green", "updated": "yellow", "unchanged": "dim"}


@command(app, "apply")
async def apply(
    invocation: Invocation,
    files: Annotated[
        list[Path], typer.Argument(help="YAML or JSON with rules, channels and silences.", exists=True, dir_okay=False)
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
) -> None:
    """Create what is missing and update what differs; what a file does not name stays."""
    from airis.client.cli import applying

    try:
        documents = [document for file in files for document in applying.read(file)]
    except ValueError as error:
        raise CommandError(str(error)) from error
    for document in sorted(documents, key=lambda document: applying.ORDER.index(document.kind)):
        change = await applying.apply(invocation.client.alerts, document, is_dry_run=dry_run)
        if invocation.out.is_json:
            invocation.out.line(change.resource)
            continue
        line = Text(f"{change.name} ").append(change.verb, style=_COLORS[change.verb])
        line.append(f": {', '.join(change.fields)}" if change.fields else "")
        invocation.out.text(line.append(" (not done)") if dry_run and change.verb != "unchanged" else line)


@command(app, "list")
async def list_rules(
    invocation: Invocation,
    filter: Annotated[str, typer.Option(help="Which, as a filter over a rule's fields.")] = "",  # noqa: A002
    limit: Annotated[int, typer.Option(help="How many at most.", min=1)] = 100,
) -> None:
    """List alert rules, by name."""
    from airis.alerts.v1 import alerts_pb2

    paged = invocation.client.alerts.rules.list(filter=filter, page_size=page_size(limit))
    answer = await gather_pages(paged, "alert_rules", limit)
    if invocation.out.is_json:
        invocation.out.document(answer)
        return
    rows = [
        (
            rule.name,
            rule.display_name,
            alerts_pb2.AlertRule.Severity.Name(rule.severity),
            condition_text(rule),
            ", ".join(rule.channels),
            Text(rule.last_error or ("yes" if rule.enabled else "no"), style="red" if rule.last_error else ""),
        )
        for rule in answer.alert_rules
    ]
    headers = ("rule", "title", "severity", "fires when", "channels", "enabled")
    invocation.out.table(headers, rows, "There are no alert rules.")


@command(app, "delete")
async def delete(
    invocation: Invocation,
    names: Annotated[list[str], typer.Argument(help="Rules: alertRules/ID or ID; also channels/ID and silences/ID.")],
) -> None:
    """Delete rules, channels or silences."""
    from airis.client.cli import applying

    for name in names:
        full_name = name if "/" in name else f"alertRules/{name}"
        kind = full_name.partition("/")[0]
        if kind not in applying.ORDER:
            raise CommandError(f"{name!r} is none of {', '.join(f'{known}/ID' for known in applying.ORDER)}.")
        await applying.resources(invocation.client.alerts, kind).delete(full_name)
        if not invocation.out.is_json:
            invocation.out.text(f"{full_name} deleted")


def condition_text(rule: Any) -> str:
    """`AVG(cpu, 60s) > 0.9 for 120s`, conditions joined as the rule joins them."""
    from airis.alerts.v1 import alerts_pb2
    from airis.common.v1.aggregation_pb2 import Aggregation

    signs = {"GT": ">", "LT": "<", "EQ": "=", "NE": "≠", "GTE": "≥", "LTE": "≤"}
    texts = []
    for condition in rule.conditions:
        source = getattr(condition, condition.WhichOneof("source") or "metric")
        function = Aggregation.Function.Name(condition.aggregation or Aggregation.AVG)
        operator = alerts_pb2.AlertRule.Condition.Operator.Name(condition.operator or 1)
        window = condition.window.ToJsonString() if condition.HasField("window") else "60s"
        where = f" where {condition.filter}" if condition.filter else ""
        text = f"{function}({source}{where}, {window}) {signs[operator]} {condition.threshold:g}"
        if condition.duration.ToNanoseconds():
            text += f" for {condition.duration.ToJsonString()}"
        texts.append(text)
    return (" or " if rule.match == alerts_pb2.AlertRule.ANY else " and ").join(texts)
