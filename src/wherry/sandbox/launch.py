"""Starting the launcher: which interpreter, with what around it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

INSIDE = Path(__file__).parent / "inside"
ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",  # each arena reserves 64 MiB of address space, which is what the memory limit counts
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",  # the order of a set of texts must be the same when a session is rebuilt in another process
    "OPENBLAS_NUM_THREADS": "1",  # numpy's threads would be started before a session is forked, and be lost in it
    "OMP_NUM_THREADS": "1",
}


def interpreter() -> str:
    """The interpreter itself, not a virtual environment's link to it: nothing of the environment is seen inside."""
    base = getattr(sys, "_base_executable", None) or sys.executable
    return os.path.realpath(base)


def spawn(entry: str, descriptor: int, *, cwd: str = "/") -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    """Start `inside` as its own program, and a file that gets its complaints."""
    complaints = tempfile.TemporaryFile()  # noqa: SIM115  # the caller's to close
    # Not -I, which would overlook the hash seed too: the environment is ours, and has no other variable of Python's.
    command = [interpreter(), "-P", "-s", "-S", "-B", "-X", "utf8", str(INSIDE), entry, str(descriptor)]
    process = subprocess.Popen(
        command,
        env=ENVIRONMENT,
        pass_fds=[descriptor],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=complaints,
        start_new_session=True,  # Ctrl-C goes to the host alone, which decides
        cwd=cwd,
    )
    return process, complaints


def read_complaints(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read()[-800:].decode("utf-8", "replace").strip()
