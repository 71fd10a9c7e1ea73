"""What this process knows of a model's server: how large a request it takes, how many at a time, how it was lately.

One `Backend` for all agents and runs of the process that ask the same model at the same place; what one of them learned
the others need not learn again.
"""

from __future__ import annotations

import threading
from weakref import WeakKeyDictionary

from wherry.models.gate import Gate
from wherry.models.protocol import Model, ModelProfile

SMALLEST_WINDOW = 256
"""Tokens that a window is never made smaller than: below, there is no conversation left to save."""
GROWTH = 32
"""After a lack of memory, every answer gives back this part of what there was before."""


class Backend:
    """One model at one place. Thread-safe."""

    def __init__(self, name: str, *, tokens_in_flight: int | None = None, slots: int | None = None) -> None:
        self.name = name
        self.gate = Gate(tokens_in_flight, places=slots)
        """What has to be passed by every request."""
        self.limit: int | None = None
        """The largest request in tokens that the server says it takes, once it has said so."""
        self.met = False
        """Whether it has ever answered."""
        self._lock = threading.Lock()
        self._full_flight = tokens_in_flight
        self._full_window = 0
        self._window: int | None = None
        """The largest request while the server is short of memory."""
        self._shortages = 0

    def window(self, wanted: int) -> int:
        """The largest request that may be sent now, where `wanted` is what the model is said to take."""
        sizes = (wanted, self.limit, self._window, self.gate.capacity)
        return max(min(size for size in sizes if size is not None), min(SMALLEST_WINDOW, wanted))

    @property
    def recovering(self) -> bool:
        """Whether less is asked of it than it took before."""
        return self._window is not None

    def learn(self, limit: int) -> None:
        """The server said what it takes."""
        with self._lock:
            if limit > 0 and (self.limit is None or limit < self.limit):
                self.limit = limit

    def halve(self, window: int) -> tuple[int, int]:
        """The server ran out of memory while requests of up to `window` tokens were sent.

        Returns:
            The window and the tokens in flight from now on, both half of what they were.
        """
        with self._lock:
            before = self._window or window
            self._full_window = max(self._full_window, window)
            self._shortages += 1
            self._window = max(SMALLEST_WINDOW, min(before, window) // 2)
            flight = self.gate.capacity or max(self.gate.in_flight, before)
            flight = max(flight // 2, self._window)
            self.gate.resize(flight)
            return self._window, flight

    def answered(self) -> None:
        """The server gave an answer: it may be asked a little more again."""
        self.met = True
        if self._window is None:
            return
        with self._lock:
            part = max(1, self._full_window // (GROWTH * self._shortages))
            flight = self.gate.capacity
            self._window += part
            grown = None if flight is None else flight + part
            if grown is not None and self._full_flight is not None:
                grown = min(grown, self._full_flight)
            if self._window >= self._full_window:
                self._window, self._shortages = None, 0
                grown = self._full_flight
            self.gate.resize(grown)


_lock = threading.Lock()
_known: dict[tuple[str, str], Backend] = {}
_objects: WeakKeyDictionary[Model, Backend] = WeakKeyDictionary()


def backend_of(model: Model, profile: ModelProfile) -> Backend:
    """What is known of a model's server."""
    try:
        found = _objects.get(model)
    except TypeError:  # an object of a user's that cannot be hashed: known by its name
        return _place(f"{type(model).__qualname__}:{profile.backend}", profile)
    if found is None or (profile.backend and found.name != profile.backend):
        found = _place(profile.backend, profile) if profile.backend else _new(profile.name, profile)
        _objects[model] = found
    return found


def _place(backend: str, profile: ModelProfile) -> Backend:
    key = (backend, profile.name)
    with _lock:
        if key not in _known:
            _known[key] = _new(backend, profile)
        return _known[key]


def _new(name: str, profile: ModelProfile) -> Backend:
    return Backend(name, tokens_in_flight=profile.tokens_in_flight, slots=profile.slots)
