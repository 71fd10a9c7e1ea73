"""What both kinds of agent have in common: configuration, and the ways to run it."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict, Unpack, cast

from wherry.agents import active, portal
from wherry.agents.answers import AnswerRules, Check
from wherry.context import ContextBudget
from wherry.errors import ConfigurationError
from wherry.messages import ToolSchema
from wherry.models import Model, ModelProfile, ModelReply
from wherry.models.resolve import model_from
from wherry.policy import Limits, Policy
from wherry.store import Store, open_store
from wherry.tools import Tool, check_name, collect

if TYPE_CHECKING:
    from wherry.agents.loop import Turn
    from wherry.agents.result import RunResult, RunStatus
    from wherry.agents.run import Order, Run
    from wherry.context import Knowledge
    from wherry.journal import Event
    from wherry.policy.approvals import Decision

    Approvals = Mapping[str, bool | Decision]


class AgentOptions(TypedDict, total=False):
    """The keyword arguments that every kind of agent takes; `Agent` says what each means."""

    name: str | None
    description: str | None
    instructions: str | Knowledge | None
    managed_agents: Iterable[Agent]
    max_steps: int
    planning_interval: int | None
    output_type: Any  # Any: types, annotations, whatever pydantic validates
    final_answer_checks: Sequence[Check]
    hooks: Iterable[object]
    context: ContextBudget | None
    limits: Limits | None
    policy: Policy | None
    store: Store | str | None


class RunOptions(TypedDict, total=False):
    """The keyword arguments of `run`, `arun` and `astream`."""

    inputs: Mapping[str, Any] | None  # Any: the user's own values
    """Values that become variables in the sandbox, or named attachments of a tool-calling run."""
    files: Sequence[str | PathLike[str]]
    """Copied into the sandbox's work folder."""
    session: str | None
    """The name of a conversation that goes on over many runs."""
    max_steps: int | None
    """Instead of the agent's own."""
    limits: Limits | None
    """Instead of the agent's own."""


class Agent(ABC):
    """An agent's configuration. Every run has its own state, so one agent serves any number of concurrent runs.

    Args:
        tools: tools, functions, or whatever `wherry.tools.to_tool` accepts.
        model: a model, or its name: `"local"`, `"openai/gpt-4o-mini"`, `"http://127.0.0.1:8080/v1#name"`.
        name: by which a manager calls this agent, and by which it stands in the journal.
        description: what a manager is told of it.
        instructions: added to the system prompt; a `Knowledge` where they are too long for one.
        managed_agents: agents that this one may call like tools; each needs a name and a description.
        max_steps: model calls that a run may take; then one last request without tools.
        planning_interval: before the first step and after every so many, the model is asked for a plan; None: never.
        output_type: any type that pydantic can validate; the answer is validated against it.
        final_answer_checks: functions of the answer; see `wherry.agents.answers.Check`.
        hooks: objects that see, change or refuse requests, tool calls and snippets; see `wherry.agents.hooks`.
        context: the bounds of what a request may hold.
        limits: the bounds of what a run may spend, the agents that it asks included.
        policy: what it may do, and for what it must ask a person; holds for the agents that it asks too.
        store: where runs are kept: a store or its address; None for the default one.

    Raises:
        ConfigurationError: names, types or numbers that cannot be; the message says which.
    """

    kind: ClassVar[str]
    takes_additional_args: ClassVar[bool] = False
    """Whether a manager may pass values along with a task, by an argument of that name; they become `inputs`."""

    def __init__(
        self,
        tools: Iterable[object] = (),
        model: Model | str | None = None,
        *,
        name: str | None = None,
        description: str | None = None,
        instructions: str | Knowledge | None = None,
        managed_agents: Iterable[Agent] = (),
        max_steps: int = 20,
        planning_interval: int | None = None,
        output_type: Any = None,  # Any: types, annotations, whatever pydantic validates
        final_answer_checks: Sequence[Check] = (),
        hooks: Iterable[object] = (),
        context: ContextBudget | None = None,
        limits: Limits | None = None,
        policy: Policy | None = None,
        store: Store | str | None = None,
    ) -> None:
        self.tools: dict[str, Tool] = collect(tools)
        """By name. What is put in, replaced or deleted here is what the model sees at the next step."""
        self.managed_agents: dict[str, Agent] = _by_name(managed_agents)
        if model is not None and not isinstance(model, str):
            model_from(model)
        self.model = model
        self.name = name if name is None else check_name(name, "an agent")
        self.description = description
        self.instructions = _instructions(instructions)
        self.max_steps = _steps(max_steps)
        self.planning_interval = None if planning_interval is None else _interval(planning_interval)
        self.hooks = () if hooks == () else _hooks(hooks)
        self.rules = AnswerRules(output_type, final_answer_checks)
        if not isinstance(cast("object", context), ContextBudget | None):
            raise ConfigurationError(f"context is {context!r}", hint="give ContextBudget(...)")
        if not isinstance(cast("object", store), Store | str | None):
            raise ConfigurationError(f"store is {store!r}", hint="give open_store(...), or its address as text")
        self.context = context or ContextBudget()
        self.limits = _limits(limits)
        if not isinstance(cast("object", policy), Policy | None):
            raise ConfigurationError(f"policy is {policy!r}", hint="give Policy(approve=[...], deny=[...])")
        self.policy = policy
        self._store = store
        self._opened: tuple[int, Store] | None = None

    # What the two kinds of agent fill in.

    @property
    def tier(self) -> str | None:
        """The sandbox tier that this agent's code runs in, if it runs any."""
        return None

    @property
    def team(self) -> Mapping[str, Agent]:
        """The agents whose runs may be part of this one's, by name."""
        return self.managed_agents

    @abstractmethod
    def hidden_tools(self) -> Sequence[Tool]:
        """Tools that can be called without being announced in the prompt."""

    @abstractmethod
    def prompt(self, schemas: Sequence[ToolSchema], profile: ModelProfile, instructions: str) -> str:
        """The system prompt; `instructions` is what the agent's own come to in this run."""

    @abstractmethod
    def native(self, schemas: Sequence[ToolSchema], window: int) -> Sequence[ToolSchema]:
        """The tools that go into a request, for a model with a context of `window` tokens."""

    def check_order(self, order: Order) -> None:  # noqa: B027 - a kind of agent may have nothing to refuse
        """Refuse what this kind of agent cannot do, before anything is started."""

    def check_model(self, profile: ModelProfile) -> None:  # noqa: B027 - as above
        """Refuse a model that this kind of agent cannot work with."""

    @abstractmethod
    async def act(self, run: Run, reply: ModelReply) -> Turn:
        """Turn a reply into acts, and acts into observations."""

    async def play(self, run: Run) -> tuple[RunStatus, Any]:  # Any: of the agent's `output_type`
        """All of an opened run: how it ended, and its output. Most agents step through the loop."""
        from wherry.agents.loop import play

        return await play(run, self)

    # What users call.

    def run(self, task: str, **options: Unpack[RunOptions]) -> RunResult:
        """Do a task, from synchronous code; works inside a running event loop (a notebook) too.

        Args:
            task: what to do.
            options: see `RunOptions`.

        Raises:
            WherryError: what no model can mend: a failing server, no room in the context, no sandbox. It carries the
                `run_id`; the run is in the store up to that point.
        """
        return portal.call(partial(self.arun, task, **options))

    async def arun(self, task: str, **options: Unpack[RunOptions]) -> RunResult:
        """`run`, from asynchronous code."""
        from wherry.agents.runner import execute

        return await execute(self, self._order(task, options))

    async def astream(self, task: str, *, deltas: bool = False, **options: Unpack[RunOptions]) -> AsyncIterator[Event]:
        """`arun`, giving the journal's events as they happen, nested agents included.

        The last event is this run's `run.finished`. Leaving the loop early cancels the run.

        Args:
            task: what to do.
            deltas: ask models to stream, and give the pieces of their replies too, as `model.delta` events. They are
                told and not kept: the journal has the whole reply. After a `model.failed` that is tried again, the
                pieces come anew.
            options: see `RunOptions`.

        Raises:
            WherryError: as `run`, after the last event.
        """
        from wherry.agents.runner import execute
        from wherry.agents.streaming import told

        order = self._order(task, options)
        async with aclosing(told(partial(execute, self, order), deltas=deltas)) as events:
            async for event in events:
                yield event

    def resume(
        self,
        run_id: str,
        *,
        approvals: Approvals | None = None,
        limits: Limits | None = None,
        max_steps: int | None = None,
    ) -> RunResult:
        """Go on with a run of this agent exactly where it stands, from what the store has of it.

        After a crash, a limit, a cancel, a failure, or when a person has decided what it waited for; in this process
        or another one. What is done is not done again: recorded results are used. A tool call that had begun and has
        no recorded end is made again if the tool has no side effects or is `idempotent`, settled by its `checker`, and
        waits for a person otherwise. The agent has to be made as the one that began the run was; differences are
        recorded as changes.

        Args:
            run_id: of a run that was not asked for by another run.
            approvals: decisions by the id of what waits: True, False, or a `Decision`. Decisions in the store count
                without being given here.
            limits: instead of those that the run had; what it has spent counts against them.
            max_steps: instead of those that the run had, counted from its beginning.

        Returns:
            The recorded result, if the run is completed, or ended at `max_steps` and may take no more.

        Raises:
            RunNotFound: the store has no such run.
            ConfigurationError: it is under way in this process, part of another run, or another kind of agent's.
            StoreConflict: another process goes on with it, and was first.
            WherryError: as `run`.
        """
        going_on = partial(self.aresume, run_id, approvals=approvals, limits=limits, max_steps=max_steps)
        return portal.call(going_on)

    async def aresume(
        self,
        run_id: str,
        *,
        approvals: Approvals | None = None,
        limits: Limits | None = None,
        max_steps: int | None = None,
    ) -> RunResult:
        """`resume`, from asynchronous code."""
        from wherry.agents.resuming import resume

        return await resume(self, run_id, approvals=approvals, limits=limits, max_steps=max_steps)

    async def aresume_stream(
        self,
        run_id: str,
        *,
        deltas: bool = False,
        approvals: Approvals | None = None,
        limits: Limits | None = None,
        max_steps: int | None = None,
    ) -> AsyncIterator[Event]:
        """`aresume`, giving the journal's events as they happen, from `run.resumed` on; none, if the run is over.

        Raises:
            WherryError: as `resume`, after the last event.
        """
        from wherry.agents.resuming import resume
        from wherry.agents.streaming import told

        going_on = partial(resume, self, run_id, approvals=approvals, limits=limits, max_steps=max_steps)
        async with aclosing(told(going_on, deltas=deltas)) as events:
            async for event in events:
                yield event

    def cancel(self, run_id: str) -> bool:
        """Stop a run of this process, promptly, from any thread; whether it was under way.

        The model call, the tools and the sandboxed code are stopped; the run's status is `cancelled`.
        """
        return active.cancel(run_id)

    @property
    def store(self) -> Store:
        """Where this agent's runs are kept; opened at first use."""
        if self._store is not None and not isinstance(self._store, str):  # looking at a protocol's methods takes long
            return self._store
        pid = os.getpid()
        if self._opened is None or self._opened[0] != pid:  # a forked child opens its own
            self._opened = (pid, open_store(self._store))
        return self._opened[1]

    @store.setter
    def store(self, store: Store | str | None) -> None:
        self._store, self._opened = store, None

    def resolved_model(self) -> Model:
        """The model object; a name is resolved at first use."""
        if self.model is None or isinstance(self.model, str):
            self.model = model_from(self.model or "local")
        return model_from(self.model)

    def _order(self, task: str, options: RunOptions) -> Order:
        from wherry.agents.run import Order

        unknown = sorted(options.keys() - RunOptions.__optional_keys__)
        if unknown:
            raise TypeError(f"run() got an unexpected keyword argument {unknown[0]!r}")
        inputs, files = options.get("inputs") or {}, options.get("files") or ()
        session, max_steps, limits = options.get("session"), options.get("max_steps"), options.get("limits")
        if not isinstance(cast("object", task), str):
            raise ConfigurationError(f"the task is {task!r}", hint="give a text; values go into `inputs`")
        if not task.strip():
            raise ConfigurationError("the task is empty", hint="say what is to be done")
        for name in inputs:
            check_name(name, "an input")
        if not isinstance(cast("object", session), str | None):
            raise ConfigurationError(f"session is {session!r}", hint="give a name")
        if isinstance(files, str | PathLike):
            raise ConfigurationError(f"files is {str(files)!r}", hint="give a list of paths")
        paths = [Path(file) for file in files]
        for path in paths:
            if not path.is_file():
                raise ConfigurationError(f"the file {str(path)!r} does not exist", hint="check `files`")
        return Order(
            task,
            inputs=dict(inputs),
            files=paths,
            session=session,
            max_steps=self.max_steps if max_steps is None else _steps(max_steps),
            limits=self.limits if limits is None else _limits(limits),
        )


def _instructions(given: str | Knowledge | None) -> str | Knowledge | None:
    if given is None or isinstance(given, str):
        return given
    from wherry.context import Knowledge  # not at the top: few agents have one, and it brings all that reads texts

    if not isinstance(cast("object", given), Knowledge):
        raise ConfigurationError(f"instructions is {given!r}", hint="give a text, or a Knowledge(...)")
    return given


def _interval(steps: int) -> int | None:
    from wherry.agents.planning import checked_interval  # as above: with these two comes the journal

    return checked_interval(steps)


def _hooks(hooks: Iterable[object]) -> tuple[object, ...]:
    from wherry.agents.hooks import checked

    return checked(hooks)


def _limits(limits: Limits | None) -> Limits:
    if not isinstance(cast("object", limits), Limits | None):
        raise ConfigurationError(f"limits is {limits!r}", hint="give Limits(requests=..., usd=..., seconds=...)")
    return limits or Limits()


def _steps(number: int) -> int:
    if not isinstance(cast("object", number), int) or isinstance(number, bool):
        raise ConfigurationError(f"max_steps is {number!r}", hint="give a whole number")
    if number < 1:
        raise ConfigurationError(
            f"max_steps is {number}; a run needs at least one step", hint="give max_steps=1 or more"
        )
    return number


def _by_name(agents: Iterable[Agent]) -> dict[str, Agent]:
    found: dict[str, Agent] = {}
    if isinstance(agents, Agent):
        raise ConfigurationError("managed_agents is one agent", hint="give a list: managed_agents=[agent]")
    for agent in agents:
        if not isinstance(cast("object", agent), Agent):
            raise ConfigurationError(f"managed_agents holds {agent!r}, which is no agent", hint="tools go into `tools`")
        if not agent.name or not agent.description:
            missing = "name" if not agent.name else "description"
            raise ConfigurationError(
                f"a managed agent ({type(agent).__name__}, name={agent.name!r}) has no {missing}",
                hint="give it name= and description=: its manager chooses by them",
            )
        if agent.name in found:
            raise ConfigurationError(f"two managed agents are named {agent.name!r}", hint="rename one of them")
        found[agent.name] = agent
    return found
