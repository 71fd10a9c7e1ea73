"""Everything that is accepted where a tool is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any, cast  # Any: other frameworks' objects

from wherry.errors import ConfigurationError
from wherry.tools.names import check_name
from wherry.tools.options import ToolOptions, carried
from wherry.tools.tool import FunctionTool, Tool
from wherry.tools.values import brief


def to_tool(obj: object) -> Tool:
    """`obj` as a tool.

    Taken are: a `Tool`; a function, plain or async, also one made in a REPL; a bound method; a `functools.partial`; any
    object that can be called; tools of smolagents and LangChain, known by their shape, without importing either. Where
    they carry options of wherry as attributes (`needs_approval`, `untrusted`, `sink` and so on), these are kept.

    Raises:
        ConfigurationError: It is none of these, or cannot be told to a model; the message says what to change.
    """
    if isinstance(obj, Tool):
        _ = obj.schema
        return obj
    if isinstance(obj, type):
        kind = cast("type[object]", obj)
        hint = f"make an object of it: {kind.__name__}()" if _is_tool_shaped(kind) else "give a function or a Tool"
        raise ConfigurationError(f"the class `{kind.__name__}` is no tool", hint=hint)
    made: Tool
    if _is_smolagents(obj):
        made = _Smolagents(obj)
    elif _is_langchain(obj):
        made = _LangChain(obj)
    elif callable(obj):
        made = FunctionTool(obj, **cast("ToolOptions", carried(obj)))
    else:
        raise ConfigurationError(f"{brief(obj, 80)} is no tool", hint="give a function, a Tool, or an object like one")
    _ = made.schema
    return made


def collect(tools: Iterable[object]) -> dict[str, Tool]:
    """The tools by name, in the order given.

    Raises:
        ConfigurationError: Something is no tool, two have one name, or a name is the agents' own.
    """
    if isinstance(tools, (str, bytes)) or not isinstance(cast("object", tools), Iterable):
        raise ConfigurationError(f"tools is {brief(tools, 80)}", hint="give a list of tools")
    out: dict[str, Tool] = {}
    given = cast("Mapping[str, object]", tools).values() if isinstance(tools, Mapping) else tools
    for obj in given:
        one = to_tool(obj)
        if one.name in out and out[one.name] is not one:
            raise ConfigurationError(f"two tools are named `{one.name}`", hint="rename one: tool(function, name=...)")
        out[one.name] = one
    return out


def _is_tool_shaped(kind: type[object]) -> bool:
    return issubclass(kind, Tool) or hasattr(kind, "forward") or hasattr(kind, "invoke")


def _is_smolagents(obj: object) -> bool:
    return all(hasattr(obj, one) for one in ("name", "description", "inputs", "output_type", "forward"))


def _is_langchain(obj: object) -> bool:
    return all(hasattr(obj, one) for one in ("name", "description", "args_schema", "invoke"))


class _Smolagents(Tool):
    """A tool of smolagents, or of its shape: called through itself, so that its own set-up happens."""

    def __init__(self, foreign: object) -> None:
        theirs = cast("Any", foreign)
        self.name = check_name(theirs.name, "a tool of smolagents")
        self.description = str(theirs.description)
        self.inputs = theirs.inputs
        self.output_type = theirs.output_type
        self.__dict__.update(carried(foreign))
        own: Callable[..., Any] = theirs.forward

        @wraps(own)  # its hints and defaults
        def relay(*args: Any, **kwargs: Any) -> Any:
            return theirs(*args, **kwargs)

        # What `smolagents.tool` makes has a static `forward` whose signature, by its own hand, begins with `self`.
        shape = inspect.signature(own)
        if "self" in shape.parameters:
            kept = [one for one in shape.parameters.values() if one.name != "self"]
            cast("Any", relay).__signature__ = shape.replace(parameters=kept)
        self.forward = relay if callable(theirs) else own


class _LangChain(Tool):
    """A tool of LangChain, or of its shape. It checks its arguments itself as well; ours says what is wrong first."""

    def __init__(self, foreign: object) -> None:
        theirs = cast("Any", foreign)
        self.name = check_name(theirs.name, "a tool of LangChain")
        self.description = str(theirs.description)
        self.inputs = declared_inputs(self.name, theirs.args_schema)
        self.__dict__.update(carried(foreign))
        if getattr(theirs, "coroutine", None) is not None:

            async def arun(**kwargs: Any) -> Any:
                return await theirs.ainvoke(kwargs)

            self.forward = arun
        else:

            def run(**kwargs: Any) -> Any:
                return theirs.invoke(kwargs)

            self.forward = run


def declared_inputs(name: str, schema: object) -> Mapping[str, Mapping[str, Any]]:
    """The table of inputs that a JSON Schema of arguments, or a pydantic model of them, comes to."""
    if isinstance(schema, type) and callable(make := getattr(schema, "model_json_schema", None)):
        schema = make()
    if not isinstance(schema, Mapping):
        raise ConfigurationError(
            f"tool `{name}`: its args_schema is {brief(schema, 80)}", hint="it is a pydantic model"
        )
    from wherry.tools.compact import compact

    parts = compact(cast("Mapping[str, Any]", schema))
    required = frozenset(cast("list[str]", parts.get("required", ())))
    properties = cast("Mapping[str, Mapping[str, Any]]", parts.get("properties", {}))
    return {key: dict(body) if key in required else {**body, "nullable": True} for key, body in properties.items()}
