"""`python -m tests.faults` (`make faults`): gets the servers that the faults need, and runs the whole matrix."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# The tests' own modules lie there.
sys.path.insert(0, str(Path(__file__).parent.parent))

from faults.cluster import SERVERS

_FOLDER = Path(__file__).parent
_DISTRIBUTED = _FOLDER / "test_faults.py"
"""The only tests with servers that have to be fetched."""


def main() -> int:
    """Gives the exit code of pytest; 1 if that is 0 and a server could not be had. Skipped tests count as passed."""
    fetch = [sys.executable, "-m", "deploy.servers", "fetch", *SERVERS]
    fetched = subprocess.run(fetch, stderr=subprocess.PIPE, text=True, check=False)
    arguments = ["-rs", "-o", "tmp_path_retention_policy=failed", str(_FOLDER)]
    if fetched.returncode == 0:
        return int(pytest.main(arguments))
    print(fetched.stderr, file=sys.stderr, flush=True)
    code = int(pytest.main([*arguments, f"--ignore={_DISTRIBUTED}"]))
    print(f"NOT RUN: {_DISTRIBUTED}, as not all of its servers can be had:\n{fetched.stderr}", file=sys.stderr)
    return code or 1


if __name__ == "__main__":
    sys.exit(main())
