"""What a sandbox is: three small protocols and the record that a snippet's run gives.

Every backend keeps these sentences, and `wherry.sandbox.conformance.check_sandbox` tests them:

* variables, functions and imports of one snippet are there in the next one of the same session, and in no other;
* the value of a snippet's last expression comes back, as `docs/code-agents.md` says;
* a tool is a function inside; its result is the host's, its failure is a `ToolError` inside; a session's tools are its
  own, and a snippet may call them a limited number of times;
* `final_answer(value)` ends the run whatever the snippet does about it;
* a snippet that runs too long, is interrupted or whose task is cancelled is stopped; the session lives on where it can,
  with all its variables, and says in `alive` whether it does;
* a snippet that asks for more memory than it may have fails, and nobody else with it;
* output is capped, head and tail of it kept, and nothing that a snippet does raises anything but an `Execution` on the
  host;
* a session runs one snippet at a time, sessions run at the same time, and none outlives its sandbox;
* a limit that a backend cannot keep, and whatever else it cannot give, is refused when a session is opened.

What a backend need not offer: a session that outlives a stop, files (it then refuses to be given any, and collects
none), and `conditions`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from .files import Collected

ToolHandler = Callable[[str, "list[Any]", "dict[str, Any]"], Awaitable[Any]]
"""Answers a tool call from inside: name, positional and keyword arguments; gives any value, or an `Encoded` one.

Arguments are JSON and what `inside.encoding` adds to it: bytes, sets, dates, `Decimal`, `UUID`, `Array`, `Table`;
tuples come as lists. An `Exception` that it raises becomes a `ToolError` inside the snippet, with the exception's text
as message.
"""

ExecutionKind = Literal["exception", "timeout", "memory", "killed", "protocol", "refused"]
"""Why a snippet failed.

`exception`: it raised. `timeout`: it was stopped. `memory`: it asked for too much. `killed`: its process ended.
`protocol`: what came from inside was no valid frame. `refused`: it went on trying system calls that are not allowed.
"""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a snippet cannot compute itself. Run again under the same ones it gets the same values."""

    seed: str
    """Of all random numbers, in hexadecimal."""
    clock: Mapping[str, Sequence[int]] | None = None
    """What it read of each clock, in nanoseconds; None: to read the real ones."""
    partial: bool = False
    """Whether `clock` ends before the snippet did: behind it the real time is read, and `time.sleep` waits again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """What became of one snippet. Text from inside is hostile text: show it, never run it."""

    ok: bool
    value: Any = None  # Any: as the arguments of a `ToolHandler`
    """The last expression's value, or what `final_answer` got; what is no data comes as a bounded repr."""
    has_value: bool = False
    final: bool = False
    """`final_answer` was called; `value` is its argument."""
    kind: ExecutionKind | None = None
    error: str = ""
    """For the model: the snippet's own traceback with its line marked. Empty when `ok`."""
    stdout: str = ""
    stderr: str = ""
    seconds: float = 0.0
    """Wall time on the host, tool calls included."""
    cpu_seconds: float = 0.0
    """Processor time, as the session itself says."""
    refused: tuple[str, ...] = ()
    """System calls that were refused, in order, capped; the last entry then counts the rest."""
    tool_calls: int = 0
    tier: str = ""
    conditions: Conditions | None = None
    """None if the snippet did not come to its end, or the backend has none."""


@runtime_checkable
class Session(Protocol):
    """One jailed interpreter. Belongs to the event loop that it was opened in; runs one snippet at a time."""

    @property
    def tier(self) -> str: ...

    @property
    def alive(self) -> bool:
        """False once the process is gone: closed, killed or dead by itself."""
        ...

    async def run(
        self,
        code: str,
        *,
        call_tool: ToolHandler,
        tools: Sequence[str] | None = None,
        conditions: Conditions | None = None,
    ) -> Execution:
        """Run a snippet.

        Cancelling the awaiting task interrupts the snippet, and kills the session if it has not stopped half a
        second later.

        Args:
            code: Python source.
            call_tool: answers the tool calls that the snippet makes.
            tools: the names that it may call; None: those of the last run or of `open`.
            conditions: those of an earlier execution, to repeat it: it does not wait in `time.sleep` then; None: the
                real clock and new random numbers.

        Raises:
            SandboxError: the session is dead, or runs another snippet.
        """
        ...

    def interrupt(self) -> None:
        """Stop the snippet that runs; its `run` returns with kind `timeout`. Nothing happens if none runs."""
        ...

    async def collect_files(self) -> Collected:
        """The files that snippets made or changed in the work folder, each state of each once.

        Also after the session was killed, until `close`, where its work folder still is.
        """
        ...

    async def close(self) -> None:
        """End the session and every trace of it. Safe to call twice."""
        ...


@runtime_checkable
class Sandbox(Protocol):
    """Makes sessions of one tier. May be used from several event loops and threads."""

    @property
    def tier(self) -> str: ...

    async def open(
        self, *, tools: Sequence[str], variables: Mapping[str, Any] | None = None, files: Sequence[Path] = ()
    ) -> Session:
        """A fresh session.

        Args:
            tools: names of the functions that a snippet may call.
            variables: become variables inside, as a tool's results do; they may be `Encoded` too.
            files: are copied into the work folder under their own names; a folder with all that is in it.

        Raises:
            ConfigurationError: a name is no identifier, a value is no data, a value or a file is too large, a file is
                missing, or the backend has no files.
            SandboxError: no session could be made.
        """
        ...

    async def close(self) -> None:
        """End all sessions. Safe to call twice."""
        ...
