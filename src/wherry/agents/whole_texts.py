"""Texts that an event shows the head of, kept whole beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wherry.agents.keeping import keep
from wherry.agents.run import Run
from wherry.messages import Message

LARGEST_MESSAGE = 65_536
"""Characters of a text that is kept as a message, which the window mostly keeps as well and so costs nothing. A larger
one is an artifact, as it is for the window."""


def kept_text(run: Run, message: Message, *, most: int) -> dict[str, Any]:
    """Where the text of a message to come is kept, for an event's payload; nothing where its `preview` of `most`
    characters is all of it."""
    text = message.content
    if len(text) <= most:
        return {}
    if len(text) <= LARGEST_MESSAGE:
        return {"text": run.journal.keep(message)}
    kept = keep(run, text.encode("utf-8", "surrogatepass"), media_type="text/plain")
    return {"text_ref": None if kept is None else kept.ref}


def text_again(run: Run, payload: Mapping[str, Any]) -> str:
    """The whole text of a payload that `kept_text` is part of.

    Raises:
        StoreError: it is not in the store any more.
    """
    if "text" in payload:
        return Message.decode(run.store.message(payload["text"])).content
    if payload.get("text_ref") is not None:
        return run.store.artifacts.read(payload["text_ref"]).decode("utf-8", "surrogatepass")
    return payload["preview"]
