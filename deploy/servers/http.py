"""The few HTTP requests that say whether a server answers; the machine's proxy settings do not matter to them."""

from __future__ import annotations

import http.client

_TIMEOUT_SECONDS = 3.0


def get(address: str, path: str) -> tuple[int, bytes]:
    """Asks a server at `host:port`.

    Returns:
        The status and the body.

    Raises:
        OSError: It does not answer; `http.client` errors are turned into this.
    """
    connection = http.client.HTTPConnection(address, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    except http.client.HTTPException as error:
        raise OSError(f"{address} answered with something else than HTTP.") from error
    finally:
        connection.close()
