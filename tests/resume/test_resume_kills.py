"""Processes that run agents are killed at each boundary; another one goes on, and nothing is lost or done twice."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.resume.stage import Stage, Zygote, same

from wherry.failpoints import FAILPOINTS

AGENT_STEPS: dict[str, dict[str, Any]] = {
    "tools": {"steps": 9, "pages": True},
    "snippets": {"steps": 7},
    "team": {"steps": 3},
    "coding_team": {"steps": 2},
    "compacted": {"steps": 20},
    "planned": {"steps": 6},
}
Whole = Callable[[str], tuple[dict[str, Any], dict[str, list[str]]]]


@pytest.fixture(scope="module")
def whole(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The end and the effects of a scene that nobody disturbs."""
    known: dict[str, tuple[dict[str, Any], dict[str, list[str]]]] = {}

    def play(scene: str) -> tuple[dict[str, Any], dict[str, list[str]]]:
        if scene not in known:
            stage = Stage(zygote, scene, tmp_path_factory.mktemp(scene), agent=AGENT_STEPS[scene])
            known[scene] = stage.finish(), stage.effects()
        return known[scene]

    return play


def survives(zygote: Zygote, scene: str, folder: Path, whole: Whole, *kills: str) -> Stage:
    wanted, effects = whole(scene)
    stage = Stage(zygote, scene, folder, agent=AGENT_STEPS[scene])
    end = stage.finish(*kills)
    same(stage, end, wanted)
    assert stage.effects() == effects
    assert end["usage"]["requests"] >= wanted["usage"]["requests"]
    assert end["usage"]["tool_calls"] == wanted["usage"]["tool_calls"]
    stage.verify().close()
    return stage


@pytest.mark.slow
@pytest.mark.parametrize("scene", sorted(AGENT_STEPS))
def test_runs_go_on_wherever_their_process_is_killed(zygote: Zygote, scene: str, tmp_path: Path, whole: Whole) -> None:
    count = len(whole(scene)[0]["passed"])
    dice = random.Random(scene)
    for case in range(5):
        kill = f"*:{dice.randrange(1, count)}"
        survives(zygote, scene, tmp_path / str(case), whole, kill)


@pytest.mark.slow
@pytest.mark.parametrize("scene", sorted(AGENT_STEPS))
def test_runs_go_on_after_kill_upon_kill(zygote: Zygote, scene: str, tmp_path: Path, whole: Whole) -> None:
    count = len(whole(scene)[0]["passed"])
    dice = random.Random(f"{scene} again")
    kills = [f"*:{dice.randrange(5, max(6, count // 4))}" for _ in range(4)]
    survives(zygote, scene, tmp_path, whole, *kills)


PLACES = {
    "reply.came": "tools",
    "call.committed": "tools",
    "tool.ran": "snippets",
    "snippet.committed": "snippets",
    "snippet.ran": "snippets",
    "child.called": "team",
    "child.returned": "coding_team",
    "run.finishing": "coding_team",
    "batch.events": "team",
    "transaction.commit": "coding_team",
    "transaction.committed": "compacted",
    "artifact.row": "compacted",
}


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_runs_go_on_after_a_kill_at(zygote: Zygote, place: str, tmp_path: Path, whole: Whole) -> None:
    scene = PLACES[place]
    passed = whole(scene)[0]["passed"].count(place)
    assert passed > 0
    for case, number in enumerate(sorted({1, passed // 2 + 1, passed})):
        survives(zygote, scene, tmp_path / str(case), whole, f"{place}:{number}")


@pytest.mark.slow
def test_runs_go_on_after_a_kill_when_they_had_just_gone_on(zygote: Zygote, tmp_path: Path, whole: Whole) -> None:
    stage = survives(zygote, "team", tmp_path, whole, "tool.ran:5", "run.resumed:1", "run.resumed:2", "run.resumed:1")
    assert stage.run_id is not None


@pytest.mark.slow
@pytest.mark.parametrize("scene", sorted(AGENT_STEPS))
def test_runs_go_on_after_a_kill_at_every_place(zygote: Zygote, scene: str, tmp_path: Path, whole: Whole) -> None:
    passed = whole(scene)[0]["passed"]
    every = max(1, len(passed) // 20)
    for number in range(1, len(passed), every):
        survives(zygote, scene, tmp_path / str(number), whole, f"*:{number}")
    assert set(passed) <= set(FAILPOINTS)


@pytest.mark.slow
def test_a_snippet_whose_agent_had_answered_can_be_made_again_later(
    zygote: Zygote, tmp_path: Path, whole: Whole
) -> None:
    for number in (1, 2):  # between the last record of the run below and the answer's in its manager's journal
        end = survives(zygote, "coding_team", tmp_path / str(number), whole, f"child.returned:{number}", "tool.ran:4")
        assert end.run_id is not None
