"""A process that has everything imported and forks a child for each run, which may kill itself: a case costs no start.

    python -m tests.resume.zygote

Reads a list of cases as a line of JSON, lets a child play each, all at the same time, and writes their ends as a line.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import Any

from wherry import failpoints

_left = 0
_place = "*"
_lock = threading.Lock()
passed: list[str] = []


def _passing(place: str) -> None:
    """In the place of `failpoint`: kills this process at the wanted passing."""
    global _left
    if _place in (place, "*"):
        with _lock:
            passed.append(place)
            _left -= 1
            if _left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


failpoints.failpoint = _passing  # before anything imports the name from there


def play(case: dict[str, Any]) -> dict[str, Any]:
    from tests.resume.scenes import SCENES, limits_of

    from wherry.errors import WherryError

    global _left, _place
    folder = Path(case["folder"])
    agent = SCENES[case["scene"]](case["url"], folder, **case.get("agent", {}))
    _place, _, times = str(case.get("kill") or "*:0").partition(":")
    _left = int(times or 1)
    try:
        if case.get("run_id"):
            result = agent.resume(case["run_id"], limits=limits_of(case.get("limits")), max_steps=case.get("max_steps"))
        else:
            options: dict[str, Any] = {**case.get("run", {})}
            if "limits" in case:
                options["limits"] = limits_of(case["limits"])
            result = agent.run(case.get("task", "Count, from n=0 on."), **options)
    except WherryError as error:
        return {"error": type(error).__name__, "message": str(error), "run_id": error.run_id}
    finally:
        ours = list(passed)
        _left = 0
        agent.store.close()
    return {
        "status": str(result.status),
        "output": result.output,
        "run_id": result.run_id,
        "steps": result.steps,
        "usage": result.usage.to_json(),
        "pending": [approval.to_json() for approval in result.pending],
        "warnings": list(result.warnings),
        "files": [file.name for file in result.files],
        "passed": ours,
    }


def _child(case: dict[str, Any], out: Path) -> None:
    try:
        ended: dict[str, Any] = play(case)
    except BaseException:
        ended = {"crash": traceback.format_exc()}
    out.write_text(json.dumps(ended))
    os._exit(0)


def _warm() -> None:
    """Import all that a child would have to, found out by a child."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name, "modules.json")
        pid = os.fork()
        if pid == 0:
            try:
                for scene in ("tools", "coding_team"):
                    play({"scene": scene, "url": f"sqlite:///{name}/w.db", "folder": name, "agent": {"steps": 3}})
            finally:
                out.write_text(json.dumps([*sys.modules]))
                os._exit(0)
        os.waitpid(pid, 0)
        for module in json.loads(out.read_text()):
            if module.partition(".")[0] not in ("__main__", "__mp_main__"):
                with contextlib.suppress(ImportError):
                    importlib.import_module(module)


def main() -> None:
    _warm()
    for line in sys.stdin:
        cases: list[dict[str, Any]] = json.loads(line)
        running: list[tuple[int, Path]] = []
        for number, case in enumerate(cases):
            out = Path(case["folder"]) / f"end-{number}.json"
            out.unlink(missing_ok=True)
            pid = os.fork()
            if pid == 0:
                _child(case, out)
            running.append((pid, out))
        ends: list[dict[str, Any]] = []
        for pid, out in running:
            _, status = os.waitpid(pid, 0)
            killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
            ends.append({"killed": True} if killed else json.loads(out.read_text()))
        print(json.dumps(ends), flush=True)


if __name__ == "__main__":
    main()
