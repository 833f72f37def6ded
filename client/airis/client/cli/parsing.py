"""What users type, as messages."""

from __future__ import annotations

from typing import Any, TypeVar

import typer
from google.protobuf.json_format import Parse, ParseError
from google.protobuf.message import Message

MessageT = TypeVar("MessageT", bound=Message)


def labels(texts: list[str] | None) -> dict[str, str]:
    """`["host=a"]` as a map. Raises `typer.BadParameter` if one has no "="."""
    result: dict[str, str] = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{text!r} is not a label; write key=value.")
        result[key] = value
    return result


def enum(descriptor: Any, name: str | None) -> int:
    """The number of an enum's value, in any case; 0 for none. Raises `typer.BadParameter` if there is no such."""
    if not name:
        return 0
    value = descriptor.values_by_name.get(name.upper())
    if value is None or value.number == 0:
        names = ", ".join(known.name for known in descriptor.values if known.number)
        raise typer.BadParameter(f"{name!r} is none of {names}.")
    return int(value.number)


def from_json(text: str, message: MessageT) -> MessageT:
    """The message of a line of proto3 JSON. Raises `ValueError` if it is none."""
    try:
        return Parse(text, message)
    except ParseError as error:
        raise ValueError(f"it is not a {message.DESCRIPTOR.name}: {str(error).rstrip('.')}.") from error
