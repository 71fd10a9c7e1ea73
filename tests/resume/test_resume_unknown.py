"""Calls that had begun when the process died, and of which the records have no end."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.resume.stage import Stage, Zygote

from wherry.journal import EventType, read_events
from wherry.policy.approvals import Decision, decide
from wherry.store import open_store

AGENT = {"steps": 2}
"""Step 1 notes; step 2 looks, notes, sends and puts at the same time."""


def killed(zygote: Zygote, folder: Path, kill: str) -> Stage:
    stage = Stage(zygote, "tools", folder, agent=AGENT)
    assert stage.play(kill=kill) == {"killed": True}
    return stage


def decided(stage: Stage, id: str, decision: Decision) -> None:
    store = open_store(stage.url)
    assert decide(store, id, decision).decision is not None
    store.close()


def results(stage: Stage) -> list[tuple[str, bool, str]]:
    store = open_store(stage.url)
    found = [
        (event.payload["name"], event.payload["ok"], event.payload["preview"])
        for event in read_events(store, str(stage.run_id))
        if event.type is EventType.TOOL_RETURNED
    ]
    store.close()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kill", ["call.committed:1", "tool.ran:1"])
@pytest.mark.parametrize("word", ["again", "result", "deny"])
def test_a_person_decides(zygote: Zygote, tmp_path: Path, kill: str, word: str) -> None:
    stage = killed(zygote, tmp_path, kill)
    made = len(stage.lines("note"))
    assert made == (kill == "tool.ran:1")
    end = stage.play()
    assert end["status"] == "waiting"
    (pending,) = end["pending"]
    assert (pending["kind"], pending["name"], pending["arguments"]) == ("unknown", "note", {"n": 0})
    assert stage.play()["status"] == "waiting"  # it asks once, however often it is gone on with
    said = {
        "again": Decision(True),
        "result": Decision(True, result="I looked: n=1"),
        "deny": Decision(False, reason="leave it, n=1"),
    }[word]
    decided(stage, pending["id"], said)
    end = stage.play()
    assert end["status"] == "completed"
    first = results(stage)[0]
    if word == "again":
        assert len([line for line in stage.lines("note") if line.startswith("0\t")]) == made + 1
        assert first == ("note", True, "noted n=1")
    elif word == "result":
        assert len([line for line in stage.lines("note") if line.startswith("0\t")]) == made
        assert first == ("note", True, "I looked: n=1")
    else:
        assert len([line for line in stage.lines("note") if line.startswith("0\t")]) == made
        assert first[1] is False
        assert "leave it, n=1" in first[2]
    stage.verify().close()


def test_a_call_that_is_made_again_and_dies_again_is_asked_for_again(zygote: Zygote, tmp_path: Path) -> None:
    stage = killed(zygote, tmp_path, "tool.ran:1")
    (first,) = stage.play()["pending"]
    decided(stage, first["id"], Decision(True))
    assert stage.play(kill="tool.ran:1") == {"killed": True}
    (second,) = stage.play()["pending"]
    assert second["id"] != first["id"]
    decided(stage, second["id"], Decision(True, result="n=1"))
    assert stage.play()["status"] == "completed"
    assert [line.split()[0] for line in stage.lines("note")] == ["0", "0", "1"]


@pytest.mark.slow
def test_checkers_and_idempotency_keys_settle_it_without_a_person(zygote: Zygote, tmp_path: Path) -> None:
    passed = Stage(zygote, "tools", tmp_path / "whole", agent=AGENT)
    whole = passed.finish()
    for number in range(1, whole["passed"].count("tool.ran") + 1):
        stage = killed(zygote, tmp_path / str(number), f"tool.ran:{number}")
        end = stage.play()
        if end["status"] == "waiting":
            assert {pending["name"] for pending in end["pending"]} == {"note"}
            stage.answer(end)
            end = stage.finish()
        assert end["output"] == whole["output"]
        assert [line.split()[0] for line in stage.lines("send")] == ["1"]
        assert len(set(stage.lines("put"))) == 1  # the same key each time
