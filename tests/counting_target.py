"""A target of the benchmarks that counts requests, and keeps the count on disk or not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.payloads import ITEMS
from bench.peers.ask import ask
from bench.target import Endpoint

# Counts requests: in a file, or only in memory.
SERVER = """
import http.server, os, pathlib, sys, threading
file, durable = pathlib.Path(sys.argv[1]), sys.argv[2] == "durable"
count, lock = [len(file.read_bytes()) if file.exists() else 0], threading.Lock()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        with lock:
            count[0] += 1
            if durable:
                with file.open("ab") as opened:
                    opened.write(b".")
        self.answer(b"")
    def do_GET(self):
        self.answer(str(count[0]).encode())
    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): ...
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


class CountingTarget:
    """A target that stores how many requests came."""

    name = "counter"
    signals = frozenset({"traces"})
    stores = True

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.starts = 0
        self._process: subprocess.Popen[str] | None = None
        self._address = ""

    def start(self, directory: Path) -> None:
        command = [sys.executable, "-c", SERVER, str(directory / "requests"), self.kind]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._address = f"127.0.0.1:{self._process.stdout.readline().strip()}"
        self.starts += 1

    def endpoint(self, signal: str) -> Endpoint:
        return Endpoint("http", self._address, "/")

    def pids(self) -> list[int]:
        return [self._process.pid] if self._process else []

    def stored(self, signal: str) -> int:
        return int(ask(self._address, "GET", "/")) * ITEMS[signal]

    def disk_bytes(self) -> int:
        return 0

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
