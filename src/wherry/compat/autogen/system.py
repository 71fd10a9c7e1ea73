"""System prompts of any length: of one that would fill the window, what matters for the question at hand is sent."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast

from wherry.compat.autogen.messages import Dict, content_str
from wherry.context import Knowledge, TokenCounter
from wherry.models import ModelProfile
from wherry.store import Store
from wherry.tools.threads import run_in_thread

_SHARE = 0.3
"""Of the window that a system prompt may take as it is."""
_BEGINNING = 400
"""Characters of a long prompt that always stay: they mostly say who the agent is."""
_QUESTION = 2_000


class System:
    """The system prompt of one agent, in the conversations that it is asked about."""

    def __init__(self) -> None:
        self._known: tuple[str, Knowledge] | None = None
        self._counted: tuple[str, int] | None = None

    async def split(
        self, messages: Sequence[Dict], window: int, profile: ModelProfile, store: Store
    ) -> tuple[str | None, Sequence[Dict], int]:
        """The system prompt where it stands apart, the messages without it, and the tokens that are theirs.

        One that is short stays among the messages.
        """
        first = messages[0] if messages and messages[0].get("role") == "system" else None
        text = "" if first is None else content_str(first.get("content"))
        counter = TokenCounter.for_profile(profile)
        most = int(window * _SHARE)
        if len(text) <= most or self._tokens(text, counter) <= most:
            return None, messages, window
        if self._known is None or self._known[0] != text:
            pinned = text[:_BEGINNING].rsplit("\n", 1)[0]
            self._known = text, Knowledge(texts={"instructions": text}, pinned=pinned, share=_SHARE)
        knowledge = self._known[1]
        asked = next((m for m in reversed(messages) if m.get("role") == "user"), None)
        question = content_str(asked.get("content"))[:_QUESTION] if asked is not None else ""
        brief = partial(
            knowledge.brief,
            question,
            store=store,
            counter=counter,
            room=int(window * 0.75),
            control_tokens=profile.control_tokens,
        )
        system = cast("str", await run_in_thread(brief, timeout=None))
        return system, messages[1:], window - max(most, self._tokens(system, counter, keep=False) + 16)

    def _tokens(self, text: str, counter: TokenCounter, *, keep: bool = True) -> int:
        if self._counted is not None and self._counted[0] == text:
            return self._counted[1]
        tokens = counter.text(text)
        if keep:
            self._counted = text, tokens
        return tokens
