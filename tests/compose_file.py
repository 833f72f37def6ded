"""docker-compose.yml as Compose reads it, as far as our own file needs it: variables, and what they leave."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
FILE = ROOT / "docker-compose.yml"
EXAMPLE = ROOT / ".env.example"

_VARIABLE = re.compile(r"\$\$|\$\{(?P<name>[A-Z_]+)(?::(?P<kind>[-?])(?P<rest>[^}]*))?\}|\$(?P<bare>[A-Z_]+)")


def substitute(text: str, variables: Mapping[str, str]) -> str:
    """`${NAME:-default}` and `${NAME:?message}` replaced, `$$` as one sign."""

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        name = match["name"] or match["bare"]
        found = variables.get(name, "")
        if not found and match["kind"] == "?":
            raise LookupError(f"{name}: {match['rest']}")
        return found or (match["rest"] or "" if match["kind"] == "-" else "")

    return _VARIABLE.sub(value, text)


def variables_of(text: str) -> dict[str, str | None]:
    """The variables that a text uses, with their defaults; None: it has none."""
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return {
        match["name"] or match["bare"]: match["rest"] if match["kind"] == "-" else None
        for match in _VARIABLE.finditer(code)
        if match[0] != "$$"
    }


def read_compose(variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The file with its variables replaced."""
    return dict(_replaced(yaml.safe_load(FILE.read_text(encoding="utf-8")), variables or {}))


def read_example() -> dict[str, str]:
    """The variables of .env.example."""
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def _replaced(node: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(node, dict):
        return {key: _replaced(value, variables) for key, value in node.items()}
    if isinstance(node, list):
        return [_replaced(item, variables) for item in node]
    return substitute(node, variables) if isinstance(node, str) else node
