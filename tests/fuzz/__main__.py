"""Many inputs, as `make fuzz` gives them, or one of them again: `python -m tests.fuzz --replay SEED:d12`."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# The tests' own modules lie there.
sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.folders import RESULTS, absolute, work_folder
from tests.fuzz import decoding, sending
from tests.fuzz.addresses import Addresses
from tests.fuzz.contract import ROOT
from tests.fuzz.decoders import Decoders
from tests.fuzz.report import Report
from tests.fuzz.watching import Watched

_DECODED, _PLAIN, _WITH_TOKEN = "d", "w", "a"


def main() -> int:
    """Gives 1 when something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="how many in all")
    parser.add_argument("--wire", type=float, default=0.5, help="the share of them that goes over the wire")
    parser.add_argument("--seed", type=int, default=None, help="gives the same inputs again")
    parser.add_argument("--seconds", type=float, default=None, help="the longest that each of the two parts may take")
    parser.add_argument("--processes", type=int, default=decoding.cores(), help="for the decoders")
    parser.add_argument("--work-dir", type=absolute, help="where the data folders are made; default: temporary")
    parser.add_argument("--only", choices=("decoders", "wire"), help="one of the two parts")
    parser.add_argument("--replay", metavar="SEED:INPUT", help="one input, as a finding names it")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    if arguments.replay:
        return _ended(_replay(arguments.replay, arguments.work_dir))
    seed = random.randrange(2**31) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    began = time.monotonic()
    report, facts = run(seed, arguments)
    facts = {"seed": seed, "seconds": round(time.monotonic() - began), **facts}
    missing = 0 if arguments.seconds or arguments.only else arguments.inputs - report.inputs
    if arguments.json:
        report.write(arguments.json, **facts)
    print(json.dumps(facts))
    if missing:
        print(f"{missing} inputs were not given: a part ended early")
    return _ended(report) or int(missing != 0)


def run(seed: int, arguments: argparse.Namespace) -> tuple[Report, dict[str, Any]]:
    """Both parts at once: the one waits for the platform while the other computes."""
    over_the_wire = round(arguments.inputs * arguments.wire)
    report, facts = Report(), dict[str, Any]()
    aside = ThreadPoolExecutor(1)
    decoding_run: Future[Report] | None = None
    if arguments.only != "wire":
        inputs = arguments.inputs - over_the_wire
        decoding_run = aside.submit(decoding.run, seed, inputs, arguments.processes, arguments.seconds)
    if arguments.only != "decoders":
        # The more of them without tokens: more of those get far.
        with_tokens = over_the_wire // 4
        for asks, first, count in (
            (False, 0, over_the_wire - with_tokens),
            (True, over_the_wire - with_tokens, with_tokens),
        ):
            seconds = None if arguments.seconds is None else arguments.seconds * count / over_the_wire
            with _watched(asks, arguments.work_dir) as watched:
                addresses = watched.start()
                report.add(asyncio.run(sending.run(seed, addresses, first, count, seconds)))
                facts["MiB with tokens" if asks else "MiB"] = watched.judge(report)
    facts["sent"] = report.inputs
    if decoding_run is not None:
        # What it raises is raised here: inputs that nobody looked at are no success.
        decoded = decoding_run.result()
        facts["decoded"] = decoded.inputs
        report.add(decoded)
    return report, facts


def _replay(named: str, work_dir: Path | None) -> Report:
    seed, _, place = named.partition(":")
    kind, index = place[0], int(place[1:])
    report = Report()
    if kind == _DECODED:
        decoding.one(Decoders(int(seed)), index, report, named)
        return report
    assert kind in (_PLAIN, _WITH_TOKEN), f"{named}: d, w or a and a number, after the seed"
    with _watched(kind == _WITH_TOKEN, work_dir) as watched:
        addresses: Addresses = watched.start()
        report.add(asyncio.run(sending.run(int(seed), addresses, index, 1)))
        watched.judge(report)
    return report


@contextmanager
def _watched(with_tokens: bool, work_dir: Path | None) -> Iterator[Watched]:
    work = work_folder(work_dir, RESULTS)
    with tempfile.TemporaryDirectory(prefix="airis-fuzz-", dir=work, ignore_cleanup_errors=True) as folder:
        watched = Watched(Path(folder) / "data", with_tokens=with_tokens)
        try:
            yield watched
        finally:
            watched.stop()


def _ended(report: Report) -> int:
    for line in report.lines():
        print(line)
    print(f"{report.inputs} inputs, {len(report.findings)} findings; run in {ROOT.name}")
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
