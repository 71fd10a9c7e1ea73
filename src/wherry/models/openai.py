"""OpenAI, and every server that speaks its chat completions: vLLM, llama.cpp, Ollama, LM Studio, TGI, SGLang."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar, cast

from wherry.errors import MissingExtra, ModelError
from wherry.models.chat_completions import Body, Draft, check, check_settings, read_reply, request_body
from wherry.models.endpoints import (
    KEY_VARIABLE,
    OPENAI,
    checked_url,
    default_output,
    is_loopback,
    is_openai,
    key_for,
    positive,
)
from wherry.models.explain import model_error
from wherry.models.failures import Failure, FailureKind, classify
from wherry.models.families import family_of
from wherry.models.loop_clients import LoopClients
from wherry.models.pricing import Price
from wherry.models.protocol import Counter, ModelDelta, ModelProfile, ModelReply, ModelRequest
from wherry.models.sse import EventDecoder

if TYPE_CHECKING:
    from openai import AsyncOpenAI

CONNECT_SECONDS = 5.0

T = TypeVar("T")


class OpenAIModel:
    """A model behind OpenAI's chat completions.

    Args:
        model_id: The server's name for the model; `""` takes the one that the server has.
        base_url: Up to and with `/v1`. Without it `$OPENAI_BASE_URL`, else OpenAI itself.
        api_key: Without it `$OPENAI_API_KEY`, but only for OpenAI's own hosts and `$OPENAI_BASE_URL`: a key is not sent
            to an address that it was not meant for. Other servers get none.
        window: Context length in tokens, when it is known better than `prepare` finds it out.
        max_output: Tokens of a reply when the request does not say. Default: an eighth of the window, within bounds.
        temperature: Passed to the server when given.
        settings: Further parameters of the server's, sent with every request (`seed`, `top_p`, ...).
        counter: How tokens are counted; default: guessed from the name.
        native_tools: Whether the model takes tool schemas.
        images: Whether it takes pictures; default: guessed from the name.
        price_key: The name that price lists know it by, or a `Price`; `"free"` for a server of one's own.
        headers: Sent with every request.
        timeout: Seconds for a whole request, its stream included.
        stall_timeout: Seconds between two pieces of a stream, after the first.

    Output is bounded by `max_completion_tokens` on OpenAI's and Azure's hosts, whose newer models know nothing else,
    and by `max_tokens` anywhere else; a server that refuses the one is asked with the other from then on.

    Nothing is retried here. Clients are kept per event loop and closed with it; one object may be used from many.

    Raises:
        MissingExtra: The openai package is not installed.
        ConfigurationError: No key for OpenAI, an address that is none, or settings that are wherry's to make.
    """

    def __init__(
        self,
        model_id: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        window: int | None = None,
        max_output: int | None = None,
        temperature: float | None = None,
        settings: Mapping[str, Any] | None = None,  # Any: the server's own parameters
        counter: str | Counter | None = None,
        native_tools: bool = True,
        images: bool | None = None,
        price_key: str | Price | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 600.0,
        stall_timeout: float = 60.0,
    ) -> None:
        if find_spec("openai") is None:
            raise MissingExtra(type(self).__name__, "openai")
        positive(window=window, max_output=max_output, timeout=timeout, stall_timeout=stall_timeout)
        self._settings: dict[str, Any] = dict(settings or {})
        if temperature is not None:
            self._settings["temperature"] = temperature
        check_settings(self._settings)
        self._url = checked_url(base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI)
        self._key = key_for(self._url, api_key, from_environment=base_url is None)
        self._hosted = is_openai(self._url)
        self._limit_name = "max_completion_tokens" if self._hosted else "max_tokens"
        self._usage_in_streams = True
        self._headers = dict(headers or {})
        self._timeout = timeout
        self._stall_timeout = stall_timeout
        self._given_window = window
        self._given_max_output = max_output
        self._prepared = False
        family = family_of(model_id)
        self._profile = ModelProfile(
            model_id,
            window=window,
            max_output=max_output or default_output(window, reasoning=family.reasoning),
            counter=counter or family.counter,
            native_tools=native_tools,
            images=family.images if images is None else images,
            price_key=price_key or (f"openai/{model_id}" if self._hosted else None),
            # OpenAI takes control tokens in messages for plain text; other servers tokenize them as what they say.
            control_tokens=() if self._hosted else family.control_tokens,
        )
        self._clients: LoopClients[AsyncOpenAI] = LoopClients(self._make_client)

    @property
    def profile(self) -> ModelProfile:
        """What is known of the model; more after `prepare`."""
        return self._profile

    @property
    def base_url(self) -> str:
        return self._url

    async def prepare(self) -> ModelProfile:
        """Find out the window, and the name if none was given. Never fails: what cannot be found out stays None."""
        from wherry.models.discovery import discover

        name = self._profile.name
        if self._prepared or (name and self._given_window is not None):
            return self._profile
        if not self._hosted:
            await self._clients.get()  # imports the SDK, which the time limit of the questions should not pay for
        found = await discover(self._get_json, self._url, name, hosted=self._hosted)
        window = self._given_window or found.window
        if found.name and not name:
            family = family_of(found.name)
            self._profile = replace(
                self._profile,
                name=found.name,
                counter=family.counter if self._profile.counter == "bytes" else self._profile.counter,
                control_tokens=family.control_tokens,
            )
        if window is not None:
            reasoning = family_of(self._profile.name).reasoning
            max_output = self._given_max_output or default_output(window, reasoning=reasoning)
            self._profile = replace(self._profile, window=window, max_output=max_output)
        self._prepared = found.final and bool(self._profile.name)
        return self._profile

    async def complete(self, request: ModelRequest) -> ModelReply:
        """The whole reply.

        Raises:
            ModelError: The server failed, or sent no answer; `kind` says how, `diagnosis` has the numbers.
            ConfigurationError: The request is none that a server could answer.
        """
        body = await self._body(request)
        client = await self._clients.get()  # imports the SDK, which the time limits should not pay for
        started = time.perf_counter()
        deadline = asyncio.get_running_loop().time() + self._timeout
        raw = await self._adapting(body, lambda: self._post(client, body, deadline))
        return self._finished(read_reply(_answer(raw, self._fail)), started)

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelDelta]:
        """The reply in pieces; the last delta has the whole.

        Raises:
            ModelError: As `complete`; also when the stream reports an error, stalls, or ends before `[DONE]`.
        """
        body = {**await self._body(request), "stream": True}
        if self._usage_in_streams:
            body["stream_options"] = {"include_usage": True}
        client = await self._clients.get()
        started = time.perf_counter()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        response = await self._adapting(body, lambda: self._open(client, body, deadline))
        if str(response.headers.get("content-type", "")).startswith("application/json"):
            # An error that came with status 200, or a server that does not stream.
            async with aclosing(response):
                raw = await self._guarded(response.aread, deadline)
            reply = self._finished(read_reply(_answer(raw.decode("utf-8", "replace"), self._fail)), started)
            yield ModelDelta(reply.text)
            yield ModelDelta(reply=reply)
            return
        draft = Draft()
        decoder = EventDecoder()
        done = False
        try:
            async with aclosing(response.aiter_bytes()) as chunks:
                limit = deadline
                while not done:
                    chunk = await self._guarded(lambda: anext(chunks, b""), limit)
                    limit = min(deadline, loop.time() + self._stall_timeout)
                    for data in decoder.feed(chunk) if chunk else decoder.finish():
                        if data.strip() == "[DONE]":
                            done = True
                            break
                        if text := draft.add_chunk(self._event(data)):
                            yield ModelDelta(text)
                    if not chunk and not done:
                        raise self._fail(_cut(draft))
        finally:
            await response.aclose()
        yield ModelDelta(reply=self._finished(draft.reply(), started))

    async def aclose(self) -> None:
        """Close the connections of the running loop; they close by themselves when the loop ends."""
        await self._clients.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._profile.name!r}, base_url={self._url!r})"

    # ---- requests

    async def _body(self, request: ModelRequest) -> Body:
        check(request)
        if not self._profile.name:
            await self.prepare()
        return request_body(
            request,
            # A server with one model, such as llama.cpp's, answers to any name.
            model=self._profile.name or "default",
            settings=self._settings,
            limit={self._limit_name: request.max_output or self._profile.max_output},
        )

    async def _post(self, client: AsyncOpenAI, body: Body, deadline: float) -> object:
        return await self._guarded(lambda: client.post("/chat/completions", cast_to=object, body=body), deadline)

    async def _open(self, client: AsyncOpenAI, body: Body, deadline: float) -> Any:  # Any: httpx's response, old or new
        from openai import AsyncStream

        stream = await self._guarded(
            lambda: client.post(
                "/chat/completions", cast_to=object, body=body, stream=True, stream_cls=AsyncStream[object]
            ),
            deadline,
        )
        return stream.response

    async def _get_json(self, url: str, body: Mapping[str, Any] | None = None) -> object:
        """One question of `discover`'s. Fails as HTTP clients fail."""
        client = await self._clients.get()
        if body is None:
            return await client.get(url, cast_to=object)
        return await client.post(url, cast_to=object, body=body)

    async def _guarded(self, call: Callable[[], Any], deadline: float) -> Any:  # Any: what the call gives
        """Await a call within its time; what it raises becomes a ModelError without the SDK's frames and causes."""
        import openai

        try:
            async with asyncio.timeout_at(deadline):
                return await call()
        except (openai.OpenAIError, OSError, ValueError, *_transport_errors()) as error:
            failure = classify(error=error)
        raise self._fail(failure)

    async def _adapting(self, body: Body, send: Callable[[], Any]) -> Any:  # Any: what the call gives
        """Send; and once more, without the parameter, when the server refuses one that only some servers know."""
        try:
            return await send()
        except ModelError as error:
            if error.kind != FailureKind.BadRequest or not self._adapt(body, error.message):
                raise
        return await send()

    def _adapt(self, body: Body, complaint: str) -> bool:
        if "stream_options" in complaint and "stream_options" in body:
            self._usage_in_streams = False
            del body["stream_options"]
            return True
        other = "max_tokens" if self._limit_name == "max_completion_tokens" else "max_completion_tokens"
        if f"'{self._limit_name}'" in complaint and "unsupported" in complaint.lower() and self._limit_name in body:
            body[other] = body.pop(self._limit_name)
            self._limit_name = other
            return True
        return False

    # ---- answers

    def _event(self, data: str) -> Mapping[str, Any]:
        """One event of a stream, parsed; an event that reports an error raises it."""
        try:
            event: object = json.loads(data)
        except ValueError:
            raise self._fail(Failure(FailureKind.ConnectionLost, detail="cut in the middle of an event")) from None
        answer = _answer(event, self._fail)
        return cast("Mapping[str, Any]", answer) if isinstance(answer, Mapping) else {}

    def _finished(self, reply: ModelReply, started: float) -> ModelReply:
        if reply.finish_reason == "content_filter" and not reply.text and not reply.tool_calls:
            raise self._fail(Failure(FailureKind.ContentFiltered, detail="the reply was withheld", status=200))
        if reply.usage is None:
            return reply
        from wherry.models.pricing import cost

        usage = replace(reply.usage, seconds=time.perf_counter() - started)
        return replace(reply, usage=replace(usage, usd=cost(usage, self._profile.price_key)))

    def _fail(self, failure: Failure) -> ModelError:
        return model_error(failure, model=self._profile.name, where=self._url, key=self._key, key_variable=KEY_VARIABLE)

    def _make_client(self) -> AsyncOpenAI:
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient, Timeout

        # The SDK retries every 408, 409, 429 and 5xx twice unless told not to: a server that ran out of memory would
        # be hit three times before anybody knew. A loopback address is not reached through a proxy, and plain HTTP
        # needs no certificates, whose loading takes 100 ms of CPU.
        timeout = Timeout(self._timeout, connect=min(CONNECT_SECONDS, self._timeout))
        plain: dict[str, Any] = {"verify": False, "follow_redirects": False} if self._url.startswith("http://") else {}
        return AsyncOpenAI(
            api_key="none" if self._key is None else self._key.reveal(),
            base_url=self._url,
            max_retries=0,
            default_headers=self._headers,
            timeout=timeout,
            http_client=DefaultAsyncHttpxClient(timeout=timeout, trust_env=not is_loopback(self._url), **plain),
        )


def _transport_errors() -> tuple[type[Exception], ...]:
    """What the HTTP library raises while a stream is read; the SDK brings the one or the other."""
    modules = (sys.modules.get(name) for name in ("httpx2", "httpx"))
    return tuple(error for m in modules if m is not None for error in (m.HTTPError, m.StreamError))


def _answer(raw: object, fail: Callable[[Failure], ModelError]) -> object:
    """The answer, unless it reports an error after all, which it may with status 200."""
    if isinstance(raw, str):
        try:
            raw = cast("object", json.loads(raw))
        except ValueError:
            raise fail(Failure(FailureKind.ServerError, detail=f"the answer is no JSON: {raw[:200]!r}")) from None
    if isinstance(raw, Mapping):
        answer = cast("Mapping[str, Any]", raw)
        if answer.get("error") or (answer.get("object") == "error" and not answer.get("choices")):
            raise fail(classify(status=_status(answer), body=answer))
    return cast("object", raw)


def _status(answer: Mapping[str, Any]) -> int:
    """The status that an error event carries, where it carries one."""
    error = answer.get("error")
    code = cast("Mapping[str, Any]", error).get("code") if isinstance(error, Mapping) else answer.get("code")
    return code if isinstance(code, int) and 400 <= code < 600 else 200


def _cut(draft: Draft) -> Failure:
    got = f"after {len(draft.text)} characters" if draft.texts or draft.calls else "before its first token"
    return Failure(FailureKind.ConnectionLost, detail=f"the stream ended {got}, without [DONE]", status=200)
