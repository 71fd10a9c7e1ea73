"""The agent whose model writes Python, run in a sandbox."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Unpack

from wherry.agents import prompts
from wherry.agents.agent import Agent, AgentOptions
from wherry.errors import ConfigurationError
from wherry.messages import ToolSchema, canonical
from wherry.models import Model, ModelProfile, ModelReply
from wherry.sandbox import Rebuilt, Sandbox, Session, get_sandbox, importable, rebuild
from wherry.tools import Tool, as_json

if TYPE_CHECKING:
    from wherry.agents.loop import Turn
    from wherry.agents.run import Order, Run


class CodeAgent(Agent):
    """An agent that solves a task by writing Python, which runs in a sandbox.

    Variables persist between the steps of a run, and nothing leaks to the next run. Tools and managed agents are
    functions there; `final_answer(value)` ends the run.

    Args:
        sandbox: `"auto"`, the name of a tier (`"docker:IMAGE"`, `"wasm"`, `"monty"`), `"unsafe"` (no isolation; only
            if you say so), or a sandbox object of your own.
        authorized_imports: packages beyond the standard library that snippets may import: `"numpy"`,
            `"scikit-learn>=1.3"`. They are installed once, into a folder of their own, when an agent is first made with
            them; `wherry sandbox prepare numpy` does that in advance.

    The other arguments are those of `Agent`.

    Raises:
        SandboxUnavailable: the sandbox cannot run on this machine, or the packages cannot be had; said here, not at
            the first snippet.
    """

    kind: ClassVar[str] = "code"

    def __init__(
        self,
        tools: Iterable[object] = (),
        model: Model | str | None = None,
        *,
        sandbox: str | Sandbox = "auto",
        authorized_imports: Sequence[str] = (),
        **options: Unpack[AgentOptions],
    ) -> None:
        super().__init__(tools, model, **options)
        self._sandbox = sandbox
        if isinstance(authorized_imports, str):  # a sequence of letters, each of which an index may know
            raise ConfigurationError(
                f"authorized_imports: {authorized_imports!r} is one text, not a list of names",
                hint=f"write [{authorized_imports!r}]",
            )
        self._packages = tuple(authorized_imports)
        self._tier = self.sandbox.tier
        self._modules = importable(sandbox, self._packages)

    @property
    def sandbox(self) -> Sandbox:
        """Where snippets run. Looked up each time: after a fork, the parent's is of no use to the child."""
        if not isinstance(self._sandbox, str):
            return self._sandbox
        return get_sandbox(self._sandbox, packages=self._packages)

    @property
    def tier(self) -> str | None:
        return self._tier

    def check_order(self, order: Order) -> None:
        # Not at the top: with them comes most of what a run needs, and a program that makes agents may never run one.
        from wherry.agents.handing import encoded
        from wherry.agents.toolbox import own_names
        from wherry.sandbox.values import MAX_BYTES, ValueTooLargeError

        taken = {*self.tools, *self.managed_agents, *own_names(self.instructions)} & order.inputs.keys()
        if taken:
            raise ConfigurationError(
                f"the input {min(taken)!r} has the name of a tool or a managed agent", hint="give it another name"
            )
        for name, value in order.inputs.items():
            try:
                encoded(value)
            except ValueTooLargeError:
                size = len(canonical(as_json(value)))
                raise ConfigurationError(
                    f"the input {name!r} takes {size:,} bytes; at most {MAX_BYTES:,} can become a variable",
                    hint="write it to a file and pass that as `files=`",
                ) from None

    def hidden_tools(self) -> Sequence[Tool]:
        # The readers are functions too: they cost no tokens until a preview or a summary names them.
        return ()

    def prompt(self, schemas: Sequence[ToolSchema], profile: ModelProfile, instructions: str) -> str:
        role = "manager" if self.managed_agents else "code"
        return prompts.code_system(
            schemas,
            examples=profile.worked_examples.get(role, ""),
            packages=self._modules,
            instructions=instructions,
            answer=self.rules.schema,
        )

    def native(self, schemas: Sequence[ToolSchema], window: int) -> Sequence[ToolSchema]:
        return ()

    async def act(self, run: Run, reply: ModelReply) -> Turn:
        from wherry.agents.snippets import act  # as above

        return await act(self, run, reply)

    async def open_session(self, run: Run, names: Sequence[str]) -> Session:
        """A fresh session in place of the one that the run had, if it had one."""
        from wherry.agents.handing import encoded

        if run.sandbox is not None:
            await run.sandbox.close()
            run.sandbox = None
        variables = {name: encoded(value) for name, value in run.order.inputs.items()}
        run.sandbox = await self.sandbox.open(tools=names, variables=variables, files=run.order.files)
        return run.sandbox

    async def rebuild_session(self, run: Run, names: Sequence[str]) -> tuple[Rebuilt, int]:
        """A fresh session, brought to where the recorded snippets left the one before; and how many those are."""
        from wherry.agents.recorded_code import call_arguments, recorded_code

        recorded = recorded_code(run.store, run.journal.run_id).finished
        session = await self.open_session(run, names)
        rebuilt = await rebuild(session, recorded, tools=names, bind=partial(call_arguments, run))
        await session.collect_files()  # they are known already
        return rebuilt, len(recorded)
