"""The agent whose model calls tools by their schemas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Unpack, cast

import anyio

from wherry.agents import prompts
from wherry.agents.acting import announce, perform, refuse
from wherry.agents.agent import Agent, AgentOptions
from wherry.agents.loop import Turn
from wherry.agents.run import Order, Run
from wherry.agents.toolbox import announced
from wherry.errors import ConfigurationError
from wherry.messages import Message, ToolCall, ToolSchema
from wherry.models import Model, ModelProfile, ModelReply
from wherry.models.tool_arguments import argument_error
from wherry.tools import Tool
from wherry.tools.builtin import final_answer_schema

CUT = "Your reply was cut off: it reached the most tokens a reply may have. Answer in fewer words, or call a tool."
EMPTY = "Your reply was empty. Call a tool, or call final_answer with the answer."


class ToolCallingAgent(Agent):
    """An agent that solves a task by schema-driven tool calls, with the model's native tool calling.

    A reply without tool calls is the final answer, as in the model's own interface; so is a call of `final_answer`.

    Args:
        parallel_tools: how many calls of one reply may run at the same time. Results are given in call order.

    The other arguments are those of `Agent`.
    """

    kind: ClassVar[str] = "tools"

    def __init__(
        self,
        tools: Iterable[object] = (),
        model: Model | str | None = None,
        *,
        parallel_tools: int = 4,
        **options: Unpack[AgentOptions],
    ) -> None:
        super().__init__(tools, model, **options)
        if not isinstance(cast("object", parallel_tools), int) or parallel_tools < 1:
            raise ConfigurationError(f"parallel_tools is {parallel_tools!r}", hint="give a whole number from 1")
        self.parallel_tools = parallel_tools

    def hidden_tools(self) -> Sequence[Tool]:
        return ()

    def prompt(self, schemas: Sequence[ToolSchema], profile: ModelProfile, instructions: str) -> str:
        return prompts.tools_system(examples=profile.worked_examples.get("tools", ""), instructions=instructions)

    def check_order(self, order: Order) -> None:
        if order.files:
            raise ConfigurationError(
                "a ToolCallingAgent has no working folder to copy `files` to",
                hint="give their contents as `inputs`, or use a CodeAgent",
            )

    def native(self, schemas: Sequence[ToolSchema], window: int) -> Sequence[ToolSchema]:
        own = {schema.name for schema in schemas}
        readers = (tool.schema for tool in announced(window) if tool.name not in own)
        return (*schemas, *readers, final_answer_schema(self.rules.schema))

    def check_model(self, profile: ModelProfile) -> None:
        if not profile.native_tools:
            raise ConfigurationError(
                f"the model {profile.name!r} has no native tool calling, which a ToolCallingAgent needs",
                hint="use a CodeAgent, or a model with tool calling",
            )

    async def act(self, run: Run, reply: ModelReply) -> Turn:
        if not reply.tool_calls:
            text = reply.text.strip()
            if reply.finish_reason == "length":
                return Turn([Message("user", CUT)])
            return Turn(answered=True, answer=text) if text else Turn([Message("user", EMPTY)])
        ending = next((call for call in reply.tool_calls if call.name == "final_answer"), None)
        calls = [call for call in reply.tool_calls if call is not ending]
        results = await self._perform_all(run, calls)
        if ending is None:
            return Turn(results)
        problem = argument_error(ending)
        if problem is None and "answer" not in ending.arguments:
            problem = "final_answer needs the argument 'answer'"
        if problem is not None:
            return Turn([*results, _result(ending, f"Error: {problem}")])
        return Turn(results, answered=True, answer=ending.arguments["answer"], answer_call=ending.id)

    async def _perform_all(self, run: Run, calls: Sequence[ToolCall]) -> list[Message]:
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
            limiter = anyio.Semaphore(self.parallel_tools)

            async def limited(number: int) -> None:
                async with limiter:
                    await one(number)

            async with anyio.create_task_group() as group:
                for number in ready:
                    group.start_soon(limited, number)
        return [_result(call, text) for call, text in zip(calls, texts, strict=True)]


def _result(call: ToolCall, text: str) -> Message:
    return Message("tool", text, tool_call_id=call.id, name=call.name)
