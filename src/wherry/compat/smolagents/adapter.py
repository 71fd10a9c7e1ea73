"""A model of a user's own, with a `generate` of smolagents' kind, as one of wherry's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any, cast  # Any: users' own classes

from wherry.compat.smolagents.agent_types import png_of
from wherry.compat.smolagents.messages import ChatMessage, chat_to_reply, to_chat
from wherry.messages import Image
from wherry.models import Model, ModelDelta, ModelProfile, ModelReply, ModelRequest
from wherry.tools.threads import run_in_thread

STOPS = ["Observation:", "Calling tools:"]
"""Where a model is to stop that goes on to make up what comes back."""


class Asking:
    """What a request of an agent's brings besides wherry's own."""

    def __init__(self, tools: Mapping[str, object], images: Sequence[object]) -> None:
        self.tools = tools
        """The agent's, by name."""
        self.pictures = {Image(data=png_of(image)): image for image in images}
        """The task's, by what stands for them in messages."""
        self.answer: object = None
        """What the model said last, as it came."""
        self.kept: dict[str, object] = {}
        """Pictures and sounds that tools gave, by the names that stand for them in code and calls."""

    def keep(self, thing: object, kind: str) -> str:
        """A name for what is no data, and cannot go to a model or into a sandbox."""
        number, suffix = len(self.kept) + 1, ".png" if kind == "image" else ".mp3"
        name = f"{kind}{suffix}" if number == 1 else f"{kind}_{number}{suffix}"
        self.kept[name] = thing
        return name


asking: ContextVar[Asking | None] = ContextVar("wherry_smolagents_asking", default=None)


class _Announced:
    """A tool that is wherry's own, as a user's model is told of it."""

    output_type = "any"

    def __init__(self, name: str, description: str, parameters: Mapping[str, Any]) -> None:
        self.name, self.description = name, description
        required = parameters.get("required", ())
        properties: Mapping[str, Mapping[str, Any]] = parameters.get("properties", {})
        self.inputs = {
            key: {"type": "any", "description": "", **body, **({} if key in required else {"nullable": True})}
            for key, body in properties.items()
        }


class UserModel:
    """Asks `generate(messages, stop_sequences=..., tools_to_call_from=...)`, in a thread: it may block."""

    def __init__(self, model: object) -> None:
        self.inner = cast("Any", model)
        name: object = getattr(model, "model_id", None)
        window: object = getattr(model, "window", None)
        self._profile = ModelProfile(
            name if isinstance(name, str) and name else type(model).__name__,
            window=window if isinstance(window, int) else None,
            writes_summaries=False,  # a scripted one would lose a reply to each
        )

    @property
    def profile(self) -> ModelProfile:
        return self._profile

    async def complete(self, request: ModelRequest) -> ModelReply:
        about = asking.get()
        known: Mapping[str, object] = {} if about is None else about.tools
        options: dict[str, Any] = {"stop_sequences": list(STOPS)}
        if request.tools:
            options["tools_to_call_from"] = [
                known.get(one.name) or _Announced(one.name, one.description, one.parameters) for one in request.tools
            ]
        if request.response_format is not None:
            options["response_format"] = request.response_format
        options.update(request.settings)
        ask: Callable[..., object] = getattr(self.inner, "generate", None) or self.inner
        said = await run_in_thread(
            partial(ask, to_chat(request.messages, {} if about is None else about.pictures), **options), timeout=None
        )
        if request.tools and isinstance(said, ChatMessage) and not said.tool_calls:
            said = self._parsed(said)
        if about is not None:
            about.answer = said
        single = {
            one.name: next(iter(one.parameters["properties"]))
            for one in request.tools
            if one.parameters.get("properties")
        }
        return chat_to_reply(said, single)

    def _parsed(self, said: ChatMessage) -> ChatMessage:
        """With the call that its text holds, if it holds one; an agent says of others what is wrong."""
        parse = getattr(self.inner, "parse_tool_calls", None)
        if parse is None:
            return said
        try:
            parsed: object = parse(said)
        except Exception:  # noqa: BLE001 - a user's own parser; the agent tells the model that there is no call
            return said
        return parsed if isinstance(parsed, ChatMessage) else said

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelDelta]:
        reply = await self.complete(request)
        if reply.text:
            yield ModelDelta(reply.text)
        yield ModelDelta(reply=reply)


def core_model(model: object) -> Model:
    """A model of any kind as one of wherry's.

    Raises:
        TypeError: it is none.
    """
    if isinstance(getattr(model, "profile", None), ModelProfile):
        return cast("Model", model)
    own = getattr(model, "core", None)
    if callable(own) and getattr(type(model), "has_core", False):
        found = own()
        if found is not None:
            return cast("Model", found)
    if callable(getattr(model, "generate", None)) or (callable(model) and not hasattr(model, "parse_tool_calls")):
        return UserModel(model)
    raise TypeError(f"{model!r} is no model: it has no `generate`")
