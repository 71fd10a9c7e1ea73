"""Asking the person at the terminal, on a real pseudo-terminal."""

from __future__ import annotations

import asyncio
import os
import pty
from collections.abc import Iterator

import pytest

from wherry.errors import ToolError
from wherry.tools.builtin import AskUser, ask_user

pytestmark = pytest.mark.anyio


@pytest.fixture
def terminal() -> Iterator[tuple[int, AskUser]]:
    ours, theirs = pty.openpty()
    yield ours, AskUser(terminal=os.ttyname(theirs))
    os.close(ours)
    os.close(theirs)


async def seen(descriptor: int, end: bytes) -> bytes:
    shown = b""
    while not shown.endswith(end):
        shown += await asyncio.to_thread(os.read, descriptor, 1_000)
    return shown


async def test_the_question_is_shown_and_the_line_is_the_answer(terminal: tuple[int, AskUser]) -> None:
    ours, tool = terminal
    asking = asyncio.create_task(tool.call({"question": "Which port,\nHull or \x1b]0;x\x07Grimsby\u202e?"}))
    assert await seen(ours, b"> ") == b"\r\nWhich port,\r\nHull or ]0;xGrimsby?\r\n> "
    os.write(ours, "Hüll\n".encode())
    assert await asking == "Hüll"


async def test_two_questions_are_asked_one_after_the_other(terminal: tuple[int, AskUser]) -> None:
    ours, tool = terminal
    asking = [asyncio.create_task(tool.call({"question": f"question {n}"})) for n in range(2)]
    answers: set[str] = set()
    for _ in range(2):
        shown = await seen(ours, b"> ")
        assert shown.count(b"question") == 1
        os.write(ours, b"answer " + shown.split()[-2] + b"\n")
    for task in asking:
        answers.add(str(await task))
    assert answers == {"answer 0", "answer 1"}


async def test_no_answer(terminal: tuple[int, AskUser]) -> None:
    ours, tool = terminal
    asking = asyncio.create_task(tool.call({"question": "Well?"}))
    await seen(ours, b"> ")
    os.write(ours, b"\n")
    with pytest.raises(ToolError, match="gave no answer"):
        await asking


async def test_without_a_terminal_the_model_is_told() -> None:
    with pytest.raises(ToolError, match="no terminal, so nobody can be asked"):
        await AskUser(terminal="/nowhere/tty").call({"question": "Well?"})
    with pytest.raises(ToolError, match="is empty"):
        await ask_user.call({"question": " \x1b "})
