"""A person who takes part in a group chat."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, TypeAlias, TypedDict, Unpack

import anyio.to_thread

from wherry.agents.agent import Agent
from wherry.agents.group.seats import Seat
from wherry.agents.group.state import Chat
from wherry.agents.loop import Turn
from wherry.agents.permission import permit
from wherry.agents.result import RunStatus
from wherry.agents.run import Run
from wherry.context.previews import head_and_tail
from wherry.errors import ConfigurationError, ToolError
from wherry.messages import ToolSchema
from wherry.models import ModelDelta, ModelProfile, ModelReply, ModelRequest
from wherry.policy import Limits
from wherry.store import Store
from wherry.tools import Tool, tool
from wherry.tools.builtin.ask_user import AskUser

SHOWN = 3
"""Messages that a person is shown with the question."""
SHOWN_CHARS = 600

Answer: TypeAlias = "str | None"
HumanFunction: TypeAlias = "Callable[[Chat], Answer | Awaitable[Answer]]"
"""What a person says, given the chat; None or nothing but blanks: nothing this time. One that is no coroutine function
runs in a thread, so it may wait for a person as long as it likes."""


@tool(needs_approval=True)
def say(text: str, conversation: str = "") -> str:
    """Say something in the conversation.

    Args:
        text: What is said; empty for nothing.
        conversation: What was said last, for whoever answers.
    """
    return text


class Unasked:
    """The model of those who need none."""

    def __init__(self) -> None:
        self._profile = ModelProfile("none", price_key="free", window=8_192, writes_summaries=False)

    @property
    def profile(self) -> ModelProfile:
        return self._profile

    async def complete(self, request: ModelRequest) -> ModelReply:
        raise ConfigurationError("there is no model to ask", hint="give the group or its agents one: model=...")

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelDelta]:
        yield ModelDelta(reply=await self.complete(request))


class HumanOptions(TypedDict, total=False):
    """What a person has as any agent does; `Agent` says what each means."""

    hooks: Iterable[object]
    limits: Limits | None
    store: Store | str | None


class Human(Agent):
    """A person: what they say comes from the terminal, from a function, or later.

    Each of their turns is a run of its own, as any participant's, without a model.

    Args:
        name: by which the others know them.
        ask: a function of the chat that gives what they say, sync or async; None: the terminal is asked; `"wait"`: the
            run ends there with `RunStatus.WAITING`, for any time, and goes on with `resume` once the question among its
            `pending` is approved with what they say as its argument `text`, or denied: they say nothing.
        description: what the others, and who chooses speakers, know of them.
        terminal: the terminal's device.
        options: as of any agent: `limits` (`seconds` is how long they may take), `hooks`, `store`.
    """

    kind: ClassVar[str] = "human"

    def __init__(
        self,
        name: str = "human",
        *,
        ask: HumanFunction | Literal["wait"] | None = None,
        description: str | None = "A person.",
        terminal: str = "/dev/tty",
        **options: Unpack[HumanOptions],
    ) -> None:
        super().__init__((), Unasked(), name=name, description=description, **options)
        if ask is not None and ask != "wait" and not callable(ask):
            raise ConfigurationError(f"ask is {ask!r}", hint="give a function of the chat, 'wait', or leave it out")
        self._ask = ask
        self._terminal = AskUser(terminal=terminal)

    def hidden_tools(self) -> Sequence[Tool]:
        return ()

    def prompt(self, schemas: Sequence[ToolSchema], profile: ModelProfile, instructions: str) -> str:
        return ""

    def native(self, schemas: Sequence[ToolSchema], window: int) -> Sequence[ToolSchema]:
        return ()

    async def act(self, run: Run, reply: ModelReply) -> Turn:
        return Turn(answered=True, answer=reply.text)

    async def play(self, run: Run) -> tuple[RunStatus, Any]:
        run.step = 1
        seat = run.order.conversation
        chat = seat.chat if isinstance(seat, Seat) else None
        if isinstance(self._ask, str):
            said = await self._by_decision(run, chat)
            return (RunStatus.COMPLETED, said) if said is not None else (RunStatus.WAITING, None)
        if self._ask is None:
            return RunStatus.COMPLETED, await self._by_terminal(run, chat)
        return RunStatus.COMPLETED, await self._by_function(self._ask, chat)

    async def _by_decision(self, run: Run, chat: Chat | None) -> str | None:
        """What a person decided to say; None while nobody has."""
        question = {"text": "", "conversation": run.order.task if chat is None else shown(chat)}
        found = await permit(run, say, say.name, "1", question)
        if found.waits is not None:
            run.pending.append(found.waits)
            return None
        if found.refusal is not None:
            run.warn(f"{self.name} said nothing: {found.refusal}")
            return ""
        return str(found.arguments["text"])

    async def _by_function(self, ask: HumanFunction, chat: Chat | None) -> str:
        if chat is None:
            raise ConfigurationError(
                f"{self.name!r} is asked outside of a group chat, where its function has no chat to look at",
                hint="put it into GroupChat([...])",
            )
        if inspect.iscoroutinefunction(ask):
            said: object = await ask(chat)
        else:
            said = await anyio.to_thread.run_sync(partial(ask, chat), abandon_on_cancel=True)
            if inspect.isawaitable(said):
                said = await said
        if not isinstance(said, str | None):
            raise ConfigurationError(f"the function of {self.name!r} gave {said!r}", hint="return a text, or None")
        return said or ""

    async def _by_terminal(self, run: Run, chat: Chat | None) -> str:
        newest = "" if chat is None else shown(chat)
        question = "\n\n".join(part for part in (newest, run.order.task) if part)
        try:
            return await anyio.to_thread.run_sync(self._terminal.forward, question, abandon_on_cancel=True)
        except ToolError as error:  # no terminal, or nothing but a line's end
            run.warn(f"{self.name} said nothing: {error.message}")
            return ""


def shown(chat: Chat) -> str:
    """The newest messages, for a person."""
    return "\n\n".join(f"{said.author}: {head_and_tail(said.text, SHOWN_CHARS)}" for said in chat.last(SHOWN))
