"""What a model is: a profile, and a way from a request to a reply."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Protocol, runtime_checkable

from wherry.messages import Message, ToolCall, ToolSchema, Usage
from wherry.models.pricing import Price

Counter = Callable[[str], int]
"""Counts the tokens of a text. Never raises, whatever the text."""


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """What the rest of wherry has to know of a model."""

    name: str
    _: KW_ONLY
    window: int | None = None
    """Context length in tokens of one request, prompt and output together; None: not known (yet)."""
    max_output: int = 1024
    """Tokens that a reply may take when the request does not say; reserved in the window and always sent."""
    counter: str | Counter = "bytes"
    """A tokenizer family (`"qwen"`, `"o200k"`, `"cl100k"`, `"llama3"`), `"bytes"` for an estimate, or a function."""
    native_tools: bool = True
    """Whether the model takes tool schemas and answers with tool calls."""
    images: bool = False
    price_key: str | Price | None = None
    """The name that a price list knows the model by; `"free"` for one that costs nothing; or a price of its own."""
    control_tokens: tuple[str, ...] = ()
    """Texts that open or close a turn in the model's chat template; escaped in every text that is not wherry's."""
    worked_examples: Mapping[str, str] = field(default_factory=dict[str, str])
    """Role (`"code"`, `"tools"`, `"manager"`) -> short worked examples for the system prompt, for small models."""
    last_value_answers: bool = False
    """Whether a snippet's last value is the final answer when `final_answer` was left out (small models forget it)."""
    writes_summaries: bool = True
    """Whether an agent that runs on this model asks it for summaries of older turns, unless its budget names another.
    Scripted models are not asked: a summary would take a reply that the script has for a step."""
    backend: str = ""
    """Where the model runs: models of one name and backend are one server's. Empty: nothing is shared with others."""
    tokens_in_flight: int | None = None
    """Tokens of all requests together, prompts and outputs, that the server takes at the same time; None: not known."""
    slots: int | None = None
    """Requests that the server works on at the same time; None: not known."""
    first_tokens: bool = False
    """Whether the server can be asked for the log-probabilities of what a reply may begin with (`logprobs`)."""
    variant: str = ""
    """Tells apart what one name may mean: other settings give other answers. Part of a cached answer's key."""


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One question to a model."""

    messages: Sequence[Message]
    tools: Sequence[ToolSchema] = ()
    max_output: int | None = None
    """Most tokens that the reply may take; None: the profile's."""
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])  # Any: the server's own parameters
    """Passed through to the server: temperature, seed, ..."""
    response_format: Mapping[str, Any] | None = None  # Any: JSON Schema
    """A JSON Schema that the reply's text must satisfy."""


@dataclass(frozen=True, slots=True)
class ModelReply:
    """What a model answered."""

    text: str = ""
    _: KW_ONLY
    tool_calls: Sequence[ToolCall] = ()
    """Every call has an id, unique in the reply. Arguments that the model wrote as no JSON object are
    `{"__raw__": text, "__error__": why}`; `wherry.models.argument_error(call)` gives the reason, for the model."""
    usage: Usage | None = None
    """Of this one request: `requests` is 1, `seconds` the wall time, `usd` its price or None when that is not known.
    None when the server did not say what was used."""
    finish_reason: str | None = None
    """`"stop"`, `"length"`, `"tool_calls"`, ... as the server gave it."""
    model: str | None = None
    """The exact version that answered, where the server says."""
    first_token: Mapping[str, float] | None = None
    """What the reply might have begun with: token -> log-probability, where the settings asked for `logprobs` and the
    server gave them."""
    cached: bool = False
    """Whether the answer was kept from an earlier time: nothing was asked, nothing was used."""

    def message(self) -> Message:
        """The reply as an assistant's message."""
        return Message("assistant", self.text, tool_calls=self.tool_calls)


@dataclass(frozen=True, slots=True)
class ModelDelta:
    """A piece of a streamed reply. The last one carries the whole `reply`."""

    text: str = ""
    _: KW_ONLY
    reply: ModelReply | None = None


@runtime_checkable
class Model(Protocol):
    """A model. Any object with these three is one.

    * `complete` gives the whole reply, or raises `ModelError`; it never retries by itself.
    * `stream` gives the text in pieces; the last delta has the whole reply. A stream that ends without one has failed.
    * Both may be called concurrently.
    """

    @property
    def profile(self) -> ModelProfile: ...

    async def complete(self, request: ModelRequest) -> ModelReply: ...

    def stream(self, request: ModelRequest) -> AsyncIterator[ModelDelta]: ...


@runtime_checkable
class Prepared(Protocol):
    """A model that has something to do before its first request: start a server, ask for the window."""

    async def prepare(self) -> ModelProfile:
        """Get ready, once; the profile with all that could be found out."""
        ...
