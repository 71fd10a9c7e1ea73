"""`fit`: the context bound for conversations of any program, as a function over dicts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, cast

from wherry.context import DEFAULT_WINDOW, ContextBudget, TokenCounter
from wherry.errors import ConfigurationError
from wherry.guard.conversation import Change, Conversation
from wherry.guard.folding import Folding
from wherry.guard.openai_messages import OpenAIMessages
from wherry.guard.pieces import Dict, Part, Piece, key_of
from wherry.messages import ToolSchema
from wherry.models.protocol import ModelProfile
from wherry.store.protocol import Artifacts

_USUAL_RESERVE = 1_024
_MOST_COUNTS, _MOST_CONVERSATIONS = 16_384, 16
_TRIES = 4
"""Joined texts may take a token more than their parts: then it is folded once more, to less."""


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
    """What was done to the conversation, now and in earlier calls on it."""


CounterLike = TokenCounter | ModelProfile | str | Callable[[str], int]


class Fitter:
    """Fits the conversations of a program, again and again.

    It remembers what it counted, and the conversations that it fitted last. One that goes on where it was is taken up
    there: a call costs O(new messages + window), and between two foldings each answer begins with the one before, so
    that a prompt cache stays warm.

    Not safe for concurrent use by threads; `afit` may run concurrently in one event loop.

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
        self._folding = Folding(
            self.counter,
            budget=self.budget,
            control_tokens=profile.control_tokens,
            artifacts=artifacts,
            run_id=run_id,
        )
        self._counts: OrderedDict[bytes, int] = OrderedDict()
        self._conversations: OrderedDict[bytes, Conversation] = OrderedDict()

    def fit(self, messages: Sequence[Dict], *, tools: Sequence[Dict | ToolSchema] | None = None) -> Fitted:
        """The conversation in a form that fits.

        * tokens + margin + max_output <= window, or `ContextBudgetError`.
        * One that fits and that a server takes comes back as it is.
        * The first system message and the latest of a user are in it, whole or as previews.
        * Every call has its result and every result its call; calls that were made together stay together.
        * It is the same again for what it gave.

        Raises:
            ContextBudgetError: What cannot be made smaller does not fit: the tools' schemas, mostly. It has a table.
        """
        waiting = self.afit(messages, tools=tools)
        try:
            waiting.send(None)
        except StopIteration as done:
            return cast("Fitted", done.value)
        waiting.close()
        raise RuntimeError("a summary by a model takes `await afit(...)`")

    async def afit(self, messages: Sequence[Dict], *, tools: Sequence[Dict | ToolSchema] | None = None) -> Fitted:
        """`fit`, with summaries by the budget's `summarizer`."""
        schemas = self._tools(tools or ())
        chain = _chain(messages)
        conversation = self._taken_up(chain)
        for raw in messages[conversation.taken :]:
            conversation.append(raw)
        fitted = await self._fitted(conversation, messages, schemas)
        self._conversations[chain[-1]] = conversation
        if len(self._conversations) > _MOST_CONVERSATIONS:
            self._conversations.popitem(last=False)
        return fitted

    def _taken_up(self, chain: Sequence[bytes]) -> Conversation:
        """The conversation that these messages begin with. It is nobody else's while it is worked on."""
        for digest in reversed(chain):
            found = self._conversations.pop(digest, None)
            if found is not None:
                return found
        return Conversation(OpenAIMessages(), self.counter, self._count, folding=self._folding, strict=self._strict)

    async def _fitted(self, conversation: Conversation, given: Sequence[Dict], tools: int) -> Fitted:
        room = limit = self.window - self.max_output
        while True:
            if not conversation.fits(limit, tools):
                await conversation.fold(limit, tools)
            written = conversation.dicts()
            tokens = self.counter.scaled(self.counter.request + tools + sum(map(self._written, written)))
            over = tokens + self.counter.margin(tokens) - room
            if over <= 0:
                break
            limit -= over + 8
        messages = [cast("dict[str, Any]", raw) for raw, _ in written]
        same = len(messages) == len(given) and all(new is old for new, old in zip(messages, given, strict=True))
        changes = () if same else conversation.changes
        return Fitted(messages, tokens, self.max_output, self.window, not same, changes)

    # -- counting ------------------------------------------------------------------------------------------------------

    def _written(self, written: tuple[Dict, Sequence[Piece]]) -> int:
        raw, pieces = written
        if all(piece.raw is not None and not piece.changed for piece in pieces):
            return sum(piece.tokens for piece in pieces)
        return sum(self._count(part) for part in OpenAIMessages().parts(raw)[0])

    def _count(self, part: Part) -> int:
        key = key_of(part.raw)
        tokens = self._counts.get(key)
        if tokens is None:
            tokens = self.counter.message(part.message) + part.more
            tokens += sum(self.counter.text(text) + 4 for text in part.unknown)
            self._counts[key] = tokens
            if len(self._counts) > _MOST_COUNTS:
                self._counts.popitem(last=False)
        else:
            self._counts.move_to_end(key)
        return tokens

    def _tools(self, tools: Sequence[Dict | ToolSchema]) -> int:
        if not tools:
            return 0
        return self.counter.tools([tool if isinstance(tool, ToolSchema) else _schema(tool) for tool in tools])


def fit(
    messages: Sequence[Dict],
    *,
    budget: ContextBudget | int,
    tools: Sequence[Dict | ToolSchema] | None = None,
    counter: CounterLike | None = None,
    strict: bool = True,
) -> Fitted:
    """A conversation in a form that fits: see `Fitter.fit`. A program that asks again and again keeps a `Fitter`."""
    return Fitter(budget, counter, strict=strict).fit(messages, tools=tools)


def _profile(counter: CounterLike | None) -> ModelProfile:
    if isinstance(counter, ModelProfile):
        return counter
    if counter is None or isinstance(counter, TokenCounter):
        return ModelProfile("", max_output=_USUAL_RESERVE)
    return ModelProfile("", max_output=_USUAL_RESERVE, counter=counter)


def _chain(messages: Sequence[Dict]) -> list[bytes]:
    """For each beginning of the conversation, a digest of all of it."""
    chain = [b""]
    for raw in messages:
        chain.append(blake2b(chain[-1] + key_of(raw), digest_size=16).digest())
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
