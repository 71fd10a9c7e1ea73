"""An AutoGen workbench whose large results stay outside the conversation: a reference and a preview go in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autogen_core import CancellationToken, Component, ComponentModel
from autogen_core.tools import ImageResultContent, TextResultContent, ToolResult, ToolSchema, Workbench
from pydantic import BaseModel

from wherry.context import TokenCounter
from wherry.context.door import Door
from wherry.errors import ToolError
from wherry.messages import Message
from wherry.models.protocol import ModelProfile
from wherry.store import Store, open_store
from wherry.tools.builtin.read_artifact import read_artifact
from wherry.tools.builtin.search_artifact import search_artifact
from wherry.tools.context import ToolContext, use_context

_READERS = {tool.name: tool for tool in (read_artifact, search_artifact)}
_RUN = "autogen"
"""Whose artifacts they are: AutoGen has no run ids."""


class GuardWorkbenchConfig(BaseModel):
    """The configuration of a `GuardWorkbench`."""

    workbench: ComponentModel
    store: str | None = None
    per_result: int = 1_000
    counter: str = "bytes"


class GuardWorkbench(Workbench, Component[GuardWorkbenchConfig]):  # pyright: ignore[reportUnsafeMultipleInheritance]
    """A workbench that gives no result of more than so many tokens.

    What is larger goes to the store; a preview with its reference is the result. Two more tools, `read_artifact` and
    `search_artifact`, read any part of it; a tool of the same name of the workbench's own comes first.

    Args:
        workbench: Any workbench.
        store: A store or its URL; None: the user's own.
        per_result: Most tokens of one result.
        counter: The vocabulary that they are counted with; without one they are estimated from above.
    """

    component_config_schema = GuardWorkbenchConfig
    component_provider_override = "wherry.guard.autogen_workbench.GuardWorkbench"

    def __init__(
        self,
        workbench: Workbench,
        store: Store | str | None = None,
        *,
        per_result: int = 1_000,
        counter: str = "bytes",
    ) -> None:
        self._workbench = workbench
        self._store = store if store is not None and not isinstance(store, str) else open_store(store)
        self._url = store if isinstance(store, str) else None
        self._per_result = per_result
        self._counter = counter
        self._door = Door(
            TokenCounter.for_profile(ModelProfile("", counter=counter)),
            control_tokens=(),
            artifacts=self._store.artifacts,
            run_id=_RUN,
            record=_ignore,
        )

    async def list_tools(self) -> list[ToolSchema]:
        tools = list(await self._workbench.list_tools())
        names = {tool["name"] for tool in tools}
        return [*tools, *(_schema(name) for name in _READERS if name not in names)]

    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        cancellation_token: CancellationToken | None = None,
        call_id: str | None = None,
    ) -> ToolResult:
        if name in _READERS and name not in {tool["name"] for tool in await self._workbench.list_tools()}:
            return await self._read(name, arguments or {})
        result = await self._workbench.call_tool(name, arguments, cancellation_token, call_id)
        return await self._small(result)

    async def _small(self, result: ToolResult) -> ToolResult:
        text = "\n".join(part.content for part in result.result if isinstance(part, TextResultContent))
        message = Message("tool", text)
        await self._door.ready(message, self._per_result)
        kept, _ = self._door.admit(message, self._per_result)
        if kept.content == text:
            return result
        pictures = [part for part in result.result if isinstance(part, ImageResultContent)]
        parts = [TextResultContent(content=str(kept.content)), *pictures]
        return result.model_copy(update={"result": parts})

    async def _read(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        with use_context(ToolContext(_RUN, "", None, self._store)):
            try:
                text, failed = str(await _READERS[name].call(arguments)), False
            except ToolError as error:
                text, failed = str(error), True
        return await self._small(ToolResult(name=name, result=[TextResultContent(content=text)], is_error=failed))

    async def start(self) -> None:
        await self._workbench.start()

    async def stop(self) -> None:
        await self._workbench.stop()

    async def reset(self) -> None:
        await self._workbench.reset()

    async def save_state(self) -> Mapping[str, Any]:
        return await self._workbench.save_state()

    async def load_state(self, state: Mapping[str, Any]) -> None:
        await self._workbench.load_state(state)

    def _to_config(self) -> GuardWorkbenchConfig:
        return GuardWorkbenchConfig(
            workbench=self._workbench.dump_component(),
            store=self._url,
            per_result=self._per_result,
            counter=self._counter,
        )

    @classmethod
    def _from_config(cls, config: GuardWorkbenchConfig) -> GuardWorkbench:
        workbench = Workbench.load_component(config.workbench)
        return cls(workbench, config.store, per_result=config.per_result, counter=config.counter)


def _schema(name: str) -> ToolSchema:
    schema = _READERS[name].schema
    parameters: Any = dict(schema.parameters)  # Any: JSON Schema, which AutoGen types by its own keys
    return ToolSchema(name=name, description=schema.description, parameters=parameters)


def _ignore(*_: object, **__: object) -> None:
    """There is no journal."""
