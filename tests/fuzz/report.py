"""What became of the inputs: counts by target and status, and findings with an input that shows each."""

from __future__ import annotations

import json
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.contract import ROOT


@dataclass(slots=True)
class Finding:
    """Something that no input should cause.

    Attributes:
        what: What was seen, the same for all inputs that show it.
        replay: The first of those, as `--replay` takes it.
        detail: What that one gave.
        count: How many inputs showed it.
    """

    what: str
    replay: str
    detail: str
    count: int = 1


@dataclass(slots=True)
class Report:
    """Counts of inputs."""

    statuses: Counter[tuple[str, str]] = field(default_factory=Counter)
    findings: dict[str, Finding] = field(default_factory=dict)

    def seen(self, target: str, status: str) -> None:
        """Counts an input."""
        self.statuses[target, status] += 1

    def found(self, what: str, replay: str, detail: str) -> None:
        """Notes a finding; the first input that shows it stays."""
        if what in self.findings:
            self.findings[what].count += 1
        else:
            self.findings[what] = Finding(what, replay, detail[:2000])
            # A long run tells at once.
            print(f"found: {what}; --replay {replay}\n{detail[-600:]}", file=sys.stderr, flush=True)

    def raised(self, error: BaseException, target: str, replay: str) -> None:
        """Notes an error, by where it was raised."""
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = frame.filename.removeprefix(f"{ROOT}/").rpartition("site-packages/")[2]
        what = f"{type(error).__name__} at {place}:{frame.lineno}"
        if isinstance(error, AssertionError):
            what += f" ({str(error)[:60]})"
        self.seen(target, "finding")
        self.found(what, replay, f"{target}: {''.join(traceback.format_exception(error))[-1800:]}")

    def add(self, other: Report) -> None:
        """Takes in what another has counted."""
        self.statuses.update(other.statuses)
        for finding in other.findings.values():
            if finding.what in self.findings:
                self.findings[finding.what].count += finding.count
            else:
                self.findings[finding.what] = finding

    @property
    def inputs(self) -> int:
        """How many there were."""
        return self.statuses.total()

    def lines(self) -> Iterator[str]:
        """As it is printed."""
        targets: dict[str, Counter[str]] = {}
        for (target, status), count in sorted(self.statuses.items()):
            targets.setdefault(target, Counter())[status] = count
        for target, counts in targets.items():
            words = ", ".join(f"{status} {count}" for status, count in counts.most_common())
            yield f"{counts.total():>8}  {target}  {words}"
        for finding in self.findings.values():
            yield f"FINDING ({finding.count} inputs) {finding.what}; --replay {finding.replay}\n{finding.detail}"

    def write(self, path: Path, **facts: object) -> None:
        """Writes it as JSON."""
        statuses: dict[str, dict[str, int]] = {}
        for (target, status), count in sorted(self.statuses.items()):
            statuses.setdefault(target, {})[status] = count
        findings = [{name: getattr(each, name) for name in Finding.__slots__} for each in self.findings.values()]
        tree = {**facts, "inputs": self.inputs, "statuses": statuses, "findings": findings}
        path.write_text(json.dumps(tree, indent=1))
