"""Several keys for one server: when one is refused or used up, the next takes over."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from wherry.errors import ConfigurationError, ModelError
from wherry.models.api_key import ApiKey
from wherry.models.call import current_call
from wherry.models.failure_kind import FailureKind
from wherry.models.failures import Failure

T = TypeVar("T")

RATE_SECONDS = 60.0
"""For a key over its rate, where the server does not say how long."""
QUOTA_SECONDS = 3600.0
"""Before a key whose quota was used up is tried again: somebody may have paid."""


class KeyRing:
    """Keys that are used one after the other: `OpenAIModel("gpt-4o-mini", api_key=KeyRing("sk-...", "sk-..."))`.

    A key stays in use until the server refuses it (401), calls its rate full (429) or its quota used up; then the next
    one is sent with the same request at once. A key over its rate comes back when the server said so, one without quota
    after an hour, a refused one never.

    A ring may be shared by several models of the same provider. The keys are in no repr, message, journal or traceback;
    they are told of by their last four characters.

    Raises:
        ConfigurationError: There is no key, or one that no header can carry.
    """

    def __init__(self, *keys: str | Iterable[str], clock: Callable[[], float] = time.monotonic) -> None:
        texts = [text for each in keys for text in ((each,) if isinstance(each, str) else each)]
        self._keys = tuple(ApiKey(text, "api_key") for text in dict.fromkeys(texts) if text.strip())
        if not self._keys:
            raise ConfigurationError("the key ring is empty", hint='KeyRing("first key", "second key")')
        self._clock = clock
        self._lock = threading.Lock()
        self._position = 0
        self._rests: dict[int, float] = {}
        """By position: until when a key is not used."""

    @classmethod
    def of(cls, key: ApiKey) -> KeyRing:
        """A ring of one."""
        ring = cls.__new__(cls)
        ring._keys = (key,)
        ring._clock, ring._lock, ring._position, ring._rests = time.monotonic, threading.Lock(), 0, {}
        return ring

    @property
    def keys(self) -> Sequence[ApiKey]:
        return self._keys

    @property
    def current(self) -> ApiKey:
        """The key to send now."""
        with self._lock:
            free = self._free()
            return self._keys[self._position if free is None else free]

    def refuse(self, key: ApiKey, failure: Failure) -> ApiKey | None:
        """Put a key away after a failure that another key may not have; the key to try instead, if there is one."""
        if failure.kind not in _ABOUT_KEYS or key not in self._keys:
            return None
        with self._lock:
            now = self._clock()
            position = self._keys.index(key)
            seconds = {
                FailureKind.Authentication: math.inf,
                FailureKind.QuotaExhausted: failure.retry_after or QUOTA_SECONDS,
            }.get(failure.kind, failure.retry_after or RATE_SECONDS)
            self._rests[position] = now + seconds
            free = self._free()
            if free is None:
                return None
            self._position = free
            return self._keys[free]

    @property
    def seconds_to_wait(self) -> float | None:
        """Until the first key may be used again; None when none will be."""
        with self._lock:
            until = min((self._rests.get(n, 0.0) for n in range(len(self._keys))), default=0.0)
            return None if math.isinf(until) else max(0.0, until - self._clock())

    async def send(self, attempt: Callable[[ApiKey], Awaitable[T]]) -> T:
        """Send a request with one key after the other, until one is taken or none is left.

        Raises:
            ModelError: What the server said of the last one.
        """
        key = self.current
        while True:
            try:
                return await attempt(key)
            except ModelError as error:
                failure = Failure.of(error)
                other = self.refuse(key, failure)
                if other is None:
                    self._complete(error, failure)
                    raise
                _note(key, other, failure)
                call = current_call()
                if call is not None and call.attempts:
                    error.diagnosis = {**(error.diagnosis or {}), "next_key": True}
                    raise
                key = other

    def _free(self) -> int | None:
        """The first key that does not rest, from the present one on. The lock is held."""
        if not self._rests:
            return self._position
        now = self._clock()
        order = ((self._position + step) % len(self._keys) for step in range(len(self._keys)))
        return next((n for n in order if self._rests.get(n, 0.0) <= now), None)

    def _complete(self, error: ModelError, failure: Failure) -> None:
        """Say of a failure that ends here what became of the other keys, and when one of them is free again."""
        if len(self._keys) == 1 or failure.kind not in _ABOUT_KEYS:
            return
        endings = ", ".join(key.ending for key in self._keys)
        error.message += f" (all {len(self._keys)} keys of the ring were tried: {endings})"
        error.args = (error.message,)
        if failure.kind is FailureKind.RateLimited:
            error.diagnosis = {**(error.diagnosis or {}), "retry_after": self.seconds_to_wait}

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(repr(key.ending) for key in self._keys)})"

    def __reduce__(self) -> str:
        raise TypeError("a key ring is not pickled: give the keys anew in the other process")


_ABOUT_KEYS = frozenset({FailureKind.Authentication, FailureKind.QuotaExhausted, FailureKind.RateLimited})


def _note(key: ApiKey, other: ApiKey, failure: Failure) -> None:
    call = current_call()
    if call is not None:
        said = f"the key {key.ending} was refused ({failure.kind}); {other.ending} is used instead"
        call.note("next_key", {"kind": str(failure.kind), "message": failure.detail, "said": said})
