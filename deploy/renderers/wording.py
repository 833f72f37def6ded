"""Numbers and files as the formats want them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

Node = dict[str, Any]


def in_seconds(seconds: float) -> str:
    """Seconds with their unit, without needless zeros: 0.5 is "0.5s"."""
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def in_milliseconds(seconds: float) -> str:
    """Seconds as whole milliseconds, the form that Kubernetes knows: 0.5 is "500ms"."""
    return f"{round(seconds * 1000)}ms"


class _PlainDumper(yaml.SafeDumper):
    """Writes shared parts out instead of as anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def as_yaml(*documents: Node, header: str) -> str:
    """YAML documents below a comment."""
    text = yaml.dump_all(documents, Dumper=_PlainDumper, sort_keys=False, width=120, allow_unicode=True)
    return "".join(f"# {line}\n" for line in header.splitlines()) + text


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    columns = list(head)
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
