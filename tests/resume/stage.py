"""Plays a scene in processes that are killed, answers what waits, and looks at what came of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, cast

from wherry.errors import RunNotFound
from wherry.journal import verify_store
from wherry.policy.approvals import Decision, decide
from wherry.store import Store, open_store

ROOT = Path(__file__).parents[2]
ONCE = ("note", "send")
"""Files of effects that must be there once, whatever happens."""
AGAIN = ("put", "broken")
"""Those that may be made again, under the same key."""


class Zygote:
    """A process whose children play."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.resume.zygote"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def play(self, *cases: dict[str, Any]) -> list[dict[str, Any]]:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(cases) + "\n")
        process.stdin.flush()
        ends = cast("list[dict[str, Any]]", json.loads(process.stdout.readline()))
        for end in ends:
            assert "crash" not in end, end["crash"]
        return ends

    def close(self) -> None:
        self._process.communicate(timeout=30)


@dataclass(slots=True)
class Stage:
    """One scene in one store."""

    zygote: Zygote
    scene: str
    folder: Path
    _: KW_ONLY
    url: str = ""
    agent: dict[str, Any] = field(default_factory=dict[str, Any])
    run: dict[str, Any] = field(default_factory=dict[str, Any])
    task: str = "Count, from n=0 on."
    run_id: str | None = None
    asked: list[str] = field(default_factory=list[str])
    """Names of the tools of which nobody knew what became of a call."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.url = self.url or f"sqlite:///{self.folder}/w.db"

    def case(self, **more: Any) -> dict[str, Any]:
        case: dict[str, Any] = {
            "scene": self.scene,
            "url": self.url,
            "folder": str(self.folder),
            "agent": self.agent,
            "run": self.run,
            "task": self.task,
        }
        return {**case, "run_id": self.run_id, **more}

    def play(self, **more: Any) -> dict[str, Any]:
        """Begin, or go on with what was begun."""
        if self.run_id is None:
            self.run_id = self.begun()
        return self.zygote.play(self.case(**more))[0]

    def begun(self) -> str | None:
        with_store = open_store(self.url)
        try:
            rows = [row for row in with_store.runs() if row.parent_run_id is None]
            return rows[0].run_id if rows else None
        except RunNotFound:
            return None
        finally:
            with_store.close()

    def finish(self, *kills: str, **more: Any) -> dict[str, Any]:
        """Play with a kill in each process, then to the end; what is unknown is answered from the effects."""
        for kill in kills:
            end = self.play(kill=kill, **more)
            self.answer(end)
            if not end.get("killed") and end.get("status") != "waiting":
                return end
        for _ in range(60):
            end = self.play(**more)
            if not self.answer(end):
                return end
        raise AssertionError("it does not end")

    def answer(self, end: dict[str, Any]) -> bool:
        """What a person says who looked; whether there was anything to say."""
        if end.get("status") != "waiting":
            return False
        store = open_store(self.url)
        assert end["pending"]
        for pending in end["pending"]:
            assert pending["kind"] == "unknown"
            name, n = pending["name"], pending["arguments"]["n"]
            self.asked.append(name)
            begin, end_ = f"{n}\t{pending['run_id']}:", f":{pending['call']}"
            made = any(line.startswith(begin) and line.endswith(end_) for line in self.lines(name))
            said = {"note": "noted", "send": "sent"}[name]
            decided = Decision(True, result=f"{said} n={n + 1}") if made else Decision(True)
            decide(store, pending["id"], decided)
        store.close()
        return True

    def lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    def effects(self) -> dict[str, list[str]]:
        """What was done, in any order; fails where something was done twice."""
        found: dict[str, list[str]] = {}
        for name in (*ONCE, *AGAIN):
            lines = self.lines(name)
            if name in AGAIN:  # again, but under the same key
                lines = sorted(set(lines))
            numbers = [line.partition("\t")[0] for line in lines]
            twice = [number for number, times in Counter(lines).items() if times > 1]
            assert not twice, (name, twice)
            found[name] = sorted(numbers)
        # A snippet that is run again draws the same again.
        found["told"] = [str(len(set(self.lines("told"))))]
        return found

    def verify(self) -> Store:
        store = open_store(self.url)
        assert verify_store(store).breaks == []
        return store


UNLIKE = ("run_id", "usage", "passed", "warnings", "output")


def same(stage: Stage, end: dict[str, Any], whole: dict[str, Any]) -> None:
    """An interrupted run came to what the undisturbed one did."""
    output, wanted = cast("Any", end.get("output")), whole["output"]
    if isinstance(wanted, list) and isinstance(wanted[0], list):  # what was drawn: another in each run, one in a run
        drawn: list[float] = output[0]
        assert {repr(value) for value in drawn} <= set(stage.lines("told"))
        assert len(drawn) == len(cast("list[float]", wanted[0]))
        output, wanted = output[1:], cast("list[Any]", wanted)[1:]
    compared = [key for key in whole if key not in UNLIKE]
    assert output == wanted, end
    assert {key: end.get(key) for key in compared} == {key: whole[key] for key in compared}
