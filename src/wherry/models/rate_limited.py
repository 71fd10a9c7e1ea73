"""A model that is asked no more often than it may be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from wherry.errors import ConfigurationError, ContextBudgetError
from wherry.messages import canonical
from wherry.models.call import Call, current_call, deltas_of, store_for
from wherry.models.gate import Gate
from wherry.models.protocol import Model, ModelDelta, ModelProfile, ModelReply, ModelRequest, Prepared
from wherry.models.resolve import model_from

if TYPE_CHECKING:
    from wherry.store import Store

BYTES_PER_TOKEN = 3
"""For a request that nobody counted: few texts have more tokens than that."""


class RateLimited:
    """Lets requests to a model wait until they may be made.

    Args:
        model: The model.
        rpm: Requests per minute.
        tpm: Tokens per minute, prompt and output together. What a request may take at most is booked before it is made,
            and what it took when it is done.
        tokens_in_flight: Tokens of all requests together that may be under way at the same time, in this process.
        store: Where the rates are kept; default: the store of the run that asks, else the user's own. All processes
            with the same store share the rates exactly.
        key: What the rates are kept under; default: the model's place and name. Two models with the same key share
            their rates.
        sleep: How to wait.

    A rate is that of a bucket which holds one minute's worth and fills steadily, as OpenAI's and Anthropic's own limits
    are: after a pause a whole minute's requests may be made at once. Waiting requests of one process go in order.

    Raises:
        ConfigurationError: No limit was given, or one that is not above 0.
    """

    def __init__(
        self,
        model: Model | str,
        rpm: float | None = None,
        tpm: float | None = None,
        tokens_in_flight: int | None = None,
        *,
        store: Store | None = None,
        key: str | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        given = {"rpm": rpm, "tpm": tpm, "tokens_in_flight": tokens_in_flight}
        for name, value in given.items():
            if value is not None and not value > 0:
                raise ConfigurationError(f"{name} is {value!r}; it must be above 0")
        if all(value is None for value in given.values()):
            raise ConfigurationError("a RateLimited model has no limit", hint="give rpm=, tpm= or tokens_in_flight=")
        self._model = model_from(model)
        self._rpm = rpm
        self._tpm = tpm
        self._gate = None if tokens_in_flight is None else Gate(tokens_in_flight)
        self._store = store
        self._given_key = key
        self._sleep = sleep
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()

    @property
    def model(self) -> Model:
        """The model that it asks."""
        return self._model

    @property
    def profile(self) -> ModelProfile:
        """The model's; its window is no larger than what may ever be sent."""
        return self._bounded(self._model.profile)

    async def prepare(self) -> ModelProfile:
        found = await self._model.prepare() if isinstance(self._model, Prepared) else self._model.profile
        return self._bounded(found)

    def route(self, call: Call | None) -> Model:
        return self._model

    async def complete(self, request: ModelRequest) -> ModelReply:
        """The model's reply, as soon as it may be asked.

        Raises:
            ContextBudgetError: The request is larger than what may ever be sent.
        """
        async with self._admitted(request) as settle:
            reply = await self._model.complete(request)
            settle(reply)
            return reply

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelDelta]:
        """As `complete`, in pieces."""
        async with self._admitted(request) as settle, deltas_of(self._model, request) as deltas:
            async for delta in deltas:
                if delta.reply is not None:
                    settle(delta.reply)
                yield delta

    @asynccontextmanager
    async def _admitted(self, request: ModelRequest) -> AsyncGenerator[Callable[[ModelReply], None]]:
        tokens = self._tokens(request)
        if self._tpm is not None and tokens > self._tpm:
            raise ContextBudgetError(
                f"the request takes up to {tokens:,} tokens, and {self._tpm:,.0f} are allowed in a minute",
                hint="shorten it, or lower its max_output",
                diagnosis={"kind": "ContextBudget", "requested": tokens, "tpm": self._tpm},
            )
        if self._gate is not None:
            await self._gate.enter(tokens)
        try:
            await self._take(tokens)
            yield lambda reply: self._settle(tokens, reply)
        finally:
            if self._gate is not None:
                self._gate.leave(tokens)

    async def _take(self, tokens: int) -> None:
        """Wait until both rates allow it. One waits at the store, the others of this process behind it, in order."""
        if self._rpm is None and self._tpm is None:
            return
        turn = self._turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        async with turn:
            for name, rate, cost in (("requests", self._rpm, 1), ("tokens", self._tpm, tokens)):
                if rate is None:
                    continue
                key = f"{self._key()}:{name}"
                rates = store_for(self._store).rates
                while (wait := rates.take(key, cost=cost, rate_per_minute=rate, burst=max(rate, 1.0))) > 0:
                    await self._sleep(wait)

    def _settle(self, tokens: int, reply: ModelReply) -> None:
        used = reply.usage
        if self._tpm is None or used is None:
            return  # nobody knows: what was booked stands
        spare = tokens - used.input_tokens - used.output_tokens
        if spare:  # more than was booked is booked now
            store_for(self._store).rates.give_back(f"{self._key()}:tokens", cost=spare, rate_per_minute=self._tpm)

    def _tokens(self, request: ModelRequest) -> int:
        call = current_call()
        if call is not None and call.tokens is not None:
            return call.tokens
        profile = self._model.profile
        texts = [message.encode() for message in request.messages]
        texts += [canonical(tool.to_json()) for tool in request.tools]
        count = profile.counter
        if callable(count):
            prompt = sum(count(text.decode("utf-8", "replace")) for text in texts)
        else:
            prompt = sum(len(text) for text in texts) // BYTES_PER_TOKEN
        return prompt + (request.max_output or profile.max_output)

    def _key(self) -> str:
        profile = self._model.profile
        return self._given_key or f"{profile.backend}:{profile.name}"

    def _bounded(self, profile: ModelProfile) -> ModelProfile:
        most = [profile.window, None if self._gate is None else self._gate.capacity, self._tpm]
        known = [int(each) for each in most if each is not None]
        return profile if not known or known == [profile.window] else replace(profile, window=min(known))

    def __repr__(self) -> str:
        capacity = None if self._gate is None else self._gate.capacity
        return f"RateLimited({self._model!r}, rpm={self._rpm!r}, tpm={self._tpm!r}, tokens_in_flight={capacity!r})"
