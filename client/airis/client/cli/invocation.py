"""What every command that calls a service has in common: where to, how to print, and how failures are told."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Optional

import typer
from airis.client.cli.output import Format, Output, explain, stderr_console
from airis.client.cli.times import TimeRange, parse_range

if TYPE_CHECKING:
    from airis.client.client import AirisClient
    from airis.client.paging import Paged

_DEFAULT_TARGET = "127.0.0.1:8080"
_MOST_PER_PAGE = 1000

Target = Annotated[str, typer.Option(envvar="AIRIS_TARGET", help="Host and port of AIRIS.")]
PortOffset = Annotated[int, typer.Option(help="Added to the target's port, as in `airis up`.")]
OutputFormat = Annotated[Format, typer.Option("--output", "-o", help="Tables for people, JSON for programs.")]
Since = Annotated[Optional[str], typer.Option(help="Begin this long ago (15m, 1h, 7d), or at a time.")]  # noqa: UP045
Until = Annotated[Optional[str], typer.Option(help="End this long ago, or at a time.")]  # noqa: UP045
Start = Annotated[Optional[str], typer.Option(help="Begin at this time (RFC 3339).")]  # noqa: UP045
End = Annotated[Optional[str], typer.Option(help="End before this time (RFC 3339).")]  # noqa: UP045

_CONNECTION = {
    "target": (Target, _DEFAULT_TARGET),
    "port_offset": (PortOffset, 0),
    "output": (OutputFormat, Format.TABLE),
}
_RANGE = {"since": (Since, None), "until": (Until, None), "start": (Start, None), "end": (End, None)}


class CommandError(Exception):
    """A command cannot go on; the text is one sentence for the user."""


class Invocation:
    """One run of a command.

    Attributes:
        client: The services.
        out: Where results go.
        range: The range of time that the options give; without them the service's default.
    """

    def __init__(self, client: AirisClient, out: Output, time_range: TimeRange) -> None:
        self.client = client
        self.out = out
        self.range = time_range


Command = Callable[..., Awaitable[None]]


def command(app: typer.Typer, name: str, *, has_range: bool = False) -> Callable[[Command], Command]:
    """Makes a command of a coroutine function that takes an `Invocation` first.

    Its options get `--target`, `--port-offset` and `--output` beside them, and those of a range of time.

    Args:
        app: Where the command belongs.
        name: What users type.
        has_range: Whether it asks about a range of time.
    """
    extra = {**(_RANGE if has_range else {}), **_CONNECTION}

    def register(function: Command) -> Command:
        def run(**values: Any) -> None:
            common = {key: values.pop(key) for key in extra}
            time_range = _range(common) if has_range else TimeRange(None, None)
            _run(function, values, common, time_range)

        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        added = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
            for key, (kind, default) in extra.items()
        ]
        own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        run.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *added]}
        run.__doc__ = function.__doc__
        app.command(name)(run)
        return function

    return register


def offset_target(target: str, port_offset: int) -> str:
    """The target with its port shifted. Raises `typer.BadParameter` if it has none."""
    host, colon, port = target.rpartition(":")
    if not colon or not port.isdigit():
        raise typer.BadParameter(f"{target!r} has no port; write for example {_DEFAULT_TARGET}.")
    return f"{host}:{int(port) + port_offset}"


async def gather_pages(paged: Paged[Any, Any], field: str, limit: int) -> Any:
    """The first items of a list as one response.

    Args:
        paged: The list; its pages should have `page_size(limit)`.
        field: The response's field with the items.
        limit: Items at most.
    """
    merged: Any = None
    async for page in paged.pages():
        if merged is None:
            merged = type(page)()
        merged.next_page_token = ""
        merged.MergeFrom(page)
        if len(getattr(merged, field)) >= limit:
            break
    if len(getattr(merged, field)) > limit:
        # The token would skip what is cut off here.
        merged.next_page_token = ""
        for descriptor, values in merged.ListFields():
            if descriptor.is_repeated:
                del values[limit:]
    return merged


def page_size(limit: int) -> int:
    """How much to ask for at once."""
    return min(limit, _MOST_PER_PAGE)


def _range(common: dict[str, Any]) -> TimeRange:
    try:
        return parse_range(common["since"], common["until"], common["start"], common["end"])
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _run(function: Command, values: dict[str, Any], common: dict[str, Any], time_range: TimeRange) -> None:
    from airis.client.client import AirisClient
    from airis.client.errors import AirisError

    target = offset_target(common["target"], common["port_offset"])

    async def call() -> None:
        async with AirisClient(target) as client:
            await function(Invocation(client, Output(common["output"]), time_range), **values)

    try:
        asyncio.run(call())
    except AirisError as error:
        if "failed to connect" in error.message:
            fail(f"{target} cannot be reached; does AIRIS run there? `airis up` starts it.")
        fail(explain(error))
    except CommandError as error:
        fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        raise typer.Exit(0) from None
    except OSError as error:
        fail(f"{error.filename or 'The file'}: {error.strerror}.")


def fail(text: str) -> NoReturn:
    """Prints a sentence on standard error and ends the command with 1."""
    stderr_console().print(f"airis: {text}", markup=False)
    raise typer.Exit(1)
