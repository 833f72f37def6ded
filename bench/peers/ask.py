"""HTTP questions to a peer's own API; the machine's proxy settings do not matter to them."""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from bench.target import TargetError

# Counting everything may take a slow store minutes.
_TIMEOUT_SECONDS = 300.0
_POLL_SECONDS = 0.1


def ask(address: str, method: str, path: str, body: bytes | None = None, content_type: str = "") -> bytes:
    """Sends one request to `host:port`.

    Returns:
        The body of the answer.

    Raises:
        TargetError: It does not answer, or not with success.
    """
    connection = http.client.HTTPConnection(address, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request(method, path, body, {"Content-Type": content_type} if content_type else {})
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise TargetError(f"{address}{path}: {type(error).__name__}: {error}") from error
    finally:
        connection.close()
    if answer.status >= 300:
        raise TargetError(f"{address}{path}: HTTP {answer.status}: {content[:300].decode(errors='replace')}")
    return content


class Connection:
    """One kept connection, for questions whose time counts. Its methods raise what `http.client` does."""

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=_TIMEOUT_SECONDS)

    def form(self, path: str, fields: Mapping[str, str]) -> bytes:
        """Posts a form."""
        return self._ask("POST", path, urlencode(fields), "application/x-www-form-urlencoded")

    def json(self, path: str, question: Mapping[str, Any]) -> Any:
        """Posts JSON and reads JSON."""
        return json.loads(self._ask("POST", path, json.dumps(question), "application/json"))

    def get(self, path: str) -> Any:
        """Reads JSON."""
        return json.loads(self._ask("GET", path, None, ""))

    def _ask(self, method: str, path: str, body: str | None, content_type: str) -> bytes:
        self._connection.request(method, path, body, {"Content-Type": content_type} if content_type else {})
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status >= 300:
            raise TargetError(f"{path}: HTTP {answer.status}: {content[:200].decode(errors='replace')}")
        return content


def ask_form(address: str, path: str, fields: Mapping[str, str]) -> bytes:
    """Posts a form; as `ask`."""
    return ask(address, "POST", path, urlencode(fields).encode(), "application/x-www-form-urlencoded")


def ask_json(address: str, method: str, path: str, question: Mapping[str, Any] | None = None) -> Any:
    """Asks with JSON and reads JSON; as `ask`."""
    body = json.dumps(question).encode() if question is not None else None
    return json.loads(ask(address, method, path, body, "application/json" if body else "") or b"null")


def metric(address: str, name: str, label: str = "") -> float:
    """The sum of a Prometheus metric over its series; 0 if there are none. As `ask`.

    Args:
        address: Of the server, which has them under `/metrics`.
        name: The metric's name.
        label: Text that must stand among a series' labels: `type="storage/inmemory"`.
    """
    text = ask(address, "GET", "/metrics").decode()
    series = re.findall(rf"^{re.escape(name)}(\{{[^}}]*\}})? (\S+)", text, re.M)
    return sum(float(value) for labels, value in series if label in labels)


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Returns once the condition holds, or after so many seconds without it."""
    ends = time.monotonic() + seconds
    while not condition() and time.monotonic() < ends:
        time.sleep(_POLL_SECONDS)
