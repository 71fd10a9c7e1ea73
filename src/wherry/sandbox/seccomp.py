"""Which system calls a session may make: a list of what ordinary Python needs, and nothing else.

Namespaces and Landlock leave gaps (netlink, vsock, io_uring, keyrings, user faults, new namespaces, memfd); the filter
is what closes them. Everything is by name: numbers differ from machine to machine. Compiled here, in the host, by
libseccomp; the session only installs the program.
"""

from __future__ import annotations

import errno
import functools
import tempfile
from dataclasses import dataclass
from types import ModuleType

from wherry.errors import SandboxUnavailable


def _words(text: str) -> list[str]:
    return text.split()


_ALLOWED = _words("""
read write readv writev pread64 pwrite64 preadv pwritev lseek close close_range dup dup2 dup3 pipe pipe2 sendfile
copy_file_range fsync fdatasync flock fallocate truncate ftruncate open openat creat access faccessat faccessat2 stat
fstat lstat newfstatat statx statfs fstatfs readlink readlinkat getdents64 getcwd chdir fchdir mkdir mkdirat rmdir
unlink unlinkat rename renameat renameat2 link linkat symlink symlinkat umask mmap mprotect munmap mremap msync
madvise brk membarrier rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigsuspend
sigaltstack restart_syscall pause futex set_robust_list get_robust_list rseq exit exit_group sched_yield
sched_getaffinity select pselect6 poll ppoll epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd2
nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time times getitimer setitimer alarm getpid gettid
getppid getuid geteuid getgid getegid getgroups getresuid getresgid getrlimit getrusage getcpu sysinfo uname getrandom
sendto recvfrom sendmsg recvmsg shutdown
""")
_ONLY_WITH_NAMESPACES = _words("""
kill tkill tgkill chmod fchmod fchmodat utimensat
""")
"""Without namespaces these would reach what is the user's outside: Landlock covers neither modes, times nor, before its
version 6, signals."""
_TOLD = _words("""
socket connect bind listen accept accept4 execve execveat fork vfork ptrace mount umount2 unshare setns chroot
pivot_root bpf io_uring_setup userfaultfd process_vm_readv process_vm_writev perf_event_open keyctl add_key
request_key memfd_create memfd_secret shmget msgget semget mq_open init_module finit_module kexec_load
open_by_handle_at name_to_handle_at pidfd_open pidfd_getfd pidfd_send_signal personality reboot swapon settimeofday
clock_settime setuid setgid setresuid setresgid setgroups capset seccomp setpriority sched_setscheduler mknod mknodat
chown fchown lchown fchownat fsopen move_mount open_tree mount_setattr quotactl syslog acct iopl ioperm
landlock_restrict_self
""")
"""Refused, and the host is told: what honest code has no use for. The rest is refused without a word."""
_NO_ATTRIBUTES = _words("""
getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr setxattr lsetxattr fsetxattr
""")

_TERMINAL_REQUESTS = (0x5401, 0x5413, 0x5421, 0x5450, 0x5451)
"""TCGETS, TIOCGWINSZ, FIONBIO, FIONCLEX, FIOCLEX: what open() and sockets do; TIOCSTI and the like stay out."""
_FCNTL_COMMANDS = (0, 1, 2, 3, 4, 5, 6, 7, 1030)
"""Duplicate, flags, record locks (SQLite); not F_SETPIPE_SZ, F_SETOWN, F_ADD_SEALS."""
_PR_SET_NAME = 15
_AF_UNIX, _SOCK_STREAM, _SOCK_TYPE_MASK = 1, 1, 0xF
_CLONE_THREAD = 0x00010000
_CLONE_NAMESPACES = 0x7E020080


@dataclass(frozen=True, slots=True)
class SeccompProgram:
    """A compiled filter."""

    code: bytes
    """BPF, eight bytes an instruction."""
    names: dict[int, str]
    """Number -> name of the calls that the host is told of."""
    numbers: dict[str, int]
    """Of the calls that the launcher makes itself and Python has no function for."""


@functools.cache
def compile_filter(*, namespaces: bool) -> SeccompProgram:
    """The filter of a tier.

    Raises:
        SandboxUnavailable: libseccomp or its Python binding is missing.
    """
    lib = _library()
    native = lib.Arch.NATIVE
    rules = lib.SyscallFilter(defaction=lib.ERRNO(errno.EPERM))
    # Calls of another architecture's table (32 bit, x32) would be judged by the wrong numbers: no such call survives.
    rules.set_attr(lib.Attr.ACT_BADARCH, lib.KILL_PROCESS)

    def number(name: str) -> int:
        try:
            found: int = lib.resolve_syscall(native, name)
        except OSError:
            return -1
        return found

    def add(action: int, name: str, *args: object) -> None:
        if number(name) >= 0:  # aarch64 has no open, stat, pipe, fork
            rules.add_rule(action, name, *args)

    for name in _ALLOWED + (_ONLY_WITH_NAMESPACES if namespaces else []):
        add(lib.ALLOW, name)
    for request in _TERMINAL_REQUESTS:
        add(lib.ALLOW, "ioctl", lib.Arg(1, lib.EQ, request))
    for command in _FCNTL_COMMANDS:
        add(lib.ALLOW, "fcntl", lib.Arg(1, lib.EQ, command))
    add(lib.ALLOW, "prlimit64", lib.Arg(0, lib.EQ, 0), lib.Arg(2, lib.EQ, 0))  # read its own limits
    add(lib.ALLOW, "prctl", lib.Arg(0, lib.EQ, _PR_SET_NAME))
    # asyncio needs a pair of connected sockets. Streams only: a datagram socket could be aimed at any path.
    stream = lib.Arg(1, lib.MASKED_EQ, _SOCK_TYPE_MASK, _SOCK_STREAM)
    add(lib.ALLOW, "socketpair", lib.Arg(0, lib.EQ, _AF_UNIX), stream)
    # Threads yes, processes and namespaces no. clone3 hides its flags behind a pointer, where no filter can look:
    # "no such call" makes the C library fall back to clone.
    mask = _CLONE_THREAD | _CLONE_NAMESPACES
    add(lib.ALLOW, "clone", lib.Arg(0, lib.MASKED_EQ, mask, _CLONE_THREAD))
    add(lib.ERRNO(errno.ENOSYS), "clone3")
    add(lib.NOTIFY, "clone", lib.Arg(0, lib.MASKED_EQ, _CLONE_THREAD, 0))
    for name in _NO_ATTRIBUTES:  # "not supported" is what shutil.copy2 understands
        add(lib.ERRNO(errno.EOPNOTSUPP), name)
    for name in _TOLD:
        add(lib.NOTIFY, name)
    names = {number(name): name for name in [*_TOLD, "clone"] if number(name) >= 0}
    own = {name: number(name) for name in ("pivot_root", "seccomp")}
    return SeccompProgram(_export(rules), names, own)


def _export(rules: object) -> bytes:
    with tempfile.TemporaryFile() as file:
        rules.export_bpf(file)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        file.seek(0)
        return file.read()


def _library() -> ModuleType:
    try:
        import pyseccomp  # looks for a shared library at import
    except (ImportError, RuntimeError, OSError) as error:
        raise SandboxUnavailable(
            f"the system call filter cannot be built: {error}",
            hint="install libseccomp (Debian: libseccomp2) and `pip install pyseccomp`",
        ) from error
    return pyseccomp
