"""Runs of a session whose process is killed around the moment at which the session is saved."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.resume.stage import Stage, Zygote, same

AGENT = {"steps": 3}


@pytest.mark.slow
@pytest.mark.parametrize("kill", ["tool.ran:3", "session.saved:1", "run.finishing:1"])
def test_a_session_has_each_turn_once(zygote: Zygote, kill: str, tmp_path: Path) -> None:
    undisturbed = Stage(zygote, "tools", tmp_path / "whole", agent=AGENT, run={"session": "s"})
    whole = undisturbed.finish()
    stage = Stage(zygote, "tools", tmp_path / "killed", agent=AGENT, run={"session": "s"})
    end = stage.finish(kill)
    same(stage, end, whole)
    assert end["warnings"] == []
    ours, theirs = stage.verify(), undisturbed.verify()
    assert ours.session_revision("s") == theirs.session_revision("s") == 1
    assert ours.load_session("s") == theirs.load_session("s")
    ours.close()
    theirs.close()
