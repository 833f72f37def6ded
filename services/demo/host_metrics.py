"""The metrics of the machine itself, under OpenTelemetry's names: `python -m services.demo.host_metrics`."""

from __future__ import annotations

import argparse
import os
import signal
import socket
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import psutil
from opentelemetry.metrics import CallbackOptions, Meter, Observation

from services.demo.telemetry import Exports, endpoint

Read = Callable[[], Iterable[Observation]]

_ENDING = (signal.SIGTERM, signal.SIGINT)
_MEMORY_STATES = ("used", "free", "cached", "buffers")
_BLOCK_DEVICES = Path("/sys/block")
_NO_DISKS = ("loop", "ram", "zram")
# Containers come and go, and their ends of a pair with them: each would stay as a series for ever.
_SHORT_LIVED_INTERFACES = ("veth",)


def register(meter: Meter) -> None:
    """Makes the instruments, which read the machine whenever they are collected."""
    meter.create_observable_gauge("system.cpu.utilization", [_callback(_Cpu().read)], "1", "Share of time by state")
    meter.create_observable_gauge("system.cpu.load_average.1m", [_callback(_load)], "{thread}", "Mean run queue")
    meter.create_observable_up_down_counter("system.memory.usage", [_callback(_memory)], "By", "Memory by state")
    meter.create_observable_counter("system.disk.io", [_callback(_disk)], "By", "Bytes read and written")
    meter.create_observable_counter("system.network.io", [_callback(_network)], "By", "Bytes sent and received")
    meter.create_observable_gauge("system.filesystem.utilization", [_callback(_filesystems)], "1", "Share in use")
    meter.create_observable_up_down_counter("system.process.count", [_callback(_processes)], "{process}", "Processes")


def _callback(read: Read) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _: read()


class _Cpu:
    """The share of time that each CPU spent in each state since it was last asked."""

    def __init__(self) -> None:
        self._before = self._times()

    def read(self) -> Iterator[Observation]:
        now = self._times()
        before, self._before = self._before, now
        for number, (old, new) in enumerate(zip(before, now, strict=False)):
            # The kernel's own counts of waiting are known to step back.
            spent = {state: max(0.0, seconds - old[state]) for state, seconds in new.items()}
            # Asked twice within a tick, nobody spent anything: that is not a share of zero.
            if total := sum(spent.values()):
                for state, seconds in spent.items():
                    yield Observation(seconds / total, {"cpu": f"cpu{number}", "state": state})

    @staticmethod
    def _times() -> list[dict[str, float]]:
        # Guests are counted within user and nice already.
        return [
            {state: seconds for state, seconds in times._asdict().items() if not state.startswith("guest")}
            for times in psutil.cpu_times(percpu=True)
        ]


def _load() -> Iterator[Observation]:
    yield Observation(os.getloadavg()[0])


def _memory() -> Iterator[Observation]:
    memory = psutil.virtual_memory()._asdict()
    for state in _MEMORY_STATES:
        if state in memory:
            yield Observation(memory[state], {"state": state})


def _disk() -> Iterator[Observation]:
    for device, counted in (psutil.disk_io_counters(perdisk=True) or {}).items():
        # A partition's bytes are its disk's bytes too.
        is_part = _BLOCK_DEVICES.is_dir() and not (_BLOCK_DEVICES / device.replace("/", "!")).exists()
        if not is_part and not device.startswith(_NO_DISKS):
            yield Observation(counted.read_bytes, {"device": device, "direction": "read"})
            yield Observation(counted.write_bytes, {"device": device, "direction": "write"})


def _network() -> Iterator[Observation]:
    for device, counted in psutil.net_io_counters(pernic=True).items():
        if not device.startswith(_SHORT_LIVED_INTERFACES):
            yield Observation(counted.bytes_sent, {"device": device, "direction": "transmit"})
            yield Observation(counted.bytes_recv, {"device": device, "direction": "receive"})


def _filesystems() -> Iterator[Observation]:
    # The root of a container is an overlay, which does not count as a disk.
    mounts = {"/": "/"}
    for partition in psutil.disk_partitions(all=False):
        if Path(partition.mountpoint).is_dir():
            mounts.setdefault(partition.mountpoint, partition.device)
    for mountpoint, device in mounts.items():
        try:
            percent = psutil.disk_usage(mountpoint).percent
        except OSError:
            # Unmounted since it was listed, or not ours to look at.
            continue
        yield Observation(percent / 100, {"mountpoint": mountpoint, "device": device})


def _processes() -> Iterator[Observation]:
    yield Observation(len(psutil.pids()))


def main() -> None:
    """Reports until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m services.demo.host_metrics", description=__doc__)
    parser.add_argument("--interval", type=float, default=5.0, help="seconds between reports (default: %(default)s)")
    interval = parser.parse_args().interval
    if not interval > 0:
        parser.error("--interval must be positive")
    receiver = endpoint()
    # Before any other thread begins: a signal that one of gRPC's gets would not wake this one.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    exports = Exports(receiver, interval)
    register(exports.service("host", {"host.name": socket.gethostname()}).meter)
    print(f"reporting this machine to {receiver} every {interval:g} s", flush=True)
    signal.sigwait(_ENDING)
    exports.stop()


if __name__ == "__main__":
    main()
