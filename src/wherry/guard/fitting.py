"""`fit`: the context bound for conversations of any program, as a function over dicts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any, Literal, cast

from wherry.context import DEFAULT_WINDOW, ContextBudget, TokenCounter
from wherry.context.facts import FactWriter
from wherry.errors import ConfigurationError
from wherry.guard.anthropic_messages import BLOCKS, AnthropicMessages
from wherry.guard.conversation import Change, Conversation
from wherry.guard.folding import Folding
from wherry.guard.openai_messages import OpenAIMessages
from wherry.guard.pieces import Dialect, Dict, Part, Piece, as_dict, key_of
from wherry.messages import ToolSchema
from wherry.models.protocol import ModelProfile, Prepared
from wherry.store.protocol import Artifacts

_USUAL_RESERVE = 1_024
_MOST_COUNTS, _MOST_CONVERSATIONS = 16_384, 16

Style = Literal["auto", "openai", "anthropic"]
CounterLike = TokenCounter | ModelProfile | str | Callable[[str], int]


@dataclass(frozen=True, slots=True)
class Fitted:
    """A conversation that fits."""

    messages: list[dict[str, Any]]
    """To be sent. Those that were not changed are the very objects that came in."""
    tokens: int
    """What messages and tools take, by the budget's counter."""
    max_output: int
    """What the reply may take; send it to the server."""
    window: int
    changed: bool
    """Whether anything is other than it came in."""
    changes: tuple[Change, ...]
    """What was done to the conversation, now and in earlier calls on it; empty where it came back as it was."""
    system: Any = None  # Any: text or blocks, as it was given
    """The system prompt, where it was given apart from the messages."""


class Fitter:
    """Fits the conversations of a program, again and again.

    It remembers what it counted, and the conversations that it fitted last. One that goes on where it was is taken up
    there: only its new messages are read and counted, and between two foldings each answer begins with the one before,
    so that a prompt cache stays warm.

    `fit` may be called by several threads, which take turns: a middleware is shared by all requests of a server. `afit`
    may run concurrently in one event loop.

    Args:
        budget: A `ContextBudget`, or the window in tokens. Without a window, 8,192 is assumed.
        counter: How tokens are counted: a family of vocabularies (`"o200k"`, `"qwen"`, `"llama3"`, `"cl100k"`), a
            model's profile, a function, or a counter. Without it they are estimated from above.
        strict: Whether what comes out is put so that the strictest servers take it: one system message, at the
            beginning, then a user's, and no two of one role in a row. A conversation that is so already stays as it is.
        artifacts: Where the whole of what is shortened goes; None: nowhere, only the preview stays.
        run_id: Whose artifacts they are.

    Raises:
        ConfigurationError: The budget makes no sense.
    """

    def __init__(
        self,
        budget: ContextBudget | int,
        counter: CounterLike | None = None,
        *,
        strict: bool = True,
        artifacts: Artifacts | None = None,
        run_id: str = "",
    ) -> None:
        self.budget = budget if isinstance(budget, ContextBudget) else ContextBudget(budget)
        profile = _profile(counter)
        self.counter = counter if isinstance(counter, TokenCounter) else TokenCounter.for_profile(profile)
        self.window = self.budget.window or profile.window or DEFAULT_WINDOW
        self.max_output = self.budget.reserve_output or min(profile.max_output, max(self.window // 4, 1))
        if self.max_output >= self.window:
            raise ConfigurationError(
                f"reserve_output={self.max_output} leaves no room for input in the window of {self.window} tokens",
                hint="a quarter of the window is a usual reserve",
            )
        self._strict = strict
        # One for each time that a conversation is made smaller: several may be under way.
        self._folding = partial(
            Folding,
            self.counter,
            budget=self.budget,
            control_tokens=profile.control_tokens,
            artifacts=artifacts,
            run_id=run_id,
        )
        self._writing = partial(self._folding, writer=self._writer)
        self._one_at_a_time = Lock()
        self._counts: OrderedDict[bytes, int] = OrderedDict()
        self._conversations: OrderedDict[bytes, Conversation] = OrderedDict()

    def fit(
        self,
        messages: Sequence[Dict],
        *,
        tools: Sequence[Dict | ToolSchema] | None = None,
        system: object = None,
        style: Style = "auto",
        max_output: int | None = None,
    ) -> Fitted:
        """The conversation in a form that fits.

        * tokens + margin + max_output <= window, or `ContextBudgetError`.
        * One that fits and that a server takes comes back as it is.
        * The first system message and the latest of a user are in it, whole or as previews.
        * Every call has its result and every result its call; calls that were made together stay together.
        * It is the same again for what it gave.

        Args:
            messages: As OpenAI's chat completions or Anthropic's messages have them; objects of their SDKs among the
                dicts are read as such. Never changed.
            tools: What the request offers, as either of them has it: their schemas take room, too.
            system: The system prompt where it is no message, as Anthropic has it.
            style: Whose messages they are; `"auto"`: seen from their blocks.
            max_output: What this request asks for as most tokens of the reply: kept free in place of the budget's
                reserve, up to half of the window.

        Raises:
            ContextBudgetError: What cannot be made smaller does not fit: the tools' schemas, mostly. It has a table.
            ConfigurationError: `messages` is no list of dicts.
        """
        waiting = self._fit(messages, tools, system, style, self._reserve(max_output), self._folding)
        with self._one_at_a_time:
            try:
                waiting.send(None)
            except StopIteration as done:
                return cast("Fitted", done.value)
        waiting.close()
        raise RuntimeError("an extract waits for nothing")

    async def afit(
        self,
        messages: Sequence[Dict],
        *,
        tools: Sequence[Dict | ToolSchema] | None = None,
        system: object = None,
        style: Style = "auto",
        max_output: int | None = None,
    ) -> Fitted:
        """`fit`, with summaries by the budget's `summarizer`, if it names one."""
        return await self._fit(messages, tools, system, style, self._reserve(max_output), self._writing)

    def count(
        self,
        messages: Sequence[Dict],
        *,
        tools: Sequence[Dict | ToolSchema] | None = None,
        system: object = None,
        style: Style = "auto",
    ) -> int:
        """Tokens that a request takes as it stands, however many; arguments as `fit` has them.

        Raises:
            ConfigurationError: `messages` is no list of dicts.
        """
        read = _dicts(messages)
        dialect = _dialect(read, system, style)
        with self._one_at_a_time:
            conversation = Conversation(dialect, self.counter, self._count, strict=self._strict, system=system)
            parts = [part for raw in read for part in dialect.parts(raw)[0]]
            total = conversation.system(system)[1] + sum(map(self._count, parts)) + self._tools(tools or ())
        return self.counter.scaled(self.counter.request + total)

    async def _fit(
        self,
        messages: Sequence[Dict],
        tools: Sequence[Dict | ToolSchema] | None,
        system: object,
        style: Style,
        reserve: int,
        folding: Callable[[], Folding],
    ) -> Fitted:
        read = _dicts(messages)
        dialect = _dialect(read, system, style)
        chain = _chain(read, dialect.name.encode() + (key_of(system) if system else b""))
        conversation = self._taken_up(chain) or Conversation(
            dialect, self.counter, self._count, strict=self._strict, system=system
        )
        for raw in read[conversation.taken :]:
            conversation.append(raw)
        schemas = self._tools(tools or ())
        fitted = await self._fitted(conversation, messages, system, tools=schemas, reserve=reserve, folding=folding)
        self._conversations[chain[-1]] = conversation
        if len(self._conversations) > _MOST_CONVERSATIONS:
            self._conversations.popitem(last=False)
        return fitted

    def _taken_up(self, chain: Sequence[bytes]) -> Conversation | None:
        """The conversation that these messages begin with. It is nobody else's while it is worked on."""
        for digest in reversed(chain):
            found = self._conversations.pop(digest, None)
            if found is not None:
                return found
        return None

    async def _fitted(
        self,
        conversation: Conversation,
        given: Sequence[Dict],
        system: object,
        *,
        tools: int,
        reserve: int,
        folding: Callable[[], Folding],
    ) -> Fitted:
        room = limit = self.window - reserve
        while True:
            if not conversation.fits(limit, tools):
                await conversation.fold(folding(), room=limit, tools=tools)
            written = conversation.dicts()
            prompt, apart = conversation.system(system)
            counts = [self._written(raw, pieces, conversation.dialect) for raw, pieces in written]
            tokens = self.counter.scaled(self.counter.request + tools + apart + sum(counts))
            over = tokens + self.counter.margin(tokens) - room
            if over <= 0:
                break
            limit -= over + 8  # joined texts may take some tokens more than their parts
        messages = [cast("dict[str, Any]", _as_given(raw, pieces, given)) for raw, pieces in written]
        same = len(messages) == len(given) and prompt is system
        same = same and all(new is old or new == old for new, old in zip(messages, given, strict=True))
        if same:
            messages = cast("list[dict[str, Any]]", list(given))
        changes = () if same else conversation.changes
        return Fitted(messages, tokens, reserve, self.window, not same, changes, prompt)

    def _reserve(self, asked: int | None) -> int:
        return self.max_output if asked is None else min(max(asked, 1), max(self.max_output, self.window // 2))

    def report(self, fitted: Fitted, reported: int) -> None:
        """Learn from what a server says that a request took: what is sent next is counted with the largest ratio."""
        self.counter.report(fitted.tokens, reported)

    def _writer(self, task: str) -> FactWriter | None:
        model = self.budget.summarizer
        if model is None:
            return None

        async def ready() -> tuple[ModelProfile, int]:
            profile = await model.prepare() if isinstance(model, Prepared) else model.profile
            return profile, profile.window or DEFAULT_WINDOW

        return FactWriter(model.complete, ready=ready, task=task)

    # -- counting ------------------------------------------------------------------------------------------------------

    def _written(self, raw: Dict, pieces: Sequence[Piece], dialect: Dialect) -> int:
        if all(piece.raw is not None and not piece.changed for piece in pieces):
            return sum(piece.tokens for piece in pieces)
        return sum(self._count(part) for part in dialect.parts(raw)[0])

    def _count(self, part: Part) -> int:
        key = key_of(part.raw)
        tokens = self._counts.get(key)
        if tokens is None:
            tokens = self.counter.message(part.message) + part.more
            tokens += sum(self.counter.text(text) + 4 for text in (*part.unknown, *part.stays))
            self._counts[key] = tokens
            if len(self._counts) > _MOST_COUNTS:
                self._counts.popitem(last=False)
        else:
            self._counts.move_to_end(key)
        return tokens

    def _tools(self, tools: Sequence[Dict | ToolSchema]) -> int:
        if not tools:
            return 0
        key = key_of([tool if isinstance(tool, Mapping) else tool.to_json() for tool in tools])
        tokens = self._counts.get(key)
        if tokens is None:
            schemas = [tool if isinstance(tool, ToolSchema) else _schema(tool) for tool in tools]
            tokens = self._counts[key] = self.counter.tools(schemas)
        return tokens


def fit(
    messages: Sequence[Dict],
    *,
    budget: ContextBudget | int,
    tools: Sequence[Dict | ToolSchema] | None = None,
    counter: CounterLike | None = None,
    strict: bool = True,
    system: object = None,
    style: Style = "auto",
) -> Fitted:
    """A conversation in a form that fits: see `Fitter.fit`. A program that asks again and again keeps a `Fitter`."""
    return Fitter(budget, counter, strict=strict).fit(messages, tools=tools, system=system, style=style)


def _dicts(messages: Sequence[Dict]) -> Sequence[Dict]:
    """The messages as dicts: programs put replies of their SDK among them, which are objects.

    Raises:
        ConfigurationError: One is neither.
    """
    given = cast("object", messages)
    if isinstance(given, str | Mapping) or not isinstance(given, Sequence):
        raise ConfigurationError(f"messages are a list of dicts, not {type(messages).__name__}", hint=_EXAMPLE)
    items = cast("Sequence[object]", given)
    return [cast("Dict", raw) if isinstance(raw, Mapping) else _dumped(raw, n) for n, raw in enumerate(items)]


def _dumped(raw: object, number: int) -> Dict:
    dump = getattr(raw, "model_dump", None)
    found: object = dump(exclude_none=True) if callable(dump) else None
    if not isinstance(found, Mapping):
        raise ConfigurationError(f"message {number} is no dict, but {type(raw).__name__}", hint=_EXAMPLE)
    return cast("Dict", found)


_EXAMPLE = '{"role": "user", "content": "..."}'


def _as_given(raw: Dict, pieces: Sequence[Piece], given: Sequence[Dict]) -> Dict:
    """The very object of this call, where a dict is one that was given: an earlier call may have had an equal one."""
    index = pieces[0].index
    return given[index] if raw is pieces[0].source and index >= 0 else raw


def _dialect(messages: Sequence[Dict], system: object, style: Style) -> Dialect:
    if style == "anthropic" or (style == "auto" and (system is not None or any(map(_is_anthropic, messages)))):
        return AnthropicMessages()
    return OpenAIMessages()


def _is_anthropic(raw: Dict) -> bool:
    content = raw.get("content")
    if not isinstance(content, list):
        return False
    return any(as_dict(block).get("type") in BLOCKS for block in cast("list[object]", content))


def _profile(counter: CounterLike | None) -> ModelProfile:
    if isinstance(counter, ModelProfile):
        return counter
    if counter is None or isinstance(counter, TokenCounter):
        return ModelProfile("", max_output=_USUAL_RESERVE)
    return ModelProfile("", max_output=_USUAL_RESERVE, counter=counter)


def _chain(messages: Sequence[Dict], seed: bytes) -> list[bytes]:
    """For each beginning of the conversation, a digest of all of it."""
    chain = [seed]
    for raw in messages:
        chain.append(key_of(raw, chain[-1]))
    return chain


def _schema(tool: Dict) -> ToolSchema:
    """A tool as OpenAI's chat completions or responses, or Anthropic's messages, have it."""
    found = tool.get("function")
    function = cast("Dict", found) if isinstance(found, Mapping) else tool
    parameters = function.get("parameters") or function.get("input_schema")
    rest = {key: value for key, value in function.items() if key not in ("name", "description", "parameters")}
    return ToolSchema(
        str(function.get("name", "")),
        str(function.get("description") or ""),
        cast("Dict", parameters) if isinstance(parameters, Mapping) else rest,
    )
