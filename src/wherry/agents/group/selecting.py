"""A model's choice of who speaks next, from a prompt whose size does not depend on how long the chat is.

The model sees names, descriptions and the newest messages, shortened. Where its server gives log-probabilities, one
token is asked for and the likeliest letter wins; else a reply of JSON under a schema that allows the names alone. What
is no choice, and a server that fails, falls back to whose turn it would be; a limit that is reached does not.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any, cast

from wherry.agents.group.speakers import Choice, next_in_turn
from wherry.agents.group.state import Chat
from wherry.agents.run import Run
from wherry.agents.summaries import Ask, aside
from wherry.context import escape
from wherry.context.previews import head_and_tail
from wherry.errors import LimitReached, StoreError, WherryError
from wherry.messages import Message
from wherry.models import ModelRequest

NEWEST = 4
"""Messages that the model sees."""
MESSAGE_CHARS = 400
"""Of each of them: enough to see whom it speaks to, and what about."""
DESCRIPTION_CHARS = 200
ALL_DESCRIPTIONS = 4_000
"""Characters of all descriptions together: with hundreds of participants each is shorter."""
_ANSWER_TOKENS = 48
_MOST_FAILURES = 3
"""In a row; then the model is asked no more in this run: each one costs time, and the turns may be failing too."""

RULES = """\
Several take part in a conversation. You decide who speaks next. You do not speak yourself."""


class ByModel:
    """Asks the group's model.

    Args:
        run: The group's.
        descriptions: Of the participants, by name.
        instructions: The user's own, added to the prompt.
    """

    def __init__(self, run: Run, descriptions: Mapping[str, str], instructions: str = "") -> None:
        self._run = run
        self._ask: Ask = aside(
            run.model, run.journal, run.account, name="speaker", kind="speaker", task="who speaks next"
        )
        self._tokens = run.profile.control_tokens
        self._descriptions = descriptions
        self._instructions = instructions
        self._failures = 0
        self._letters = run.profile.first_tokens and len(descriptions) <= len(ascii_uppercase)

    async def choose(self, chat: Chat, candidates: Sequence[str]) -> Choice:
        why = "the model failed too often to be asked again"
        if self._failures < _MOST_FAILURES:
            try:
                name, why = await self._chosen(chat, candidates)
            except (LimitReached, StoreError):
                raise
            except Exception as error:  # noqa: BLE001 - a user's own model raises what it likes
                said = error.message if isinstance(error, WherryError) else f"{type(error).__name__}: {error}"
                name, why = None, f"the model failed: {said[:200]}"
                self._failures += 1
            else:
                self._failures = 0
            if name is not None:
                return Choice((name,), "auto", why)
        return Choice((next_in_turn(chat, candidates),), "fallback", why)

    async def _chosen(self, chat: Chat, candidates: Sequence[str]) -> tuple[str | None, str]:
        """A candidate, or None and what the model said instead."""
        if self._letters:
            name = await self._by_letter(chat, candidates)
            if name is not None:
                return name, ""
            self._letters = False  # it begins with something else, such as its thoughts: it always will
        properties = {"speaker": {"type": "string", "enum": list(candidates)}}
        request = ModelRequest(
            [*self._prompt(chat), Message("user", _question(candidates, "as JSON: ", '{"speaker": "name"}'))],
            max_output=_ANSWER_TOKENS,
            response_format={
                "type": "object",
                "properties": properties,
                "required": ["speaker"],
                "additionalProperties": False,
            },
        )
        reply = await self._ask(_joined(request))
        name = read_choice(reply.text, candidates)
        return name, "" if name is not None else f"the model said {reply.text[:80]!r}"

    async def _by_letter(self, chat: Chat, candidates: Sequence[str]) -> str | None:
        letters = dict(zip(ascii_uppercase, candidates, strict=False))
        rows = "\n".join(f"{letter}) {name}" for letter, name in letters.items())
        question = Message("user", f"Who speaks next?\n{rows}\nAnswer with the letter alone.")
        settings: dict[str, Any] = {"logprobs": True, "top_logprobs": 20, "temperature": 0.0}
        reply = await self._ask(_joined(ModelRequest([*self._prompt(chat), question], max_output=2, settings=settings)))
        weights = dict.fromkeys(letters, 0.0)
        for token, probability in (reply.first_token or {}).items():
            if (letter := token.strip(" \n\t\"'(*`")) in weights:
                weights[letter] += math.exp(probability)
        best = max(letters, key=lambda letter: weights[letter])
        if weights[best] > 0.0:
            return letters[best]
        said = reply.text.strip().rstrip(").:*")
        return letters.get(said)

    def _prompt(self, chat: Chat) -> list[Message]:
        most = min(DESCRIPTION_CHARS, ALL_DESCRIPTIONS // max(len(self._descriptions), 1))
        rows = [
            f"- {name}: {head_and_tail(' '.join(about.split()), most)}" if about and most > 16 else f"- {name}"
            for name, about in self._descriptions.items()
        ]
        parts = [RULES, "Who takes part:\n" + self._safe("\n".join(rows)), self._instructions]
        system = "\n\n".join(part for part in parts if part)
        said = [
            f"{one.author}: {head_and_tail(' '.join(one.text.split()), MESSAGE_CHARS)}" for one in chat.last(NEWEST)
        ]
        return [Message("system", system), Message("user", "What was said last:\n" + self._safe("\n\n".join(said)))]

    def _safe(self, text: str) -> str:
        return escape(text, self._tokens)


def _question(candidates: Sequence[str], form: str, example: str) -> str:
    return f"Who speaks next: {', '.join(candidates)}? Answer with one of these names, {form}{example}"


def _joined(request: ModelRequest) -> ModelRequest:
    """The user's two messages as one: many chat templates refuse two in a row."""
    system, said, question = request.messages
    both = Message("user", f"{said.content}\n\n{question.content}")
    return ModelRequest(
        [system, both],
        max_output=request.max_output,
        settings=request.settings,
        response_format=request.response_format,
    )


def read_choice(text: str, candidates: Sequence[str]) -> str | None:
    """The candidate that a reply names; None where it names nobody, or several."""
    text = text.strip()
    try:
        parsed: object = json.loads(text)
    except (ValueError, RecursionError):
        parsed = text
    if isinstance(parsed, dict):
        parsed = cast("dict[str, object]", parsed).get("speaker")
    if isinstance(parsed, str) and parsed.strip() in candidates:
        return parsed.strip()
    # No more of it than such an answer can be long: a model that talks on names everybody sooner or later.
    found = {name for name in candidates if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text[:400], re.IGNORECASE)}
    return found.pop() if len(found) == 1 else None
