"""The context bound for AutoGen 0.4 and later: at the model client, in what agents store, at the tools.

The client is the one place that sees whole requests: system prompts, tools, the prompts of selectors, ledgers,
reflection on tools. So `GuardClient` alone is enough for no request to overflow; `GuardContext` keeps what an agent
holds and saves small, and `GuardWorkbench` keeps large results out of the conversation altogether.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Literal

from wherry.errors import MissingExtra

try:
    from autogen_core import CancellationToken, Component, ComponentModel
    from autogen_core.model_context import ChatCompletionContext
    from autogen_core.models import (
        ChatCompletionClient,
        CreateResult,
        LLMMessage,
        ModelCapabilities,  # pyright: ignore[reportDeprecated]
        ModelFamily,
        ModelInfo,
        RequestUsage,
    )
    from autogen_core.tools import Tool, ToolSchema
except ImportError:
    raise MissingExtra("wherry.guard.autogen", "autogen") from None

from pydantic import BaseModel

from wherry.context import ContextBudget
from wherry.guard.autogen_messages import AutoGenMessages, schemas
from wherry.guard.autogen_workbench import GuardWorkbench
from wherry.guard.fitting import CounterLike, Fitted, Fitter

__all__ = ["GuardClient", "GuardContext", "GuardWorkbench"]

_OUTPUT = ("max_tokens", "max_completion_tokens")


class BudgetConfig(BaseModel):
    """What of a `ContextBudget` is written into a component's configuration."""

    window: int | None = None
    reserve_output: int | None = None
    per_message: int | None = None
    high_water: float = 0.85
    low_water: float = 0.50

    @classmethod
    def of(cls, budget: ContextBudget) -> BudgetConfig:
        return cls(
            window=budget.window,
            reserve_output=budget.reserve_output,
            per_message=budget.per_message,
            high_water=budget.high_water,
            low_water=budget.low_water,
        )

    def budget(self) -> ContextBudget:
        return ContextBudget(**self.model_dump())


class GuardClientConfig(BaseModel):
    """The configuration of a `GuardClient`."""

    client: ComponentModel
    budget: BudgetConfig
    counter: str | None = None
    strict: bool = False


class GuardClient(ChatCompletionClient, Component[GuardClientConfig]):  # pyright: ignore[reportUnsafeMultipleInheritance]
    """A model client whose requests fit, whatever it is given. All else is the client's own.

    * Every request of `create` and `create_stream` satisfies the budget, or `ContextBudgetError` is raised before it.
    * A conversation that fits reaches the client as the very objects that came in.
    * A `max_tokens` in `extra_create_args` is kept free in place of the budget's reserve.

    Args:
        client: Any AutoGen client.
        budget: A `ContextBudget`, or the window in tokens; without a window, the client is asked for its limit.
        counter: As `Fitter` takes it; without it OpenAI's vocabulary for OpenAI's models, else an estimate from above.
        strict: Whether messages are put as the strictest servers take them, as `Fitter` has it. AutoGen's clients do
            that themselves for the models that they know.
    """

    component_type = "model"
    component_config_schema = GuardClientConfig
    component_provider_override = "wherry.guard.autogen.GuardClient"

    def __init__(
        self,
        client: ChatCompletionClient,
        budget: ContextBudget | int | None = None,
        *,
        counter: CounterLike | None = None,
        strict: bool = False,
    ) -> None:
        self._client = client
        self._strict = strict
        self._given_counter = counter
        if counter is None and ModelFamily.is_openai(str(client.model_info.get("family"))):
            counter = "o200k"
        budget = _with_window(budget, client)
        self._fitter = Fitter(budget, counter, strict=strict)
        self.last: Fitted | None = None
        """What was made of the last request."""

    async def create(
        self,
        messages: Sequence[LLMMessage],
        *,
        tools: Sequence[Tool | ToolSchema] = (),
        tool_choice: Tool | Literal["auto", "required", "none"] = "auto",
        json_output: bool | type[BaseModel] | None = None,
        extra_create_args: Mapping[str, Any] = {},
        cancellation_token: CancellationToken | None = None,
    ) -> CreateResult:
        fitted, fitting = await self._fitting(messages, tools, json_output, extra_create_args)
        result = await self._client.create(
            fitting,
            tools=tools,
            tool_choice=tool_choice,
            json_output=json_output,
            extra_create_args=extra_create_args,
            cancellation_token=cancellation_token,
        )
        self._learn(fitted, result)
        return result

    async def create_stream(
        self,
        messages: Sequence[LLMMessage],
        *,
        tools: Sequence[Tool | ToolSchema] = (),
        tool_choice: Tool | Literal["auto", "required", "none"] = "auto",
        json_output: bool | type[BaseModel] | None = None,
        extra_create_args: Mapping[str, Any] = {},
        cancellation_token: CancellationToken | None = None,
    ) -> AsyncGenerator[str | CreateResult, None]:
        fitted, fitting = await self._fitting(messages, tools, json_output, extra_create_args)
        stream = self._client.create_stream(
            fitting,
            tools=tools,
            tool_choice=tool_choice,
            json_output=json_output,
            extra_create_args=extra_create_args,
            cancellation_token=cancellation_token,
        )
        async for chunk in stream:
            if isinstance(chunk, CreateResult):
                self._learn(fitted, chunk)
            yield chunk

    async def _fitting(
        self,
        messages: Sequence[LLMMessage],
        tools: Sequence[Tool | ToolSchema],
        json_output: bool | type[BaseModel] | None,
        arguments: Mapping[str, Any],
    ) -> tuple[Fitted, list[LLMMessage]]:
        offered = schemas(tools)
        if isinstance(json_output, type):  # some servers put the schema into the prompt
            offered.append({"name": json_output.__name__, "parameters": json_output.model_json_schema()})
        asked = next((value for key in _OUTPUT if isinstance(value := arguments.get(key), int)), None)
        given = AutoGenMessages(messages)
        fitted = await self._fitter.afit(given.dicts, tools=offered, style="openai", max_output=asked)
        self.last = fitted
        return fitted, (given.back(fitted.messages) if fitted.changed else list(messages))

    def _learn(self, fitted: Fitted, result: CreateResult) -> None:
        if not result.cached:
            self._fitter.report(fitted, result.usage.prompt_tokens)

    async def close(self) -> None:
        await self._client.close()

    def actual_usage(self) -> RequestUsage:
        return self._client.actual_usage()

    def total_usage(self) -> RequestUsage:
        return self._client.total_usage()

    def count_tokens(self, messages: Sequence[LLMMessage], *, tools: Sequence[Tool | ToolSchema] = ()) -> int:
        return self._client.count_tokens(messages, tools=tools)

    def remaining_tokens(self, messages: Sequence[LLMMessage], *, tools: Sequence[Tool | ToolSchema] = ()) -> int:
        return self._client.remaining_tokens(messages, tools=tools)

    @property
    def capabilities(self) -> ModelCapabilities:  # pyright: ignore[reportDeprecated]
        return self._client.capabilities  # pyright: ignore[reportDeprecated]

    @property
    def model_info(self) -> ModelInfo:
        return self._client.model_info

    def _to_config(self) -> GuardClientConfig:
        return GuardClientConfig(
            client=self._client.dump_component(),
            budget=BudgetConfig.of(self._fitter.budget),
            counter=self._given_counter if isinstance(self._given_counter, str) else None,
            strict=self._strict,
        )

    @classmethod
    def _from_config(cls, config: GuardClientConfig) -> GuardClient:
        client = ChatCompletionClient.load_component(config.client)
        return cls(client, config.budget.budget(), counter=config.counter, strict=config.strict)


def _with_window(budget: ContextBudget | int | None, client: ChatCompletionClient) -> ContextBudget:
    found = ContextBudget(budget) if isinstance(budget, int) else budget or ContextBudget()
    if found.window is not None:
        return found
    try:
        window = client.remaining_tokens([])
    except Exception:  # noqa: BLE001  another program's client: those of unknown models raise whatever they like
        return found
    return BudgetConfig.of(found).model_copy(update={"window": window}).budget() if window > 0 else found


class GuardContextConfig(BaseModel):
    """The configuration of a `GuardContext`."""

    budget: BudgetConfig
    counter: str | None = None
    initial_messages: list[LLMMessage] | None = None


class GuardContext(ChatCompletionContext, Component[GuardContextConfig]):  # pyright: ignore[reportUnsafeMultipleInheritance]
    """What an agent stores, bounded: older turns become one summary, what is too large becomes a preview of itself.

    What `get_messages` gives, and what `save_state` saves, takes at most what the budget leaves beside its reserve. An
    agent's system prompt and tools are not in it: leave room for them, or guard the client as well.

    Args:
        budget: A `ContextBudget`, or the window in tokens.
        counter: As `Fitter` takes it.
        initial_messages: What is in it from the beginning.
    """

    component_config_schema = GuardContextConfig
    component_provider_override = "wherry.guard.autogen.GuardContext"

    def __init__(
        self,
        budget: ContextBudget | int,
        *,
        counter: CounterLike | None = None,
        initial_messages: list[LLMMessage] | None = None,
    ) -> None:
        super().__init__(initial_messages)
        self._counter = counter
        self._fitter = Fitter(budget, counter, strict=False)

    async def add_message(self, message: LLMMessage) -> None:
        self._messages.append(message)
        if message.type != "AssistantMessage" or isinstance(message.content, str):  # its calls wait for their results
            await self._fit()

    async def get_messages(self) -> list[LLMMessage]:
        await self._fit()
        return list(self._messages)

    async def load_state(self, state: Mapping[str, Any]) -> None:
        await super().load_state(state)
        await self._fit()

    async def _fit(self) -> None:
        given = AutoGenMessages(self._messages)
        fitted = await self._fitter.afit(given.dicts, style="openai")
        if fitted.changed:
            self._messages = given.back(fitted.messages)

    def _to_config(self) -> GuardContextConfig:
        return GuardContextConfig(
            budget=BudgetConfig.of(self._fitter.budget),
            counter=self._counter if isinstance(self._counter, str) else None,
            initial_messages=self._initial_messages,
        )

    @classmethod
    def _from_config(cls, config: GuardContextConfig) -> GuardContext:
        return cls(config.budget.budget(), counter=config.counter, initial_messages=config.initial_messages)
