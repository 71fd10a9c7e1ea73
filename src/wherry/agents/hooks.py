"""What a program wants to see, change or refuse of a run's requests, tool calls and snippets.

A hook is any object with some of these methods, each `async def` or plain:

    before_model(request: ModelRequest) -> ModelRequest | None
    after_model(request: ModelRequest, reply: ModelReply) -> None
    before_tool(call: ToolCall) -> Mapping[str, Any] | None
    after_tool(call: ToolCall, outcome: Outcome) -> None
    before_code(code: str) -> str | None
    after_code(code: str, execution: Execution) -> None
    on_event(event: Event) -> None

What a `before_*` returns is what happens instead: another request, other arguments, other code; None changes nothing.
It refuses by raising `wherry.errors.Refuse("why")` (or any `ToolError`): nothing happens, and the model is told why.
Any other exception ends the run with a `HookError` that names the hook; that of an `on_event` is a warning, and that
hook hears no more. Several hooks are asked in the order in which they were given; each sees what the one before made.

Plain methods run in a thread, since they may block (ask a person, look something up); but a plain `on_event` is called
where the event happened, as it happens, and should be quick. `wherry.tools.current_context()` says which run it is.
Hooks see what happens now: in a resumed run they do not see again what is taken from the journal.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast  # Any: arguments of tools

from wherry.errors import ConfigurationError, HookError, Refuse, ToolError, WherryError
from wherry.journal import Event, EventType, RunJournal
from wherry.messages import ToolCall
from wherry.models import ModelReply, ModelRequest
from wherry.tools.threads import run_in_thread

if TYPE_CHECKING:
    from wherry.agents.acting import Outcome
    from wherry.sandbox import Execution

CLOSE_SECONDS = 30.0
"""How long the end of a run waits for an asynchronous `on_event` that is behind."""

NAMES = ("before_model", "after_model", "before_tool", "after_tool", "before_code", "after_code", "on_event")


def checked(hooks: object) -> tuple[object, ...]:
    """The hooks of an agent.

    Raises:
        ConfigurationError: one of them has none of the methods, or one that looks like a mistyped name.
    """
    if not isinstance(hooks, Iterable) or isinstance(hooks, str):
        raise ConfigurationError(f"hooks is {hooks!r}", hint="give a list: hooks=[MyHook()]")
    found = tuple(cast("Iterable[object]", hooks))
    for hook in found:
        if isinstance(hook, type):
            raise ConfigurationError(f"the class {hook.__name__!r} is no hook", hint=f"make one: {hook.__name__}()")
        if not any(callable(getattr(hook, name, None)) for name in NAMES):
            raise ConfigurationError(f"{hook!r} is no hook", hint=f"a hook has one or more of {', '.join(NAMES)}")
        strange = [name for name in dir(hook) if name.startswith(("before_", "after_")) and name not in NAMES]
        if strange:
            raise ConfigurationError(
                f"the hook {_label(hook)} has {strange[0]!r}, which nothing calls", hint=f"one of {', '.join(NAMES)}"
            )
    return found


class RunHooks:
    """The hooks of one run."""

    def __init__(self, hooks: Sequence[object]) -> None:
        self._methods: dict[str, list[tuple[str, Callable[..., object]]]] = {name: [] for name in NAMES}
        for hook in hooks:
            for name in NAMES:
                if callable(method := getattr(hook, name, None)):
                    self._methods[name].append((f"{_label(hook)}.{name}", method))
        self.warnings: list[str] = []
        """What went wrong in an `on_event`."""
        self._listeners: list[_Listener] = []
        self._leave: Callable[[], None] | None = None
        self._ended = False

    # ---- what an agent asks

    async def before_model(self, request: ModelRequest) -> ModelRequest:
        for label, method in self._methods["before_model"]:
            changed = await _called(label, method, request)
            if changed is not None and not isinstance(changed, ModelRequest):
                raise _wrong(label, changed, "a ModelRequest or None")
            request = request if changed is None else changed
        return request

    async def after_model(self, request: ModelRequest, reply: ModelReply) -> None:
        for label, method in self._methods["after_model"]:
            await _told(label, method, request, reply)

    async def before_tool(self, name: str, call: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        for label, method in self._methods["before_tool"]:
            changed = await _called(label, method, ToolCall(call, name, arguments))
            if changed is not None and not isinstance(changed, Mapping):
                raise _wrong(label, changed, "the arguments as a dict, or None")
            arguments = arguments if changed is None else cast("Mapping[str, Any]", changed)
        return arguments

    async def after_tool(self, name: str, call: str, arguments: Mapping[str, Any], outcome: Outcome) -> None:
        for label, method in self._methods["after_tool"]:
            await _told(label, method, ToolCall(call, name, arguments), outcome)

    async def before_code(self, code: str) -> str:
        for label, method in self._methods["before_code"]:
            changed = await _called(label, method, code)
            if changed is not None and not isinstance(changed, str):
                raise _wrong(label, changed, "code as text, or None")
            code = code if changed is None else changed
        return code

    async def after_code(self, code: str, execution: Execution) -> None:
        for label, method in self._methods["after_code"]:
            await _told(label, method, code, execution)

    # ---- events

    def listen(self, journal: RunJournal) -> None:
        """Let every `on_event` hear of the run of this journal and of all below it."""
        methods = self._methods["on_event"]
        if not methods:
            return
        heard = {journal.run_id}
        self._listeners = [_Listener(label, method, partial(self._warn, journal)) for label, method in methods]

        def tell(event: Event) -> None:
            if event.run_id not in heard:
                if event.parent_run_id not in heard:
                    return  # another agent's of the same tree
                heard.add(event.run_id)
            if event.type is EventType.RUN_FINISHED and event.run_id == journal.run_id:
                self._ended = True
            for listener in self._listeners:
                listener.hear(event)

        self._leave = journal.subscribe(tell)

    async def close(self) -> None:
        """Wait until the asynchronous ones have heard everything."""
        if self._leave is not None:
            self._leave()
        for listener in self._listeners:
            await listener.close()

    def _warn(self, journal: RunJournal, message: str) -> None:
        self.warnings.append(message)
        if not self._ended:  # a run's last record is its end
            journal.record(EventType.WARNING, message=message, hint="that hook hears no more of this run")


class _Listener:
    """One `on_event`. An asynchronous one hears the events in a task of its own, in order."""

    def __init__(self, label: str, method: Callable[..., object], warn: Callable[[str], None]) -> None:
        self._label, self._method, self._warn = label, method, warn
        self._dead = False
        self._task: asyncio.Task[None] | None = None
        if inspect.iscoroutinefunction(method):
            self._loop = asyncio.get_running_loop()
            self._events: asyncio.Queue[Event | None] = asyncio.Queue()
            self._task = asyncio.create_task(self._consume())

    def hear(self, event: Event) -> None:
        if self._dead:
            return
        if self._task is not None:
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)  # events come from any thread
            return
        try:
            self._method(event)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - told as a warning
            self._fail(error)

    async def _consume(self) -> None:
        while (event := await self._events.get()) is not None:
            try:
                await cast("Awaitable[object]", self._method(event))
            except (Exception, SystemExit) as error:  # noqa: BLE001 - as above
                self._fail(error)
                return

    def _fail(self, error: BaseException) -> None:
        self._dead = True
        self._warn(f"the hook {self._label} raised {type(error).__name__}: {error}")

    async def close(self) -> None:
        if self._task is not None:
            self._loop.call_soon(self._events.put_nowait, None)  # behind what other threads have put there
            await asyncio.wait([self._task], timeout=CLOSE_SECONDS)
            if not self._task.done():
                self._task.cancel()
                self._fail(TimeoutError(f"it was {CLOSE_SECONDS:g} s behind when the run ended"))


async def _called(label: str, method: Callable[..., object], *args: object) -> object:
    """What a `before_*` says.

    Raises:
        Refuse: it refuses.
        HookError: it failed.
    """
    try:
        if inspect.iscoroutinefunction(method):
            return await cast("Awaitable[object]", method(*args))
        answer = await run_in_thread(partial(method, *args), timeout=None)
        return await cast("Awaitable[object]", answer) if inspect.isawaitable(answer) else answer
    except Refuse:
        raise
    except ToolError as refusal:
        raise Refuse(refusal.message) from refusal
    except WherryError:
        raise  # says by itself what ended the run
    except (Exception, SystemExit) as error:
        raise HookError(f"the hook {label} raised {type(error).__name__}: {error}", hook=label) from error


async def _told(label: str, method: Callable[..., object], *args: object) -> None:
    """Tell an `after_*`: what it returns is nothing to anybody, and there is nothing left to refuse."""
    try:
        await _called(label, method, *args)
    except Refuse as late:
        raise HookError(
            f"the hook {label} refused what has happened already: {late.message}",
            hook=label,
            hint="refuse in a before_*",
        ) from late


def _wrong(label: str, given: object, wanted: str) -> HookError:
    return HookError(f"the hook {label} returned {type(given).__name__}; it should return {wanted}", hook=label)


def _label(hook: object) -> str:
    return str(getattr(hook, "__name__", type(hook).__name__))
