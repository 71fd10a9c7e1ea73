"""Landlock: what may be read and written, enforced by the kernel for the process itself.

Behind the namespaces it is a second wall, should a mount ever show more than it should. In the tier without namespaces
it is the wall.
"""

from __future__ import annotations

import os
import struct

from . import kernel

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
_VERSION = 1  # flag: ask for the ABI version
_PATH_BENEATH = 1
_FILE_RIGHTS_BITS = {1: 13, 2: 14, 3: 15, 4: 15}  # ABI -> number of rights; 16 from 5 on
_BOTH_TCP_RIGHTS = 3  # bind, connect; no rule allows any port
_BOTH_SCOPES = 3  # abstract unix sockets and signals stay within the session


def abi() -> int:
    """The kernel's Landlock version; 0: it has none."""
    try:
        return kernel.syscall("landlock", kernel.SYS_LANDLOCK_CREATE_RULESET, None, 0, _VERSION)
    except OSError:
        return 0


def restrict(*, read: list[str], write: list[str], names: list[str] | None = None) -> int:
    """Allow reading below `read` and everything but execution below `write`; refuse the rest, and all TCP.

    Args:
        read: files, and folders with all below.
        write: the same.
        names: folders below which the names of files may be listed.

    Returns:
        The ABI version that holds; 0 if the kernel has no Landlock and nothing was restricted.
    """
    version = abi()
    if version < 1:
        return 0
    rights = (1 << _FILE_RIGHTS_BITS.get(version, 16)) - 1
    net = _BOTH_TCP_RIGHTS if version >= 4 else 0
    scopes = _BOTH_SCOPES if version >= 6 else 0
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    attributes = struct.pack("QQQ", rights, net, scopes)
    ruleset = kernel.syscall("landlock ruleset", kernel.SYS_LANDLOCK_CREATE_RULESET, attributes, size, 0)
    for path in read:
        _allow(ruleset, path, READ_FILE | READ_DIR)
    for path in names or ():
        _allow(ruleset, path, READ_DIR)
    for path in write:
        _allow(ruleset, path, rights & ~EXECUTE)
    kernel.syscall("landlock restrict", kernel.SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
    return version


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        target = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    if not os.path.isdir(path):
        rights &= WRITE_FILE | READ_FILE
    rule = struct.pack("=Qi", rights, target)
    kernel.syscall(f"landlock {path}", kernel.SYS_LANDLOCK_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
    os.close(target)
