"""A long run whose process is killed over and over: code, tools, managed agents, compactions."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.resume.stage import Stage, Zygote, same


def killed_over_and_over(zygote: Zygote, folder: Path, *, steps: int, kills: int, url: str = "") -> Stage:
    agent = {"steps": steps}
    undisturbed = Stage(zygote, "long", folder / "whole", agent=agent)
    whole, effects = undisturbed.finish(), undisturbed.effects()
    assert whole["status"] == "completed"
    dice = random.Random(kills)
    places = len(whole["passed"])
    stage = Stage(zygote, "long", folder / "killed", agent=agent, url=url)
    times = 0
    for _ in range(kills):
        # Each process gets so far that all of them together do not come to the end.
        end = stage.play(kill=f"*:{dice.randrange(1, max(2, 2 * places // (kills + 2)))}")
        stage.answer(end)
        times += "killed" in end
    assert times >= kills * 2 // 3
    end = stage.finish()
    same(stage, end, whole)
    assert stage.effects() == effects
    stage.verify().close()
    return stage


@pytest.mark.slow
def test_a_run_that_is_killed_over_and_over(zygote: Zygote, tmp_path: Path) -> None:
    killed_over_and_over(zygote, tmp_path, steps=24, kills=8)


@pytest.mark.slow
def test_a_long_run_that_is_killed_fifty_times(zygote: Zygote, tmp_path: Path) -> None:
    killed_over_and_over(zygote, tmp_path, steps=200, kills=50)


@pytest.mark.services
def test_a_run_on_postgresql_that_is_killed_over_and_over(zygote: Zygote, tmp_path: Path, postgres_url: str) -> None:
    killed_over_and_over(zygote, tmp_path, steps=24, kills=6, url=postgres_url)


@pytest.mark.slow
@pytest.mark.services
def test_a_long_run_on_postgresql_that_is_killed_fifty_times(zygote: Zygote, tmp_path: Path, postgres_url: str) -> None:
    killed_over_and_over(zygote, tmp_path, steps=200, kills=50, url=postgres_url)
