"""Every provider that LiteLLM knows, behind one client."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from decimal import Decimal
from functools import cache
from importlib.util import find_spec
from typing import Any, Unpack, cast

from wherry.errors import ConfigurationError, MissingExtra, ModelError
from wherry.models.api_key import ApiKey
from wherry.models.cache_marks import mark, needs_marks
from wherry.models.chat_completions import Body, Draft, check, read_reply, request_body
from wherry.models.client import ChatClient, ChatOptions, Deadline
from wherry.models.explain import model_error
from wherry.models.failures import Failure, FailureKind
from wherry.models.key_ring import KeyRing
from wherry.models.loop_clients import LoopClients
from wherry.models.protocol import ModelDelta, ModelProfile, ModelReply, ModelRequest


class LiteLLMModel(ChatClient):
    """A model by LiteLLM's name for it: `"anthropic/claude-..."`, `"gemini/..."`, `"bedrock/..."`, `"openai/..."`.

    Args:
        model_id: `provider/name`, as in LiteLLM's documentation.
        api_key: A key, or a `KeyRing` of several. Without it LiteLLM looks in the provider's own environment variable.
        api_base: The address, for a server of one's own or a gateway.
        options: See `ChatOptions`. The default of `window` is what LiteLLM's offline table says; `settings` may have
            LiteLLM's own; the default of `price_key` is `model_id`.

    LiteLLM is imported at the first request, not before: it takes 3 s of CPU and 160 MB. Only while it is imported,
    `LITELLM_LOCAL_MODEL_COST_MAP=True` is in the environment: else it fetches its prices from the network.

    Requests to Anthropic's models are marked for its prompt cache, wherever they run; give `settings` with LiteLLM's
    `cache_control_injection_points` to do it otherwise.

    A stream that ends early without an error is finished by LiteLLM as if it were whole: that cannot be seen here.

    Raises:
        MissingExtra: The litellm package is not installed.
        ConfigurationError: The name has no provider, or settings are wherry's to make.
    """

    def __init__(
        self,
        model_id: str = "openai/gpt-4o-mini",
        *,
        api_key: str | KeyRing | None = None,
        api_base: str | None = None,
        **options: Unpack[ChatOptions],
    ) -> None:
        if find_spec("litellm") is None:
            raise MissingExtra("LiteLLMModel", "litellm")
        provider, slash, name = model_id.partition("/")
        if not (provider and slash and name):
            raise ConfigurationError(
                f"{model_id!r} is no LiteLLM model", hint="provider/name, such as anthropic/claude-sonnet-4-5"
            )
        super().__init__(
            model_id,
            options,
            price_key=model_id if api_base is None else None,
            plain_text=provider in ("openai", "azure", "anthropic", "gemini"),
            backend=api_base or provider,
        )
        self._provider = provider
        given = KeyRing(api_key) if isinstance(api_key, str) and api_key.strip() else api_key
        self._ring = given if isinstance(given, KeyRing) else None
        self._api_base = api_base
        self._lives: LoopClients[_Connections] = LoopClients(_Connections)

    async def prepare(self) -> ModelProfile:
        """Look the window up in LiteLLM's offline table. Never fails."""
        if self._profile.window is None and (window := _listed_window(self._profile.name)) is not None:
            self._learn_window(window)
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
        answer, key = await self._send(arguments, Deadline(self._limits))
        return self._finished(read_reply(_dumped(answer)), started, key, _charged(answer))

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelDelta]:
        """The reply in pieces; the last delta has the whole.

        Raises:
            ModelError: As `complete`; also when the stream reports an error, breaks or stalls.
        """
        arguments = {**self._arguments(request), "stream": True, "stream_options": {"include_usage": True}}
        _litellm()
        started = time.perf_counter()
        deadline = Deadline(self._limits, streaming=True)
        chunks, key = await self._send(arguments, deadline)
        draft = Draft()
        begun = False
        try:
            while (chunk := await self._in_time(lambda: anext(chunks, None), deadline, key, begun=begun)) is not None:
                begun = True
                deadline.got_piece()
                if text := draft.add_chunk(_dumped(chunk)):
                    yield ModelDelta(text)
        finally:
            if (close := getattr(chunks, "aclose", None)) is not None:
                await close()
        if draft.is_empty:
            raise self._fail(Failure(FailureKind.ConnectionLost, detail="the stream ended before its first token"), key)
        yield ModelDelta(reply=self._finished(draft.reply(), started, key))

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
        if needs_marks(self._profile.name):
            mark(body)
        # LiteLLM retries by its own count and lets the SDK below retry by another: both off.
        body |= {"num_retries": 0, "max_retries": 0, "timeout": self._limits.total}
        if self._api_base is not None:
            body["api_base"] = self._api_base
        return body

    async def _send(self, arguments: Body, deadline: Deadline) -> tuple[Any, ApiKey | None]:  # Any: LiteLLM's objects
        await self._lives.get()

        async def attempt(key: ApiKey | None) -> tuple[Any, ApiKey | None]:
            given = {} if key is None else {"api_key": key.reveal()}
            return await self._in_time(lambda: _litellm().acompletion(**arguments, **given), deadline, key), key

        return await (attempt(None) if self._ring is None else self._ring.send(attempt))

    async def _in_time(
        self, call: Callable[[], Awaitable[Any]], deadline: Deadline, key: ApiKey | None, *, begun: bool = False
    ) -> Any:  # Any: what the call gives
        # Every provider's adapter raises its own: all of them are classified.
        return await self._guarded(call, deadline, key, errors=(Exception,), begun=begun)

    def _fail(self, failure: Failure, key: ApiKey | None = None) -> ModelError:
        where = self._provider if self._api_base is None else f"{self._provider} at {self._api_base}"
        variable = f"{self._provider.upper()}_API_KEY"
        return model_error(failure, model=self._profile.name, where=where, key=key, key_variable=variable)


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
