"""Plans: every few steps the model is asked what it means to do next, and sees its answer from then on.

A plan is a turn of the conversation like any other: asked for within the same window, counted in the limits, in the
journal as a request, a reply and a `plan.made`. It takes no step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from wherry.agents import prompts
from wherry.errors import ConfigurationError, Refuse
from wherry.journal import EventType
from wherry.messages import Message

if TYPE_CHECKING:
    from wherry.agents.run import Run

SHOWN = 2000
"""Characters of a plan that its event shows; the whole is in the reply."""


def checked_interval(interval: int | None) -> int | None:
    """`planning_interval`, if it is one.

    Raises:
        ConfigurationError: it is none.
    """
    given = cast("object", interval)
    if given is None or (isinstance(given, int) and not isinstance(given, bool) and given >= 1):
        return interval
    raise ConfigurationError(f"planning_interval is {given!r}", hint="give a number of steps from 1, or None")


async def plan(run: Run) -> None:
    """Ask for a plan, if one is due before this step: the first, and every `planning_interval` after it."""
    interval = run.agent.planning_interval
    if interval is None or (run.step - 1) % interval or run.step == run.requested:
        return  # or the window has it: the run was interrupted while the model was asked for the step
    left = run.order.max_steps - run.step + 1
    await run.tell(Message("user", prompts.plan(first=run.step == 1, left=left)))
    try:
        reply = await run.ask(with_tools=False, aside="plan")
    except Refuse as refusal:
        run.warn(f"a hook refused the plan of step {run.step}: {refusal.message}")
        return
    text = reply.text.strip()
    if not text:
        run.warn(f"the model gave no plan before step {run.step}")
    run.journal.record(EventType.PLAN_MADE, step=run.step, plan=text[:SHOWN], message=run.window.newest)
    await run.tell(Message("user", prompts.CARRY_OUT))
