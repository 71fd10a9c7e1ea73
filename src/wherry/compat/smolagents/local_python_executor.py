"""Running code without an agent, by smolagents' names: in wherry's sandbox, in place of this process."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar  # Any: values of any kind

from wherry.compat.smolagents.imports import BASE_BUILTIN_MODULES, packages
from wherry.compat.smolagents.recording import with_value
from wherry.compat.smolagents.text import truncate_content
from wherry.errors import ToolError
from wherry.tools.threads import run_in_thread

if TYPE_CHECKING:
    from wherry.sandbox import Execution, Session

__all__ = ["BASE_BUILTIN_MODULES", "CodeOutput", "ExecutionTimeoutError", "InterpreterError", "LocalPythonExecutor"]

MAX_EXECUTION_TIME_SECONDS = 30
DEFAULT_MAX_LEN_OUTPUT = 50_000
_GIVEN = "_wherry_given"
"""The function by which a snippet gets a variable that was sent after its session was opened."""
_UNLIMITED = 1e9

T = TypeVar("T")


class InterpreterError(ValueError):
    """Code failed, or was stopped. `logs` is what it printed until then."""

    logs: str = ""


class ExecutionTimeoutError(InterpreterError):
    """It took too long."""


@dataclass
class CodeOutput:
    """What code gave: its last value, or the answer; and what it printed."""

    output: Any
    logs: str
    is_final_answer: bool


class PythonExecutor(ABC):
    """Something that runs code."""

    @abstractmethod
    def send_tools(self, tools: dict[str, Any]) -> None: ...

    @abstractmethod
    def send_variables(self, variables: dict[str, Any]) -> None: ...

    @abstractmethod
    def __call__(self, code_action: str) -> CodeOutput: ...


class State(MutableMapping[str, Any]):
    """The variables of an executor, where they are: in the sandbox. What is no data comes as text."""

    def __init__(self, executor: LocalPythonExecutor) -> None:
        self._executor = executor

    def __getitem__(self, name: str) -> Any:
        if name not in set(self):
            raise KeyError(name)
        return self._executor.asked(name)

    def __setitem__(self, name: str, value: Any) -> None:
        self._executor.send_variables({name: value})

    def __delitem__(self, name: str) -> None:
        if name not in set(self):
            raise KeyError(name)
        self._executor.asked(f"del {name}")

    def __iter__(self) -> Iterator[str]:
        names = self._executor.asked("[_n for _n, _v in list(globals().items()) if _n[:1] != '_' and not callable(_v)]")
        return iter(names)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class LocalPythonExecutor(PythonExecutor):
    """Runs code in one session of wherry's sandbox: variables stay from call to call.

    Args:
        additional_authorized_imports: packages beyond the standard library.
        max_print_outputs_length: characters of what is printed that are given.
        additional_functions: functions of this program that the code may call.
        timeout_seconds: for one call; None: any time.

    End it with `cleanup()`, or use it in a `with` block.
    """

    def __init__(
        self,
        additional_authorized_imports: Sequence[str],
        max_print_outputs_length: int | None = None,
        additional_functions: Mapping[str, Callable[..., Any]] | None = None,
        timeout_seconds: float | None = MAX_EXECUTION_TIME_SECONDS,
    ) -> None:
        self.additional_authorized_imports = list(additional_authorized_imports)
        self.authorized_imports = sorted({*BASE_BUILTIN_MODULES, *self.additional_authorized_imports})
        self.max_print_outputs_length = max_print_outputs_length or DEFAULT_MAX_LEN_OUTPUT
        self.additional_functions = dict(additional_functions or {})
        self.timeout_seconds = timeout_seconds
        self.state = State(self)
        self._tools: dict[str, Callable[..., Any]] = dict(self.additional_functions)
        self._session: Session | None = None
        self._lock = threading.Lock()

    def send_tools(self, tools: Mapping[str, Callable[..., Any]]) -> None:
        """Functions that the code may call by these names; those of before are no longer there."""
        self._tools = {**tools, **self.additional_functions}

    def send_variables(self, variables: Mapping[str, Any]) -> None:
        """Values that the code has under these names. Data, arrays and data frames cross; nothing else does.

        Raises:
            InterpreterError: a value is no data.
        """
        code = "\n".join(f"{name} = {_GIVEN}({name!r})" for name in variables)
        if code:
            self._checked(code, lambda name: variables[name])

    def __call__(self, code_action: str) -> CodeOutput:
        """Run code.

        Raises:
            InterpreterError: it failed.
            ExecutionTimeoutError: it took too long.
        """
        done = self._checked(with_value(code_action), None)
        return CodeOutput(done.value, truncate_content(done.stdout, self.max_print_outputs_length), done.final)

    def asked(self, code: str) -> Any:
        """The value of an expression."""
        return self._checked(code, None).value

    def cleanup(self) -> None:
        """End the session; the next call begins a new one."""
        with self._lock:
            session, self._session = self._session, None
            if session is not None:
                _wait(session.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cleanup()

    def _checked(self, code: str, given: Callable[[str], Any] | None) -> Execution:
        with self._lock:
            done = _wait(partial(self._run, code, given))
        if done.ok:
            return done
        failed = InterpreterError(done.error)
        if done.kind == "timeout":
            limit = f"{self.timeout_seconds:g} seconds" if self.timeout_seconds else "its limit"
            failed = ExecutionTimeoutError(f"Code execution exceeded the maximum execution time of {limit}")
        failed.logs = done.stdout
        raise failed

    async def _run(self, code: str, given: Callable[[str], Any] | None) -> Execution:
        from wherry.sandbox import SandboxLimits, get_sandbox

        names = [*self._tools, _GIVEN]
        session = self._session
        if session is None or not session.alive:
            limits = SandboxLimits(wall_seconds=self.timeout_seconds or _UNLIMITED)
            sandbox = get_sandbox("auto", limits=limits, packages=packages(self.additional_authorized_imports))
            session = self._session = await sandbox.open(tools=names)

        async def answer(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
            if name == _GIVEN and given is not None:
                return given(*args)
            if name not in self._tools:
                raise ToolError(f"there is no function {name!r} here")
            return await run_in_thread(partial(self._tools[name], *args, **kwargs), timeout=None)

        return await session.run(code, call_tool=answer, tools=names)


def _wait(work: Callable[[], Awaitable[T]]) -> T:
    from wherry.agents import portal

    return portal.call(work)
