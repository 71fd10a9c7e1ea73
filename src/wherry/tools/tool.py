"""What a tool is, and how one is made of a function.

A tool does not know agents or models: it has a schema, it checks arguments, it runs. What calls it records and bounds.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from threading import RLock
from typing import Any, Unpack, cast, overload  # Any: arguments and results are of any type

from wherry.errors import ConfigurationError, ToolArgumentError, ToolError, ToolTimeout, WherryError
from wherry.messages import ToolSchema
from wherry.tools.arguments import INPUT_TYPES, Arguments, return_schema
from wherry.tools.hints import (
    Documentation,
    Parameter,
    check_parameters,
    documentation,
    parameters_of,
    return_hint,
    underlying,
)
from wherry.tools.kept import KeptResults
from wherry.tools.names import check_name
from wherry.tools.options import DEFAULT_TIMEOUT, ToolOptions, check_options
from wherry.tools.source import code_digest, source_of
from wherry.tools.threads import OutOfTimeError, run_in_thread
from wherry.tools.values import brief, gathered, gathered_async

MAX_ERROR = 2_000
"""Characters of a tool's own error that a model is shown."""


class Tool:
    """Something that an agent can call.

    Subclass it with `name`, `description`, `forward` and, as in smolagents, `inputs` and `output_type`; without
    `inputs` the schema comes from the type hints and the docstring of `forward`. Or make one of a function with `tool`.
    `forward` may be `async def`. A plain one runs in a thread, possibly in several at once.

    A tool that is called as a function (`celsius_to_fahrenheit(21.5)`) calls `forward` and nothing else: no check, no
    thread, no timeout.
    """

    name: str
    description: str
    inputs: Mapping[str, Mapping[str, Any]] | None = None
    """Argument -> JSON Schema of it, with a description; None: from the type hints of `forward`."""
    output_type: str | None = None
    """JSON type of the result; None: from the return hint of `forward`."""
    timeout: float | None = DEFAULT_TIMEOUT
    """Seconds that one call may take; None: any time. A plain function that is late goes on in its thread, unheard."""

    cache: float | None = None
    """Seconds that a result is given again to the same call, from the run's store; None: never. Errors are not kept."""

    needs_approval: bool | Callable[..., object] = False
    """Whether a person must agree before a call is made; a function of the arguments says it for each call. One that
    raises asks for approval."""
    side_effects: bool = False
    """Whether a call changes something out there. One that was under way when the process died is not made again
    unless the tool is `idempotent`, or its `checker` says that it was not made."""
    idempotent: bool = False
    """Whether a second call with the same `current_context().idempotency_key` changes nothing more."""
    checker: Callable[..., object] | None = None
    """Says what became of a call that was under way when the process died: its result, or None if it was not made."""
    network: str | Sequence[str] = ()
    """The arguments that hold an address or a host; those of the format `uri` are known."""
    untrusted: bool = False
    """Whether anybody may have written what it gives: web pages, mails, others' files. A model sees it sanitised and
    marked as data."""
    gives_back: bool = False
    """Whether it gives what runs wrote or read before: untrusted as soon as the run has read untrusted content."""
    sink: bool = False
    """Whether it needs a person's word once untrusted content came into the run; see `wherry.policy.taint`."""

    forward: Callable[..., Any]
    """What the tool does."""

    _prepared: bool = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._prepare()
        return self.forward(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {getattr(self, 'name', '(without a name)')}>"

    def setup(self) -> None:
        """Called once, before the first call: for what is too dear for the constructor."""

    @property
    def schema(self) -> ToolSchema:
        """What a model is told of the tool. Built once; again when the name or the description was changed.

        Raises:
            ConfigurationError: The tool is malformed; the message says what to change.
        """
        return self._built()[0]

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """A Python call's positional and keyword arguments, by name. They are not checked yet: `call` does that.

        Raises:
            ToolArgumentError: Too many, or one given twice.
        """
        names = self._built()[1].names
        if len(args) > len(names):
            takes = ", ".join(names) or "none"
            raise ToolArgumentError(f"`{self.name}` takes {len(names)} arguments ({takes}), {len(args)} were given")
        bound = dict(zip(names, args, strict=False))
        if twice := bound.keys() & kwargs.keys():
            raise ToolArgumentError(f"`{self.name}`: argument `{min(twice)}` was given twice")
        return {**bound, **kwargs}

    def checked(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as `forward` would get them: checked, converted, with their defaults.

        Raises:
            ToolArgumentError: They do not fit; the message is for the model.
        """
        plan = self._built()[1]
        return {**plan.defaults, **plan.check(arguments)}

    def source(self) -> tuple[str | None, str | None]:
        """The source text of the tool's code and a digest of it, as far as they can be had. Looked for once."""
        function = self.forward
        code = getattr(underlying(function), "__code__", function)
        known: tuple[object, str | None, str | None] | None = self.__dict__.get("_source")
        if known is None or known[0] is not code:
            text = source_of(function if "forward" in self.__dict__ else type(self))
            known = self.__dict__["_source"] = (code, text, code_digest(function, text))
        return known[1], known[2]

    async def call(self, arguments: Mapping[str, Any]) -> Any:
        """Check the arguments, run the tool, give back what it returned, whatever that is and however large.

        A generator's items, also an asynchronous one's, are a list of at most 10,000.

        An async tool runs right here; one that blocks in spite of its `async def` blocks everything. A plain one runs
        in a thread. Cancelling the call ends the wait at once.

        Raises:
            ToolArgumentError: The arguments do not fit.
            ToolTimeout: It took longer than `timeout`.
            ToolError: It failed: `ValueError: what it said`.
            WherryError: It raised one itself, such as MissingExtra: nothing that a model could mend.
        """
        if self.cache is None:
            return await self._call(arguments)
        kept = KeptResults(self.schema, arguments)
        if (found := kept.get()) is not None:
            return found[0]
        result = await self._call(arguments)
        kept.keep(result, self.cache)
        return result

    async def _call(self, arguments: Mapping[str, Any]) -> Any:
        _, plan, asynchronous, positional = self._built()
        checked = plan.check(arguments)
        args = _positional(positional, checked)
        try:
            if asynchronous:
                result = await self._run_async(args, checked)
            else:
                result = await run_in_thread(partial(self._run, args, checked), timeout=self.timeout)
            if inspect.isawaitable(result) or inspect.isasyncgen(result):
                result = await self._await(result)
            return gathered(result) if inspect.isgenerator(result) else result
        except OutOfTimeError:
            raise self._late() from None
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise  # the run is being cancelled
            raise ToolError("CancelledError: the tool was cancelled by something of its own") from error
        except WherryError:
            raise  # a ToolError is told to the model; what wherry itself ran into (store, model) ends the run
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            # SystemExit too: a library that calls sys.exit() must not take the program along.
            if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                raise  # Ctrl-C comes to the main thread only; elsewhere somebody raised it by hand
            raise ToolError(_told(error)) from error

    def _run(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> object:
        self._prepare()
        result = self.forward(*args, **kwargs)
        return gathered(result) if inspect.isgenerator(result) else result  # here, where it may take its time

    async def _run_async(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> object:
        self._prepare()
        return await self._await(self.forward(*args, **kwargs))

    async def _await(self, result: Any) -> object:
        deadline = asyncio.timeout(self.timeout)
        try:
            async with deadline:
                return await (gathered_async(result) if inspect.isasyncgen(result) else result)
        except TimeoutError:
            if deadline.expired():
                raise OutOfTimeError from None
            raise  # the tool's own

    def _late(self) -> ToolTimeout:
        return ToolTimeout(
            f"`{self.name}` did not return within {self.timeout:g} s; what it does may still take effect"
        )

    def _prepare(self) -> None:
        if self._prepared:
            return
        # Re-entrant, and one for each tool: a set-up may call other tools, and a slow one holds up nobody else.
        lock: AbstractContextManager[object] = self.__dict__.setdefault("_lock", RLock())
        with lock:
            if not self._prepared:
                self.setup()
                self._prepared = True

    # In the instance's dictionary, not in __init__: subclasses of smolagents' kind do not all call super().__init__().
    def _built(self) -> tuple[ToolSchema, Arguments, bool, tuple[Parameter, ...]]:
        built: tuple[ToolSchema, Arguments, bool, tuple[Parameter, ...]] | None = self.__dict__.get("_plan")
        if built is not None and built[0].name == self.name and built[0].description == self.description:
            return built
        built = self._build()
        self.__dict__["_plan"] = built
        return built

    def _build(self) -> tuple[ToolSchema, Arguments, bool, tuple[Parameter, ...]]:
        name, function = check_name(getattr(self, "name", None), type(self).__name__), getattr(self, "forward", None)
        description = getattr(self, "description", None)
        if not isinstance(description, str) or not description.strip():
            raise ConfigurationError(
                f"tool `{name}` has no description: a model would not know what it is for",
                hint="write a docstring, or give description=...",
            )
        if not callable(function):
            raise ConfigurationError(f"tool `{name}` has no method `forward`", hint="define what the tool does in it")
        check_options(name, {one: getattr(self, one) for one in ToolOptions.__optional_keys__})
        docs = self._documentation()
        if self.inputs is None:
            parameters = parameters_of(function, name=name, untyped=self._untyped())
            arguments = Arguments.of(name, parameters, docs)
            positional = tuple(one for one in parameters if one.positional_only)
        else:
            arguments, positional = self._declared(name, function), ()
        schema = ToolSchema(name, description, arguments.schema, self._returns(function, docs))
        return schema, arguments, inspect.iscoroutinefunction(underlying(function)), positional

    def _declared(self, name: str, function: Callable[..., object]) -> Arguments:
        if not isinstance(self.inputs, Mapping):
            raise ConfigurationError(f"tool `{name}`: `inputs` is {brief(self.inputs, 80)}", hint="it is a dict")
        kinds = {one.kind for one in inspect.signature(function).parameters.values()}
        if kinds & {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}:
            parameters = []  # `inputs` alone says what `forward(**kwargs)` takes
        else:
            parameters = parameters_of(function, name=name, untyped=True)
        return Arguments.declared(name, self.inputs, parameters)

    def _returns(self, function: Callable[..., object], docs: Documentation) -> Mapping[str, Any] | None:
        if self.output_type is None:
            return return_schema(return_hint(function), docs)
        if self.output_type not in INPUT_TYPES:
            raise ConfigurationError(
                f"tool `{self.name}`: `output_type` is {brief(self.output_type, 80)}",
                hint=f"one of {', '.join(sorted(INPUT_TYPES))}",
            )
        return None if self.output_type in {"any", "image", "audio"} else {"type": self.output_type}

    def _documentation(self) -> Documentation:
        return documentation(getattr(self.forward, "__doc__", None))

    def _untyped(self) -> bool:
        return False


class FunctionTool(Tool):
    """A tool made of a function; `tool` and `to_tool` make them."""

    def __init__(
        self,
        function: Callable[..., object],
        *,
        name: str | None = None,
        description: str | None = None,
        **options: Unpack[ToolOptions],
    ) -> None:
        """Take a function as a tool; `options` are those of `tool`.

        Raises:
            ConfigurationError: It has no usable name or description, or its parameters cannot be told to a model.
        """
        if unknown := options.keys() - ToolOptions.__optional_keys__:
            raise TypeError(f"tool() got an unexpected keyword argument {min(unknown)!r}")
        check_options(name or getattr(function, "__name__", "?"), options)
        self.function = function
        self.__dict__.update(options)
        holder = underlying(function)
        own = getattr(holder, "__name__", None)
        self._anonymous = own == "<lambda>"
        if name is None and self._anonymous:
            raise ConfigurationError(
                "a lambda has neither a name nor a description",
                hint='tool(lambda x: ..., name="...", description="...")',
            )
        if name is None and own == "__call__":
            own = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(_innermost(function)).__name__).lower()
        self.name = check_name(name if name is not None else own, "a function")
        self.docs = documentation(holder.__doc__ or (_innermost(function).__doc__ if own != holder.__name__ else None))
        self.description = description if description is not None else self.docs.description
        self.forward = function
        if not self.description.strip():
            raise ConfigurationError(
                f"tool `{self.name}` has no description: a model would not know what it is for",
                hint="write a docstring that says in a line what it does, or give description=...",
            )
        self._check_parameters()

    def _check_parameters(self) -> None:
        """Complain where the function is written, not where an agent first uses it. Types may still be unknown here."""
        check_parameters(self.function, name=self.name, untyped=self._anonymous)

    def _documentation(self) -> Documentation:
        return self.docs

    def _untyped(self) -> bool:
        return self._anonymous


def _innermost(function: Callable[..., object]) -> Callable[..., object]:
    while isinstance(function, partial):
        function = cast("Callable[..., object]", function.func)
    return function


@overload
def tool(
    fn: Callable[..., object],
    *,
    name: str | None = None,
    description: str | None = None,
    **options: Unpack[ToolOptions],
) -> Tool: ...


@overload
def tool(
    fn: None = None,
    *,
    name: str | None = None,
    description: str | None = None,
    **options: Unpack[ToolOptions],
) -> Callable[[Callable[..., object]], Tool]: ...


def tool(
    fn: Callable[..., object] | None = None,
    *,
    name: str | None = None,
    description: str | None = None,
    **options: Unpack[ToolOptions],
) -> Tool | Callable[[Callable[..., object]], Tool]:
    """Make a tool of a function: `@tool`, `@tool(timeout=30)` or `tool(function)`.

    Args:
        fn: A function or any callable, plain or async, with type hints. A lambda's parameters take anything.
        name: Default: the function's.
        description: Default: the docstring without its sections.
        options: `timeout`, `cache`, `needs_approval`, `side_effects`, `idempotent`, `checker`, `network`, `untrusted`,
            `gives_back`, `sink`; see `wherry.tools.ToolOptions`.

    Raises:
        ConfigurationError: It cannot be told to a model; the message says what to change.
    """
    make = partial(FunctionTool, name=name, description=description, **options)
    return make if fn is None else make(fn)


def _positional(parameters: Sequence[Parameter], arguments: dict[str, Any]) -> list[Any]:
    """Takes the positional-only arguments out of `arguments`; one left out before one given gets its default."""
    last = max((n for n, one in enumerate(parameters) if one.name in arguments), default=-1)
    return [arguments.pop(one.name, one.default) for one in parameters[: last + 1]]


def _told(error: BaseException) -> str:
    try:
        said = str(error)
    except Exception:  # noqa: BLE001  a foreign exception's own method
        said = "(its message cannot be had)"
    text = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return text if len(text) <= MAX_ERROR else f"{text[: MAX_ERROR - 1]}…"
