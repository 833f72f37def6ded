"""The account of servers that refuse to run as root."""

from __future__ import annotations

import functools
import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from deploy.servers.errors import ServerError

_ACCOUNT = "nobody"


def unprivileged(data: Path, arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """How to run a program that refuses to be root.

    Where the kernel lets us, it runs in a user namespace, in which root is called nobody: it may enter all folders
    that we may. Else it runs as nobody, owns its data, and needs folders on the way to it that all may enter.

    Args:
        data: Its data folder, as far as it is there.
        arguments: The program's path and its arguments.

    Returns:
        The arguments to run, and the system user to run them as; None: ourselves.

    Raises:
        ServerError: There is no such user.
    """
    if os.geteuid() != 0:
        return list(arguments), None
    try:
        entry = pwd.getpwnam(_ACCOUNT)
    except KeyError as error:
        raise ServerError(f"This server refuses to run as root, and there is no user {_ACCOUNT}.") from error
    if (namespace := _namespace(entry.pw_uid, entry.pw_gid)) is not None:
        return [*namespace, *arguments], None
    for path in (data, *data.rglob("*")):
        os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)
    return list(arguments), _ACCOUNT


@functools.cache
def _namespace(user: int, group: int) -> tuple[str, ...] | None:
    unshare = shutil.which("unshare")
    if unshare is None:
        return None
    command = (unshare, "--user", f"--map-user={user}", f"--map-group={group}", "--")
    works = subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0  # noqa: S603
    return command if works else None
