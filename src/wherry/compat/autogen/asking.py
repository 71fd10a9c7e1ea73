"""A reply of a model, as a run of wherry's: bounded, admitted, tried again, written down.

A program holds its conversation as a list of dicts, which grows as it likes. What is sent of it is what fits: the
list goes through the guard's `Fitter`, which takes up a list that goes on where it was, and what comes out is the
run's window. There is no other copy of what was said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, cast  # Any: outputs of agents

from wherry.agents import RunStatus, portal
from wherry.agents.agent import Agent
from wherry.agents.loop import Turn
from wherry.agents.run import Order, Run, Unopened
from wherry.agents.runner import execute
from wherry.compat.autogen.messages import Dict
from wherry.compat.autogen.stores import store_at
from wherry.compat.autogen.system import System
from wherry.context import DEFAULT_WINDOW, ContextBudget
from wherry.errors import ModelError, WherryError
from wherry.guard import Fitted, Fitter
from wherry.guard.openai_messages import OpenAIMessages
from wherry.messages import JSON, Message, ToolSchema, Usage
from wherry.models import Model, ModelProfile, ModelReply, ModelRequest, Prepared
from wherry.policy import Limits
from wherry.policy.admission import backend_of
from wherry.store import Store

_NO_SUMMARY: JSON = {"left_out": 0, "lines": []}
_SLACK = 0.97
"""Of the window: what the run's own window makes of the messages may take some tokens more than the guard's count."""
_DIALECT = OpenAIMessages()


class Fixed:
    """A conversation that fits, as the beginning of a run's window."""

    def __init__(self, system: str, messages: Sequence[Message]) -> None:
        self._system = system
        last = max((n for n, message in enumerate(messages) if message.role == "user"), default=-1)
        self.task = messages[last].content if last >= 0 else ""
        self.said_by = messages[last].name if last >= 0 else None
        self._before = messages[: max(last, 0)]
        self.after = [*messages[last + 1 :]]
        """Behind what the user said last: calls and their results."""
        if last >= 0 and messages[last].images:
            self.after.insert(0, replace(messages[last], content=""))  # a task is text

    def setting(self, window: int) -> str:
        return self._system

    async def state(self, run: Unopened) -> JSON:
        return {"version": 1, "summary": _NO_SUMMARY, "messages": [message.to_json() for message in self._before]}


class _Format:
    """Asks for a reply of a schema."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema

    async def before_model(self, request: ModelRequest) -> ModelRequest:
        return replace(request, response_format=self._schema)


class Speaker(Agent):
    """Gives one reply in a run."""

    kind: ClassVar[str] = "autogen"

    def __init__(self, schemas: Sequence[ToolSchema], model: Model, **options: Any) -> None:
        super().__init__((), model, **options)
        self._schemas = tuple(schemas)
        self.reply: ModelReply | None = None

    def hidden_tools(self) -> Sequence[Any]:
        return ()

    def prompt(self, schemas: Sequence[ToolSchema], profile: ModelProfile, instructions: str) -> str:
        return instructions

    def native(self, schemas: Sequence[ToolSchema], window: int) -> Sequence[ToolSchema]:
        return self._schemas

    async def act(self, run: Run, reply: ModelReply) -> Turn:
        return Turn(answered=True, answer=reply.text)

    async def play(self, run: Run) -> tuple[RunStatus, Any]:
        run.step = 1
        for message in cast("Fixed", run.order.conversation).after:
            await run.window.append(message, whole=True)
        self.reply = await run.ask(with_tools=bool(self._schemas))
        run.spoken = True
        return RunStatus.COMPLETED, self.reply.text


@dataclass(frozen=True, slots=True)
class Answered:
    """A reply, and what it took."""

    reply: ModelReply
    usage: Usage
    model: str
    response: tuple[Any, Any] | None = None
    """The client of a program's own that answered, and its response as it gave it."""


class Asker:
    """Asks the models of one `llm_config`, on behalf of one agent.

    Args:
        name: The agent's.
        model: Whom.
        store: Where runs are kept: a store, its address, or None for the default one.
        context: Bounds of a request.
        limits: Bounds of what one reply may spend.
    """

    def __init__(
        self,
        name: str,
        model: Model,
        *,
        store: Store | str | None = None,
        context: ContextBudget | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.model = model
        self._name = name
        self._store = store
        self._context = context or ContextBudget()
        self._limits = limits or Limits()
        self._fitters: dict[tuple[int, int, object], Fitter] = {}
        self._system = System()

    def ask(
        self,
        messages: Sequence[Dict],
        schemas: Sequence[ToolSchema] = (),
        *,
        model: Model | None = None,
        parent: Run | None = None,
        response_format: Mapping[str, Any] | None = None,
        max_output: int | None = None,
    ) -> Answered:
        """The model's reply to a conversation of any length, from synchronous code.

        Args:
            messages: The conversation, the system's first; never changed.
            schemas: Of the tools that the model may call.
            model: Instead of the agent's.
            parent: The run of the chat that this is a part of.
            response_format: A JSON Schema of the reply.
            max_output: Most tokens of the reply.

        Raises:
            ModelError: The models failed, all of them.
            ContextBudgetError: The tools leave no room.
            WherryError: A limit is reached.
        """
        ask = partial(self._ask, messages, schemas, model or self.model, parent, response_format, max_output)
        return portal.call(ask)

    async def _ask(
        self,
        messages: Sequence[Dict],
        schemas: Sequence[ToolSchema],
        model: Model,
        parent: Run | None,
        response_format: Mapping[str, Any] | None,
        max_output: int | None,
    ) -> Answered:
        profile = await model.prepare() if isinstance(model, Prepared) else model.profile
        budget = self._context
        if max_output is not None:
            budget = replace(budget, reserve_output=max_output)
        store = store_at(self._store) if parent is None else parent.store
        window = backend_of(model, profile).window(budget.window or profile.window or DEFAULT_WINDOW)
        # Folded once, by the guard, to what fits: here nothing is to be shortened a second time.
        context = replace(budget, per_message=window, high_water=1.0, compaction="extract")
        system, rest, room = await self._system.split(messages, window, profile, store)
        fitted = await self._fitted(rest, schemas, window, room, budget, profile)
        fixed = _fixed(system, fitted)
        options: dict[str, Any] = {"store": store}
        if response_format is not None:
            options["hooks"] = [_Format(response_format)]
        speaker = Speaker(schemas, model, name=identifier(self._name), context=context, limits=self._limits, **options)
        if parent is not None:
            parent.step += 1
        order = Order(fixed.task, limits=self._limits, conversation=fixed, said_by=fixed.said_by)
        result = await execute(speaker, order, parent=parent, call=str(parent.step) if parent is not None else "")
        if result.status is RunStatus.LIMIT:
            raise WherryError(result.reason or "a limit is reached", run_id=result.run_id)
        if speaker.reply is None:
            raise ModelError(f"{self._name!r} gave no reply: {result.reason or result.status}", run_id=result.run_id)
        return Answered(speaker.reply, result.usage, speaker.reply.model or profile.name)

    async def _fitted(
        self,
        messages: Sequence[Dict],
        schemas: Sequence[ToolSchema],
        window: int,
        room: int,
        budget: ContextBudget,
        profile: ModelProfile,
    ) -> Fitted:
        """The messages in a form that fits beside `window - room` tokens of the system prompt."""
        reserve = budget.reserve_output or min(profile.max_output, max(window // 4, 1))
        reserve = min(reserve, max(room // 2, 1))
        key = (window, room, profile.counter)
        fitter = self._fitters.get(key)
        if fitter is None:
            if len(self._fitters) > 8:
                self._fitters.clear()
            bounds = replace(budget, window=max(int(room * _SLACK), 64), reserve_output=reserve, compaction="extract")
            fitter = self._fitters[key] = Fitter(bounds, replace(profile, window=None), strict=True)
        return await fitter.afit(messages, tools=schemas or None, style="openai", max_output=reserve)


def _fixed(system: str | None, fitted: Fitted) -> Fixed:
    said = [part.message for raw in fitted.messages for part in _DIALECT.parts(raw)[0]]
    first = [message.content for message in said if message.role == "system"]
    rest = [message for message in said if message.role != "system"]
    return Fixed(system if system is not None else "\n\n".join(first), rest)


def identifier(name: str) -> str:
    text = "".join(c if c.isascii() and c.isalnum() else "_" for c in name)[:56]
    return f"agent_{text}" if not text[:1].isalpha() else text
