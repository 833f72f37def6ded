"""Children, their restarts, their order, and what happens to them when the supervisor is killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from services.supervisor import supervisor as supervisor_module
from services.supervisor.process import ChildProcess, Command, run_to_end
from services.supervisor.program import Program, StartError
from services.supervisor.supervisor import Backoff, Supervisor, together

QUICK = Backoff(initial=0.02, longest=0.1, stable=60)
FOREVER = "import signal; print('up', flush=True); signal.pause()"


def python(code: str, stop_seconds: float = 5.0) -> Command:
    return Command([sys.executable, "-c", code], stop_seconds=stop_seconds)


class Log:
    """Remembers lines and lets a test wait for one."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self._changed = asyncio.Event()

    def __call__(self, name: str, line: str) -> None:
        self.lines.append((name, line))
        self._changed.set()

    async def wait_for(self, name: str, line: str, count: int = 1) -> None:
        async with asyncio.timeout(20):
            while sum(1 for entry in self.lines if entry[0] == name and line in entry[1]) < count:
                self._changed.clear()
                await self._changed.wait()


@pytest.fixture
async def log() -> Log:
    return Log()


@pytest.fixture
async def supervisor(log: Log) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(log, backoff=QUICK)
    yield supervisor
    await supervisor.stop()


def program(name: str, code: str = FOREVER, **more: object) -> Program:
    return Program(name, "Python", "nowhere", python(code), **more)  # type: ignore[arg-type]


def test_the_wait_before_a_restart_doubles_up_to_a_limit() -> None:
    backoff = Backoff(initial=0.5, longest=30)
    assert [backoff.after(deaths) for deaths in (1, 2, 3, 7, 8, 1000)] == [0.5, 1, 2, 30, 30, 30]


async def test_output_arrives_line_by_line_and_long_lines_do_not_stop_it() -> None:
    lines: list[str] = []
    code = "import sys; print('a'); print('b' * 200_000); sys.stderr.write('c\\n'); sys.stdout.write('no end')"
    child = ChildProcess(python("import sys; sys.stdout.reconfigure(line_buffering=True);" + code), lines.append)
    await child.start()
    assert await child.wait() == 0
    assert lines[0] == "a"
    assert "".join(lines[1:]).count("b") == 200_000
    assert max(map(len, lines)) <= 128 * 1024
    assert lines[-2:] == ["c", "no end"]


async def test_a_child_that_ignores_the_request_is_killed_with_its_own_children() -> None:
    grandchild_pid = asyncio.get_running_loop().create_future()
    code = (
        "import signal, subprocess, sys\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
        "print(p.pid, flush=True)\n"
        "signal.pause()"
    )
    child = ChildProcess(
        python(code, stop_seconds=0.2),
        lambda line: None if grandchild_pid.done() else grandchild_pid.set_result(int(line)),
    )
    await child.start()
    grandchild = psutil.Process(await asyncio.wait_for(grandchild_pid, 10))
    await child.stop()
    assert not child.running
    with contextlib.suppress(psutil.NoSuchProcess):
        grandchild.wait(5)


async def test_a_child_is_in_a_session_of_its_own() -> None:
    code, output = await run_to_end(python("import os; print(os.getsid(0) == os.getpid())"))
    assert (code, output) == (0, "True")


async def test_a_program_that_dies_is_started_again_and_the_others_stay(supervisor: Supervisor, log: Log) -> None:
    await supervisor.start([program("a"), program("b")])
    first, other = supervisor.keepers
    await log.wait_for("a", "up")
    await log.wait_for("b", "up")
    assert first.process is not None
    assert other.process is not None
    pid = other.process.pid
    os.kill(first.process.pid or 0, signal.SIGKILL)
    await log.wait_for("a", "up", count=2)
    assert first.restarts == 1
    assert ("airis", "a was ended by SIGKILL; it is started again in 0.02 s") in log.lines
    assert (other.process.pid, other.restarts) == (pid, 0)


async def test_what_goes_wrong_with_a_probe_is_told_and_the_program_goes_on(
    supervisor: Supervisor, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "WATCH_SECONDS", 0.02)
    wrong: list[Exception] = []
    asked_again = asyncio.Event()

    async def probe() -> bool:
        if wrong:
            raise wrong.pop()
        asked_again.set()
        return True

    await supervisor.start([program("a", probe=probe)])
    (keeper,) = supervisor.keepers
    first = keeper.process
    assert first is not None
    await log.wait_for("a", "up")
    wrong.append(RuntimeError("can't start new thread"))
    await log.wait_for("airis", "a cannot be asked (RuntimeError: can't start new thread)")
    asked_again.clear()
    async with asyncio.timeout(10):
        await asked_again.wait()
    assert first.running
    assert keeper.restarts == 0


async def test_what_goes_wrong_while_it_is_prepared_does_not_end_the_restarts(supervisor: Supervisor, log: Log) -> None:
    prepared = []

    async def prepare() -> None:
        prepared.append("a")
        if len(prepared) == 2:
            raise ValueError("no such thing")

    await supervisor.start([program("a", prepare=prepare)])
    (keeper,) = supervisor.keepers
    await log.wait_for("a", "up")
    assert keeper.process is not None
    os.kill(keeper.process.pid or 0, signal.SIGKILL)
    await log.wait_for("a", "up", count=2)
    assert len(prepared) == 3
    assert [line for name, line in log.lines if "ValueError: no such thing" in line] != []


async def test_what_goes_wrong_before_it_has_ever_worked_is_told_to_who_starts_it(supervisor: Supervisor) -> None:
    async def prepare() -> None:
        raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        await supervisor.start([program("a", prepare=prepare)])


async def test_a_child_that_could_not_be_taken_in_hand_never_becomes_the_program(
    supervisor: Supervisor, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tmp_path / "ran"
    await supervisor.start([program("a", f"open({str(ran)!r}, 'a').write('x')\n{FOREVER}")])
    (keeper,) = supervisor.keepers
    await log.wait_for("a", "up")
    refused, start = [], threading.Thread.start

    def refuse_once(thread: threading.Thread) -> None:
        # The child has been forked by then.
        if thread.name.startswith("asyncio-waitpid") and not refused:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_once)
    assert keeper.process is not None
    os.kill(keeper.process.pid or 0, signal.SIGKILL)
    await log.wait_for("a", "up", count=2)
    assert len(refused) == 1
    assert ran.read_text() == "xx"


@pytest.mark.parametrize("error", [OSError("no memory"), RuntimeError("can't start new thread"), None])
async def test_who_is_told_to_stop_while_a_child_is_started_starts_nothing_again_whatever_comes_of_it(
    error: Exception | None, supervisor: Supervisor, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    await supervisor.start([program("a")])
    (keeper,) = supervisor.keepers
    await log.wait_for("a", "up")
    begun, may_go_on, starts = asyncio.Event(), asyncio.Event(), 0
    start = ChildProcess.start

    async def start_when_it_may(child: ChildProcess) -> None:
        nonlocal starts
        starts += 1
        begun.set()
        await may_go_on.wait()
        if error is not None:
            raise error
        await start(child)

    monkeypatch.setattr(ChildProcess, "start", start_when_it_may)
    assert keeper.process is not None
    os.kill(keeper.process.pid or 0, signal.SIGKILL)
    async with asyncio.timeout(20):
        await begun.wait()
        stopping = asyncio.create_task(supervisor.stop())
        for _ in range(10):
            await asyncio.sleep(0)
        may_go_on.set()
        await stopping
    assert starts == 1
    assert keeper.state == "stopped"
    assert not keeper.process.running


async def test_restarts_slow_down_while_a_program_keeps_dying(supervisor: Supervisor, log: Log) -> None:
    await supervisor.start([program("a", "raise SystemExit(3)")])
    await log.wait_for("airis", "exit code 3", count=4)
    pauses = [line.split(" again in ")[1] for name, line in log.lines if name == "airis"]
    assert pauses[:4] == ["0.02 s", "0.04 s", "0.08 s", "0.1 s"]


async def test_after_a_stable_time_the_wait_is_short_again(log: Log) -> None:
    supervisor = Supervisor(log, backoff=Backoff(initial=0.02, longest=1, stable=0))
    await supervisor.start([program("a", "raise SystemExit(3)")])
    await log.wait_for("airis", "exit code 3", count=3)
    await supervisor.stop()
    assert {line.split(" again in ")[1] for name, line in log.lines if name == "airis"} == {"0.02 s"}


async def test_a_start_waits_for_health_and_its_failure_is_one_sentence(supervisor: Supervisor) -> None:
    async def never() -> bool:
        return False

    failing = program("metrics", "print('the journal is broken'); raise SystemExit(1)", probe=never)
    with pytest.raises(StartError, match=r"metrics ended with exit code 1, 3 times in a row.*the journal is broken"):
        await supervisor.start([failing])


async def test_a_program_that_is_never_healthy_is_not_waited_for_without_end(supervisor: Supervisor) -> None:
    async def never() -> bool:
        return False

    with pytest.raises(StartError, match=r"was not healthy within 0\.1 s"):
        await supervisor.start([program("a", probe=never, start_seconds=0.1)])


async def test_where_stages_start_side_by_side_the_failure_of_one_ends_the_start_of_the_other(
    supervisor: Supervisor,
) -> None:
    async def never() -> bool:
        return False

    ended = []

    async def start_two_stages() -> None:
        try:
            await supervisor.start([program("a", probe=never)])
            await supervisor.start([program("b")])
        finally:
            ended.append("a")

    failing = program("metrics", "raise SystemExit(1)", probe=never)
    with pytest.raises(StartError, match="metrics ended with exit code 1"):
        await together(start_two_stages(), supervisor.start([failing]))
    assert ended == ["a"]
    assert [keeper.program.name for keeper in supervisor.keepers] == ["a", "metrics"]


async def test_stages_stop_in_reverse_order(log: Log) -> None:
    saying_bye = (
        "import signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('bye', flush=True), sys.exit(0)))\n"
        "print('up', flush=True)\n"
        "signal.pause()"
    )
    supervisor = Supervisor(log, backoff=QUICK)
    for name in ("engine", "service", "edge"):
        await supervisor.start([program(name, saying_bye)])
        await log.wait_for(name, "up")
    await supervisor.stop()
    assert [name for name, line in log.lines if line == "bye"] == ["edge", "service", "engine"]
    assert {keeper.state for keeper in supervisor.keepers} == {"stopped"}


async def test_kill_ends_everything_at_once_and_for_good(log: Log) -> None:
    stubborn = "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True)\nwhile True: signal.pause()"
    supervisor = Supervisor(log, backoff=QUICK)
    await supervisor.start([Program("a", "Python", "", python(stubborn, stop_seconds=60))])
    await log.wait_for("a", "up")
    async with asyncio.timeout(5):
        stopping = asyncio.create_task(supervisor.stop())
        await asyncio.sleep(0)
        supervisor.kill()
        await stopping
    assert supervisor.keepers[0].restarts == 0


def test_children_die_with_a_killed_supervisor(tmp_path: Path) -> None:
    code = f"""
import asyncio, sys
from services.supervisor.process import ChildProcess, Command
async def main():
    child = ChildProcess(Command([sys.executable, "-c", {FOREVER!r}]), lambda line: print(child.pid, flush=True))
    await child.start()
    await asyncio.sleep(60)
asyncio.run(main())
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    with contextlib.suppress(psutil.NoSuchProcess):
        child.wait(10)
    assert not child.is_running()
