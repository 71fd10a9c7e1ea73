"""For any script, killed anywhere: what goes on is what would have come."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.resume.stage import Stage, Zygote, same

ACTS = ("note", "send", "put", "look", "broken", "large", "page", "huge", "bad", "nothing", "words")
SCRIPTS = st.lists(st.lists(st.sampled_from(ACTS), min_size=1, max_size=4), min_size=1, max_size=6)


@pytest.mark.slow
@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(SCRIPTS, st.lists(st.floats(0.01, 0.99), min_size=1, max_size=3), st.sampled_from([8_000, 40_000]))
def test_any_script_killed_anywhere(zygote: Zygote, script: list[list[str]], kills: list[float], window: int) -> None:
    crowded = window < 40_000 or any("huge" in acts for acts in script)
    if crowded:  # a fence's id is drawn: what it takes, and so what is folded and left out, is another in every run
        script = [["look" if act == "page" else act for act in acts] for acts in script]
    with tempfile.TemporaryDirectory() as name:
        agent = {"script": script, "window": window}
        undisturbed = Stage(zygote, "scripted", Path(name, "whole"), agent=agent)
        whole = undisturbed.finish()
        places = len(whole["passed"])
        stage = Stage(zygote, "scripted", Path(name, "killed"), agent=agent)
        end = stage.finish(*[f"*:{max(1, int(places * kill))}" for kill in kills])
        same(stage, end, whole)
        assert stage.effects() == undisturbed.effects()
        stage.verify().close()
