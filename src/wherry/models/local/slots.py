"""Which conversation goes to which slot of a server.

A slot keeps the last prompt that it read; a request that begins alike reads only what is new. Left alone the server
gives a request to the slot that is most like it, so a new specialist lands on its manager's slot and pushes it out.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from wherry.messages import Message, digest


def conversation(messages: Sequence[Message]) -> tuple[str, str]:
    """Names of a request's system prompt and of its conversation: the system prompt and what came first after it."""
    system = "".join(m.content for m in messages[:1] if m.role == "system")
    task = next((m.content for m in messages if m.role != "system"), "")
    name = digest(system.encode("utf-8", "replace"))
    return name, digest(f"{name}{task}".encode("utf-8", "replace"))


class SlotTable:
    """The slots of one server. Thread-safe."""

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._held: list[tuple[str, str]] = [("", "")] * count
        self._busy = [False] * count
        self._used = [0] * count
        self._clock = 0

    def take(self, system: str, name: str) -> int | None:
        """A free slot: the conversation's own, else one with the same system prompt, else the one unused for longest.

        None when all are busy: then the server queues the request and picks one itself.
        """
        with self._lock:
            free = [slot for slot, busy in enumerate(self._busy) if not busy]
            if not free:
                return None

            def rank(slot: int) -> tuple[int, int]:
                held_system, held_name = self._held[slot]
                likeness = 0 if held_name == name else 1 if held_system == system else 2
                return likeness, self._used[slot]

            slot = min(free, key=rank)
            self._clock += 1
            self._held[slot], self._busy[slot], self._used[slot] = (system, name), True, self._clock
            return slot

    def give_back(self, slot: int | None) -> None:
        """Mark a slot as free again."""
        if slot is not None:
            with self._lock:
                self._busy[slot] = False
