"""The agent whose model writes Python, run in a sandbox."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Unpack

from wherry.agents import prompts
from wherry.agents.acting import PREVIEW_CHARS, Outcome, announce, perform, unknown_tool
from wherry.agents.agent import Agent, AgentOptions
from wherry.agents.loop import Turn
from wherry.agents.reply import UnreadableReplyError, code_of
from wherry.agents.run import Order, Run
from wherry.errors import ConfigurationError, ToolError
from wherry.journal import EventType
from wherry.messages import JSON, Message, ToolSchema, canonical
from wherry.models import Model, ModelProfile, ModelReply
from wherry.sandbox import Execution, Sandbox, Session, get_sandbox
from wherry.tools import Tool, as_json, as_text
from wherry.tools.builtin import read_artifact

LARGEST_INPUT = 7 << 20
"""Bytes of JSON that one input may take: what a frame to the sandbox holds, with room for the rest."""
LARGEST_VALUE = 4 << 20
"""Bytes of JSON that a tool may hand into a snippet; more is kept as an artifact, and the snippet gets a handle."""


class CodeAgent(Agent):
    """An agent that solves a task by writing Python, which runs in a sandbox.

    Variables persist between the steps of a run, and nothing leaks to the next run. Tools and managed agents are
    functions there; `final_answer(value)` ends the run.

    Args:
        sandbox: `"auto"`, the name of a tier, or `"unsafe"` (no isolation; only if you say so).
        authorized_imports: packages beyond the standard library that snippets may import. Not to be had yet: the
            standard library is there, and any name given here is refused.

    The other arguments are those of `Agent`.

    Raises:
        SandboxUnavailable: the sandbox cannot run on this machine; said here, not at the first snippet.
    """

    kind: ClassVar[str] = "code"

    def __init__(
        self,
        tools: Iterable[object] = (),
        model: Model | str | None = None,
        *,
        sandbox: str = "auto",
        authorized_imports: Sequence[str] = (),
        **options: Unpack[AgentOptions],
    ) -> None:
        super().__init__(tools, model, **options)
        self._sandbox = sandbox
        self._packages = tuple(authorized_imports)
        self._tier = self.sandbox.tier

    @property
    def sandbox(self) -> Sandbox:
        """Where snippets run. Looked up each time: after a fork, the parent's is of no use to the child."""
        return get_sandbox(self._sandbox, packages=self._packages)

    @property
    def tier(self) -> str | None:
        return self._tier

    def check_order(self, order: Order) -> None:
        taken = {*self.tools, *self.managed_agents, "final_answer"} & order.inputs.keys()
        if taken:
            raise ConfigurationError(
                f"the input {min(taken)!r} has the name of a tool or a managed agent", hint="give it another name"
            )
        for name, value in order.inputs.items():
            size = len(canonical(as_json(value)))
            if size > LARGEST_INPUT:
                raise ConfigurationError(
                    f"the input {name!r} takes {size:,} bytes; at most {LARGEST_INPUT:,} can become a variable",
                    hint="write it to a file and pass that as `files=`",
                )

    def hidden_tools(self) -> Sequence[Tool]:
        # A function costs no tokens until a preview names it, so code agents are not told of it in advance.
        return (read_artifact,)

    def prompt(self, schemas: Sequence[ToolSchema], profile: ModelProfile, instructions: str) -> str:
        role = "manager" if self.managed_agents else "code"
        return prompts.code_system(
            schemas,
            examples=profile.worked_examples.get(role, ""),
            instructions=instructions,
            answer=self.rules.schema,
        )

    def native(self, schemas: Sequence[ToolSchema], window: int) -> Sequence[ToolSchema]:
        return ()

    async def act(self, run: Run, reply: ModelReply) -> Turn:
        try:
            code = code_of(reply.text)
        except UnreadableReplyError as problem:
            cut = " (It was cut off: it reached the most tokens a reply may have.)"
            return Turn([Message("user", f"{problem}{cut if reply.finish_reason == 'length' else ''}")])
        execution = await self._execute(run, code)
        if execution.final:
            return Turn([Message("user", _observation(execution))], answered=True, answer=execution.value)
        if self._answers_by_value(run.profile) and execution.ok and execution.value is not None:
            return Turn([Message("user", _observation(execution))], answered=True, answer=execution.value)
        return Turn([Message("user", _observation(execution))])

    def _answers_by_value(self, profile: ModelProfile) -> bool:
        # A manager's last value is what a specialist said: a finding, seldom the answer.
        return profile.last_value_answers and not self.managed_agents

    async def _execute(self, run: Run, code: str) -> Execution:
        run.journal.record(EventType.CODE_STARTED, step=run.step, code=code)
        await run.journal.commit()
        names = [*run.toolbox.tools]
        session = await self._session(run, names)

        async def call(name: str, args: list[Any], kwargs: dict[str, Any]) -> JSON:
            try:
                return await _call_from_code(run, name, args, kwargs)
            finally:
                if run.fatal is not None:
                    session.interrupt()

        execution = await session.run(code, call_tool=call, tools=names)
        run.journal.record(
            EventType.CODE_FINISHED,
            step=run.step,
            ok=execution.ok,
            kind=execution.kind,
            stdout=execution.stdout[:PREVIEW_CHARS],
            stderr=execution.stderr[:PREVIEW_CHARS],
            value=as_text(execution.value)[:PREVIEW_CHARS] if execution.has_value else None,
            error=execution.error[:PREVIEW_CHARS],
            seconds=round(execution.seconds, 6),
            tier=execution.tier,
            refused=list(execution.refused),
            final=execution.final,
        )
        return execution

    async def _session(self, run: Run, names: Sequence[str]) -> Session:
        """The run's session; a new one where there is none yet, or the last was killed."""
        held = run.sandbox
        if held is None or not held.alive:
            if held is not None:
                await held.close()
            sandbox = self.sandbox
            variables = {name: as_json(value) for name, value in run.order.inputs.items()}
            run.sandbox = held = await sandbox.open(tools=names, variables=variables, files=run.order.files)
        return held


async def _call_from_code(run: Run, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> JSON:
    """A call made by a snippet. An error that the snippet may catch is raised as ToolError."""
    tool = run.toolbox.tools.get(name)
    if tool is None:
        raise ToolError(unknown_tool(run, name))
    arguments = tool.bind(args, kwargs)
    call = run.next_call()
    announce(run, name, call, arguments)
    await run.journal.commit()
    outcome = await perform(run, name, call, arguments, keep_value=True)
    if not outcome.ok:
        raise ToolError(outcome.error)
    return _handed_in(run, outcome)


def _handed_in(run: Run, outcome: Outcome) -> JSON:
    value = as_json(outcome.value)
    if outcome.ref is None:
        return value
    kept = run.store.artifacts.info(outcome.ref)
    if kept.bytes <= LARGEST_VALUE:
        return value
    return {"artifact": kept.ref, "bytes": kept.bytes, "head": as_text(outcome.value)[:500]}


def _observation(execution: Execution) -> str:
    parts: list[str] = []
    if execution.stdout:
        parts.append(f"Output:\n{execution.stdout.rstrip()}")
    if execution.stderr:
        parts.append(f"Standard error:\n{execution.stderr.rstrip()}")
    if execution.ok and execution.has_value and execution.value is not None:
        parts.append(f"Value: {as_text(execution.value)}")
    if not execution.ok:
        parts.append(f"Error:\n{execution.error}")
        if execution.kind in ("killed", "protocol"):
            parts.append("The sandbox was started anew: variables of earlier snippets are gone.")
    return "\n".join(parts) or prompts.NOTHING_PRINTED
