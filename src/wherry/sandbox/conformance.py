"""What every sandbox must do, as one function that a backend's own tests call, also a user's backend's."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from wherry.errors import ConfigurationError, SandboxError

from .protocol import Execution, Sandbox, Session

_TOOLS = ("echo", "fail")
_GENEROUS_SECONDS = 60.0
"""What anything here may take on a slow machine; a backend that hangs fails instead of hanging the test."""


async def check_sandbox(make: Callable[[], Sandbox]) -> None:
    """Open sessions of a sandbox and check every sentence of `wherry.sandbox.protocol`.

    What a backend need not offer is what the protocol leaves open: whether a session lives on after a snippet was
    stopped, whether there are files, and whether a snippet can be repeated under its conditions.

    Args:
        make: gives the sandbox; its wall limit should be short (1 or 2 s), since it is run into more than once.

    Raises:
        AssertionError: a sentence does not hold; the message is the sentence.
    """
    sandbox = make()
    _complete(sandbox, Sandbox)
    try:
        async with asyncio.timeout(_GENEROUS_SECONDS * 5):
            for checks in (
                (_values, _state, _tools, _errors, _output, _final, _one_at_a_time),
                (_timeout, _survivor),
                (_interrupt, _survivor),
                (_cancelled, _survivor),
                (_memory,),
            ):
                await _in_a_session(sandbox, *checks)
            await _separate(sandbox)
            await _openings(sandbox)
            await _ending(sandbox)
    finally:
        await sandbox.close()


async def _in_a_session(sandbox: Sandbox, *checks: Callable[[Session], Awaitable[None]]) -> None:
    session = await sandbox.open(tools=_TOOLS, variables={"given": [1, "two", {"three": None}]})
    _complete(session, Session)
    _hold(session.tier == sandbox.tier, "a session is of the sandbox's tier")
    try:
        for check in checks:
            await check(session)
    finally:
        await session.close()
        await session.close()
    _hold(not session.alive, "a closed session is not alive")
    try:
        await _run(session, "1")
    except SandboxError:
        return
    _hold(False, "a dead session raises a SandboxError when it is to run a snippet")


def _complete(made: object, protocol: type) -> None:
    """Of what no type checker has seen."""
    _hold(isinstance(made, protocol), f"it has all that the protocol `{protocol.__name__}` says")


def _hold(truth: bool, sentence: str) -> None:
    if not truth:
        raise AssertionError(sentence)


async def _answer(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:  # Any: the protocol's values
    if name == "fail":
        raise ValueError("told by the host")
    return {"args": args, "kwargs": kwargs}


async def _run(session: Session, code: str) -> Execution:
    execution = await session.run(code, call_tool=_answer)
    _hold(execution.tier == session.tier, "an execution names its tier")
    _hold(execution.ok == (execution.kind is None), "a failed execution has a kind, and no other has")
    _hold(bool(execution.error) != execution.ok, "a failed execution has an error, and no other has")
    return execution


async def _values(session: Session) -> None:
    sentence = "the value of the last expression comes back"
    for code, value in (
        ("6*7", 42),
        ("given", [1, "two", {"three": None}]),
        ("{'a': [1.5, True, None]}", {"a": [1.5, True, None]}),
        ("'\\u2028 \\u00e9 \\U0001f600'", "\u2028 \u00e9 \U0001f600"),
    ):
        execution = await _run(session, code)
        _hold(execution.ok and execution.has_value and execution.value == value, sentence)
    surrogate = await _run(session, "'\\ud800'")
    _hold(surrogate.ok and isinstance(surrogate.value, str), "text that is no Unicode comes back as some text")
    nothing = await _run(session, "x = 1")
    _hold(nothing.ok and not nothing.has_value, "a statement has no value")
    odd = await _run(session, "[float('nan'), 10**6000, lambda: 0]")
    _hold(odd.ok and odd.has_value, "what is no data comes back as text")


async def _state(session: Session) -> None:
    await _run(session, "import math\nkept = 3\ndef twice(x):\n    return x * kept")
    later = await _run(session, "twice(int(math.sqrt(4)))")
    _hold(later.value == 6, "variables, functions and imports are there in the next snippet")


async def _tools(session: Session) -> None:
    called = await _run(session, "echo(1, 'a', key=[None])")
    sentence = "a tool gets its arguments and gives its result"
    _hold(called.value == {"args": [1, "a"], "kwargs": {"key": [None]}}, sentence)
    _hold(called.tool_calls == 1, "tool calls are counted")
    failed = await _run(session, "try:\n    fail()\nexcept ToolError as error:\n    text = str(error)\ntext")
    _hold("told by the host" in str(failed.value), "a tool's failure is a ToolError with its message")
    uncaught = await _run(session, "fail()")
    _hold(uncaught.kind == "exception", "a tool's failure that is not caught fails the snippet")
    many = await _run(session, "for n in range(100_000):\n    echo(n)")
    _hold(many.kind == "exception" and session.alive, "the calls of a snippet are limited, and the session lives on")
    fewer = await session.run("fail()", call_tool=_answer, tools=["echo"])
    _hold(fewer.kind == "exception" and "NameError" in fewer.error, "a tool that was taken away is gone")
    again = await session.run("fail()", call_tool=_answer, tools=list(_TOOLS))
    _hold("told by the host" in again.error, "a tool that is given back is there again")


async def _final(session: Session) -> None:
    ended = await _run(session, "try:\n    final_answer(5)\nexcept BaseException:\n    pass\nfinal_answer(6)")
    sentence = "the first final answer counts, whatever the snippet does then"
    _hold(ended.ok and ended.final and ended.value == 5, sentence)
    named = await _run(session, "final_answer(answer={'a': [1]})")
    _hold(named.final and named.value == {"a": [1]}, "the final answer may be given by name")
    after = await _run(session, "1")
    _hold(not after.final, "a final answer is that snippet's alone")


async def _errors(session: Session) -> None:
    broken = await _run(session, "print('before')\nvalue = 1\nvalue / 0")
    _hold(broken.kind == "exception" and not broken.ok, "a snippet that raises fails with kind `exception`")
    _hold("ZeroDivisionError" in broken.error and "value / 0" in broken.error, "the error shows the snippet's line")
    _hold(broken.stdout == "before\n", "what was printed before a failure is kept")
    wrong = await _run(session, "def (")
    _hold(wrong.kind == "exception" and "SyntaxError" in wrong.error, "a snippet that is no Python fails the same way")
    for code in ("raise SystemExit(3)", "raise KeyboardInterrupt", "def f(): f()\nf()", "unknown_name"):
        _hold((await _run(session, code)).kind == "exception", "whatever a snippet raises comes back as an execution")
    _hold((await _run(session, "value")).value == 1, "a session outlives a failure")


async def _output(session: Session) -> None:
    flood = await _run(session, "print('first')\nfor _ in range(20_000): print('x' * 99)\nprint('last')")
    _hold(len(flood.stdout) < 1_000_000, "output is capped")
    _hold(flood.stdout.startswith("first") and flood.stdout.endswith("last\n"), "head and tail of the output are kept")
    _hold((await _run(session, "print('only')")).stdout == "only\n", "output is the snippet's own")


async def _one_at_a_time(session: Session) -> None:
    refusals: list[SandboxError] = []

    async def nested(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        try:
            await session.run("1", call_tool=_answer)
        except SandboxError as error:
            refusals.append(error)

    await session.run("echo()", call_tool=nested)
    _hold(len(refusals) == 1, "a session runs one snippet at a time, and says so")


async def _timeout(session: Session) -> None:
    await _run(session, "before = 1")
    started = time.monotonic()
    slow = await _run(session, "while True: pass")
    stopped = slow.kind == "timeout" and time.monotonic() - started < _GENEROUS_SECONDS
    _hold(stopped, "a snippet that runs too long is stopped")


async def _interrupt(session: Session) -> None:
    session.interrupt()
    _hold((await _run(session, "before = 1\nbefore")).value == 1, "an interrupt while nothing runs does nothing")

    async def interrupting(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        session.interrupt()

    stopped = await session.run("echo()\nwhile True: pass", call_tool=interrupting)
    _hold(stopped.kind == "timeout", "an interrupt stops the snippet that runs")


async def _cancelled(session: Session) -> None:
    await _run(session, "before = 1")
    begun = asyncio.Event()

    async def beginning(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        begun.set()

    task = asyncio.create_task(session.run("echo()\nwhile True: pass", call_tool=beginning))
    await begun.wait()
    task.cancel()
    started = time.monotonic()
    try:
        await task
    except asyncio.CancelledError:
        _hold(time.monotonic() - started < _GENEROUS_SECONDS, "cancelling the task stops the snippet")
    else:
        _hold(False, "cancelling the task stops the snippet")


async def _survivor(session: Session) -> None:
    """After a stop: alive with all it knew, or dead and open about it."""
    if session.alive:
        _hold((await _run(session, "before")).value == 1, "a session that outlives a stop has kept its variables")


async def _memory(session: Session) -> None:
    greedy = await _run(session, "blob = b'x' * (64 << 30)")
    sentence = "a snippet that asks for more memory than it may have fails with kind `memory`, or `killed`"
    _hold(greedy.kind in ("memory", "killed", "exception"), sentence)


async def _separate(sandbox: Sandbox) -> None:
    one, two = await asyncio.gather(sandbox.open(tools=_TOOLS), sandbox.open(tools=()))
    try:
        await _run(one, "kept = 1")
        _hold((await _run(two, "kept")).kind == "exception", "a variable of one session is in no other")
        _hold("NameError" in (await _run(two, "echo()")).error, "a tool of one session is in no other")
        both = await asyncio.gather(_run(one, "kept + 1"), _run(two, "40 + 2"))
        _hold([execution.value for execution in both] == [2, 42], "sessions run at the same time")
        await one.close()
        _hold(two.alive and (await _run(two, "1")).value == 1, "a session outlives the end of another")
    finally:
        await one.close()
        await two.close()


async def _openings(sandbox: Sandbox) -> None:
    sentence = "what cannot be had is refused when a session is opened"
    for tools, variables in ((["no name"], {}), ([], {"class": 1}), ([], {"odd": object()})):
        await _refused(sandbox.open(tools=tools, variables=variables), sentence)
    with tempfile.TemporaryDirectory() as folder:
        missing = Path(folder, "missing.txt")
        await _refused(sandbox.open(tools=(), files=[missing]), "a file that is missing is refused")
        there = Path(folder, "there.txt")
        await asyncio.to_thread(there.write_text, "content", "utf-8")
        try:
            session = await sandbox.open(tools=(), files=[there])
        except ConfigurationError:
            return  # it has no files, and says so
    try:
        read = await _run(session, "open('there.txt').read()")
        _hold(read.value == "content", "files are in the work folder, under their own names")
        await _run(session, "with open('made.txt', 'w') as file:\n    file.write('by it')")
        made = {file.name: file.data for file in (await session.collect_files()).files}
        _hold(made in ({}, {"made.txt": b"by it"}), "files that a snippet made can be collected, those alone")
    finally:
        await session.close()


async def _ending(sandbox: Sandbox) -> None:
    last = await sandbox.open(tools=())
    try:
        await sandbox.close()
        _hold(not last.alive, "closing the sandbox ends all its sessions")
    finally:
        await last.close()


async def _refused(opening: Awaitable[Session], sentence: str) -> None:
    try:
        session = await opening
    except ConfigurationError:
        return
    await session.close()
    _hold(False, sentence)
