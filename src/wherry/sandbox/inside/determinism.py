"""Time and chance inside: what a snippet reads of a clock is written down, what it draws at random comes from a seed.

Run again with the same seed and readings it gets the same, which is how a session is rebuilt. Covered: `time`,
`datetime.now()` and its kin, `random`, `secrets`, `uuid`, `os.urandom`, `tempfile`, numpy's generators. Not covered:
/dev/urandom, `time.clock_gettime`, the timing of threads, `id()`.

The wrappers are put in once, before any session is forked, and do nothing until a snippet runs.
"""

from __future__ import annotations

import datetime
import gc
import hashlib
import os
import random
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any

from .compiling import PREFIX

MAX_READINGS = 1000
"""More are not written down; run again they go on from the last one."""
_MONOTONIC = ("monotonic", "perf_counter", "process_time", "thread_time")
_NANO = 1_000_000_000


class Determinism:
    """The clock readings and the random stream of the snippet that runs."""

    def __init__(self) -> None:
        self.active = False
        self.replaying = False
        self._seed = b""
        self._drawn = 0
        self._fresh = True
        self._partial = False
        self._readings: dict[str, list[int]] = {}
        self._left: dict[str, deque[int]] = {}
        self._count = 0
        self._offsets: dict[str, int] = {}

    def begin(self, seed: str, readings: dict[str, list[int]] | None, *, partial: bool = False) -> None:
        """A snippet starts.

        Args:
            seed: hexadecimal; what is drawn from now on follows from it.
            readings: those of the time before, if this is a repetition.
            partial: the snippet was interrupted behind the last of them, and goes on from there.
        """
        self._seed, self._drawn = bytes.fromhex(seed), 0
        self._readings, self._count = {}, 0
        self.replaying = readings is not None and (not partial or any(readings.values()))
        self._partial = partial
        self._left = {name: deque(found) for name, found in (readings or {}).items()}
        self._offsets.pop("time", None)  # the other clocks go on from what was last told, so that they never go back
        self.active = True
        if (
            self._fresh
        ):  # generators that were made before the session was forked are in the same state in every session
            self._fresh = False
            random.seed(self._seed)
            numpy_random: Any = sys.modules.get("numpy.random")
            if numpy_random is not None:
                numpy_random.seed(int.from_bytes(self._seed[:4], "big"))

    def end(self) -> dict[str, list[int]]:
        """The snippet ended; what it read."""
        self.active = self.replaying = False
        return self._readings

    def read(self, name: str, now: int) -> int:
        """What a clock says when it really says `now`, in nanoseconds."""
        left = self._left.get(name)
        if left:
            value = left.popleft()
            if not self._partial or name != "time":  # behind what is repeated, it is as late as it is
                self._offsets[name] = value - now
            if self._partial and not any(self._left.values()):
                self.replaying = False
        else:
            value = now + self._offsets.get(name, 0)
        if self._count < MAX_READINGS:
            self._count += 1
            self._readings.setdefault(name, []).append(value)
        return value

    def draw(self, size: int) -> bytes:
        """The next random bytes."""
        self._drawn += 1
        return hashlib.shake_256(self._seed + self._drawn.to_bytes(8, "big")).digest(size)


STATE = Determinism()
_installed: list[bool] = []


def install() -> None:
    """Put the wrappers in, if they are not."""
    if _installed:
        return
    _installed.append(True)
    _wrap_chance()
    now = _wrap_time()
    for name in _MONOTONIC:
        if hasattr(time, f"{name}_ns"):
            _wrap_monotonic(name)
    _wrap_datetime(now)


def _replace(module: Any, name: str, function: Callable[..., Any]) -> None:
    function.__name__ = function.__qualname__ = name
    function.__module__ = module.__name__
    setattr(module, name, function)


def _wrap_chance() -> None:
    urandom = os.urandom

    def seeded(size: int, /) -> bytes:
        return STATE.draw(size) if STATE.active else urandom(size)

    def getrandom(size: int, flags: int = 0) -> bytes:
        return seeded(size)

    _replace(os, "urandom", seeded)
    if hasattr(os, "getrandom"):
        _replace(os, "getrandom", getrandom)
    random.__dict__["_urandom"] = seeded
    uuid.__dict__["_generate_time_safe"] = None  # uuid1() then uses the clock and the generator that we know
    original: Callable[..., None] = random.Random.seed

    def seed(self: random.Random, a: Any = None, version: int = 2) -> None:
        if a is None and STATE.active:
            a = STATE.draw(32)
        original(self, a, version)

    random.Random.seed = seed  # pyright: ignore[reportAttributeAccessIssue]
    random.seed = random.__dict__["_inst"].seed


def _wrap_time() -> Callable[[], int]:
    real, real_sleep = time.time_ns, time.sleep
    local, utc, write = time.localtime, time.gmtime, time.strftime
    as_text = time.asctime

    def now() -> int:
        return STATE.read("time", real()) if STATE.active else real()

    def sleep(seconds: float, /) -> None:
        real_sleep(0 * seconds if STATE.replaying else seconds)

    def moment(seconds: float | None) -> float:
        return now() / _NANO if seconds is None else seconds

    def parts_of(parts: Any) -> Any:
        return local(moment(None)) if parts is None else parts

    def seconds_now() -> float:
        return now() / _NANO

    def localtime(seconds: float | None = None, /) -> time.struct_time:
        return local(moment(seconds))

    def gmtime(seconds: float | None = None, /) -> time.struct_time:
        return utc(moment(seconds))

    def ctime(seconds: float | None = None, /) -> str:
        return as_text(local(moment(seconds)))

    def asctime(parts: Any = None, /) -> str:
        return as_text(parts_of(parts))

    def strftime(form: str, parts: Any = None, /) -> str:
        return write(form, parts_of(parts))

    _replace(time, "time_ns", now)
    _replace(time, "time", seconds_now)
    for function in (sleep, localtime, gmtime, ctime, asctime, strftime):
        _replace(time, function.__name__, function)
    return now


def _wrap_monotonic(name: str) -> None:
    """Only what the snippet itself reads: an event loop that was told another computer's time would wait for ever."""
    real: Callable[[], int] = getattr(time, f"{name}_ns")
    frame_of: Callable[[int], Any] = sys._getframe  # pyright: ignore[reportPrivateUsage]

    def nanoseconds() -> int:
        own = STATE.active and frame_of(1).f_code.co_filename.startswith(PREFIX)
        return STATE.read(name, real()) if own else real()

    def seconds() -> float:
        own = STATE.active and frame_of(1).f_code.co_filename.startswith(PREFIX)
        return (STATE.read(name, real()) if own else real()) / _NANO

    _replace(time, f"{name}_ns", nanoseconds)
    _replace(time, name, seconds)


def _wrap_datetime(now: Callable[[], int]) -> None:
    """`datetime.now` asks the system itself, and its class is C's.

    A class of our own in its place would not be the one that C code makes, so the method is put into the class's own
    dictionary. `date.today` and `datetime.today` ask `time.time`.
    """

    def at(cls: Any, zone: datetime.tzinfo | None) -> Any:
        seconds, rest = divmod(now(), _NANO)
        return cls.fromtimestamp(seconds, zone).replace(microsecond=rest // 1000)

    def current(cls: Any, tz: datetime.tzinfo | None = None) -> Any:
        return at(cls, tz)

    def universal(cls: Any) -> Any:
        return at(cls, datetime.UTC).replace(tzinfo=None)

    methods: Any = gc.get_referents(datetime.datetime.__dict__)[0]
    for name, function in (("now", current), ("utcnow", universal)):
        function.__name__, function.__qualname__ = name, f"datetime.{name}"
        methods[name] = classmethod(function)
    try:
        from ctypes import py_object, pythonapi
    except ImportError:  # in WebAssembly; there nobody has looked the methods up before, so none is remembered
        return
    pythonapi.PyType_Modified(py_object(datetime.datetime))
