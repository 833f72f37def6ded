"""A log that cannot be written does not stop what it tells of."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import resource, structlog
from services.shared.telemetry import setup
from services.shared.telemetry.config import TelemetryConfig

end = setup.start("airis-test", TelemetryConfig())
logger = structlog.get_logger("test")
logger.warning("first")
resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
logger.warning("into a file that may not grow")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
logger.warning("last")
end()
"""


def test_a_log_file_that_cannot_grow_ends_nothing_and_goes_on_afterwards(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        ended = subprocess.run([sys.executable, "-c", PROGRAM], stdout=file, stderr=subprocess.PIPE, timeout=60)
    assert ended.returncode == 0, ended.stderr.decode()
    assert '"first"' in log.read_text()
    assert '"last"' in log.read_text()
