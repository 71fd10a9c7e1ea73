"""The embedded model: a GGUF file, served by llama.cpp in a child process, as a `Model`."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from wherry.errors import ConfigurationError, MissingExtra, ModelError, ModelNotConfigured, WherryError
from wherry.messages import canonical, digest
from wherry.models.call import deltas_of
from wherry.models.families import family_of
from wherry.models.local.catalogue import catalogue, choose, entry, free_memory, gigabytes
from wherry.models.local.catalogue import path as path_of
from wherry.models.local.gguf import GGUFInfo, read_gguf
from wherry.models.local.prefixes import prefix_folder, warm
from wherry.models.local.server import Endpoint, LlamaServer, ServerSettings, cpu_count, shared
from wherry.models.local.server_counter import ServerCounter
from wherry.models.local.slots import place_of
from wherry.models.local.tool_calls import (
    CONTROL_TOKENS,
    beginning,
    call_grammar,
    read_calls,
    rendered,
    repeated_call,
    schema_grammar,
    words_grammar,
)
from wherry.models.local.worked_examples import WORKED_EXAMPLES
from wherry.models.protocol import ModelDelta, ModelProfile, ModelReply, ModelRequest

if TYPE_CHECKING:
    from wherry.models.openai import OpenAIModel

HEALTH_SECONDS = 5.0
USUAL_CONTEXT = 8192
SMALLEST_CONTEXT = 512


class LocalModel:
    """A model on this machine, in a process of its own.

    The process is started when it is first needed, or by `prepare`; all agents whose model has the same file and
    settings share it. It is restarted when it died, and never outlives this process.

    Args:
        path: A GGUF file, or a name of the catalogue. Without it the best catalogue model that has been downloaded and
            fits the free memory.
        context: Tokens of one request, prompt and output together. Memory is taken for `context * slots`. Default:
            8,192, or what the model was trained for if that is less.
        slots: Requests that are worked on at the same time, and conversations that stay cached between their steps. A
            manager with two specialists goes best with 3.
        threads: Default: the cores that this process may use.
        max_output: Tokens of a reply when the request does not say.
        settings: Further parameters of llama.cpp's server for every request. The default decoding is greedy.
        worked_examples: Per role, instead of wherry's own.
        keep_prefixes: Whether what the server computed of instructions, examples and tools is kept in the user's cache
            folder (at most 1 GB), so that the next process need not read them again. Tasks and answers never are.
        timeout: Seconds for a whole request, waiting for a slot included.

    Raises:
        ModelNotConfigured: No path, and no model of the catalogue is here; the message has the choices.
        ModelFileError: The file is no GGUF or is cut short.
        ConfigurationError: Numbers that cannot be.
        MissingExtra: xllamacpp or openai is not installed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        context: int | None = None,
        slots: int = 1,
        threads: int | None = None,
        max_output: int | None = None,
        settings: Mapping[str, Any] | None = None,  # Any: the server's own parameters
        worked_examples: Mapping[str, str] | None = None,
        keep_prefixes: bool = True,
        timeout: float = 600.0,
    ) -> None:
        for module in ("xllamacpp", "openai"):
            if find_spec(module) is None:
                raise MissingExtra("the embedded model", "local")
        info, name = _file(path)
        if context is None:
            context = min(USUAL_CONTEXT, info.context_length or USUAL_CONTEXT)
        _check(info, context=context, slots=slots, threads=threads, max_output=max_output)
        self._settings: dict[str, Any] = {"temperature": 0.0, "cache_prompt": True, **(settings or {})}
        self._timeout = timeout
        self._server = shared(
            ServerSettings(
                info.path,
                context=context,
                slots=slots,
                threads=threads or cpu_count(),
                save_memory=_is_tight(info.size),
                slot_folder=_prefixes(info.path, context) if keep_prefixes else None,
            )
        )
        self._lock = threading.Lock()
        self._client: tuple[Endpoint, OpenAIModel] | None = None
        family = family_of(f"{name} {info.architecture}")
        self._profile = ModelProfile(
            name,
            window=context,
            max_output=max_output or max(16, min(512, context // 4)),
            counter=family.counter if family.counter != "bytes" else ServerCounter(self._server),
            price_key="free",
            control_tokens=(*family.control_tokens, *CONTROL_TOKENS),
            worked_examples=WORKED_EXAMPLES if worked_examples is None else worked_examples,
            last_value_answers=True,
            backend=f"{info.path} ({context} x {slots})",
            tokens_in_flight=context * slots,
            slots=slots,
            first_tokens=True,
            variant=digest(canonical(self._settings))[:16],
        )

    @property
    def profile(self) -> ModelProfile:
        """All of it is known from the file."""
        return self._profile

    @property
    def server(self) -> LlamaServer:
        """The child process."""
        return self._server

    def start(self) -> None:
        """Let the child process load the model while other things are done; does not wait."""
        self._server.start()

    async def prepare(self) -> ModelProfile:
        """Start the child process and wait until the model is loaded.

        Raises:
            ModelFileError: llama.cpp cannot load the file.
            ModelError: Too little memory, or the child died.
        """
        await self._ready()
        return self._profile

    async def healthy(self) -> bool:
        """Whether the child process is up and the model loaded; starts it again if it is not."""
        self._server.hold(self)
        try:
            await asyncio.wait_for(self._server.ready(), HEALTH_SECONDS)
        except (WherryError, TimeoutError):
            return False  # a start that takes longer goes on, and is asked about again
        return True

    async def complete(self, request: ModelRequest) -> ModelReply:
        """The whole reply. With tools in the request, calls are read out of it.

        Raises:
            ModelError: The server failed or died, or the request is too large; the next one finds it restarted.
            ConfigurationError: The request is none that a server could answer.
        """
        async with self._connected(request) as (client, sent):
            reply = await client.complete(sent)
        return self._finished(request, reply)

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelDelta]:
        """The reply in pieces; the last delta has the whole. Tool calls come whole, with the last."""
        async with self._connected(request) as (client, sent), deltas_of(client, sent) as deltas:
            async for delta in deltas:
                if delta.reply is not None:
                    yield ModelDelta(reply=self._finished(request, delta.reply))
                elif not request.tools:
                    yield delta

    async def aclose(self) -> None:
        """Close the connections, and stop the child process if no other model uses it."""
        with self._lock:
            held, self._client = self._client, None
        if held is not None:
            await held[1].aclose()
        await asyncio.to_thread(self._server.release, self)

    async def __aenter__(self) -> LocalModel:
        await self.prepare()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        settings = self._server.settings
        return f"LocalModel({self._profile.name!r}, context={settings.context}, slots={settings.slots})"

    # ---- the way to the server

    async def _ready(self) -> tuple[OpenAIModel, Endpoint]:
        self._server.hold(self)
        endpoint = await self._server.ready()
        with self._lock:
            if self._client is None or self._client[0] != endpoint:
                from wherry.models.openai import OpenAIModel

                # The old client's connections end with the server that they led to.
                client = OpenAIModel(
                    self._profile.name,
                    base_url=f"{endpoint.url}/v1",
                    api_key=endpoint.key,
                    window=self._profile.window,
                    max_output=self._profile.max_output,
                    settings=self._settings,
                    counter=self._profile.counter,
                    price_key="free",
                    timeout=self._timeout,
                )
                self._client = (endpoint, client)
            return self._client[1], endpoint

    @asynccontextmanager
    async def _connected(self, request: ModelRequest) -> AsyncGenerator[tuple[OpenAIModel, ModelRequest]]:
        client, endpoint = await self._ready()
        slots = self._server.slots
        start = beginning(request.messages, request.tools)
        slot, known = slots.take(place_of(request.messages, start))
        failure: ModelError | None = None
        try:
            sent = _sent(request, slot)
            folder = self._server.settings.slot_folder
            if slot is not None and not known and folder is not None:
                await warm(endpoint, folder, slot, start)
            yield client, sent
        except ModelError as error:
            failure = error
        finally:
            slots.give_back(slot)  # of the table that it was taken from: a restarted server has a new one
        if failure is not None:
            raise await self._explained(failure)

    async def _explained(self, error: ModelError) -> ModelError:
        """A lost connection to a server that died is told as that, and what to do about a full window."""
        if error.kind == "ContextOverflow":
            error.hint = f"give it a larger window, LocalModel(context=...), which is {self._profile.window} now"
        if error.kind != "ConnectionLost":
            return error
        death = await asyncio.to_thread(self._server.death, wait=1.0)
        if death is None:
            return error
        error.args = (f"the server of {self._profile.name} died in the middle of a request: {death}",)
        error.message = error.args[0]
        error.hint = "it is started again at the next request; with less memory, take a smaller context or model"
        return error

    def _finished(self, request: ModelRequest, reply: ModelReply) -> ModelReply:
        reply = replace(reply, model=self._profile.name)  # the server says its file's path
        return read_calls(reply, request.messages, request.tools) if request.tools else reply


def _sent(request: ModelRequest, slot: int | None) -> ModelRequest:
    """The request as the server gets it: plain turns, and a grammar for what must have a form."""
    from wherry.models.chat_completions import check

    check(request)  # before the tools' messages are turned into text, which no check could see through
    settings = {**_against_repetition(request), **request.settings}
    if slot is not None:
        settings["id_slot"] = slot
    if request.tools:
        # An agent's tools hold the one that ends its run, so it never needs to reply in words.
        forced = any(tool.name == "final_answer" for tool in request.tools)
        stuck = repeated_call(request.messages)
        allowed = [tool for tool in request.tools if tool.name != stuck] or request.tools
        settings.setdefault("grammar", call_grammar(allowed, forced=forced))
    elif request.response_format is not None:
        settings.setdefault("grammar", schema_grammar(request.response_format))
    elif any(message.tool_calls for message in request.messages):
        settings.setdefault("grammar", words_grammar())
    return ModelRequest(rendered(request.messages, request.tools), max_output=request.max_output, settings=settings)


def _against_repetition(request: ModelRequest) -> dict[str, Any]:
    """Greedy decoding says the same wrong thing again for ever; a model that did so twice is let off the rail."""
    said = [m.content for m in request.messages if m.role == "assistant"]
    if len(said) < 2 or said[-1] != said[-2] or not said[-1]:
        return {}
    # Temperature alone does not help: what was said twice is copied with near certainty. DRY punishes long copies.
    return {"temperature": 0.6, "seed": len(request.messages), "dry_multiplier": 1.0, "dry_allowed_length": 6}


def _file(path: str | os.PathLike[str] | None) -> tuple[GGUFInfo, str]:
    if path is None:
        known = choose()
        return read_gguf(known.path), known.name
    if isinstance(path, str) and any(known.name == path for known in catalogue()):
        here = path_of(path)
        if here is None:
            size = gigabytes(entry(path).download)
            raise ModelNotConfigured(
                f"the model {path} is not on this machine", hint=f"wherry models pull {path} (download {size})"
            )
        return read_gguf(here), path
    info = read_gguf(Path(path).expanduser().absolute())
    return info, info.path.stem


def _prefixes(model: Path, context: int) -> Path | None:
    """The folder for the beginnings of prompts, made if need be; None where nothing can be written."""
    try:
        folder = prefix_folder(model, context)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, ConfigurationError):
        return None
    return folder


def _check(info: GGUFInfo, *, context: int, slots: int, threads: int | None, max_output: int | None) -> None:
    if context < SMALLEST_CONTEXT:
        raise ConfigurationError(f"context is {context}; it must be at least {SMALLEST_CONTEXT}")
    if info.context_length is not None and context > info.context_length:
        raise ConfigurationError(
            f"context is {context}, but {info.path.name} was trained for {info.context_length}",
            hint=f"context={info.context_length} or less",
        )
    for what, value in (("slots", slots), ("threads", threads), ("max_output", max_output)):
        if value is not None and value < 1:
            raise ConfigurationError(f"{what} is {value}; it must be at least 1")
    if max_output is not None and max_output >= context:
        raise ConfigurationError(f"max_output is {max_output}; it must be less than the context, {context}")


def _is_tight(size: int) -> bool:
    """Whether repacked weights, which take as much memory again, should be done without."""
    memory = free_memory()
    return memory is not None and memory < 2.5 * size + 500_000_000
