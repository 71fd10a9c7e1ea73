"""A request that a hook changed: measured and recorded as what is really sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from wherry.context import Fitted
from wherry.context.table import budget_error
from wherry.errors import Refuse
from wherry.journal import EventType
from wherry.messages import ToolSchema
from wherry.models import ModelRequest

if TYPE_CHECKING:
    from wherry.agents.hooks import RunHooks
    from wherry.agents.run import Run


async def hooked_request(
    run: Run, hooks: RunHooks, fitted: Fitted, tools: Sequence[ToolSchema], attempt: int
) -> tuple[ModelRequest, Fitted, dict[str, Any]]:
    """The request as hooks want it, what it takes in place of `fitted`, and what its event says more.

    Raises:
        Refuse: A hook does not want it at all.
        ContextBudgetError: With what they added it does not fit the window.
    """
    request = ModelRequest(fitted.messages, tools, max_output=fitted.max_output)
    try:
        wanted = await hooks.before_model(request)
    except Refuse as refusal:
        said = refusal.message[:2000]
        run.journal.record(
            EventType.MODEL_FAILED, step=run.step, attempt=attempt, kind="Refuse", message=said, act="give_up"
        )
        raise
    return (wanted, *_measured(run, fitted, request, wanted))


def _measured(run: Run, fitted: Fitted, before: ModelRequest, wanted: ModelRequest) -> tuple[Fitted, dict[str, Any]]:
    changes: dict[str, Any] = {}
    if wanted.settings:
        changes["settings"] = dict(wanted.settings)
    if wanted.response_format is not None:
        changes["response_format"] = wanted.response_format
    same = wanted.messages is before.messages and wanted.tools is before.tools
    if same and not run.rewritten:
        most = fitted.max_output if wanted.max_output is None else min(wanted.max_output, fitted.max_output)
        return replace(fitted, max_output=max(1, most)), changes
    # An event says what a request keeps of the one before. This one, and the next, may keep nothing of it.
    run.rewritten = not same
    messages = tuple(wanted.messages)
    fitted = replace(fitted, messages=messages, keep=0, add=tuple(run.journal.keep(one) for one in messages))
    if same:
        return fitted, changes
    counter = run.window.counter
    schemas = counter.scaled(counter.tools(tuple(wanted.tools)))
    tokens = counter.scaled(counter.request + sum(counter.message(one) for one in messages)) + schemas
    most = min(wanted.max_output or fitted.max_output, fitted.window - tokens - counter.margin(tokens))
    if most < 1:
        parts = {"messages": tokens - schemas, "tool schemas": schemas, "safety margin": counter.margin(tokens)}
        raise budget_error({**parts, "reserved output": 1}, fitted.window, run_id=run.journal.run_id)
    changes["hooked"] = True
    return replace(fitted, tokens=tokens, tools=schemas, max_output=most), changes
