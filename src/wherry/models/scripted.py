"""Models that answer from a script or a function: for tests, and for programs that decide by themselves."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, TypeAlias, cast

from wherry.errors import ModelError
from wherry.models.protocol import ModelDelta, ModelProfile, ModelReply, ModelRequest

Answer: TypeAlias = "str | ModelReply"
Answerer: TypeAlias = "Callable[[ModelRequest], Answer | Awaitable[Answer]]"
Scripted: TypeAlias = "Answer | BaseException | Answerer"
"""What a script may hold: a reply, an exception to raise, or a function from the request to a reply."""


class ScriptedModel:
    """Gives the replies of a script in order and records every request in `requests`.

    Args:
        replies: `str` | `ModelReply` | an exception (raised) | a function `fn(request)`, sync or async, of one of the
            first two. May be any iterable; it is read as it is needed.
        profile: Fields of `ModelProfile` to set: `name`, `window`, `native_tools`, ...

    It is not asked for summaries of older turns, unless it is given as `ContextBudget(summarizer=...)` or made with
    `writes_summaries=True`: the extract stands for them, and no reply of the script is taken but by a step.

    Calls that run at the same time take replies in the order in which they were made. A reply that does not say what it
    used has a `usage` of None. An exception that is the script's last item is raised for every further call too: a
    server that is down stays down, however often an agent tries.
    """

    def __init__(self, replies: Iterable[Scripted], **profile: Any) -> None:  # Any: the profile's fields
        if isinstance(replies, str):
            raise TypeError("replies is a str; give a list of replies: ScriptedModel(['...'])")
        self._replies = iter(replies)
        self._down: BaseException | None = None
        """The last item, while it is an exception."""
        self._profile = ModelProfile(profile.pop("name", "scripted"), **_defaults(profile))
        self.requests: list[ModelRequest] = []
        """Every request, in the order of the calls."""

    @property
    def profile(self) -> ModelProfile:
        return self._profile

    async def complete(self, request: ModelRequest) -> ModelReply:
        self.requests.append(request)
        try:
            item = next(self._replies)
        except StopIteration:
            if self._down is not None:
                raise self._down from None
            raise ModelError(
                f"the script of {self._profile.name!r} is used up: this is request {len(self.requests)}, "
                f"and there were {len(self.requests) - 1} replies",
                kind="BadRequest",  # so that nothing retries: there will never be more
                hint="add a reply to the script, or a function as its last item to answer whatever comes",
            ) from None
        self._down = item if isinstance(item, BaseException) else None
        return await _reply(item, request)

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelDelta]:
        async for delta in _stream(await self.complete(request)):
            yield delta

    def __repr__(self) -> str:
        return f"ScriptedModel(name={self._profile.name!r}, requests={len(self.requests)})"


class FunctionModel:
    """Answers with what a function, sync or async, makes of the request.

    Args:
        fn: `fn(request) -> str | ModelReply`. A sync function runs on the event loop: it should not block.
        profile: Fields of `ModelProfile` to set: `name`, `window`, `native_tools`, ...
    """

    def __init__(self, fn: Answerer, **profile: Any) -> None:  # Any: the profile's fields
        self._fn = fn
        name = profile.pop("name", None) or getattr(fn, "__name__", "function")
        self._profile = ModelProfile(name, **_defaults(profile))

    @property
    def profile(self) -> ModelProfile:
        return self._profile

    async def complete(self, request: ModelRequest) -> ModelReply:
        return await _reply(self._fn, request)

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelDelta]:
        async for delta in _stream(await self.complete(request)):
            yield delta

    def __repr__(self) -> str:
        return f"FunctionModel({self._profile.name!r})"


def _defaults(profile: dict[str, Any]) -> dict[str, Any]:
    return {"window": 128_000, "price_key": "free", "writes_summaries": False, **profile}


async def _reply(item: Scripted, request: ModelRequest) -> ModelReply:
    if isinstance(item, ModelReply):
        return item
    if isinstance(item, str):
        return ModelReply(item, finish_reason="stop")
    if isinstance(item, BaseException):
        raise item
    if not callable(item):
        raise TypeError(f"a script holds str, ModelReply, exceptions and functions, not {item!r}")
    answer: object = item(request)
    if inspect.isawaitable(answer):
        answer = await cast("Awaitable[object]", answer)
    if isinstance(answer, str):
        return ModelReply(answer, finish_reason="stop")
    if not isinstance(answer, ModelReply):
        raise TypeError(f"a model's function gives str or ModelReply, not {answer!r}")
    return answer


async def _stream(reply: ModelReply) -> AsyncIterator[ModelDelta]:
    """The reply word by word, its blanks kept, then whole."""
    start = 0
    text = reply.text
    while start < len(text):
        end = text.find(" ", start + 1)
        end = len(text) if end < 0 else end
        yield ModelDelta(text[start:end])
        start = end
    yield ModelDelta(reply=reply)
