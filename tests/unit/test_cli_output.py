"""Sparklines, bars, and what is compared when rules are applied."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from airis.client.cli.applying import differences, read
from airis.client.cli.output import bar, count, number, sparkline

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
