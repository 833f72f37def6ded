"""One platform for the end-to-end tests, started as a user starts it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from platform_process import Platform


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    running = Platform(tmp_path_factory.mktemp("airis"))
    running.start()
    yield running
    running.stop()
