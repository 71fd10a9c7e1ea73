"""The system call filter: what ordinary Python needs, and nothing else.

Namespaces and Landlock leave gaps (netlink, vsock, io_uring, keyrings, user faults, new namespaces, memfd); the filter
is what closes them. Compiled here, in the host, by libseccomp; the session only installs the program.
"""

from __future__ import annotations

import errno
import functools
import tempfile
from dataclasses import dataclass
from types import ModuleType

from wherry.errors import SandboxUnavailable

from . import syscalls

_HIGHEST = 600
"""No architecture has a higher number yet (2026: 470)."""
_BINARY_TREE = 2
"""How libseccomp is to order the rules. The kernel runs the filter for every number there is when a session installs
it, to learn which calls are always allowed: a chain of comparisons costs half a millisecond there."""


@dataclass(frozen=True, slots=True)
class SeccompProgram:
    """A compiled filter."""

    code: bytes
    """BPF, eight bytes an instruction."""
    names: dict[int, str]
    """Number -> name of every call that there is here, for telling which were refused."""
    numbers: dict[str, int]
    """Of the calls that the launcher makes itself and Python has no function for."""


@functools.cache
def compile_filter(*, namespaces: bool, architecture: str | None = None) -> SeccompProgram:
    """The filter of a tier.

    Args:
        namespaces: for the tier of that name; without them less is allowed.
        architecture: `x86_64` or `aarch64`; None: this machine's.

    Raises:
        SandboxUnavailable: libseccomp or its Python binding is missing.
    """
    lib = _library()
    rules = _Rules(lib, architecture)
    for name in syscalls.ALLOWED:
        rules.allow(name)
    for request in syscalls.TERMINAL_REQUESTS:
        rules.allow("ioctl", lib.Arg(1, lib.EQ, request))
    for command in syscalls.FCNTL_COMMANDS:
        rules.allow("fcntl", lib.Arg(1, lib.EQ, command))
    rules.allow("prlimit64", lib.Arg(0, lib.EQ, 0), lib.Arg(2, lib.EQ, 0))  # read its own limits
    rules.allow("prctl", lib.Arg(0, lib.EQ, syscalls.PR_SET_NAME))
    # asyncio needs a pair of connected sockets. Streams only: a datagram socket could be aimed at any path.
    stream = lib.Arg(1, lib.MASKED_EQ, syscalls.SOCK_TYPE_MASK, syscalls.SOCK_STREAM)
    rules.allow("socketpair", lib.Arg(0, lib.EQ, syscalls.AF_UNIX), stream)
    # Threads yes, processes and namespaces no. clone3 hides its flags behind a pointer, where no filter can look:
    # "no such call" makes the C library fall back to clone.
    rules.answer(errno.ENOSYS, "clone3")
    for name in syscalls.NOT_SUPPORTED:
        rules.answer(errno.EOPNOTSUPP, name)
    for name in syscalls.IN_VAIN:
        rules.answer(errno.EPERM, name)
    thread = lib.Arg(0, lib.MASKED_EQ, syscalls.CLONE_THREAD | syscalls.CLONE_NAMESPACES, syscalls.CLONE_THREAD)
    if namespaces:
        for name in syscalls.WITH_NAMESPACES:
            rules.allow(name)
        rules.allow("clone", thread)
    else:
        _meter(rules, lib)
    return rules.program()


def _meter(rules: _Rules, lib: ModuleType) -> None:
    """Tier `landlock`: no file system of its own bounds what a session writes, so the host is asked about more calls.

    It is asked about whatever is neither allowed nor answered here; see `metering`.
    """
    both = syscalls.O_CREAT | syscalls.O_TMPFILE
    for name, flags in syscalls.OPENING.items():
        rules.allow(name, lib.Arg(flags, lib.MASKED_EQ, both, 0))
    for name in syscalls.ABSENT_WITHOUT_NAMESPACES:
        rules.answer(errno.ENOSYS, name)
    # A file that is mapped and shared is written without any call: only memory may be.
    private, anonymous = syscalls.MAP_PRIVATE, syscalls.MAP_ANONYMOUS
    rules.allow("mmap", lib.Arg(3, lib.MASKED_EQ, syscalls.MAP_SHARED | private, private))
    rules.allow("mmap", lib.Arg(3, lib.MASKED_EQ, private | anonymous, anonymous))


class _Rules:
    """libseccomp's filter, for one architecture and by names that this may lack: aarch64 has no open, stat, fork."""

    def __init__(self, lib: ModuleType, architecture: str | None) -> None:
        self._lib = lib
        self._filter = lib.SyscallFilter(defaction=lib.NOTIFY)  # the host refuses, and knows
        # Another architecture's calls (32 bit, x32) would be judged by the wrong numbers: nobody survives making one.
        self._filter.set_attr(lib.Attr.ACT_BADARCH, lib.KILL_PROCESS)
        self._filter.set_attr(lib.Attr.CTL_OPTIMIZE, _BINARY_TREE)
        self._arch = lib.Arch.NATIVE
        if architecture is not None:
            self._arch = getattr(lib.Arch, architecture.upper())
            if self._arch != lib.system_arch():
                self._filter.add_arch(self._arch)
                self._filter.remove_arch(lib.system_arch())

    def allow(self, name: str, *args: object) -> None:
        self._add(self._lib.ALLOW, name, args)

    def answer(self, number: int, name: str) -> None:
        """Refuse with an error that honest code understands."""
        self._add(self._lib.ERRNO(number), name, ())

    def program(self) -> SeccompProgram:
        own = {name: self._number(name) for name in ("pivot_root", "seccomp")}
        with tempfile.TemporaryFile() as file:
            self._filter.export_bpf(file)
            file.seek(0)
            return SeccompProgram(file.read(), self._names(), own)

    def _names(self) -> dict[int, str]:
        found: dict[int, str] = {}
        for number in range(_HIGHEST):
            try:
                found[number] = self._lib.resolve_syscall(self._arch, number).decode()
            except (OSError, ValueError):
                continue  # a gap in the table
        return found

    def _number(self, name: str) -> int:
        try:
            found: int = self._lib.resolve_syscall(self._arch, name)
        except OSError:
            return -1
        return found

    def _add(self, action: int, name: str, args: tuple[object, ...]) -> None:
        if self._number(name) >= 0:
            self._filter.add_rule(action, name, *args)


def _library() -> ModuleType:
    try:
        import pyseccomp  # looks for a shared library at import
    except (ImportError, RuntimeError, OSError) as error:
        raise SandboxUnavailable(
            f"the system call filter cannot be built: {error}",
            hint="install libseccomp (Debian: libseccomp2) and `pip install pyseccomp`",
        ) from error
    return pyseccomp
