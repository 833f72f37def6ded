"""Availability under kills: `python -m bench.availability [--minutes 30] [--seed 1] [--json FILE]`.

Runs the whole platform as a user does, calls it open-loop through the edge (by the SDK with its default retries, and by
a bare gRPC client), watches it by `airis canary`, and kills a random process of it each minute with SIGKILL. Prints the
availability as each of them saw it, what failed, and how long each process was away. Ends with 1 when the SDK's calls
or the canary's rounds fall below 99.9 %, or when the canary finds an item lost or doubled. Figures go to
bench-results/availability.json, too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import platform as machine
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from platform_process import Platform

from bench.availability_calls import Load, Made
from bench.folders import RESULTS, absolute, work_folder
from bench.processes import cores
from bench.results import write_json

GOAL = 0.999
TARGETS = ("metrics", "logs", "traces", "alerts", "postgres", "redis", "envoy")
_BEFORE_SECONDS, _AFTER_SECONDS, _BACK_SECONDS = 10.0, 20.0, 120.0
_POLL_SECONDS = 0.05


async def kill(platform: Platform, target: str, load: Load) -> dict[str, Any]:
    """Kills a process of the platform, and says how long it was away."""
    pid = platform.state()[target]["pid"]
    at = load.now()
    os.kill(pid, signal.SIGKILL)
    while load.now() - at < _BACK_SECONDS:
        await asyncio.sleep(_POLL_SECONDS)
        now = platform.state()[target]
        if now["pid"] not in (None, pid) and now["state"] == "healthy":
            return {"target": target, "at": at, "away": load.now() - at}
    raise AssertionError(f"{target} did not come back within {_BACK_SECONDS} s:\n{platform.output()}")


async def strike(
    platform: Platform, load: Load, minutes: float, every: float, dice: random.Random
) -> list[dict[str, Any]]:
    """Kills one process at each interval, at a random moment of it, but not near its end."""
    kills: list[dict[str, Any]] = []
    await asyncio.sleep(_BEFORE_SECONDS)
    for number in range(round(minutes * 60 / every)):
        begins = _BEFORE_SECONDS + number * every
        await asyncio.sleep(max(0.0, begins + dice.uniform(0, every / 2) - load.now()))
        target = dice.choice(TARGETS)
        kills.append(await kill(platform, target, load))
        _print_kill(kills[-1], load)
        await asyncio.sleep(max(0.0, begins + every - load.now()))
    await asyncio.sleep(_AFTER_SECONDS)
    load.end()
    return kills


async def watch(platform: Platform, lines: list[dict[str, Any]]) -> asyncio.subprocess.Process:
    """Starts the canary, and keeps what it says."""
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "airis"),
        *("canary", "--port-offset", str(platform.offset), "--interval", "1", "--report", "30", "--output", "json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )

    async def read() -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            lines.append(json.loads(line))

    process_reader = asyncio.create_task(read())
    process_reader.add_done_callback(lambda task: task.exception())
    return process


async def run(platform: Platform, minutes: float, every: float, rate: float, seed: int) -> dict[str, Any]:
    """Runs it, and gives everything that was found."""
    load = Load(platform.edge, rate, random.Random(seed))
    lines: list[dict[str, Any]] = []
    canary = await watch(platform, lines)
    running = asyncio.create_task(load.run())
    striking = asyncio.create_task(strike(platform, load, minutes, every, random.Random(seed)))
    await asyncio.wait({running, striking}, return_when=asyncio.FIRST_EXCEPTION)
    kills = striking.result()
    await running
    canary.send_signal(signal.SIGINT)
    await asyncio.wait_for(canary.wait(), 240)
    summary = next(line for line in reversed(lines) if line["kind"] == "summary")
    return report(load.made, kills, summary, seed)


def report(made: Sequence[Made], kills: Sequence[dict[str, Any]], canary: dict[str, Any], seed: int) -> dict[str, Any]:
    """The figures."""
    clients = {
        who: {
            name: _figures([call for call in made if call.client == who and name in (call.call, "all")])
            for name in names
        }
        for who in ("sdk", "bare")
        for names in [["all", *dict.fromkeys(call.call for call in made)]]
    }
    for number, struck in enumerate(kills):
        until = kills[number + 1]["at"] if number + 1 < len(kills) else math.inf
        for who in ("sdk", "bare"):
            struck[who] = sum(
                call.client == who and call.code != "OK" and struck["at"] <= call.at + call.seconds < until
                for call in made
            )
    canary_ok = all(signal["availability"] >= GOAL for signal in canary["signals"])
    broken = sum(signal["missing"] + signal["doubled"] for signal in canary["signals"])
    return {
        "environment": {
            "python": machine.python_version(),
            "cpus": cores(),
            "load": os.getloadavg()[0],
            "seed": seed,
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        },
        "goal": GOAL,
        "clients": clients,
        "kills": list(kills),
        "canary": canary,
        "ok": clients["sdk"]["all"]["availability"] >= GOAL and canary_ok and not broken,
    }


def _figures(calls: Sequence[Made]) -> dict[str, Any]:
    times = sorted(call.seconds for call in calls)
    failures = [call for call in calls if call.code != "OK"]

    def quantile(share: float) -> float | None:
        return round(times[max(0, math.ceil(share * len(times)) - 1)], 4) if times else None

    return {
        "calls": len(calls),
        "failed": len(failures),
        "availability": 1 - len(failures) / len(calls) if calls else 0.0,
        "seconds": {"p50": quantile(0.5), "p95": quantile(0.95), "p99": quantile(0.99), "most": quantile(1.0)},
        "errors": dict(Counter(f"{call.code}: {call.text[:110]}" for call in failures).most_common(8)),
    }


def _print_kill(struck: dict[str, Any], load: Load) -> None:
    failed = Counter(call.client for call in load.made if call.code != "OK")
    print(
        f"{struck['at']:7.0f} s  kill -9 {struck['target']:<9} back after {struck['away']:5.2f} s"
        f"   failed so far: SDK {failed['sdk']}, bare {failed['bare']}   load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


def show(found: dict[str, Any]) -> None:
    """Prints the figures."""
    print(f"\n{'client':<7}{'call':<16}{'calls':>8}{'failed':>8}{'available':>11}   p50, p95, p99, most")
    for who, kinds in found["clients"].items():
        for name, figures in kinds.items():
            seconds = ", ".join(f"{value * 1000:.0f}" for value in figures["seconds"].values() if value is not None)
            share = f"{figures['availability']:.3%}"
            print(f"{who:<7}{name:<16}{figures['calls']:>8}{figures['failed']:>8}{share:>11}   {seconds} ms")
        for text, count in kinds["all"]["errors"].items():
            print(f"        {count} × {text}")
    for signal_ in found["canary"]["signals"]:
        p95, share = signal_["visibleSeconds"]["p95"], f"{signal_['availability']:.3%}"
        print(
            f"canary {signal_['signal']:<16}{signal_['rounds']:>8}{signal_['failed']:>8}{share:>11}"
            f"   missing {signal_['missing']}, doubled {signal_['doubled']}, late {signal_['late']},"
            f" unverified {signal_['unverified']}, visible p95 {(p95 or math.nan) * 1000:.0f} ms"
        )
    print("\nprocess   kills   away at the median, most      failed calls: SDK, bare")
    for target in TARGETS:
        struck = [each for each in found["kills"] if each["target"] == target]
        if struck:
            away = sorted(each["away"] for each in struck)
            print(
                f"{target:<10}{len(struck):>5}   {away[len(away) // 2]:.2f} s, {away[-1]:.2f} s"
                f"{'':>16}{sum(each['sdk'] for each in struck)}, {sum(each['bare'] for each in struck)}"
            )
    met = "met" if found["ok"] else "MISSED"
    print(f"\ngoal: {GOAL:.1%} as the SDK and the canary see it, nothing lost or doubled: {met}")


def main() -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--every", type=float, default=60.0, help="seconds between two kills")
    parser.add_argument("--rate", type=float, default=4.0, help="calls a second of each kind and client")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work-dir", type=absolute, help="where the data folder is made; default: temporary")
    parser.add_argument("--json", type=Path, default=RESULTS / "availability.json", help="where figures are written")
    chosen = parser.parse_args()
    work = work_folder(chosen.work_dir, RESULTS)
    with tempfile.TemporaryDirectory(prefix="airis-availability-", dir=work, ignore_cleanup_errors=True) as folder:
        platform = Platform(Path(folder), "--data-dir", folder)
        platform.start()
        print(f"Python {machine.python_version()}, {cores():g} CPUs, load {os.getloadavg()[0]:.1f}", flush=True)
        try:
            found = asyncio.run(run(platform, chosen.minutes, chosen.every, chosen.rate, chosen.seed))
        finally:
            platform.stop()
    show(found)
    write_json(chosen.json, found)
    return 0 if found["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
