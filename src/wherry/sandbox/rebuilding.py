"""A session made again from what was recorded of it: for resuming a run, and after a session was killed.

The recorded snippets run again with the recorded results of their tools, seeds and clock readings. Nothing else reaches
a session, so it gets the same variables, and no tool is called a second time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wherry.errors import RebuildError

from .protocol import Conditions, Execution, ExecutionKind, Session, ToolHandler

_NOT_REPEATED: frozenset[ExecutionKind] = frozenset({"timeout", "memory", "killed", "protocol", "refused"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedCall:
    """A tool call that a snippet made, and what it got."""

    name: str
    value: Any = None  # Any: as a `ToolHandler` gives it
    error: str | None = None
    """The text of the `ToolError` that it got instead."""
    arguments: Any = None  # Any: JSON
    """As `bind` of `rebuild` makes them; None: not compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedSnippet:
    """A snippet that came to an end."""

    code: str
    conditions: Conditions
    calls: Sequence[RecordedCall] = ()
    kind: ExecutionKind | None = None
    """How it failed; None: it did not."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What came of it."""

    snippets: int
    """That were run again."""
    left_out: tuple[int, ...] = ()
    """Numbers, from 1, of those that were not: where a limit stopped them the first time cannot be found again."""


Bind = Callable[[str, "list[Any]", "dict[str, Any]"], object]
"""A call's arguments in the form that was recorded: name, positional, keyword (Any: see `ToolHandler`)."""


async def rebuild(
    session: Session,
    recorded: Sequence[RecordedSnippet],
    *,
    tools: Sequence[str] | None = None,
    bind: Bind | None = None,
    seconds: float = 120.0,
) -> Rebuilt:
    """Bring a fresh session, opened with the same variables and files, to where another one was.

    Args:
        session: it must not have run anything.
        recorded: what the other one ran, in order.
        tools: names that exist, called or not; those that were called are added. None: those of `open`.
        bind: makes a call's arguments comparable with the recorded ones; None: they are not compared.
        seconds: for all of it.

    Raises:
        RebuildError: a snippet did not do again what it did the first time. The session is of no use then.
    """
    left_out: list[int] = []
    called = [call.name for snippet in recorded for call in snippet.calls]
    names = None if tools is None else list(dict.fromkeys([*tools, *called]))
    try:
        async with asyncio.timeout(seconds):
            for number, snippet in enumerate(recorded, 1):
                if snippet.kind in _NOT_REPEATED:
                    left_out.append(number)
                else:
                    await _repeat(session, number, snippet, names, bind)
    except TimeoutError:
        raise RebuildError(f"the recorded snippets did not run again within {seconds:g} s") from None
    return Rebuilt(len(recorded) - len(left_out), tuple(left_out))


async def _repeat(
    session: Session, number: int, snippet: RecordedSnippet, tools: Sequence[str] | None, bind: Bind | None
) -> None:
    answers = Answers(snippet.calls, bind=bind)
    clock: Mapping[str, Sequence[int]] = snippet.conditions.clock or {}
    conditions = Conditions(snippet.conditions.seed, clock)
    execution = await session.run(snippet.code, call_tool=answers, tools=tools, conditions=conditions)
    problem = answers.problem or _difference(execution, snippet) or answers.unused()
    if problem is not None:
        raise RebuildError(f"snippet {number} did not do again what it did the first time: {problem}")


def _difference(execution: Execution, snippet: RecordedSnippet) -> str | None:
    if execution.kind == snippet.kind:
        return None
    last = execution.error.rstrip().rsplit("\n", 1)[-1]
    now = "it succeeded" if execution.kind is None else f"it failed ({execution.kind}): {last}"
    return f"{now}; then it {'succeeded' if snippet.kind is None else f'failed ({snippet.kind})'}"


class Answers:
    """A `ToolHandler` that gives recorded results, in order, and then hands over.

    With `then` it brings a snippet that was cut short to where it was, and lets it go on from there.
    """

    def __init__(
        self, calls: Sequence[RecordedCall], *, bind: Bind | None = None, then: ToolHandler | None = None
    ) -> None:
        self._calls = calls
        self._bind = bind
        self._then = then
        self._next = 0
        self.problem: str | None = None
        """The first call that was not the recorded one."""

    async def __call__(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        if self.problem is None and self._next >= len(self._calls) and self._then is not None:
            return await self._then(name, args, kwargs)
        call = self._take(name, args, kwargs)
        if call is None:
            raise ValueError(self.problem)
        if call.error is not None:
            raise ValueError(call.error)
        return call.value

    def unused(self) -> str | None:
        """What to say of calls that were recorded and not made."""
        left = len(self._calls) - self._next
        return f"{left} of its {len(self._calls)} tool calls were not made" if left else None

    def _take(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> RecordedCall | None:
        if self.problem is not None:
            return None
        if self._next >= len(self._calls):
            self.problem = f"it called {name!r}, after all {len(self._calls)} recorded calls"
            return None
        call = self._calls[self._next]
        self._next += 1
        if call.name != name:
            self.problem = f"its tool call {self._next} was of {name!r}, not of {call.name!r}"
        elif self._bind is not None and call.arguments is not None:
            try:
                given = self._bind(name, args, kwargs)
            except Exception as error:  # noqa: BLE001  # whatever says that they do not fit
                given = error
            if given != call.arguments:
                self.problem = f"its tool call {self._next}, of {name!r}, had other arguments"
        return call if self.problem is None else None
