"""A model's choice of who speaks next, from a prompt whose size does not depend on how long the chat is.

The model sees names, descriptions and the newest messages, shortened. Where its server gives log-probabilities, one
token is asked for, and the name that likeliest begins with it wins; else a reply of JSON under a schema that allows the
names alone. What is no choice, and a server that fails, falls back to whose turn it would be; a limit that is reached
does not.

Small models choose by names and not by letters, and read the question before the messages, not behind them: of 21
questions to three participants Qwen2.5-Coder-0.5B answered 7 by letters (always "A"), 8 by names with the question
last, 17 by names with the question first (November 2026).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
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
MESSAGE_CHARS = 300
"""Of the newest one: enough to see whom it speaks to, and what about."""
EARLIER_CHARS = 80
"""Of each one before it, for who spoke and to whom: every question is kept in the journal, and most of it is these."""
DESCRIPTION_CHARS = 200
ALL_DESCRIPTIONS = 4_000
"""Characters of all descriptions together: with hundreds of participants each is shorter."""
_ANSWER_TOKENS = 48
_MOST_FAILURES = 3
"""In a row; then the model is asked no more in this run: each one costs time, and the turns may be failing too."""

RULES = """\
Several take part in a conversation. You decide who speaks next. You do not speak yourself."""
WHO = "It is the one whom the last message speaks to, or else who knows most about it."
"""Unless the group's instructions say how to choose."""
_LEAST_WEIGHT = 0.001
"""Of names among the first tokens; with less the model is about to say something else."""


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
        self._by_token = run.profile.first_tokens

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
        if self._by_token:
            name = await self._by_first_token(chat, candidates)
            if name is not None:
                return name, ""
            # It begins with something else, such as its thoughts, or the names begin alike: so it will the next time.
            self._by_token = False
        properties = {"speaker": {"type": "string", "enum": list(candidates)}}
        request = ModelRequest(
            self._prompt(chat, candidates, 'one of these names, as JSON: {"speaker": "name"}.'),
            max_output=_ANSWER_TOKENS,
            response_format={
                "type": "object",
                "properties": properties,
                "required": ["speaker"],
                "additionalProperties": False,
            },
        )
        reply = await self._ask(request)
        name = read_choice(reply.text, candidates)
        return name, "" if name is not None else f"the model said {reply.text[:80]!r}"

    async def _by_first_token(self, chat: Chat, candidates: Sequence[str]) -> str | None:
        settings: dict[str, Any] = {"logprobs": True, "top_logprobs": 20, "temperature": 0.0}
        prompt = self._prompt(chat, candidates, "the name alone.")
        reply = await self._ask(ModelRequest(prompt, max_output=2, settings=settings))
        return likeliest(reply.first_token or {}, candidates) or read_choice(reply.text, candidates)

    def _prompt(self, chat: Chat, candidates: Sequence[str], answer: str) -> list[Message]:
        most = min(DESCRIPTION_CHARS, ALL_DESCRIPTIONS // max(len(self._descriptions), 1))
        rows = [
            f"- {name}: {head_and_tail(' '.join(about.split()), most)}" if about and most > 16 else f"- {name}"
            for name, about in self._descriptions.items()
        ]
        parts = [RULES, "Who takes part:\n" + self._safe("\n".join(rows)), self._instructions]
        system = "\n\n".join(part for part in parts if part)
        who = "" if self._instructions else f" {WHO}"
        question = f"Who speaks next: {self._safe(', '.join(candidates))}? Answer with {answer}{who}"
        newest = chat.last(NEWEST)
        room = [EARLIER_CHARS] * (len(newest) - 1) + [MESSAGE_CHARS]
        said = [
            f"{one.author}: {head_and_tail(' '.join(one.text.split()), most)}"
            for one, most in zip(newest, room, strict=False)
        ]
        # One message: many chat templates refuse two of a user in a row.
        user = f"{question}\n\nWhat was said last:\n" + self._safe("\n\n".join(said))
        return [Message("system", system), Message("user", user)]

    def _safe(self, text: str) -> str:
        return escape(text, self._tokens)


def likeliest(first_token: Mapping[str, float], candidates: Sequence[str]) -> str | None:
    """The candidate whose name likeliest begins with the first token, of log-probabilities.

    None where hardly any token is the beginning of a name, or the likeliest one is that of several.
    """
    weights = dict.fromkeys(candidates, 0.0)
    shared = 0.0
    for token, probability in first_token.items():
        beginning = token.strip(" \n\t\"'(*`")
        # In these very letters: "The" is no "theo".
        begun = [name for name in candidates if beginning and name.startswith(beginning)]
        if len(begun) == 1 or beginning in begun:
            weights[beginning if beginning in begun else begun[0]] += math.exp(probability)
        elif begun:
            shared += math.exp(probability)
    best = max(weights, key=lambda name: weights[name])
    return best if weights[best] >= max(_LEAST_WEIGHT, shared) else None


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
    # No more of it than such an answer can be long: a model that talks on names everybody sooner or later. Of two names
    # of which one begins the other, the longer one is meant where it stands.
    names = "|".join(map(re.escape, sorted(candidates, key=len, reverse=True)))
    there = {found[0] for found in re.finditer(rf"(?<!\w)(?:{names})(?!\w)", text[:400], re.IGNORECASE)}
    alike = {word.casefold() for word in there}
    found = [name for name in candidates if name in there] or [name for name in candidates if name.casefold() in alike]
    return found[0] if len(found) == len(alike) == 1 else None
