"""A chat as a run of wherry's: the replies in it are runs below, with one account and one journal."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, ClassVar  # Any: outputs of agents

from wherry.agents import RunResult, RunStatus, portal
from wherry.agents.agent import Agent
from wherry.agents.group.human import Unasked
from wherry.agents.loop import Turn
from wherry.agents.run import Order, Run
from wherry.agents.runner import execute
from wherry.compat.autogen.stores import store_at
from wherry.messages import ToolSchema
from wherry.models import ModelProfile, ModelReply
from wherry.policy import Limits
from wherry.store import Store

_current: ContextVar[Run | None] = ContextVar("wherry_autogen_chat", default=None)


def current() -> Run | None:
    """The run of the chat that is under way here."""
    return _current.get()


class _Chat(Agent):
    """Waits while others talk."""

    kind: ClassVar[str] = "chat"

    def __init__(self, **options: Any) -> None:
        super().__init__((), Unasked(), **options)
        self.opened: asyncio.Future[Run] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

    def hidden_tools(self) -> Sequence[Any]:
        return ()

    def prompt(self, schemas: Sequence[ToolSchema], profile: ModelProfile, instructions: str) -> str:
        return ""

    def native(self, schemas: Sequence[ToolSchema], window: int) -> Sequence[ToolSchema]:
        return ()

    async def act(self, run: Run, reply: ModelReply) -> Turn:
        return Turn(answered=True, answer=reply.text)

    async def play(self, run: Run) -> tuple[RunStatus, Any]:
        self.opened.set_result(run)
        output = await self.ended
        return (RunStatus.CANCELLED if output is None else RunStatus.COMPLETED), output


class ChatRun:
    """A chat that is under way."""

    def __init__(self) -> None:
        self.output = ""
        """What came of it; set before it ends."""


@contextmanager
def chat_run(
    name: str, about: str, *, store: Store | str | None = None, limits: Limits | None = None
) -> Generator[ChatRun]:
    """While this lasts, replies are part of one run, or of the chat's above, if there is one.

    Args:
        name: Who begins it.
        about: What it begins with.
        store: Where it is kept; None: where the default one is.
        limits: What all of it may spend.
    """
    agent, run, task = portal.call(partial(_opened, name, about, store, limits or Limits(), _current.get()))
    token = _current.set(run)
    chat = ChatRun()
    output: str | None = None
    try:
        yield chat
        output = chat.output
    finally:
        _current.reset(token)
        portal.call(partial(_closed, agent, task, output))


async def _opened(
    name: str, about: str, store: Store | str | None, limits: Limits, parent: Run | None
) -> tuple[_Chat, Run, asyncio.Task[RunResult]]:
    agent = _Chat(name=name, limits=limits, store=store_at(store) if parent is None else parent.store)
    call = ""
    if parent is not None:
        parent.step += 1
        call = str(parent.step)
    task = asyncio.create_task(execute(agent, Order(about, limits=limits), parent=parent, call=call))
    await asyncio.wait([task, agent.opened], return_when=asyncio.FIRST_COMPLETED)
    if not agent.opened.done():
        task.result()  # says why
    return agent, agent.opened.result(), task


async def _closed(agent: _Chat, task: asyncio.Task[RunResult], output: str | None) -> None:
    if not agent.ended.done():
        agent.ended.set_result(output)
    await asyncio.wait([task])
    if output is not None:
        task.result()
