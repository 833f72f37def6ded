"""`airis bus`: what waits in Kafka, and what could not be read. Reads the services' own configuration."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional, TypeVar

import typer
from airis.client.cli.invocation import OutputFormat, fail
from airis.client.cli.output import Format, Output, count
from airis.client.cli.times import format_moment

if TYPE_CHECKING:
    from services.shared.bus.adapters.kafka_operator import Found, KafkaOperator

ResultT = TypeVar("ResultT")

app = typer.Typer(help="Look at the message bus of the distributed profile.", no_args_is_help=True)
dlq = typer.Typer(help="Dead letters: batches that could not be read.", no_args_is_help=True)
app.add_typer(dlq, name="dlq")

_MILLISECOND = 1_000_000
_SHOWN_BYTES = 64


class Signal(StrEnum):
    """Whose bus."""

    METRICS = "metrics"
    LOGS = "logs"
    TRACES = "traces"


SignalOption = Annotated[Signal, typer.Option("--signal", "-s", help="Whose bus.")]
Profile = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(help="The services' YAML file; else AIRIS_PROFILE and AIRIS_BUS__KAFKA__….", dir_okay=False),
]


@app.command("lag")
def lag(signal: SignalOption = Signal.METRICS, profile: Profile = None, output: OutputFormat = Format.TABLE) -> None:
    """Show for each partition how many batches are not stored yet."""
    lags = _run(signal, profile, lambda operator: operator.lag())
    if output is Format.JSON:
        return _print_json(
            [
                {"partition": each.partition, "committed": each.committed, "end": each.end, "lag": each.batches}
                for each in lags
            ]
        )
    rows = [
        (str(each.partition), str(each.committed), str(each.end), str(each.batches), each.metadata) for each in lags
    ]
    Output(output).table([">partition", ">stored up to", ">end", ">lag", "insert under way"], rows, "No partitions.")
    return None


@dlq.command("list")
def list_letters(
    signal: SignalOption = Signal.METRICS, profile: Profile = None, output: OutputFormat = Format.TABLE
) -> None:
    """Show what could not be read, the oldest first."""
    letters = _run(signal, profile, lambda operator: operator.dead_letters())
    if output is Format.JSON:
        return _print_json([_described(found) for found in letters])
    rows = [
        (
            found.letter.name,
            format_moment(found.written_at * _MILLISECOND, 0),
            _size(found),
            str(found.replayed) if found.replayed else "",
            found.letter.reason,
        )
        for found in letters
    ]
    Output(output).table(["=letter", "=since", ">bytes", ">replayed", "reason"], rows, "There are no dead letters.")
    return None


@dlq.command("show")
def show(
    name: Annotated[str, typer.Argument(help="The letter, as `list` names it.")],
    signal: SignalOption = Signal.METRICS,
    profile: Profile = None,
    payload: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Write the batch as it is into this file.", dir_okay=False),
    ] = None,
) -> None:
    """Show one letter with its headers."""
    found = _find(_run(signal, profile, lambda operator: operator.dead_letters()), name)
    letter = found.letter
    if payload is not None:
        if letter.payload is None:
            fail("The batch was too large to be kept with the letter.")
        payload.write_bytes(letter.payload)
    document = _described(found)
    document["key"] = _text(letter.key) if letter.key is not None else None
    document["headers"] = {header: _text(value) for header, value in letter.headers}
    document["begins"] = (letter.payload or b"")[:_SHOWN_BYTES].hex(" ")
    _print_json(document)


@dlq.command("replay")
def replay(
    names: Annotated[Optional[list[str]], typer.Argument(help="Letters, as `list` names them.")] = None,  # noqa: UP045
    all_letters: Annotated[bool, typer.Option("--all", help="All that were not replayed yet.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Also those that were replayed before.")] = False,
    signal: SignalOption = Signal.METRICS,
    profile: Profile = None,
) -> None:
    """Publish letters again where they were, as they were. The worker drops those that are stored by their ids."""
    if bool(names) == all_letters:
        raise typer.BadParameter("name the letters, or give --all.")

    async def replay_each(operator: KafkaOperator) -> list[tuple[str, bool]]:
        letters = await operator.dead_letters()
        chosen = letters if all_letters else [_find(letters, name) for name in names or ()]
        return [(found.letter.name, await operator.replay(found, again)) for found in chosen]

    done = _run(signal, profile, replay_each)
    out = Output(Format.TABLE)
    for name, was_published in done:
        if not was_published and not all_letters:
            out.text(f"{name} was replayed before; nothing was done (--again does it).")
    out.text(f"Replayed {count(sum(published for _, published in done), 'letter')}.")


def _run(signal: Signal, profile: Path | None, work: Callable[[KafkaOperator], Awaitable[ResultT]]) -> ResultT:
    from services import config
    from services.shared.app import bus_operator

    if profile is not None:
        os.environ["AIRIS_PROFILE"] = str(profile.resolve())
    with _telling():
        bus = config.read().bus
        if bus.kind != "kafka":
            fail("The configuration has no Kafka: set bus.kind to kafka, give --profile, or set AIRIS_PROFILE.")

        async def run() -> ResultT:
            return await work(bus_operator(bus, signal.value))

        return asyncio.run(run())


@contextlib.contextmanager
def _telling() -> Iterator[None]:
    from services.shared.errors import AirisError

    try:
        yield
    except AirisError as error:
        fail(error.message)


def _find(letters: list[Found], name: str) -> Found:
    found = next((each for each in letters if each.letter.name == name), None)
    return found or fail(f"There is no dead letter {name}: see `airis bus dlq list`.")


def _described(found: Found) -> dict[str, Any]:
    letter = found.letter
    return {
        "letter": letter.name,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "reason": letter.reason,
        "writtenAt": format_moment(found.written_at * _MILLISECOND, 3),
        "bytes": len(letter.payload) if letter.payload is not None else None,
        "replayed": found.replayed,
    }


def _size(found: Found) -> str:
    return f"{len(found.letter.payload):,}" if found.letter.payload is not None else "not kept"


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex(" ")


def _print_json(document: object) -> None:
    json.dump(document, sys.stdout, ensure_ascii=False, indent=2)
    sys.stdout.write("\n")
