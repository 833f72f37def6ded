"""Sparklines, bars, what data may do to a terminal, and what is compared when rules are applied."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import pytest
import typer
from airis.client.cli.applying import differences, read
from airis.client.cli.invocation import fail
from airis.client.cli.logs import entry_line
from airis.client.cli.output import Format, Output, bar, count, number, sparkline, stderr_console, stdout_console
from airis.logs.v1 import logs_pb2
from rich.console import Console
from rich.text import Text

RULES = """
channels:
- name: ops
  webhook: {url: "http://127.0.0.1:9/hook", secret: s3cret}
rules:
- name: high-cpu
  displayName: CPU is high
  severity: HIGH
  conditions:
  - {metric: cpu, aggregation: AVG, operator: GT, threshold: 0}
---
name: silences/night
end_time: 2026-11-22T08:00:00Z
"""


def test_sparklines_show_the_shape_and_gaps() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([5, 5, 5]) == "▁▁▁"
    assert sparkline([1, math.nan, 2]) == "▁ █"
    assert sparkline([]) == ""
    assert sparkline([math.nan]) == ""
    assert len(sparkline(list(range(1000)), 40)) == 40


def test_bars_lie_where_they_belong_and_are_never_invisible() -> None:
    assert bar(0, 1, 8) == "████████"
    assert bar(0.5, 0.25, 8) == "    ██  "
    assert bar(1.0, 0, 8) == "       ▏"
    assert bar(0.25, 3.0, 4) == " ███"
    assert all(
        len(bar(start / 100, length / 100, 10)) == 10 for start in range(0, 101, 7) for length in range(0, 101, 7)
    )


def test_numbers_and_counts_are_readable() -> None:
    assert [number(value) for value in (0.5, 1234.5678, 1e6, 1234567.25, math.nan)] == [
        "0.5",
        "1,234.57",
        "1,000,000",
        "1.23457e+06",
        "nan",
    ]
    assert [count(1, "entry"), count(2_000, "entry"), count(2, "point")] == ["1 entry", "2,000 entries", "2 points"]


CONTROLS = "".join(map(chr, (*range(0x20), *range(0x7F, 0xA0))))
SET_CLIPBOARD, CLEAR = "\x1b]52;c;cm0gLXJmIH4=\x07", "\x9b2J\x1b[2J"


def obeyed(text: str) -> set[str]:
    """The control characters in a text that are more than tabs and lines."""
    return set(text) & set(CONTROLS) - set("\t\n")


def test_no_text_of_others_gives_the_terminal_orders(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output(Format.TABLE)
    attack = f"{SET_CLIPBOARD}{CLEAR}{CONTROLS}"
    out.text(f"text {attack}")
    out.text(Text("styled ").append(attack, style="red"))
    out.table(["=name", attack], [(attack, Text(attack))], "")
    out.table(["name"], [], attack)
    stdout_console().print(attack, markup=False)
    stderr_console().print(attack, markup=False)
    with pytest.raises(typer.Exit):
        fail(attack)
    printed = capsys.readouterr()
    assert not obeyed(printed.out + printed.err)
    assert "text ␛]52;c;cm0gLXJmIH4=␇\ufffd2J␛[2J" in printed.out
    assert "airis: ␛]52" in printed.err


def test_a_console_of_the_caller_is_not_given_orders_either() -> None:
    file = io.StringIO()
    out = Output(Format.TABLE, Console(file=file, width=80))
    out.text(f"{CLEAR}\ttab\nline")
    out.table(["name", ">count"], [("\x1b\x1b", "1"), ("ab", "2")], "")
    assert not obeyed(file.getvalue())
    lines = [line.rstrip() for line in file.getvalue().splitlines()]
    assert lines[1] == "line"
    # A character that is not shown has no width: columns would be out of line.
    assert " ␛␛         1" in lines
    assert " ab         2" in lines


def test_marks_are_where_they_were_in_a_message_with_control_characters() -> None:
    message = "\x07\x1b[2J\r timeout"
    entry = logs_pb2.LogEntry(message=message, service="p\x08ay", labels={"host": "a\x1b"})
    start = message.index("timeout")
    mark = logs_pb2.Highlight(field="message", start=start, end=start + len("timeout"))
    line = entry_line(entry, [mark])
    (marked,) = [line.plain[span.start : span.end] for span in line.spans if span.style == "bold reverse"]
    assert marked == "timeout"
    assert "p␈ay: ␇␛[2J␍ timeout  host=a␛" in line.plain


def test_json_keeps_control_characters_as_they_are() -> None:
    file = io.StringIO()
    entry = logs_pb2.LogEntry(message=f"{SET_CLIPBOARD}{CONTROLS}")
    Output(Format.JSON, Console(file=file)).line(entry)
    assert json.loads(file.getvalue())["message"] == entry.message
    assert "\x1b" not in file.getvalue()


def test_files_hold_lists_and_single_resources(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    documents = read(path)
    names = [document.resource.name for document in documents]
    assert names == [
        "channels/ops",
        "alertRules/high-cpu",
        "silences/night",
    ]
    assert documents[2].resource.end_time.ToJsonString() == "2026-11-22T08:00:00Z"


def test_only_named_fields_are_compared_also_when_they_are_zero(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    channel, rule, _ = read(path)
    current = type(rule.resource)()
    current.CopyFrom(rule.resource)
    current.conditions[0].window.FromSeconds(60)
    current.evaluation_interval.FromSeconds(10)
    assert differences(rule.resource, current, rule.named) == []
    current.conditions[0].threshold = 5
    current.severity = 4
    assert differences(rule.resource, current, rule.named) == ["severity", "conditions"]
    # The server never sends a secret back, so it cannot be compared.
    assert differences(channel.resource, channel.resource, channel.named) == ["webhook.secret"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rules: [{displayName: x}]", "needs a name"),
        ("rules: [{name: x, nonsense: 1}]", "nonsense"),
        ("ruels: []", "'ruels' is not a list of"),
        ("name: rules/x", "must begin with"),
        ("rules: [", "is not YAML"),
        ("", "has no rules"),
        ("just text", "must have lists"),
    ],
)
def test_files_that_cannot_be_understood_say_why(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read(path)
