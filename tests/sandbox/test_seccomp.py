"""The filter as it was compiled, run by the rules of BPF: what it says of a call, on both architectures."""

from __future__ import annotations

import errno
import struct
import sys
from typing import Literal

import pytest

from wherry.errors import SandboxUnavailable
from wherry.sandbox import syscalls
from wherry.sandbox.seccomp import SeccompProgram, compile_filter

ALLOW, ASK, KILL, ERRNO = 0x7FFF0000, 0x7FC00000, 0x80000000, 0x00050000
MACHINES: dict[str, int] = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_*
Tier = Literal["namespaces", "landlock"]


def say(program: SeccompProgram, machine: int, number: int, args: tuple[int, ...] = ()) -> int:
    """What the kernel would do: `linux/filter.h`, the part of it that libseccomp writes."""
    given = [*args, *[0] * (6 - len(args))]
    data = struct.pack("<iIQ6Q", number, machine, 0, *(value & 0xFFFF_FFFF_FFFF_FFFF for value in given))
    accumulator, at = 0, 0
    while True:
        code, true, false, k = struct.unpack_from("<HBBI", program.code, at * 8)
        at += 1
        match code:
            case 0x20:  # load a word
                (accumulator,) = struct.unpack_from("<I", data, k)
            case 0x54:  # and
                accumulator &= k
            case 0x05:  # jump
                at += k
            case 0x15 | 0x25 | 0x35 | 0x45:  # jump if equal, greater, greater or equal, any bit
                truth = {0x15: accumulator == k, 0x25: accumulator > k, 0x35: accumulator >= k}
                at += true if truth.get(code, bool(accumulator & k)) else false
            case 0x06:  # return
                return k
            case _:
                raise AssertionError(f"an instruction that this reader does not know: {code:#x}")


class Filter:
    def __init__(self, tier: Tier, architecture: str) -> None:
        try:
            self.program = compile_filter(namespaces=tier == "namespaces", architecture=architecture)
        except SandboxUnavailable as error:
            pytest.skip(error.message)
        self.machine = MACHINES[architecture]
        self.numbers = {name: number for number, name in self.program.names.items()}

    def __call__(self, name: str, *args: int) -> int:
        return say(self.program, self.machine, self.numbers[name], args)


@pytest.fixture(params=["x86_64", "aarch64"])
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("tier", ["namespaces", "landlock"])
def test_every_call_is_judged_as_the_lists_say(tier: Tier, architecture: str) -> None:
    judge = Filter(tier, architecture)
    allowed = {*syscalls.ALLOWED, *(syscalls.WITH_NAMESPACES if tier == "namespaces" else ())}
    by_arguments = {"ioctl", "fcntl", "prlimit64", "prctl", "socketpair", "clone", "open", "openat", "mmap"} - allowed
    silent = dict.fromkeys(syscalls.IN_VAIN, errno.EPERM)
    silent |= dict.fromkeys(syscalls.NOT_SUPPORTED, errno.EOPNOTSUPP) | {"clone3": errno.ENOSYS}
    if tier == "landlock":
        silent |= dict.fromkeys(syscalls.ABSENT_WITHOUT_NAMESPACES, errno.ENOSYS)
    for number, name in judge.program.names.items():
        if name in by_arguments:
            continue
        expected = ALLOW if name in allowed else ERRNO | silent[name] if name in silent else ASK
        assert say(judge.program, judge.machine, number) == expected, name
    missing = allowed - judge.numbers.keys()
    assert not missing if architecture == "x86_64" else "openat" not in missing


@pytest.mark.parametrize("tier", ["namespaces", "landlock"])
def test_names_are_known_to_the_newer_architecture_too(tier: Tier) -> None:
    """What aarch64 has not are calls that others replaced there."""
    ours = Filter(tier, "aarch64").numbers
    old = """
        open creat access stat lstat readlink mkdir rmdir unlink rename link symlink chmod pipe dup2 poll select
        epoll_wait alarm pause time getrlimit getpgrp sendfile
    """.split()  # noqa: SIM905
    known = [*syscalls.ALLOWED, *syscalls.WITH_NAMESPACES, *syscalls.ARGUMENT_OF_SIZE, *syscalls.CREATING]
    assert [name for name in known if name not in ours and name not in old] == []


@pytest.mark.parametrize("tier", ["namespaces", "landlock"])
def test_calls_of_another_architecture_kill(tier: Tier, architecture: str) -> None:
    judge = Filter(tier, architecture)
    assert say(judge.program, 0x40000003, 1) == KILL  # 32 bit
    if architecture == "x86_64":
        assert say(judge.program, judge.machine, 0x40000000 | 41) == KILL  # x32


@pytest.mark.parametrize("tier", ["namespaces", "landlock"])
def test_arguments_decide_where_a_name_is_not_enough(tier: Tier, architecture: str) -> None:
    judge = Filter(tier, architecture)
    assert judge("ioctl", 1, 0x5401) == ALLOW
    assert judge("ioctl", 0, 0x5412) == ASK  # TIOCSTI
    assert judge("ioctl", 0, 0x5412 | 1 << 32) == ASK
    assert judge("fcntl", 1, 3) == ALLOW
    assert judge("fcntl", 1, 1031) == ASK  # F_SETPIPE_SZ
    assert judge("prlimit64", 0, 7, 0) == ALLOW
    assert judge("prlimit64", 0, 7, 4096) == ASK
    assert judge("prlimit64", 1, 7, 0) == ASK
    assert judge("prctl", 15) == ALLOW
    assert judge("prctl", 4, 1) == ASK  # PR_SET_DUMPABLE
    assert judge("socketpair", 1, 1 | 0o2000000) == ALLOW
    assert judge("socketpair", 1, 2) == ASK  # datagrams
    assert judge("socketpair", 16, 1) == ASK  # netlink


@pytest.mark.parametrize("tier", ["namespaces", "landlock"])
def test_threads_may_be_made_and_nothing_else(tier: Tier, architecture: str) -> None:
    judge = Filter(tier, architecture)
    thread = 0x3D0F00  # as the C library's pthread_create has it
    assert judge("clone", thread) == (ALLOW if tier == "namespaces" else ASK)
    assert judge("clone", 17) == ASK  # fork
    for namespace in (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000, 0x80):
        assert judge("clone", thread | namespace) == ASK
    assert judge("clone3", 0x1000, 88) == ERRNO | errno.ENOSYS


def test_in_the_tier_landlock_the_host_is_asked_about_all_that_takes_space(architecture: str) -> None:
    judge = Filter("landlock", architecture)
    create, truncate, temporary, directory = 0o100, 0o1000, 0o20000000, 0o200000
    for flags, verdict in (
        (0, ALLOW),
        (1 | truncate, ALLOW),
        (1 | create, ASK),
        (create | 1 << 40, ASK),
        (temporary | directory | 1, ASK),
        (temporary | create, ASK),
    ):
        assert judge("openat", 5, 0, flags) == verdict
        if "open" in judge.numbers:
            assert judge("open", 0, flags) == verdict
    shared, private, anonymous = 1, 2, 0x20
    assert judge("mmap", 0, 4096, 3, private) == ALLOW
    assert judge("mmap", 0, 4096, 3, private | anonymous) == ALLOW
    assert judge("mmap", 0, 4096, 3, shared | anonymous) == ALLOW
    assert judge("mmap", 0, 4096, 1, shared) == ASK
    assert judge("mmap", 0, 4096, 1, shared | private) == ASK  # MAP_SHARED_VALIDATE
    for name in ("write", "pwrite64", "ftruncate", "fallocate", "mkdirat", "linkat", "symlinkat"):
        assert judge(name, 4, 0, 1, 1) == ASK
    for name in ("kill", "tgkill", "fchmod", "fchmodat", "fchownat", "utimensat"):
        assert judge(name) == ASK


def test_without_libseccomp_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    compile_filter.cache_clear()
    monkeypatch.setitem(sys.modules, "pyseccomp", None)
    with pytest.raises(SandboxUnavailable, match="system call filter cannot be built") as failed:
        compile_filter(namespaces=True)
    assert failed.value.hint is not None
    assert "libseccomp2" in failed.value.hint
