"""What a window makes for one request."""

from __future__ import annotations

from dataclasses import dataclass

from wherry.messages import JSON, Message


@dataclass(frozen=True, slots=True)
class Fitted:
    """A request that satisfies the equation."""

    messages: tuple[Message, ...]
    max_output: int
    """What the reply may take; to be sent to the server."""
    tokens: int
    """What messages and tool schemas take, as counted."""
    window: int
    keep: int
    """How many leading messages are byte for byte those of the previous request."""
    add: tuple[str, ...]
    """The digests of the messages after those."""
    tools: int
    """The part of `tokens` that the tool schemas take."""
    told: tuple[str, ...]
    """The digests of the messages that were appended since the previous request, as they are kept. Mostly these are
    `add`; not where messages are joined or put in words for the request."""
    snapshot: JSON
    """What the window held for this request, if that does not follow from the one before and `told`; else None."""
