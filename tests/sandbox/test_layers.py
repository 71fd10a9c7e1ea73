"""Every layer holds something back by itself: with it left out, a snippet does what it cannot do with it.

A layer behind another shows only where that other is left out too.
"""

from __future__ import annotations

import os
import socket

import anyio
import pytest

from wherry.errors import SandboxUnavailable
from wherry.messages import JSON
from wherry.sandbox import SandboxLimits
from wherry.sandbox.jail import JailSandbox

LIMITS = SandboxLimits(wall_seconds=5, memory_bytes=256 << 20, threads=8, inodes=64, disk_bytes=8 << 20)
NETLINK = "import socket\nsocket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()\nTrue"
ROOT = "import os\nbool(os.listdir('/'))"
MEMORY = "len(bytearray(300 << 20)) > 0"
SPARSE = "import os\nopen('f', 'w').close()\nos.truncate('f', 1 << 30)\nTrue"
FILES = "for i in range(100): open(str(i), 'w').close()\nTrue"
DISK = "for i in range(3): open(str(i), 'wb').write(bytes(4 << 20))\nTrue"
SEND = "sock.sendto(b'!', ('127.0.0.1', %d)) > 0"
MOUNT = "import ctypes\nctypes.CDLL(None).mount(b'tmpfs', b'/work', b'tmpfs', 0, None) == 0 or None"
THREADS = """
import threading
gate = threading.Event()
try:
    for _ in range(12): threading.Thread(target=gate.wait, daemon=True).start()
finally:
    gate.set()
True
"""


async def _ask(code: str, without: tuple[str, ...]) -> JSON:
    """The snippet's value; None if it failed."""

    async def no_tool(*_: object) -> None:
        return None

    sandbox = JailSandbox("namespaces", LIMITS, reserve=0, without=without)
    try:
        await anyio.to_thread.run_sync(sandbox.wait_until_up)
        session = await sandbox.open(tools=[])
        return (await session.run(code, call_tool=no_tool)).value
    except SandboxUnavailable as error:
        pytest.skip(error.message)
    finally:
        await sandbox.close()


def ask(code: str, *without: str) -> JSON:
    return anyio.run(_ask, code, without)


@pytest.mark.parametrize(
    ("layer", "code", "others"),
    [
        ("seccomp", NETLINK, ()),
        ("landlock", ROOT, ()),
        ("memory", MEMORY, ()),
        ("file-size", SPARSE, ()),
        ("inodes", FILES, ()),
        ("disk", DISK, ()),
        ("threads", THREADS, ()),
        ("capabilities", MOUNT, ("seccomp", "landlock")),
    ],
)
def test_layer_holds_back_what_no_other_does(layer: str, code: str, others: tuple[str, ...]) -> None:
    assert ask(code, *others) is None
    assert ask(code, *others, layer) is True


def test_network_namespace_holds_where_the_filter_does_not() -> None:
    """Datagrams: Landlock knows nothing of them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
        here.bind(("127.0.0.1", 0))
        here.settimeout(5)
        port = here.getsockname()[1]
        code = (
            f"import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'!', ('127.0.0.1', {port})) > 0"
        )
        assert ask(code, "seccomp") is None
        assert ask(code, "seccomp", "network") is True
        assert here.recv(8) == b"!"


@pytest.mark.skipif(os.geteuid() != 0, reason="only for a host that runs as root does the jail change its user")
def test_change_of_user_is_what_makes_the_limit_of_threads_hold_for_root() -> None:
    assert ask(THREADS) is None
    assert ask(THREADS, "user") is True
