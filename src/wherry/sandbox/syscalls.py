"""The system calls of Linux, sorted by what a session may do with them. By name: numbers differ between machines.

What is on no list here is refused, and the host is told: with number, name and arguments.
"""

from __future__ import annotations

ALLOWED = tuple(
    """
    read readv pread64 preadv lseek close close_range dup dup2 dup3 pipe pipe2 fsync fdatasync flock access faccessat
    faccessat2 stat fstat lstat newfstatat statx statfs fstatfs readlink readlinkat getdents64 getcwd chdir fchdir rmdir
    unlink unlinkat rename renameat renameat2 umask mprotect munmap mremap msync madvise brk membarrier rt_sigaction
    rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigsuspend sigaltstack restart_syscall pause futex
    set_robust_list get_robust_list rseq exit exit_group sched_yield sched_getaffinity select pselect6 poll ppoll
    epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd2 nanosleep clock_nanosleep clock_gettime
    clock_getres gettimeofday time times getitimer setitimer alarm getpid gettid getppid getuid geteuid getgid getegid
    getgroups getresuid getresgid getrlimit getrusage getcpu sysinfo uname getrandom sendto recvfrom sendmsg recvmsg
    shutdown getsockname fadvise64 getpgrp sched_get_priority_max sched_get_priority_min
    """.split()  # noqa: SIM905  # one name a line would be pages
)
"""What ordinary Python needs. None of them reaches anything that the session was not given."""

WITH_NAMESPACES = tuple(
    """
    write writev pwrite64 pwritev sendfile copy_file_range fallocate truncate ftruncate open openat creat mkdir mkdirat
    link linkat symlink symlinkat mmap kill tkill tgkill chmod fchmod fchmodat utimensat
    """.split()  # noqa: SIM905 - a page of names reads better than a list of quoted ones
)
"""Allowed where a pid namespace leaves nobody to signal, a private root nothing to chmod, and a bounded file system
nothing to fill. The tier `landlock` has none of these: Landlock covers neither modes nor times, nor, before its version
6, signals; there these are refused, or the host is asked, which goes by the lists below."""

ARGUMENT_OF_SIZE = {"write": 2, "pwrite64": 2, "truncate": 1, "ftruncate": 1, "fallocate": 3}
"""Tier `landlock`: the host counts what this argument says against the session's disk limit. A number in a register: no
other thread can change it between the host's answer and the call."""
CREATING = ("creat", "mkdir", "mkdirat", "link", "linkat", "symlink", "symlinkat")
"""Tier `landlock`: the host counts a file or folder."""
OPENING = {"open": 1, "openat": 2}
"""Tier `landlock`: allowed, unless this argument's flags create a file, which the host counts."""
ABSENT_WITHOUT_NAMESPACES = ("writev", "pwritev", "pwritev2", "sendfile", "copy_file_range")
"""Tier `landlock`: their sizes are in memory, or a guess. Whoever uses them has a way without."""

IN_VAIN = tuple(
    """
    sched_setaffinity sched_getparam sched_getscheduler mlock munlock mlock2 mbind get_mempolicy set_mempolicy
    ioprio_get ioprio_set getpriority getpgid getsid
    """.split()  # noqa: SIM905 - a page of names reads better than a list of quoted ones
)
"""Refused without a word: what honest libraries try, and do without. Everything else that is refused is told."""

NOT_SUPPORTED = tuple(
    """
    getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr setxattr lsetxattr fsetxattr
    """.split()  # noqa: SIM905 - a page of names reads better than a list of quoted ones
)
"""Answered with "not supported", which is what `shutil.copy2` understands."""

TERMINAL_REQUESTS = (0x5401, 0x5413, 0x5421, 0x5450, 0x5451)
"""TCGETS, TIOCGWINSZ, FIONBIO, FIONCLEX, FIOCLEX: what open() and sockets do; TIOCSTI and the like stay out."""
FCNTL_COMMANDS = (0, 1, 2, 3, 4, 5, 6, 7, 1030)
"""Duplicate, flags, record locks (SQLite); not F_SETPIPE_SZ, F_SETOWN, F_ADD_SEALS."""
PR_SET_NAME = 15
AF_UNIX, SOCK_STREAM, SOCK_TYPE_MASK = 1, 1, 0xF
CLONE_THREAD = 0x00010000
CLONE_NAMESPACES = 0x7E020080
O_CREAT, O_TMPFILE = 0o100, 0o20000000
"""Linux's own, the same on x86_64 and aarch64; O_TMPFILE without the O_DIRECTORY that goes with it."""
MAP_SHARED, MAP_PRIVATE, MAP_ANONYMOUS = 1, 2, 0x20
