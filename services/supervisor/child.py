"""Becomes a child of the supervisor: `python -I -S child.py PARENT DEATH_SIGNAL USER [WAITS] -- COMMAND…`, then exec.

WAITS is the descriptor of a pipe out of which it reads one byte before: where that ends without one, so does it.

It runs between fork and exec as a program of its own, because Python code may not run safely in a forked process
that has threads. It imports nothing of the project and so starts in some 20 ms.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import sys

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAPABILITY_VERSION = 0x20080522
CAP_DAC_OVERRIDE = 1

libc = ctypes.CDLL(None, use_errno=True)


class CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class CapabilitySets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def become(user: str) -> None:
    """Takes another user's identity, but keeps root's way through folders that only root may enter.

    Without the latter a data folder below root's home would be out of reach. Where the kernel refuses it, the
    program finds out itself and says which folder it cannot enter.
    """
    entry = pwd.getpwnam(user)
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setuid(entry.pw_uid)
    bit = 1 << CAP_DAC_OVERRIDE
    header = CapabilityHeader(CAPABILITY_VERSION, 0)
    sets = (CapabilitySets * 2)(CapabilitySets(bit, bit, bit), CapabilitySets(0, 0, 0))
    if libc.capset(ctypes.byref(header), ctypes.byref(sets)) == 0:
        libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)


def main(parent: str, death_signal: str, user: str, *rest: str) -> None:
    waits, command = rest[: rest.index("--")], rest[rest.index("--") + 1 :]
    if user:
        become(user)
    # After the change of user, which clears it.
    if libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != int(parent):
        # The supervisor died before the kernel knew that we want to be told.
        sys.exit(1)
    for descriptor in map(int, waits):
        if not os.read(descriptor, 1):
            sys.exit(1)
        os.close(descriptor)
    # Python ignores these; a program expects them as they were.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main(*sys.argv[1:])
