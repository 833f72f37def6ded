"""What the commands `airis up` and `airis status` call."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from services.shared.auth.key_folder import KeyFolder
from services.shared.errors import AirisError
from services.shared.open_files import allow_many_open_files
from services.supervisor import ports
from services.supervisor.authentication import PlatformTokens
from services.supervisor.data_folder import DataFolder, explain, is_running
from services.supervisor.engines.envoy import EnvoyEngine
from services.supervisor.engines.postgres import PostgresEngine
from services.supervisor.engines.redis import RedisEngine
from services.supervisor.http import answers_ok
from services.supervisor.logs import ConsoleLog
from services.supervisor.program import Program, StartError
from services.supervisor.services import (
    aliveness,
    demo_programs,
    frontend_programs,
    readiness,
    service_environment,
    service_program,
)
from services.supervisor.state import PlatformState, ProcessState, read_state, write_state
from services.supervisor.supervisor import Supervisor, together

READY = "AIRIS is ready"
_OPEN_WARNING = (
    "[bold yellow]Warning:[/] authentication is off: every program on this machine can read and change everything. "
    "`airis up --auth` turns it on."
)


@dataclass(frozen=True)
class _Launch:
    port_offset: int
    demo: bool
    profile: Path | None
    authentication: bool
    frontends: int


def up(
    data_dir: Path,
    port_offset: int,
    demo: bool,
    profile: Path | None,
    authentication: bool = False,
    frontends: int = 0,
) -> int:
    """Runs the platform in the foreground until SIGINT or SIGTERM; a second one ends it at once.

    Call from the main thread.

    Args:
        data_dir: Where all data lives; created when missing.
        port_offset: Added to every port of the platform.
        demo: Whether to send live input: the shop, and this machine's metrics.
        profile: A configuration file for the services; None: their defaults.
        authentication: Whether every call needs a token. Keys are made when there are none; when there are some,
            it is on in any case.
        frontends: How many further processes take unary ingest calls for metrics, logs and traces.

    Returns:
        The exit code: 0 after a stop that was asked for, 1 when it could not start.
    """
    allow_many_open_files()
    log = ConsoleLog()
    folder = DataFolder(
        data_dir.expanduser().resolve(),
        on_wait=lambda: log.line("airis", "waiting for the processes of a run that crashed to end"),
    )
    try:
        folder.open()
        _check_ports(port_offset, frontends)
        keys = KeyFolder(folder.path)
        if authentication:
            keys.init()
        if keys.is_incomplete:
            # Somebody has wanted authentication: a lost file must not let everybody in.
            raise StartError(
                f"there are keys in {keys.path}, and no {keys.jwks_file.name}: restore it, or make new keys with "
                "`airis auth init`; tokens made before are invalid then."
            )
        launch = _Launch(port_offset, demo, profile, keys.exists, frontends)
        return asyncio.run(_run(folder, launch, log))
    except (StartError, AirisError) as error:
        problem = str(error)
    except OSError as error:
        problem = explain(error, folder.path)
    except KeyboardInterrupt:
        problem = "interrupted"
    finally:
        folder.close()
        log.close()
    print(f"airis: {problem}", file=sys.stderr)
    return 1


def _check_ports(port_offset: int, frontends: int) -> None:
    if not 0 <= port_offset <= ports.MAX_OFFSET:
        raise StartError(f"--port-offset {port_offset} is not possible: give one of 0 to {ports.MAX_OFFSET}.")
    shifted = [port + port_offset for port in (*ports.ALL, *ports.of_frontends(frontends))]
    busy = ports.busy(shifted)
    if busy:
        subject = f"Port {busy[0]} is" if len(busy) == 1 else f"Ports {', '.join(map(str, busy))} are"
        raise StartError(
            f"{subject} in use: stop what listens there, or shift all of AIRIS's ports with --port-offset "
            f"{(port_offset + 1000) % ports.MAX_OFFSET}."
        )


async def _run(folder: DataFolder, launch: _Launch, log: ConsoleLog) -> int:
    supervisor: Supervisor

    def changed() -> None:
        # A full disk must not end the platform for the sake of `airis status`.
        with contextlib.suppress(OSError):
            write_state(folder.state_file, folder.runtime, launch.port_offset, supervisor.keepers)

    supervisor = Supervisor(log.line, folder.inherited, on_change=changed)
    asked_to_stop = asyncio.Event()

    def on_signal() -> None:
        if asked_to_stop.is_set():
            log.line("airis", "killing everything")
            supervisor.kill()
        asked_to_stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)
    tokens = PlatformTokens(KeyFolder(folder.path), folder.runtime) if launch.authentication else None
    if tokens is not None:
        await asyncio.to_thread(tokens.mint)
    renewing = asyncio.create_task(tokens.keep(log.line)) if tokens is not None else None
    starting = asyncio.create_task(_start(supervisor, folder, launch, tokens, log))
    stopping = asyncio.create_task(asked_to_stop.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
        await stopping
        return 0
    finally:
        log.line("airis", "stopping (Ctrl-C again kills)")
        starting.cancel()
        stopping.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)
        await supervisor.stop()
        if renewing is not None:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
        log.line("airis", "stopped")


async def _start(
    supervisor: Supervisor, folder: DataFolder, launch: _Launch, tokens: PlatformTokens | None, log: ConsoleLog
) -> None:
    port_offset = launch.port_offset
    postgres = PostgresEngine(folder.path / "postgres", folder.runtime)
    redis = RedisEngine(folder.path / "redis", folder.runtime)
    environment = service_environment(folder.path, port_offset, postgres.dsn, redis.url, launch.profile)
    if tokens is not None:
        environment |= tokens.environment()
    if launch.frontends:
        # Only we may enter it, whoever may enter the folder that it is in.
        handover = folder.runtime / "handover"
        handover.mkdir(mode=0o700)
        environment["AIRIS_HANDOVER__FOLDER"] = str(handover)
    console = Console(file=sys.stdout, highlight=False)

    async def start(*programs: Program) -> None:
        _show(log, console, f"Starting {', '.join(program.name for program in programs)} …")
        for keeper in await supervisor.start(programs):
            program = keeper.program
            _show(log, console, f"[green]✓[/] {program.name:<10} {program.engine:<20} {keeper.start_took:.1f} s")

    async def start_alerts() -> None:
        await start(*databases)
        await start(alerts)

    databases = [await asyncio.to_thread(postgres.program), redis.program()]
    services = {name: service_program(name, port_offset, environment) for name in ports.GRPC}
    alerts = services.pop("alerts")
    # The others have their stores in themselves.
    await together(start_alerts(), start(*services.values()))
    if launch.frontends:
        await start(*frontend_programs(launch.frontends, port_offset, environment))
    await start(EnvoyEngine(folder.runtime, port_offset, launch.authentication, launch.frontends).program())
    if launch.demo:
        await supervisor.start(demo_programs(port_offset, environment))
    _show(log, console, _addresses(port_offset, folder.path))
    if tokens is None:
        _show(log, console, _OPEN_WARNING)
    log.text(f"{READY}\n")


def _show(log: ConsoleLog, console: Console, content: str | Table) -> None:
    with console.capture() as captured:
        console.print(content)
    log.text(captured.get())


def _addresses(port_offset: int, data_dir: Path) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2))
    for name, port in ports.ENVOY.items():
        scheme = "" if name == "OTLP/gRPC" else "http://"
        table.add_row(f"[bold]{name}[/]", f"{scheme}{ports.LOOPBACK}:{port + port_offset}")
    for name, port in ports.GRPC.items():
        http = ports.HTTP[name] + port_offset
        table.add_row(f"{name} (gRPC)", f"{ports.LOOPBACK}:{port + port_offset}, metrics on {http}/metrics")
    table.add_row("data", str(data_dir))
    return table


def status(data_dir: Path) -> int:
    """Prints each process of the platform, asked now: its health, its engine, where it answers.

    Returns:
        0 if everything is healthy, 1 if something is not or the platform does not run.
    """
    folder = data_dir.expanduser().resolve()
    state = read_state(folder / "run" / "state.json")
    if state is None or not is_running(folder):
        print(f"AIRIS does not run on {folder}.", file=sys.stderr)
        return 1
    healths = asyncio.run(_ask(folder, state))
    table = Table("process", "health", "engine", "address", "pid", "restarts", "since")
    for process in state.processes:
        health = healths[process.name]
        color = "green" if health == "healthy" else "red"
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(process.since))
        columns = (process.engine, process.address, str(process.pid or "-"), str(process.restarts), since)
        table.add_row(process.name, f"[{color}]{health}[/]", *columns)
    # Piped, nobody's terminal sets a width: addresses stay whole.
    Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(table)
    return 0 if all(health == "healthy" for health in healths.values()) else 1


async def _ask(folder: Path, state: PlatformState) -> dict[str, str]:
    answers = await asyncio.gather(*(_health(folder, state, process) for process in state.processes))
    return {process.name: answer for process, answer in zip(state.processes, answers, strict=True)}


async def _health(folder: Path, state: PlatformState, process: ProcessState) -> str:
    if process.pid is None or not psutil.pid_exists(process.pid):
        return process.state if process.state != "healthy" else "ended"
    probe = _probe(folder, state, process.name)
    if probe is None or await probe():
        return "healthy"
    return "starting" if process.state == "starting" else "not answering"


def _probe(folder: Path, state: PlatformState, name: str) -> Callable[[], Awaitable[bool]] | None:
    runtime = Path(state.runtime)
    if name == "postgres":
        return PostgresEngine(folder / "postgres", runtime).probe
    if name == "redis":
        return RedisEngine(folder / "redis", runtime).probe
    if name == "envoy":
        return EnvoyEngine(runtime, state.port_offset).probe
    if name in ports.HTTP:
        return partial(answers_ok, readiness(name, state.port_offset))
    if name.startswith(ports.FRONTEND):
        return partial(answers_ok, aliveness(name, state.port_offset))
    return None
