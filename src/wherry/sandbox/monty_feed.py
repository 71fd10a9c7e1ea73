"""One snippet in pydantic-monty: its calls are answered one by one, its limits kept, its end told."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import time
import uuid
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from .inside.decoding import restore
from .inside.encoding import ValueTooLargeError, encode
from .inside.output import Capture
from .limits import SandboxLimits
from .protocol import Execution, ExecutionKind, ToolHandler

if TYPE_CHECKING:
    from pydantic_monty import AsyncMontySession, AsyncSnapshot

TIER = "monty"
_OVER_TIME = "feed time limit exceeded"
_MOST_ERROR = 4000
_SCALARS = (bool, int, float, str, bytes, datetime.date, datetime.time, datetime.timedelta)


@dataclass(slots=True)
class Feed:
    """One snippet."""

    session: AsyncMontySession
    limits: SandboxLimits
    tools: tuple[str, ...]
    call_tool: ToolHandler
    kill: Callable[[], None]
    seconds_left: float
    """Of the session's processor time."""
    interrupted: bool = False
    dead: bool = False
    final: list[Any] = field(default_factory=list[Any])
    calls: int = 0
    out: Capture = field(init=False)
    err: Capture = field(init=False)
    started: float = field(default_factory=time.monotonic)
    waited: float = 0.0
    overdue: bool = False
    timer: asyncio.TimerHandle | None = None

    def __post_init__(self) -> None:
        self.out, self.err = Capture(self.limits.stdout_bytes), Capture(self.limits.stdout_bytes)

    def executed(self) -> float:
        """Seconds that were not spent in tools. One thread computes, so that is more than its processor time."""
        return time.monotonic() - self.started - self.waited

    async def perform(self, code: str) -> Execution:
        import pydantic_monty

        self._on_timer()
        try:
            snapshot: AsyncSnapshot = await self.session.feed_start(
                code,
                external_lookup=dict.fromkeys((*self.tools, "final_answer"), _never),
                print_callback=self._print,
            )
            while not isinstance(snapshot, pydantic_monty.MontyComplete):
                snapshot = await self._answer(snapshot)
            value, has_value = snapshot.output, snapshot.output is not None
        except pydantic_monty.MontyCrashedError as error:
            self.dead = True
            return self._failed(*self._death(error))
        except pydantic_monty.MontyError as error:
            return self._failed(*_kind(error))
        finally:
            if self.timer is not None:
                self.timer.cancel()
        return self._done(value, has_value=has_value)

    async def _answer(self, snapshot: Any) -> AsyncSnapshot:  # Any: one of the three kinds of pause
        import pydantic_monty

        if not isinstance(snapshot, pydantic_monty.AsyncFunctionSnapshot) or snapshot.is_os_function:
            return await snapshot.resume_auto()
        name, args, kwargs = str(snapshot.function_name), snapshot.args, snapshot.kwargs
        if name == "final_answer":
            return await snapshot.resume({"exception": self._take_final(args, kwargs)})
        if name not in self.tools:
            return await snapshot.resume({"exception": NameError(f"name {name!r} is not defined")})
        started = time.monotonic()
        try:
            value = inward(await self._call(name, args, kwargs))
        except Exception as error:  # noqa: BLE001  # the contract: whatever a tool raises is told inside
            problem = getattr(error, "message", None) or str(error) or type(error).__name__
            return await self._resume(snapshot.resume({"exception": RuntimeError(problem)}), started)
        return await self._resume(snapshot.resume({"return_value": value}), started)

    async def _resume(self, going_on: Coroutine[Any, Any, AsyncSnapshot], started: float) -> AsyncSnapshot:
        self.waited += time.monotonic() - started
        return await going_on

    async def _call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.calls += 1
        if self.final:
            raise RuntimeError("the run has ended: final_answer was called")
        if self.calls > self.limits.tool_calls:
            raise RuntimeError(f"a snippet may make {self.limits.tool_calls} tool calls; this one made more")
        given = restore(encode((args, kwargs), strict=True))
        return await self.call_tool(name, given[0], given[1])

    def _take_final(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Exception:
        if len(args) + len(kwargs) > 1 or kwargs.keys() - {"value", "answer"}:
            return TypeError("final_answer takes one value")
        if not self.final:
            given = [*args, *kwargs.values()]
            try:
                self.final.append(_outward(given[0] if given else None))
            except ValueTooLargeError as error:
                return ValueError(f"{error}: give a part of it as the final answer")
        return RuntimeError("the run has ended: final_answer was called")

    def _print(self, stream: str, text: str) -> None:
        (self.out if stream == "stdout" else self.err).write(text.encode("utf-8", "backslashreplace"))

    def _on_timer(self) -> None:
        """The session's processor time may be used up; what was spent in tools is given back."""
        if self.executed() < self.seconds_left:
            self.timer = asyncio.get_running_loop().call_later(self.seconds_left - self.executed(), self._on_timer)
        else:
            self.overdue = True
            self.kill()

    def _death(self, error: Any) -> tuple[ExecutionKind, str]:  # Any: a MontyCrashedError
        if self.interrupted:
            return "timeout", "the snippet was interrupted. All variables are lost."
        if self.overdue:
            return "timeout", f"the session used up its {self.limits.cpu_seconds} s. All variables are lost."
        if error.timed_out or self.executed() >= self.limits.wall_seconds:
            text = f"the snippet ran into its limit of {self.limits.wall_seconds:g} s and was killed"
            return "timeout", f"{text}. All variables are lost."
        return "killed", f"the worker ended: {error}. All variables are lost."

    def _done(self, value: Any, *, has_value: bool) -> Execution:
        if self.final:
            return self._execution(ok=True, value=self.final[0], has_value=True)
        try:
            return self._execution(ok=True, value=_outward(value), has_value=has_value)
        except ValueTooLargeError as error:
            return self._execution(ok=True, value=f"[{error}]", has_value=True)

    def _failed(self, kind: ExecutionKind, text: str) -> Execution:
        if self.final:
            return self._execution(ok=True, value=self.final[0], has_value=True)
        return self._execution(ok=False, kind=kind, error=text[:_MOST_ERROR])

    def _execution(
        self,
        *,
        ok: bool,
        value: Any = None,
        has_value: bool = False,
        kind: ExecutionKind | None = None,
        error: str = "",
    ) -> Execution:
        return Execution(
            ok=ok,
            value=value,
            has_value=has_value,
            final=bool(self.final),
            kind=kind,
            error=error,
            stdout=self.out.take(),
            stderr=self.err.take(),
            seconds=time.monotonic() - self.started,
            cpu_seconds=self.executed(),
            tool_calls=self.calls,
            tier=TIER,
        )


def _never(*_: object) -> None:
    """Stands for a tool: calls of it are answered one by one, not through here."""


def inward(value: Any) -> Any:
    """Raises:
    TypeError: there is no such thing in there.
    """
    return _known(restore(encode(value, tuples=True)))


def _known(value: Any) -> Any:
    """The value in types that exist in there; numbers and ids that do not as text."""
    if value is None or isinstance(value, _SCALARS):
        return value
    if isinstance(value, decimal.Decimal | uuid.UUID):
        return str(value)
    if isinstance(value, dict):
        return {_known(key): _known(item) for key, item in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list | tuple | set | frozenset):
        make = cast("Callable[[Iterable[Any]], Any]", type(cast("object", value)))
        return make(_known(item) for item in cast("Iterable[Any]", value))
    raise TypeError(f"there is no {type(value).__name__} in the tier `monty`")


def _outward(value: Any) -> Any:
    return restore(encode(value))


def _kind(error: Any) -> tuple[ExecutionKind, str]:  # Any: a MontyError; its stubs know `exception` and `display`
    inner = error.exception()
    if isinstance(inner, TimeoutError) and _OVER_TIME in str(inner):
        return "timeout", "the snippet ran into its time limit and was stopped; variables are kept"
    return ("memory" if isinstance(inner, MemoryError) else "exception"), error.display()
