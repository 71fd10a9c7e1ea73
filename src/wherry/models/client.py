"""What the clients of chat servers have in common: options, the profile made of them, time limits, whole replies."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, NoReturn, TypedDict, TypeVar

from wherry.errors import ModelError
from wherry.messages import canonical, digest
from wherry.models.api_key import ApiKey
from wherry.models.chat_completions import check_settings
from wherry.models.endpoints import default_output, positive
from wherry.models.failures import Failure, FailureKind, classify
from wherry.models.families import family_of
from wherry.models.pricing import Price, cost
from wherry.models.protocol import Counter, ModelProfile, ModelReply

T = TypeVar("T")

TOTAL_SECONDS = 600.0
FIRST_TOKEN_SECONDS = 300.0
"""A long prompt takes minutes on a small machine; a server without memory takes for ever."""
STALL_SECONDS = 60.0


class ChatOptions(TypedDict, total=False):
    """The keyword arguments that every client of a chat server takes."""

    window: int | None
    """Context length in tokens, when it is known better than `prepare` finds it out."""
    max_output: int | None
    """Tokens of a reply when the request does not say. Default: an eighth of the window, within bounds."""
    temperature: float | None
    """Passed to the server when given."""
    settings: Mapping[str, Any] | None  # Any: the server's own parameters
    """Further parameters of the server's, sent with every request (`seed`, `top_p`, ...)."""
    counter: str | Counter | None
    """How tokens are counted; default: guessed from the name."""
    native_tools: bool
    """Whether the model takes tool schemas."""
    images: bool | None
    """Whether it takes pictures; default: guessed from the name."""
    price_key: str | Price | None
    """The name that price lists know it by, or a `Price`; `"free"` for a server of one's own."""
    timeout: float
    """Seconds for a whole request, its stream included."""
    first_token_timeout: float
    """Seconds until a stream's first piece."""
    stall_timeout: float
    """Seconds between two pieces of a stream, after the first."""


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """The seconds that a request may take, by what is waited for."""

    total: float
    first_token: float
    between: float


class Deadline:
    """The time limits of one request under way."""

    __slots__ = ("_ends", "_limits", "_next")

    def __init__(self, limits: TimeLimits, *, streaming: bool = False) -> None:
        now = asyncio.get_running_loop().time()
        self._limits = limits
        self._ends = now + limits.total
        self._next = min(self._ends, now + limits.first_token) if streaming else self._ends

    @property
    def next(self) -> float:
        """The loop's time by which the next piece has to be there."""
        return self._next

    def got_piece(self) -> None:
        self._next = min(self._ends, asyncio.get_running_loop().time() + self._limits.between)

    def passed(self, *, begun: bool) -> str:
        """Which limit it was."""
        if self._next >= self._ends:
            return f"not done within {self._limits.total:g} s"
        if begun:
            return f"nothing further for {self._limits.between:g} s in the middle of the reply"
        return f"no first token within {self._limits.first_token:g} s"


class ChatClient(ABC):
    """A model behind a server that is asked for chat completions."""

    def __init__(
        self, name: str, options: ChatOptions, *, price_key: str | None, plain_text: bool, backend: str
    ) -> None:
        """
        Args:
            name: The server's name for the model.
            options: The user's.
            price_key: The name that price lists know the model by, unless the user gave another.
            plain_text: Whether the server takes control tokens in messages for plain text.
            backend: Where the model runs.
        """
        if unknown := sorted(options.keys() - ChatOptions.__optional_keys__):
            raise TypeError(f"{type(self).__name__}() got an unexpected keyword argument {unknown[0]!r}")
        window, max_output = options.get("window"), options.get("max_output")
        self._limits = TimeLimits(
            options.get("timeout", TOTAL_SECONDS),
            options.get("first_token_timeout", FIRST_TOKEN_SECONDS),
            options.get("stall_timeout", STALL_SECONDS),
        )
        positive(
            window=window,
            max_output=max_output,
            timeout=self._limits.total,
            first_token_timeout=self._limits.first_token,
            stall_timeout=self._limits.between,
        )
        self._settings: dict[str, Any] = dict(options.get("settings") or {})
        if (temperature := options.get("temperature")) is not None:
            self._settings["temperature"] = temperature
        check_settings(self._settings)
        self._given_window = window
        self._given_max_output = max_output
        family, images = family_of(name), options.get("images")
        self._profile = ModelProfile(
            name,
            window=window,
            max_output=max_output or default_output(window, reasoning=family.reasoning),
            counter=options.get("counter") or family.counter,
            native_tools=options.get("native_tools", True),
            images=family.images if images is None else images,
            price_key=options.get("price_key") or price_key,
            control_tokens=() if plain_text else family.control_tokens,
            backend=backend,
            variant=digest(canonical(self._settings))[:16] if self._settings else "",
        )

    @property
    def profile(self) -> ModelProfile:
        """What is known of the model; more after `prepare`."""
        return self._profile

    @abstractmethod
    def _fail(self, failure: Failure, key: ApiKey | None = None) -> ModelError:
        """The error to raise for a failure of a request that was sent with this key."""

    def _learn_window(self, window: int) -> None:
        """The window has been found out; the output's bound follows from it."""
        reasoning = family_of(self._profile.name).reasoning
        max_output = self._given_max_output or default_output(window, reasoning=reasoning)
        self._profile = replace(self._profile, window=window, max_output=max_output)

    async def _guarded(
        self,
        call: Callable[[], Awaitable[T]],
        deadline: Deadline,
        key: ApiKey | None,
        *,
        errors: tuple[type[Exception], ...],
        begun: bool = False,
    ) -> T:
        """Await a call within its time; what it raises becomes a ModelError without the library's frames and causes."""
        scope = asyncio.timeout_at(deadline.next)
        try:
            async with scope:
                return await call()
        except ModelError:
            raise
        except errors as error:
            failure = classify(error=error)
            if scope.expired():
                failure = Failure(FailureKind.Timeout, detail=deadline.passed(begun=begun))
        raise self._fail(failure, key)

    def _finished(
        self, reply: ModelReply, started: float, key: ApiKey | None, charged: Decimal | None = None
    ) -> ModelReply:
        """A reply that the server calls whole, with its time and price.

        Raises:
            ModelError: It is none: withheld, or broken off by the server.
        """
        empty = not reply.text and not reply.tool_calls
        if reply.finish_reason == "content_filter" and empty:
            self._refuse(FailureKind.ContentFiltered, "the reply was withheld", key)
        if (kind := _BROKEN_OFF.get(reply.finish_reason or "")) is not None:
            self._refuse(kind, f"the reply was broken off: {reply.finish_reason}", key)
        if reply.usage is None:
            return reply
        usage = replace(reply.usage, seconds=time.perf_counter() - started)
        usd = cost(usage, self._profile.price_key)
        return replace(reply, usage=replace(usage, usd=charged if usd is None else usd))

    def _refuse(self, kind: FailureKind, detail: str, key: ApiKey | None) -> NoReturn:
        raise self._fail(Failure(kind, detail=detail, status=200), key)


# OpenRouter, vLLM and SGLang, DeepSeek: the status was 200, and the reply is half of one.
_BROKEN_OFF: Mapping[str, FailureKind] = {
    "error": FailureKind.ServerError,
    "abort": FailureKind.ServerError,
    "insufficient_system_resource": FailureKind.Overloaded,
}
