"""OpenAI, and every server that speaks its chat completions: vLLM, llama.cpp, Ollama, LM Studio, TGI, SGLang."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast

from wherry.errors import MissingExtra, ModelError
from wherry.models.api_key import ApiKey
from wherry.models.chat_completions import Body, Draft, check, read_reply, request_body
from wherry.models.client import ChatClient, ChatOptions, Deadline
from wherry.models.endpoints import (
    KEY_VARIABLE,
    OPENAI,
    checked_url,
    is_loopback,
    is_openai,
    key_for,
    root_of,
)
from wherry.models.explain import model_error
from wherry.models.failures import Failure, FailureKind, classify
from wherry.models.families import family_of
from wherry.models.key_ring import KeyRing
from wherry.models.loop_clients import LoopClients
from wherry.models.protocol import ModelDelta, ModelProfile, ModelReply, ModelRequest
from wherry.models.sse import EventDecoder

if TYPE_CHECKING:
    from openai import AsyncOpenAI

CONNECT_SECONDS = 5.0
HEALTH_SECONDS = 5.0

T = TypeVar("T")


class OpenAIModel(ChatClient):
    """A model behind OpenAI's chat completions.

    Args:
        model_id: The server's name for the model; `""` takes the one that the server has.
        base_url: Up to and with `/v1`. Without it `$OPENAI_BASE_URL`, else OpenAI itself.
        api_key: A key, or a `KeyRing` of several. Without it `$OPENAI_API_KEY`, but only for OpenAI's own hosts and
            `$OPENAI_BASE_URL`: a key is not sent to an address that it was not meant for. Other servers get none.
        headers: Sent with every request.
        options: See `ChatOptions`: `window`, `max_output`, `temperature`, `settings`, `timeout`, ...

    Output is bounded by `max_completion_tokens` on OpenAI's and Azure's hosts, whose newer models know nothing else,
    and by `max_tokens` anywhere else; a server that refuses the one is asked with the other from then on.

    Nothing is retried here, but with another key of the ring. Clients are kept per event loop and closed with it; one
    object may be used from many.

    Raises:
        MissingExtra: The openai package is not installed.
        ConfigurationError: No key for OpenAI, an address that is none, or settings that are wherry's to make.
    """

    def __init__(
        self,
        model_id: str,
        *,
        base_url: str | None = None,
        api_key: str | KeyRing | None = None,
        headers: Mapping[str, str] | None = None,
        **options: Unpack[ChatOptions],
    ) -> None:
        if find_spec("openai") is None:
            raise MissingExtra(type(self).__name__, "openai")
        self._url = checked_url(base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI)
        self._ring = key_for(self._url, api_key, from_environment=base_url is None)
        self._hosted = is_openai(self._url)
        super().__init__(
            model_id,
            options,
            price_key=f"openai/{model_id}" if self._hosted else None,
            # OpenAI takes control tokens in messages for plain text; other servers tokenize them as what they say.
            plain_text=self._hosted,
            backend=self._url,
        )
        # OpenAI's newer models think first and refuse to be asked (November 2026); what other servers refuse is told.
        plain = not family_of(model_id).reasoning and (not self._hosted or model_id.startswith(("gpt-4", "gpt-3.5")))
        self._profile = replace(self._profile, first_tokens=plain)
        self._limit_name = "max_completion_tokens" if self._hosted else "max_tokens"
        self._usage_in_streams = True
        self._headers = dict(headers or {})
        self._prepared = False
        self._clients: LoopClients[AsyncOpenAI] = LoopClients(self._make_client)

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
            self._learn_window(window)
            if found.slots is not None:
                self._profile = replace(self._profile, slots=found.slots, tokens_in_flight=window * found.slots)
        self._prepared = found.final and bool(self._profile.name)
        return self._profile

    async def healthy(self) -> bool:
        """Whether the server answers: by its `/health`, where it has one. OpenAI's own hosts are not asked."""
        if self._hosted:
            return True
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                status = await self._status(f"{root_of(self._url)}/health")
                if status in (404, 405, 501):  # it has none; whatever it says of its models, it is up
                    status = await self._status(f"{self._url}/models")
        except TimeoutError:
            return False
        return status is not None and status < 500

    async def _status(self, url: str) -> int | None:
        """The status of an answer; None when there is none."""
        try:
            await self._get_json(url)
        except ValueError:
            return 200  # an answer, if no JSON
        except Exception as error:  # noqa: BLE001  # HTTP clients raise their own
            return getattr(error, "status_code", None)
        return 200

    async def complete(self, request: ModelRequest) -> ModelReply:
        """The whole reply.

        Raises:
            ModelError: The server failed, or sent no answer; `kind` says how, `diagnosis` has the numbers.
            ConfigurationError: The request is none that a server could answer.
        """
        body = await self._body(request)
        client = await self._clients.get()  # imports the SDK, which the time limits should not pay for
        return await self._with_key(lambda key: self._completed(client, body, key))

    async def _completed(self, client: AsyncOpenAI, body: Body, key: ApiKey | None) -> ModelReply:
        started = time.perf_counter()
        deadline = Deadline(self._limits)
        raw = await self._adapting(body, lambda: self._post(client, body, deadline, key))
        return self._finished(read_reply(self._answer(raw, key)), started, key)

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
        deadline = Deadline(self._limits, streaming=True)
        response, key = await self._with_key(
            lambda key: self._adapting(body, lambda: self._open(client, body, deadline, key))
        )
        if str(response.headers.get("content-type", "")).startswith("application/json"):
            # An error that came with status 200, or a server that does not stream.
            async with aclosing(response):
                raw = await self._in_time(response.aread, deadline, key)
            answer = self._answer(raw.decode("utf-8", "replace"), key)
            reply = self._finished(read_reply(answer), started, key)
            yield ModelDelta(reply.text)
            yield ModelDelta(reply=reply)
            return
        draft = Draft()
        decoder = EventDecoder()
        done = begun = False
        try:
            async with aclosing(response.aiter_bytes()) as chunks:
                while not done:
                    chunk = await self._in_time(lambda: anext(chunks, b""), deadline, key, begun=begun)
                    for data in decoder.feed(chunk) if chunk else decoder.finish():
                        if data.strip() == "[DONE]":
                            done = True
                            break
                        if text := draft.add_chunk(self._event(data, key)):
                            yield ModelDelta(text)
                    if not begun and not draft.is_empty:
                        begun = True
                    if begun:  # comments and empty events keep the connection, and are no token
                        deadline.got_piece()
                    if not chunk and not done:
                        raise self._fail(_cut(draft), key)
        finally:
            await response.aclose()
        if draft.is_empty:
            raise self._fail(_cut(draft), key)
        yield ModelDelta(reply=self._finished(draft.reply(), started, key))

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

    async def _with_key(self, send: Callable[[ApiKey | None], Awaitable[T]]) -> T:
        return await (send(None) if self._ring is None else self._ring.send(send))

    async def _post(self, client: AsyncOpenAI, body: Body, deadline: Deadline, key: ApiKey | None) -> object:
        return await self._in_time(
            lambda: client.post("/chat/completions", cast_to=object, body=body, options=_authorized(key)), deadline, key
        )

    async def _open(
        self, client: AsyncOpenAI, body: Body, deadline: Deadline, key: ApiKey | None
    ) -> tuple[Any, ApiKey | None]:  # Any: httpx's response, old or new
        from openai import AsyncStream

        stream = await self._in_time(
            lambda: client.post(
                "/chat/completions",
                cast_to=object,
                body=body,
                options=_authorized(key),
                stream=True,
                stream_cls=AsyncStream[object],
            ),
            deadline,
            key,
        )
        return stream.response, key

    async def _get_json(self, url: str, body: Mapping[str, Any] | None = None) -> object:
        """One question of `discover`'s. Fails as HTTP clients fail."""
        client = await self._clients.get()
        if body is None:
            return await client.get(url, cast_to=object)
        return await client.post(url, cast_to=object, body=body)

    async def _in_time(
        self,
        call: Callable[[], Awaitable[T]],
        deadline: Deadline,
        key: ApiKey | None,
        *,
        begun: bool = False,
    ) -> T:
        import openai

        errors = (openai.OpenAIError, OSError, ValueError, *_transport_errors())
        return await self._guarded(call, deadline, key, errors=errors, begun=begun)

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

    def _event(self, data: str, key: ApiKey | None) -> Mapping[str, Any]:
        """One event of a stream, parsed; an event that reports an error raises it."""
        try:
            event: object = json.loads(data)
        except ValueError:
            raise self._fail(Failure(FailureKind.ConnectionLost, detail="cut in the middle of an event"), key) from None
        answer = self._answer(event, key)
        return cast("Mapping[str, Any]", answer) if isinstance(answer, Mapping) else {}

    def _answer(self, raw: object, key: ApiKey | None) -> object:
        """The answer, unless it reports an error after all, which it may with status 200."""
        if isinstance(raw, str):
            try:
                raw = cast("object", json.loads(raw))
            except ValueError:
                failure = classify(status=200, body=raw)  # a stream, perhaps, that reports an error
                if failure.kind is FailureKind.ServerError:
                    failure = Failure(failure.kind, detail=f"the answer is no JSON: {raw[:200]!r}")
                raise self._fail(failure, key) from None
        if isinstance(raw, Mapping):
            answer = cast("Mapping[str, Any]", raw)
            if answer.get("error") or (answer.get("object") == "error" and not answer.get("choices")):
                raise self._fail(classify(status=_status(answer), body=answer), key)
            if "choices" not in answer and (failure := classify(status=200, body=answer)).kind in _SAID_OTHERWISE:
                raise self._fail(failure, key)
        return cast("object", raw)

    def _fail(self, failure: Failure, key: ApiKey | None = None) -> ModelError:
        return model_error(failure, model=self._profile.name, where=self._url, key=key, key_variable=KEY_VARIABLE)

    def _make_client(self) -> AsyncOpenAI:
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient, Timeout

        # The SDK retries every 408, 409, 429 and 5xx twice unless told not to: a server that ran out of memory would
        # be hit three times before anybody knew. A loopback address is not reached through a proxy, and plain HTTP
        # needs no certificates, whose loading takes 100 ms of CPU.
        seconds = self._limits.total
        timeout = Timeout(seconds, connect=min(CONNECT_SECONDS, seconds))
        plain: dict[str, Any] = {"verify": False, "follow_redirects": False} if self._url.startswith("http://") else {}
        return AsyncOpenAI(
            api_key="none" if self._ring is None else self._ring.current.reveal(),
            base_url=self._url,
            max_retries=0,
            default_headers=self._headers,
            timeout=timeout,
            http_client=DefaultAsyncHttpxClient(timeout=timeout, trust_env=not is_loopback(self._url), **plain),
        )


# What an answer without choices may be about; without a word of these it is a chunk with the usage, or nothing at all.
_SAID_OTHERWISE = frozenset(FailureKind) - {FailureKind.ServerError, FailureKind.BadRequest}


def _transport_errors() -> tuple[type[Exception], ...]:
    """What the HTTP library raises while a stream is read; the SDK brings the one or the other."""
    modules = (sys.modules.get(name) for name in ("httpx2", "httpx"))
    return tuple(error for m in modules if m is not None for error in (m.HTTPError, m.StreamError))


def _authorized(key: ApiKey | None) -> Any:  # Any: the SDK's private type of options
    """The key of this request: a ring's changes, the client's stays."""
    return {} if key is None else {"headers": {"Authorization": f"Bearer {key.reveal()}"}}


def _status(answer: Mapping[str, Any]) -> int:
    """The status that an error event carries, where it carries one."""
    error = answer.get("error")
    code = cast("Mapping[str, Any]", error).get("code") if isinstance(error, Mapping) else answer.get("code")
    return code if isinstance(code, int) and 400 <= code < 600 else 200


def _cut(draft: Draft) -> Failure:
    got = f"after {len(draft.text)} characters" if draft.texts or draft.calls else "before its first token"
    return Failure(FailureKind.ConnectionLost, detail=f"the stream ended {got}, without [DONE]", status=200)
