"""Answering refused system calls: the kernel asks the host, the host writes the call down and says no."""

from __future__ import annotations

import contextlib
import fcntl
import signal
import struct

from .links import Link

_RECEIVE = 0xC0502100  # SECCOMP_IOCTL_NOTIF_RECV
_SEND = 0xC0182101  # SECCOMP_IOCTL_NOTIF_SEND
_NOTIFICATION = struct.Struct("QIIiIQ6Q")
_ANSWER = struct.Struct("QqiI")
_MINUS_EPERM = -1


def answer(listener: int, link: Link, names: dict[int, str]) -> None:
    """Refuse one call. If the caller died meanwhile there is nothing to answer."""
    request = bytearray(_NOTIFICATION.size)
    with contextlib.suppress(OSError):
        fcntl.ioctl(listener, _RECEIVE, request)
        number, _pid, _flags, call, _arch, _ip, *args = _NOTIFICATION.unpack(request)
        shown = ", ".join(hex(a) if a > 0xFFFF else str(a) for a in args[:3])
        link.refusals.add(f"{names.get(call, f'system call {call}')}({shown})")  # before the answer: none is missed
        if link.refusals.flooded:
            link.signal(signal.SIGKILL)
        fcntl.ioctl(listener, _SEND, bytearray(_ANSWER.pack(number, 0, _MINUS_EPERM, 0)))
