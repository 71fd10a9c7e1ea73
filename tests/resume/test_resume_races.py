"""Several processes go on with one run at the same time: one wins, and nothing is done twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.resume.stage import Stage, Zygote, same

AGENT = {"steps": 5}


@pytest.mark.parametrize("times", [20, pytest.param(100, marks=pytest.mark.slow)])
def test_two_processes_that_go_on_with_one_run(zygote: Zygote, times: int, tmp_path: Path) -> None:
    undisturbed = Stage(zygote, "tools", tmp_path / "whole", agent=AGENT)
    whole, effects = undisturbed.finish(), undisturbed.effects()
    lost = 0
    for number in range(times):
        stage = Stage(zygote, "tools", tmp_path / str(number), agent=AGENT)
        assert stage.play(kill=f"*:{20 + number % 40}") == {"killed": True}
        stage.run_id = stage.begun()
        ends = zygote.play(stage.case(), stage.case())
        conflicts = [end for end in ends if end.get("error") == "StoreConflict"]
        others = [end for end in ends if end not in conflicts]
        assert all(end.get("status") in ("completed", "waiting") for end in others), ends
        assert len(others) >= 1, ends
        lost += len(conflicts)
        end = next((end for end in others if end["status"] == "completed"), None) or others[-1]
        if stage.answer(end):
            end = stage.finish()
        same(stage, end, whole)
        assert stage.effects() == effects
        stage.verify().close()
    assert lost > times // 3
