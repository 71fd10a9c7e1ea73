"""Which conversation goes to which slot of a server.

A slot keeps the last prompt that it read; a request that begins alike reads only what is new. Left alone the server
gives a request to the slot that is most like it, so a new specialist lands on its manager's slot and pushes it out.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from wherry.messages import Message, digest


@dataclass(frozen=True, slots=True)
class Place:
    """What tells conversations apart, from their first bytes on."""

    beginning: str
    """Instructions and examples, which many agents share."""
    agent: str
    """The whole system prompt."""
    conversation: str
    """That, and what came first after it."""


def place_of(messages: Sequence[Message], beginning: Sequence[Message]) -> Place:
    """The place of a request."""
    first = "\0".join(message.content for message in beginning)
    system = "".join(message.content for message in messages[:1] if message.role == "system")
    task = next((message.content for message in messages if message.role != "system"), "")
    return Place(_name(first), _name(first, system), _name(first, system, task))


def _name(*texts: str) -> str:
    return digest("\0".join(texts).encode("utf-8", "replace"))


class SlotTable:
    """The slots of one server. Thread-safe."""

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._held: list[Place | None] = [None] * count
        self._busy = [False] * count
        self._used = [0] * count
        self._clock = 0

    def take(self, place: Place) -> tuple[int | None, bool]:
        """A free slot, and whether the slot has read the request's beginning before.

        The conversation's own, else its agent's, an empty one, one with the same beginning, the one unused for longest.
        None when all are busy: then the server queues the request and picks one itself.
        """
        with self._lock:
            free = [slot for slot, busy in enumerate(self._busy) if not busy]
            if not free:
                return None, True
            slot = min(free, key=lambda slot: (_distance(self._held[slot], place), self._used[slot]))
            held = self._held[slot]
            self._clock += 1
            self._held[slot], self._busy[slot], self._used[slot] = place, True, self._clock
            return slot, held is not None and held.beginning == place.beginning

    def give_back(self, slot: int | None) -> None:
        """Mark a slot as free again."""
        if slot is not None:
            with self._lock:
                self._busy[slot] = False


def _distance(held: Place | None, wanted: Place) -> int:
    if held is None:
        return 2
    if held.conversation == wanted.conversation:
        return 0
    if held.agent == wanted.agent:
        return 1
    return 3 if held.beginning == wanted.beginning else 4
