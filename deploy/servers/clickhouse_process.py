"""Becomes a ClickHouse server: `python clickhouse_process.py LIBRARY ARGUMENT…`.

The library holds all of ClickHouse behind one call, that of `clickhouse-local`, which can serve, too.
"""

from __future__ import annotations

import ctypes
import signal
import sys


def main(library: str, *arguments: str) -> int:
    """Runs ClickHouse with these arguments and returns its exit code."""
    # Python would only note the signal, and act on it when the library returns, which it does not.
    for ends in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ends, signal.SIG_DFL)
    run = ctypes.CDLL(library).chdb_query_cmdline
    words = [b"clickhouse-local", *(argument.encode() for argument in arguments)]
    return int(run(len(words), (ctypes.c_char_p * (len(words) + 1))(*words, None)))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
