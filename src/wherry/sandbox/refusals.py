"""Answering the system calls that the kernel asks the host about, where it asks at all.

Most are refused: the host writes them down and says no. In the tier `landlock` some are measured, and may go on.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import signal
import struct

from .links import Link
from .metering import Meter

_RECEIVE = 0xC0502100  # SECCOMP_IOCTL_NOTIF_RECV
_SEND = 0xC0182101  # SECCOMP_IOCTL_NOTIF_SEND
_NOTIFICATION = struct.Struct("QIIiIQ6Q")
_ANSWER = struct.Struct("QqiI")
_CONTINUE = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE


def answer(listener: int, link: Link, names: dict[int, str], meter: Meter | None) -> None:
    """Answer one call. If the caller died meanwhile there is nothing to answer."""
    request = bytearray(_NOTIFICATION.size)
    with contextlib.suppress(OSError):
        fcntl.ioctl(listener, _RECEIVE, request)
        number, thread, _flags, call, _arch, _ip, *args = _NOTIFICATION.unpack(request)
        name = names.get(call, f"system call {call}")
        # Safe only since what is judged is in registers. Memory could be changed between the answer and the call.
        if meter is not None and meter.measures(name, args):
            refused = meter.judge(name, args, thread)
            if refused:
                link.refusals.denied += 1
        else:
            refused = errno.EPERM
            shown = ", ".join(hex(a) if a > 0xFFFF else str(a) for a in args[:3])
            link.refusals.add(f"{name}({shown})")  # before the answer: none is missed
        if link.refusals.flooded:
            link.signal(signal.SIGKILL)
        fcntl.ioctl(listener, _SEND, bytearray(_ANSWER.pack(number, 0, -refused, 0 if refused else _CONTINUE)))
