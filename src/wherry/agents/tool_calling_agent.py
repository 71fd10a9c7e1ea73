"""The agent whose model calls tools by their schemas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar, Unpack, cast

from wherry.agents import prompts
from wherry.agents.agent import Agent, AgentOptions
from wherry.errors import ConfigurationError
from wherry.messages import ToolSchema
from wherry.models import Model, ModelProfile, ModelReply
from wherry.tools import Tool

if TYPE_CHECKING:
    from wherry.agents.loop import Turn
    from wherry.agents.run import Order, Run


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
        # Not at the top: with them comes most of what a run needs, and a program that makes agents may never run one.
        from wherry.agents.toolbox import announced
        from wherry.tools.builtin import final_answer_schema

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
        from wherry.agents.tool_calls import act  # as above

        return await act(run, reply, parallel=self.parallel_tools)
