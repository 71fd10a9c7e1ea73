"""Answers that are kept: the same question is asked once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from wherry.errors import ConfigurationError
from wherry.messages import ToolCall, Usage, canonical, digest, parse
from wherry.models.call import Call, deltas_of, store_for
from wherry.models.protocol import Model, ModelDelta, ModelProfile, ModelReply, ModelRequest, Prepared
from wherry.models.resolve import model_from

if TYPE_CHECKING:
    from wherry.store import Store

VERSION = 1
"""Of what is stored: another one is not read."""


class Cached:
    """Keeps a model's answers in the store, and gives them again to the same request.

    Args:
        model: The one that is asked what has not been asked before.
        ttl: Seconds that an answer is good for; None: for ever.
        store: Where answers are kept; default: the store of the run that asks, else the user's own.

    The same is: the same model at the same place with the same settings, and a request whose messages, tools, output
    limit, settings and format are byte for byte the same. Failures are never kept. An answer that was kept has
    `cached=True`, and used nothing.

    Raises:
        ConfigurationError: `ttl` is not above 0.
    """

    def __init__(self, model: Model | str, ttl: float | None = None, *, store: Store | None = None) -> None:
        if ttl is not None and not ttl > 0:
            raise ConfigurationError(f"ttl is {ttl!r}", hint="seconds above 0, or None for ever")
        self._model = model_from(model)
        self._ttl = ttl
        self._store = store

    @property
    def model(self) -> Model:
        """The model that it asks."""
        return self._model

    @property
    def profile(self) -> ModelProfile:
        return self._model.profile

    async def prepare(self) -> ModelProfile:
        return await self._model.prepare() if isinstance(self._model, Prepared) else self._model.profile

    def route(self, call: Call | None) -> Model:
        return self._model

    async def complete(self, request: ModelRequest) -> ModelReply:
        """The answer that was kept, or the model's."""
        key = self._key(request)
        kept = self._kept(key)
        if kept is None:
            kept = await self._model.complete(request)
            self._keep(key, kept)
        return kept

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelDelta]:
        """The same in pieces; an answer that was kept is one."""
        key = self._key(request)
        kept = self._kept(key)
        if kept is not None:
            yield ModelDelta(kept.text)
            yield ModelDelta(reply=kept)
            return
        async with deltas_of(self._model, request) as deltas:
            async for delta in deltas:
                if delta.reply is not None:
                    self._keep(key, delta.reply)  # only a whole stream ends with a reply
                yield delta

    def _key(self, request: ModelRequest) -> str:
        profile = self._model.profile
        asked = {
            "version": VERSION,
            "model": [profile.name, profile.backend, profile.variant],
            "messages": [message.to_json() for message in request.messages],
            "tools": [tool.to_json() for tool in request.tools],
            "max_output": request.max_output or profile.max_output,
            "settings": dict(request.settings),
            "response_format": request.response_format,
        }
        return f"model:{digest(canonical(asked))}"

    def _kept(self, key: str) -> ModelReply | None:
        found = store_for(self._store).cache.get(key)
        return None if found is None else _reply(parse(found))

    def _keep(self, key: str, reply: ModelReply) -> None:
        if not reply.cached:  # another cache below has it already, and knows how long it is good for
            store_for(self._store).cache.put(key, canonical(_to_json(reply)), ttl=self._ttl)

    def __repr__(self) -> str:
        return f"Cached({self._model!r}, ttl={self._ttl!r})"


def _to_json(reply: ModelReply) -> dict[str, Any]:  # Any: JSON
    return {
        "version": VERSION,
        "text": reply.text,
        "tool_calls": [call.to_json() for call in reply.tool_calls],
        "finish_reason": reply.finish_reason,
        "model": reply.model,
    }


def _reply(kept: Mapping[str, Any]) -> ModelReply | None:
    if kept.get("version") != VERSION:
        return None
    reply = ModelReply(
        kept["text"],
        tool_calls=tuple(ToolCall(call["id"], call["name"], call["arguments"]) for call in kept["tool_calls"]),
        finish_reason=kept["finish_reason"],
        model=kept["model"],
    )
    return replace(reply, usage=Usage(), cached=True)
