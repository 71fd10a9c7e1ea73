"""What a tool-calling agent does with a reply: makes its calls and gives back their results.

Loaded with the first run, not with the agent's class: see `ToolCallingAgent.act`.
"""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from wherry.agents.acting import announce, perform, refuse
from wherry.agents.loop import Turn
from wherry.agents.run import Run
from wherry.messages import Message, ToolCall
from wherry.models import ModelReply
from wherry.models.tool_arguments import argument_error

CUT = "Your reply was cut off: it reached the most tokens a reply may have. Answer in fewer words, or call a tool."
EMPTY = "Your reply was empty. Call a tool, or call final_answer with the answer."


async def act(run: Run, reply: ModelReply, *, parallel: int) -> Turn:
    """Make the calls of a reply, at most `parallel` at a time, and give their results in the order of the calls."""
    if not reply.tool_calls:
        text = reply.text.strip()
        if reply.finish_reason == "length":
            return Turn([Message("user", CUT)])
        return Turn(answered=True, answer=text) if text else Turn([Message("user", EMPTY)])
    ending = next((call for call in reply.tool_calls if call.name == "final_answer"), None)
    calls = [call for call in reply.tool_calls if call is not ending]
    results = await _perform_all(run, calls, parallel)
    if ending is None:
        return Turn(results)
    problem = argument_error(ending)
    if problem is None and "answer" not in ending.arguments:
        problem = "final_answer needs the argument 'answer'"
    if problem is not None:
        return Turn([*results, _result(ending, f"Error: {problem}")])
    return Turn(results, answered=True, answer=ending.arguments["answer"], answer_call=ending.id)


async def _perform_all(run: Run, calls: Sequence[ToolCall], parallel: int) -> list[Message]:
    texts = [""] * len(calls)
    ready: list[int] = []
    for number, call in enumerate(calls):
        problem = argument_error(call)
        if problem is None:
            announce(run, call.name, call.id, call.arguments)
            ready.append(number)
        else:
            texts[number] = refuse(run, call.name, call.id, call.arguments, problem).text
    await run.journal.commit()  # what is about to happen is durable before it happens

    async def one(number: int) -> None:
        call = calls[number]
        outcome = await perform(run, call.name, call.id, call.arguments)
        texts[number] = outcome.observed(call.name)

    if len(ready) == 1:
        await one(ready[0])
    elif ready:
        limiter = anyio.Semaphore(parallel)

        async def limited(number: int) -> None:
            async with limiter:
                await one(number)

        async with anyio.create_task_group() as group:
            for number in ready:
                group.start_soon(limited, number)
    return [_result(call, text) for call, text in zip(calls, texts, strict=True)]


def _result(call: ToolCall, text: str) -> Message:
    return Message("tool", text, tool_call_id=call.id, name=call.name)
