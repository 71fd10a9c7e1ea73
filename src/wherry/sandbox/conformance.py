"""What every sandbox must do, as one function that a backend's own tests call."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from .protocol import Execution, Sandbox, Session

_TOOLS = ("echo", "fail")


async def _answer(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:  # Any: JSON
    if name == "fail":
        raise ValueError("told by the host")
    return {"args": args, "kwargs": kwargs}


async def check_sandbox(make: Callable[[], Sandbox]) -> None:
    """Open sessions of a sandbox and check every sentence of `wherry.sandbox.protocol`.

    Args:
        make: gives the sandbox; its wall limit should be short (2 s), since it is run into twice.

    Raises:
        AssertionError: a sentence does not hold; the message is the sentence.
    """
    sandbox = make()
    try:
        for check in (_values, _state, _tools, _final, _errors, _timeout, _output):
            session = await sandbox.open(tools=_TOOLS, variables={"given": [1, "two"]})
            try:
                await check(session)
            finally:
                await session.close()
            _hold(not session.alive, "a closed session is not alive")
        other = await sandbox.open(tools=())
        left = await _run(other, "'kept' in globals()")
        _hold(left.value is False, "a variable of one session is in no other")
        await other.close()
        await other.close()
    finally:
        await sandbox.close()


def _hold(truth: bool, sentence: str) -> None:
    if not truth:
        raise AssertionError(sentence)


async def _run(session: Session, code: str) -> Execution:
    execution = await session.run(code, call_tool=_answer)
    _hold(execution.tier == session.tier, "an execution names its tier")
    return execution


async def _values(session: Session) -> None:
    for code, value in (
        ("6*7", 42),
        ("given", [1, "two"]),
        ("{'a': (1, None)}", {"a": [1, None]}),
        ("'\\ud800'", "\ud800"),
    ):
        execution = await _run(session, code)
        _hold(
            execution.ok and execution.has_value and execution.value == value, "the last expression's value comes back"
        )
    nothing = await _run(session, "x = 1")
    _hold(nothing.ok and not nothing.has_value, "a statement has no value")
    odd = await _run(session, "[float('nan'), 10**6000, object()]")
    _hold(odd.ok and odd.has_value, "what JSON cannot carry comes as text")


async def _state(session: Session) -> None:
    await _run(session, "import math\nkept = 3\ndef twice(x):\n    return x * kept")
    later = await _run(session, "twice(int(math.sqrt(4)))")
    _hold(later.value == 6, "variables, functions and imports are there in the next snippet")


async def _tools(session: Session) -> None:
    called = await _run(session, "echo(1, 'a', key=[None])")
    _hold(
        called.value == {"args": [1, "a"], "kwargs": {"key": [None]}}, "a tool gets its arguments and gives its result"
    )
    _hold(called.tool_calls == 1, "tool calls are counted")
    failed = await _run(session, "try:\n    fail()\nexcept ToolError as error:\n    text = str(error)\ntext")
    _hold("told by the host" in str(failed.value), "a tool's failure is a ToolError with its message")
    fewer = await session.run("fail()", call_tool=_answer, tools=["echo"])
    _hold(fewer.kind == "exception" and "NameError" in fewer.error, "a tool that was taken away is gone")


async def _final(session: Session) -> None:
    ended = await _run(session, "try:\n    final_answer(5)\nexcept BaseException:\n    pass\nfinal_answer(6)")
    _hold(
        ended.ok and ended.final and ended.value == 5, "the first final answer counts, whatever the snippet does then"
    )


async def _errors(session: Session) -> None:
    broken = await _run(session, "print('before')\nvalue = 1\nvalue / 0")
    _hold(broken.kind == "exception" and not broken.ok, "a snippet that raises fails with kind `exception`")
    _hold("ZeroDivisionError" in broken.error and "value / 0" in broken.error, "the error shows the snippet's line")
    _hold(broken.stdout == "before\n", "what was printed before a failure is kept")
    wrong = await _run(session, "def (")
    _hold(wrong.kind == "exception" and "SyntaxError" in wrong.error, "a snippet that is no Python fails the same way")
    _hold((await _run(session, "value")).value == 1, "a session outlives a failure")


async def _timeout(session: Session) -> None:
    await _run(session, "before = 1")
    started = time.monotonic()
    slow = await _run(session, "while True: pass")
    _hold(slow.kind == "timeout" and time.monotonic() - started < 60, "a snippet that runs too long is stopped")
    _hold((await _run(session, "before")).value == 1, "variables survive a snippet that was stopped")


async def _output(session: Session) -> None:
    flood = await _run(session, "print('first')\nfor _ in range(100_000): print('x' * 99)\nprint('last')")
    _hold(len(flood.stdout) < 1_000_000, "output is capped")
    _hold(flood.stdout.startswith("first") and flood.stdout.endswith("last\n"), "head and tail of the output are kept")
