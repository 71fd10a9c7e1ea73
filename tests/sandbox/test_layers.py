"""Every layer holds something back by itself: with it left out, a snippet does what it cannot do with it.

A layer behind another shows only where that other is left out too.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from wherry.errors import SandboxError, SandboxUnavailable
from wherry.messages import JSON
from wherry.sandbox import SandboxLimits, Session, cgroups
from wherry.sandbox.jail import JailSandbox

LIMITS = SandboxLimits(
    wall_seconds=20, cpu_seconds=1, memory_bytes=256 << 20, threads=8, inodes=64, disk_bytes=8 << 20, descriptors=32
)
NETLINK = "import socket\nsocket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()\nTrue"
ROOT = "import os\nbool(os.listdir('/'))"
HOST_FILE = "len(open('/etc/passwd').read()) > 0"
MEMORY = "len(bytearray(300 << 20)) > 0"
TOUCHED = "len(b'x' * (400 << 20)) > 0"
SPARSE = "import os\nopen('f', 'w').close()\nos.truncate('f', 1 << 30)\nTrue"
FILES = "for i in range(100): open(str(i), 'w').close()\nTrue"
DISK = "for i in range(3): open(str(i), 'wb').write(bytes(4 << 20))\nTrue"
OPEN = "import os\nheld = [os.dup(0) for _ in range(64)]\nTrue"
BURN = "import time\nwhile time.process_time() < 1.5: pass\nTrue"
LIBC = "import ctypes\nlibc = ctypes.CDLL(None)\n"
MOUNT = LIBC + "libc.mount(b'tmpfs', b'/work', b'tmpfs', 0, None) == 0 or None"
LOCK = LIBC + "block = ctypes.create_string_buffer(1 << 16)\nlibc.mlock(block, 1 << 16) == 0 or None"
QUEUE = "import ctypes\nctypes.CDLL('librt.so.1').mq_open(b'/q', 0o102, 0o600, None) >= 0 or None"  # O_CREAT | O_RDWR
SIGNALS = """
import ctypes, os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
sent = [ctypes.CDLL(None).sigqueue(os.getpid(), signal.SIGRTMIN, None) for _ in range(200)]
sum(sent) == 0 or None
"""
THREADS = """
import threading
gate = threading.Event()
try:
    for _ in range(12): threading.Thread(target=gate.wait, daemon=True).start()
finally:
    gate.set()
True
"""
CHMOD = "import os\nopen('f', 'w').close()\nos.chmod('f', 0o777)\nTrue"
FOREIGN = """
import os
files = (os.path.join(at, name) for at, _, names in os.walk(os.path.dirname(os.__file__) + '/site-packages')
         for name in names if name.endswith('.py'))
open(next(files), 'rb').close()
True
"""


async def no_tool(*_: object) -> None:
    return None


@asynccontextmanager
async def jail(tier: str, *without: str) -> AsyncGenerator[JailSandbox]:
    sandbox = JailSandbox(tier, LIMITS, reserve=0, without=without)
    try:
        await anyio.to_thread.run_sync(sandbox.wait_until_up)
        yield sandbox
    except SandboxUnavailable as error:
        pytest.skip(error.message)
    finally:
        await sandbox.close()


async def value(session: Session, code: str) -> JSON:
    """None if it failed."""
    return (await session.run(code, call_tool=no_tool)).value


def ask(code: str, *without: str, tier: str = "namespaces") -> JSON:
    async def main() -> JSON:
        async with jail(tier, *without) as sandbox:
            return await value(await sandbox.open(tools=[]), code)

    return anyio.run(main)


def ask_two(first: str, second: Callable[[JSON], str], *without: str, tier: str = "namespaces") -> tuple[JSON, bool]:
    """What the second session gets from its code, which is made of the first one's value; whether the first lives."""

    async def main() -> tuple[JSON, bool]:
        async with jail(tier, *without) as sandbox:
            one, two = await sandbox.open(tools=[]), await sandbox.open(tools=[])
            got = await value(two, second(await value(one, first)))
            return got, (await one.run("1", call_tool=no_tool)).ok

    return anyio.run(main)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layer", "code", "others"),
    [
        ("seccomp", NETLINK, ()),
        ("landlock", ROOT, ()),
        ("root", HOST_FILE, ("landlock",)),
        ("memory", MEMORY, ("groups",)),
        ("cpu", BURN, ()),
        ("file-size", SPARSE, ()),
        ("inodes", FILES, ()),
        ("disk", DISK, ()),
        ("threads", THREADS, ("groups",)),
        ("descriptors", OPEN, ()),
        ("locked-memory", LOCK, ("seccomp",)),
        ("queues", QUEUE, ("seccomp", "landlock")),
        ("signals", SIGNALS, ("seccomp",)),
        ("capabilities", MOUNT, ("seccomp", "landlock")),
    ],
)
def test_layer_holds_back_what_no_other_does(layer: str, code: str, others: tuple[str, ...]) -> None:
    assert ask(code, *others) is None
    assert ask(code, *others, layer) is True


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layer", "code", "others"),
    [
        ("seccomp", CHMOD, ()),
        ("landlock", HOST_FILE, ("launcher-wall",)),
        ("inodes", FILES, ()),
        ("disk", DISK, ()),
        ("threads", THREADS, ("groups",)),
        ("memory", MEMORY, ("groups",)),
    ],
)
def test_layer_of_the_tier_landlock_holds_back_what_no_other_does(
    layer: str, code: str, others: tuple[str, ...]
) -> None:
    assert ask(code, *others, tier="landlock") is None
    assert ask(code, *others, layer, tier="landlock") is True


def test_wall_around_the_launcher_keeps_the_packages_of_others_out() -> None:
    if ask(FOREIGN, "landlock", "launcher-wall", tier="landlock") is not True:
        pytest.skip("nothing is installed beside this interpreter's standard library")
    assert ask(FOREIGN, tier="landlock") is None
    assert ask(FOREIGN, "landlock", tier="landlock") is None
    assert ask(FOREIGN, "launcher-wall", tier="landlock") is True


def test_wall_around_a_session_keeps_it_out_of_the_others() -> None:
    write = "import os\nopen('mine', 'w').write('secret')\nos.path.abspath('mine')"

    def read(path: JSON) -> str:
        return f"open({path!r}).read()"

    assert ask_two(write, read, tier="landlock") == (None, True)
    assert ask_two(write, read, "landlock", tier="landlock") == ("secret", True)


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


def test_process_namespace_of_its_own_keeps_a_session_from_ending_others() -> None:
    def kill(_: JSON) -> str:
        return "import os\nfor pid in range(2, 400):\n    try: os.kill(pid, 9)\n    except OSError: pass"

    # Landlock keeps signals in since its version 6, so it is left out.
    assert ask_two("1", kill, "landlock")[1] is True
    assert ask_two("1", kill, "landlock", "pid")[1] is False


def test_queues_of_its_own_are_what_keeps_sessions_from_talking() -> None:
    make = LIBC + "libc.msgget(77, 0o1600) >= 0"  # IPC_CREAT

    def find(_: JSON) -> str:
        return LIBC + "libc.msgget(77, 0) >= 0"

    assert ask_two(make, find, "seccomp") == (False, True)
    assert ask_two(make, find, "seccomp", "ipc") == (True, True)


def test_undumpable_memory_is_not_read_by_a_process_of_the_same_user() -> None:
    keep = LIBC + "import os\nkept = ctypes.create_string_buffer(b'secret')\n[os.getpid(), ctypes.addressof(kept)]"

    def read(where: JSON) -> str:
        return f"""
import ctypes
pid, address = {where!r}
class Piece(ctypes.Structure):
    _fields_ = [('base', ctypes.c_void_p), ('size', ctypes.c_size_t)]
block = ctypes.create_string_buffer(6)
got = ctypes.CDLL(None).process_vm_readv(
    pid, ctypes.byref(Piece(ctypes.addressof(block), 6)), 1, ctypes.byref(Piece(address, 6)), 1, 0)
block.raw.decode() if got == 6 else None
"""

    def ask_here(*without: str) -> tuple[JSON, bool]:
        # The tier with namespaces has user namespaces in between as well.
        return ask_two(keep, read, "seccomp", "landlock", "launcher-wall", *without, tier="landlock")

    if ask_here("dumpable") == (None, True):
        pytest.skip("something else of this machine keeps processes from reading each other (Yama)")
    assert ask_here("dumpable") == ("secret", True)
    assert ask_here() == (None, True)


def test_without_no_new_privs_no_session_comes_to_be() -> None:
    """The kernel takes filters from the unprivileged only with it: it is what the others stand on."""
    with pytest.raises(SandboxError):
        ask("1", "no-new-privileges")
    assert ask("1", "no-new-privileges", "seccomp", "landlock") == 1


def test_name_of_the_host_is_not_told() -> None:
    code = "import socket\nsocket.gethostname()"
    assert ask(code) == "sandbox"
    assert ask(code, "host-name") == socket.gethostname()


@pytest.mark.skipif(os.geteuid() != 0, reason="only for a host that runs as root does the jail change its user")
def test_change_of_user_is_what_makes_the_limit_of_threads_hold_for_root() -> None:
    assert ask(THREADS, "groups") is None
    assert ask(THREADS, "groups", "user") is True


@pytest.mark.slow
@pytest.mark.parametrize("tier", ["namespaces", "landlock"])
@pytest.mark.parametrize(("layer", "code"), [("memory", TOUCHED), ("threads", THREADS)])
def test_control_groups_hold_where_the_limits_of_the_process_do_not(tier: str, layer: str, code: str) -> None:
    if cgroups.find() is None:
        pytest.skip("no control groups can be made here")
    assert ask(code, layer, tier=tier) is None
    assert ask(code, layer, "groups", tier=tier) is True


def test_environment_and_descriptors_of_the_host_are_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "1")
    with open(tmp_path / "file", "w") as file:
        os.set_inheritable(file.fileno(), True)
        seen = ask(
            "import os, ctypes\nopen_ones = []\nfor n in range(32):\n    try: os.fstat(n); open_ones.append(n)\n"
            "    except OSError: pass\nctypes.CDLL(None).getenv(b'SECRET_OF_THE_HOST') or len(open_ones)"
        )
    assert seen == 4  # the three standard ones on /dev/null, and the socket
