"""Every provider that LiteLLM knows, behind one client."""

from __future__ import annotations

import asyncio
import os
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from decimal import Decimal
from functools import cache
from importlib.util import find_spec
from typing import Any, cast

from wherry.errors import ConfigurationError, MissingExtra, ModelError
from wherry.models.api_key import ApiKey
from wherry.models.chat_completions import Body, Draft, check, check_settings, read_reply, request_body
from wherry.models.endpoints import default_output, positive
from wherry.models.explain import model_error
from wherry.models.failures import Failure, FailureKind, classify
from wherry.models.families import family_of
from wherry.models.loop_clients import LoopClients
from wherry.models.pricing import Price, cost
from wherry.models.protocol import Counter, ModelDelta, ModelProfile, ModelReply, ModelRequest


class LiteLLMModel:
    """A model by LiteLLM's name for it: `"anthropic/claude-..."`, `"gemini/..."`, `"bedrock/..."`, `"openai/..."`.

    Args:
        model_id: `provider/name`, as in LiteLLM's documentation.
        api_key: Without it LiteLLM looks in the provider's own environment variable.
        api_base: The address, for a server of one's own or a gateway.
        window: Context length in tokens; default: what LiteLLM's offline table says.
        max_output: Tokens of a reply when the request does not say. Default: an eighth of the window, within bounds.
        temperature: Passed on when given.
        settings: Further parameters, sent with every request; LiteLLM's own may be among them.
        counter: How tokens are counted; default: guessed from the name.
        native_tools: Whether the model takes tool schemas.
        images: Whether it takes pictures; default: guessed from the name.
        price_key: The name that price lists know it by, or a `Price`; default: `model_id`.
        timeout: Seconds for a whole request, its stream included.
        stall_timeout: Seconds between two pieces of a stream, after the first.

    LiteLLM is imported at the first request, not before: it takes 3 s of CPU and 160 MB. Only while it is imported,
    `LITELLM_LOCAL_MODEL_COST_MAP=True` is in the environment: else it fetches its prices from the network.

    A stream that ends early without an error is finished by LiteLLM as if it were whole: that cannot be seen here.

    Raises:
        MissingExtra: The litellm package is not installed.
        ConfigurationError: The name has no provider, or settings are wherry's to make.
    """

    def __init__(
        self,
        model_id: str = "openai/gpt-4o-mini",
        *,
        api_key: str | None = None,
        api_base: str | None = None,
        window: int | None = None,
        max_output: int | None = None,
        temperature: float | None = None,
        settings: Mapping[str, Any] | None = None,  # Any: the provider's own parameters
        counter: str | Counter | None = None,
        native_tools: bool = True,
        images: bool | None = None,
        price_key: str | Price | None = None,
        timeout: float = 600.0,
        stall_timeout: float = 60.0,
    ) -> None:
        if find_spec("litellm") is None:
            raise MissingExtra("LiteLLMModel", "litellm")
        provider, slash, name = model_id.partition("/")
        if not (provider and slash and name):
            raise ConfigurationError(
                f"{model_id!r} is no LiteLLM model", hint="provider/name, such as anthropic/claude-sonnet-4-5"
            )
        positive(window=window, max_output=max_output, timeout=timeout, stall_timeout=stall_timeout)
        self._settings: dict[str, Any] = dict(settings or {})
        if temperature is not None:
            self._settings["temperature"] = temperature
        check_settings(self._settings)
        self._provider = provider
        self._key = ApiKey(api_key, "api_key") if api_key is not None and api_key.strip() else None
        self._api_base = api_base
        self._given_max_output = max_output
        self._timeout = timeout
        self._stall_timeout = stall_timeout
        family = family_of(model_id)
        self._profile = ModelProfile(
            model_id,
            window=window,
            max_output=max_output or default_output(window, reasoning=family.reasoning),
            counter=counter or family.counter,
            native_tools=native_tools,
            images=family.images if images is None else images,
            price_key=price_key or (model_id if api_base is None else None),
            control_tokens=() if provider in ("openai", "azure", "anthropic", "gemini") else family.control_tokens,
        )
        self._lives: LoopClients[_Connections] = LoopClients(_Connections)

    @property
    def profile(self) -> ModelProfile:
        """What is known of the model; more after `prepare`."""
        return self._profile

    async def prepare(self) -> ModelProfile:
        """Look the window up in LiteLLM's offline table. Never fails."""
        if self._profile.window is None:
            window = _listed_window(self._profile.name)
            if window is not None:
                reasoning = family_of(self._profile.name).reasoning
                max_output = self._given_max_output or default_output(window, reasoning=reasoning)
                self._profile = replace(self._profile, window=window, max_output=max_output)
        return self._profile

    async def complete(self, request: ModelRequest) -> ModelReply:
        """The whole reply.

        Raises:
            ModelError: The provider failed, or sent no answer.
            ConfigurationError: The request is none that a provider could answer.
        """
        arguments = self._arguments(request)
        _litellm()  # imported before the time limits begin
        started = time.perf_counter()
        deadline = asyncio.get_running_loop().time() + self._timeout
        answer = await self._send(arguments, deadline)
        return self._finished(read_reply(_dumped(answer)), started, _charged(answer))

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelDelta]:
        """The reply in pieces; the last delta has the whole.

        Raises:
            ModelError: As `complete`; also when the stream reports an error, breaks or stalls.
        """
        arguments = {**self._arguments(request), "stream": True, "stream_options": {"include_usage": True}}
        _litellm()
        started = time.perf_counter()
        loop = asyncio.get_running_loop()
        deadline = limit = loop.time() + self._timeout
        chunks: Any = await self._send(arguments, deadline)  # Any: LiteLLM's wrapper, which has no types
        draft = Draft()
        try:
            while (chunk := await self._guarded(lambda: anext(chunks, None), limit)) is not None:
                limit = min(deadline, loop.time() + self._stall_timeout)
                if text := draft.add_chunk(_dumped(chunk)):
                    yield ModelDelta(text)
        finally:
            if (close := getattr(chunks, "aclose", None)) is not None:
                await close()
        if draft.finish_reason is None and not draft.texts and not draft.calls:
            raise self._fail(Failure(FailureKind.ConnectionLost, detail="the stream ended before its first token"))
        yield ModelDelta(reply=self._finished(draft.reply(), started, None))

    async def aclose(self) -> None:
        """Close LiteLLM's connections of the running loop; they close by themselves when the loop ends."""
        await self._lives.aclose()

    def __repr__(self) -> str:
        return f"LiteLLMModel({self._profile.name!r})"

    def _arguments(self, request: ModelRequest) -> Body:
        check(request)
        body = request_body(
            request,
            model=self._profile.name,
            settings=self._settings,
            # LiteLLM turns it into what the provider calls it.
            limit={"max_tokens": request.max_output or self._profile.max_output},
        )
        # LiteLLM retries by its own count and lets the SDK below retry by another: both off.
        body |= {"num_retries": 0, "max_retries": 0, "timeout": self._timeout}
        if self._api_base is not None:
            body["api_base"] = self._api_base
        return body

    async def _send(self, arguments: Body, deadline: float) -> object:
        litellm = _litellm()
        await self._lives.get()
        key = {} if self._key is None else {"api_key": self._key.reveal()}
        return await self._guarded(lambda: litellm.acompletion(**arguments, **key), deadline)

    async def _guarded(self, call: Callable[[], Awaitable[Any]], deadline: float) -> Any:  # Any: what the call gives
        """Await a call within its time; what it raises becomes a ModelError without LiteLLM's frames and causes."""
        try:
            async with asyncio.timeout_at(deadline):
                return await call()
        except ModelError:
            raise
        except Exception as error:  # noqa: BLE001  # every provider's adapter raises its own; all of them are classified
            failure = classify(error=error)
        raise self._fail(failure)

    def _finished(self, reply: ModelReply, started: float, charged: Decimal | None) -> ModelReply:
        if reply.finish_reason == "content_filter" and not reply.text and not reply.tool_calls:
            raise self._fail(Failure(FailureKind.ContentFiltered, detail="the reply was withheld"))
        if reply.usage is None:
            return reply
        usage = replace(reply.usage, seconds=time.perf_counter() - started)
        usd = cost(usage, self._profile.price_key)
        return replace(reply, usage=replace(usage, usd=charged if usd is None else usd))

    def _fail(self, failure: Failure) -> ModelError:
        where = self._provider if self._api_base is None else f"{self._provider} at {self._api_base}"
        variable = f"{self._provider.upper()}_API_KEY"
        return model_error(failure, model=self._profile.name, where=where, key=self._key, key_variable=variable)


class _Connections:
    """LiteLLM's clients, which it caches per event loop and closes only when the process ends."""

    async def close(self) -> None:
        with suppress(RuntimeError):  # a client of another loop
            await _litellm().close_litellm_async_clients()


@cache
def _litellm() -> Any:  # Any: LiteLLM has no types worth the name
    """The package, imported without its fetching, printing and warning."""
    with _environment(LITELLM_LOCAL_MODEL_COST_MAP="True"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import litellm  # pyright: ignore[reportMissingImports]  # an extra that few have

        module = cast("Any", litellm)
        module.ModelResponse()  # its schemas are built at first use, which warns as well
    module.suppress_debug_info = True  # it prints advertisements to stdout on every error
    module.telemetry = False
    return module


@contextmanager
def _environment(**variables: str) -> Generator[None, None, None]:
    """Variables that the user has not set, for as long as it takes."""
    mine = [name for name in variables if name not in os.environ]
    os.environ.update({name: variables[name] for name in mine})
    try:
        yield
    finally:
        for name in mine:
            os.environ.pop(name, None)


def _listed_window(model_id: str) -> int | None:
    try:
        info: Any = _litellm().get_model_info(model_id)
    except Exception:  # noqa: BLE001  # it raises a bare Exception for a model that its table lacks
        return None
    window = info.get("max_input_tokens") or info.get("max_tokens")
    return window if isinstance(window, int) and window > 0 else None


def _dumped(answer: object) -> Mapping[str, Any]:
    """LiteLLM's object as JSON."""
    with warnings.catch_warnings():
        # Its own objects do not fit its own types; pydantic warns of each one.
        warnings.simplefilter("ignore")
        return cast("Mapping[str, Any]", cast("Any", answer).model_dump())


def _charged(answer: object) -> Decimal | None:
    """What LiteLLM reckons the request cost; it says 0 where it does not know."""
    hidden = getattr(answer, "_hidden_params", None)
    charged = cast("Mapping[str, Any]", hidden).get("response_cost") if isinstance(hidden, Mapping) else None
    return Decimal(str(charged)) if isinstance(charged, (int, float)) and charged > 0 else None
