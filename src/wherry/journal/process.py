"""Which process a run is under way in, and whether that is gone: noted where a run begins or goes on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from wherry.journal.events import EventType
from wherry.messages import digest, parse
from wherry.store import RunRow, Store

_BEGINNINGS = frozenset({EventType.RUN_STARTED.value, EventType.RUN_RESUMED.value})


def this_process() -> dict[str, int | str]:
    """What tells this process from every other one, also from a later one of the same number; empty where the system
    does not say."""
    return dict(_known(os.getpid()))


def is_interrupted(store: Store, run: RunRow) -> bool:
    """Whether a run has no end and the process that it was under way in is gone.

    Only what surely is so: a process of another machine, or of this one before it was started anew under another name,
    cannot be looked at. Reads the run's records, not what they hold.
    """
    if run.finished is not None or run.pruned is not None:
        return False
    beginning = None
    for row in store.events(run.run_id):
        if row.type in _BEGINNINGS:
            beginning = row
    if beginning is None or not beginning.body:
        return False
    payload: object = parse(beginning.body)
    process: object = payload.get("process") if isinstance(payload, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    return isinstance(process, dict) and _is_gone(process)  # pyright: ignore[reportUnknownArgumentType]


def _is_gone(process: Mapping[str, Any]) -> bool:  # Any: JSON
    here = this_process()
    if not here or process.get("boot") != here["boot"]:
        # This machine, started anew meanwhile; or another one.
        return bool(here.get("machine")) and process.get("machine") == here["machine"]
    return process.get("space") == here["space"] and _started(int(process.get("pid", 0))) != process.get("started")


@lru_cache(maxsize=4)
def _known(pid: int) -> Mapping[str, int | str]:
    started = _started(pid)
    try:
        boot = _named(Path("/proc/sys/kernel/random/boot_id").read_bytes())
        # Numbers of processes are those of a namespace: of a container, mostly.
        space = os.stat("/proc/self/ns/pid").st_ino
    except (OSError, ValueError):
        return {}
    if started is None:
        return {}
    return {"machine": _machine(), "boot": boot, "space": space, "pid": pid, "started": started}


def _machine() -> str:
    try:
        return _named(Path("/etc/machine-id").read_bytes())
    except OSError:
        return ""  # many containers have none


def _named(id: bytes) -> str:
    """As a digest: the machine's own ids are not for everybody to read, says machine-id(5)."""
    return digest(b"wherry " + id.strip())


def _started(pid: int) -> int | None:
    """When a process was started, in the kernel's ticks; None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
        return int(stat.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
