"""The context bound for LangChain's agents: a middleware that fits each request to a model.

What the agent's state holds stays as it is. Messages are put as OpenAI's dicts to be fitted; those that did not change
reach the model as the very objects that came in.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from wherry.errors import MissingExtra

try:
    from langchain.agents.middleware import AgentMiddleware
    from langchain.agents.middleware.types import ModelCallResult, ModelRequest, ModelResponse
    from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, SystemMessage, convert_to_messages
    from langchain_core.utils.function_calling import convert_to_openai_tool
except ImportError:
    raise MissingExtra("wherry.guard.langchain", "langchain") from None

from wherry.context import ContextBudget
from wherry.guard.fitting import CounterLike, Fitted, Fitter
from wherry.guard.pieces import Dict

_ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}
_OUTPUT = ("max_tokens", "max_completion_tokens")

Handler = Callable[[ModelRequest[Any]], ModelResponse[Any]]
AsyncHandler = Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]


class GuardMiddleware(AgentMiddleware[Any, Any, Any]):
    """Bounds every request of an agent: `create_agent(model, tools, middleware=[GuardMiddleware(8_192)])`.

    Put it last: what other middlewares add to a request is bounded then, too.

    Args:
        budget: A `ContextBudget`, or the window in tokens.
        counter: As `Fitter` takes it; without it tokens are estimated from above.
        strict: Whether messages are put as the strictest servers take them, as `Fitter` has it.
    """

    def __init__(
        self, budget: ContextBudget | int, *, counter: CounterLike | None = None, strict: bool = False
    ) -> None:
        super().__init__()
        self._fitter = Fitter(budget, counter, strict=strict)
        self.last: Fitted | None = None
        """What was made of the last request."""

    def wrap_model_call(self, request: ModelRequest[Any], handler: Handler) -> ModelCallResult[Any]:
        given, arguments = self._given(request)
        return handler(self._fitting(request, given, self._fitter.fit([raw for raw, _ in given], **arguments)))

    async def awrap_model_call(self, request: ModelRequest[Any], handler: AsyncHandler) -> ModelCallResult[Any]:
        given, arguments = self._given(request)
        fitted = await self._fitter.afit([raw for raw, _ in given], **arguments)
        return await handler(self._fitting(request, given, fitted))

    def _given(self, request: ModelRequest[Any]) -> tuple[list[tuple[Dict, BaseMessage]], dict[str, Any]]:
        """The messages with their dicts, and what else `fit` is to know."""
        system = [] if request.system_message is None else [request.system_message]
        messages: list[BaseMessage] = [*system, *request.messages]
        tools = [convert_to_openai_tool(tool) for tool in request.tools]
        settings = request.model_settings
        asked = next((value for key in _OUTPUT if isinstance(value := settings.get(key), int)), None)
        return [(openai_dict(m), m) for m in messages], {"tools": tools, "style": "openai", "max_output": asked}

    def _fitting(
        self, request: ModelRequest[Any], given: Sequence[tuple[Dict, BaseMessage]], fitted: Fitted
    ) -> ModelRequest[Any]:
        self.last = fitted
        if not fitted.changed:
            return request
        came_as = {id(raw): message for raw, message in given}
        messages = [came_as.get(id(raw)) or _message(raw) for raw in fitted.messages]
        # The system prompt is apart in LangChain's requests; it is the first, if there was one.
        if request.system_message is not None:
            return request.override(
                system_message=cast("SystemMessage", messages[0]), messages=cast("list[AnyMessage]", messages[1:])
            )
        return request.override(messages=cast("list[AnyMessage]", messages))


def openai_dict(message: BaseMessage) -> dict[str, Any]:
    """A message as OpenAI's chat completions have it."""
    content = cast("Any", message.content)  # pyright: ignore[reportUnknownMemberType]
    raw: dict[str, Any] = {"role": _ROLES.get(message.type, "user"), "content": content}
    if message.name:
        raw["name"] = message.name
    if isinstance(message, AIMessage) and message.tool_calls:
        raw["tool_calls"] = [
            {
                "id": call["id"],
                "type": "function",
                "function": {"name": call["name"], "arguments": json.dumps(call["args"], default=str)},
            }
            for call in message.tool_calls
        ]
        if isinstance(content, list):  # some providers' calls stand in the content, too
            parts = cast("list[object]", content)
            raw["content"] = [part for part in parts if _kind(part) not in ("tool_use", "function_call", "tool_call")]
    if message.type == "tool":
        raw["tool_call_id"] = cast("Any", message).tool_call_id
    return raw


def _kind(part: object) -> object:
    return cast("Dict", part).get("type") if isinstance(part, dict) else None


def _message(raw: Dict) -> BaseMessage:
    return convert_to_messages([{**raw, "content": raw["content"] or ""}])[0]
