"""Tools as smolagents has them; each of them is one of wherry's tools too."""

from __future__ import annotations

import inspect
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, cast  # Any: arguments and results are of any type

from wherry.compat.smolagents.adapter import asking
from wherry.compat.smolagents.agent_types import (
    AgentAudio,
    AgentImage,
    AgentText,
    AgentType,
    handle_agent_input_types,
    handle_agent_output_types,
)
from wherry.compat.smolagents.function_schema import (
    TypeHintParsingException,
    fragment,
    hints_of,
    returned,
    table,
    type_of,
)
from wherry.compat.smolagents.text import is_valid_name
from wherry.errors import ConfigurationError
from wherry.tools import Tool as WherryTool
from wherry.tools.arguments import Arguments
from wherry.tools.hints import Parameter, check_parameters, documentation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

AUTHORIZED_TYPES = [
    "string",
    "boolean",
    "integer",
    "number",
    "image",
    "audio",
    "array",
    "object",
    "any",
    "null",
]


class BaseTool(ABC):
    """Something that can be called by its name."""

    name: str

    @abstractmethod
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...


class Tool(WherryTool, BaseTool):
    """A tool. Subclass it with `name`, `description`, `inputs`, `output_type` and `forward`.

    `setup` is called once, before the first call: for what is too dear for the constructor.

    Raises:
        TypeError, ValueError: when an object of it is made: an attribute is missing or of another type.
    """

    inputs: Mapping[str, Mapping[str, Any]] | None = None
    output_type: str | None = None
    output_schema: Mapping[str, Any] | None = None
    skip_forward_signature_validation = False
    is_initialized = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # subclasses of smolagents' pass what they like
        self.is_initialized = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        made = cls.__init__

        @wraps(made)
        def checked(self: Any, *args: Any, **kwargs: Any) -> None:
            made(self, *args, **kwargs)
            if type(self).__init__ is checked:  # the outermost: all attributes are there
                self.validate_arguments()

        cls.__init__ = checked

    def __call__(self, *args: Any, sanitize_inputs_outputs: bool = False, **kwargs: Any) -> Any:
        if not self.is_initialized:
            self.setup()
        if len(args) == 1 and not kwargs and isinstance(args[0], dict):
            given = cast("dict[str, Any]", args[0])
            if all(key in (self.inputs or {}) for key in given):
                args, kwargs = (), given
        if sanitize_inputs_outputs:
            args, kwargs = handle_agent_input_types(*args, **kwargs)
        result = self.forward(*args, **kwargs)
        return handle_agent_output_types(result, self.output_type) if sanitize_inputs_outputs else result

    async def call(self, arguments: Mapping[str, Any]) -> Any:
        """As agents call it. A picture or a sound is kept in the agent's state; its name goes on instead."""
        result = await super().call(arguments)
        if isinstance(result, AgentType):
            return result.to_raw() if isinstance(result, AgentText) else self._kept(result)
        shown = handle_agent_output_types(result, self.output_type)
        return self._kept(shown) if isinstance(shown, AgentImage | AgentAudio) else result

    def _kept(self, thing: AgentType) -> Any:
        about = asking.get()
        kind = "image" if isinstance(thing, AgentImage) else "audio"
        return thing if about is None else about.keep(thing.to_raw(), kind)

    def _declared(self, name: str, function: Callable[..., object]) -> Arguments:
        """As a tool of wherry's with such a table; a type hint that JSON has no word for takes anything."""
        try:
            return super()._declared(name, function)
        except ConfigurationError:
            taken = [
                Parameter(one.name, object, default=one.default)
                for one in check_parameters(function, name=name, untyped=True)
            ]
            return Arguments.declared(name, self.inputs or {}, taken)

    def setup(self) -> None:
        self.is_initialized = True

    def validate_arguments(self) -> None:
        """Look at the attributes.

        Raises:
            TypeError: one is missing or of another type.
            ValueError: the name is none, a type is unknown, or `forward` takes something else than `inputs` says.
        """
        for name, kind in (("description", str), ("name", str), ("inputs", dict), ("output_type", str)):
            value: object = getattr(self, name, None)
            if value is None:
                raise TypeError(f"You must set an attribute {name}.")
            if not isinstance(value, kind):
                raise TypeError(f"Attribute {name} should have type {kind.__name__}, got {type(value)} instead.")
        if not is_valid_name(self.name):
            raise ValueError(
                f"Invalid Tool name '{self.name}': must be a valid Python identifier and not a reserved keyword"
            )
        inputs = self.inputs or {}
        for name, body in inputs.items():
            _check_input(name, body)
        if self.output_type not in AUTHORIZED_TYPES:
            raise ValueError(f"output_type {self.output_type!r} must be one of {AUTHORIZED_TYPES}")
        if not self.skip_forward_signature_validation:
            self._check_forward(inputs)

    def _check_forward(self, inputs: Mapping[str, Mapping[str, Any]]) -> None:
        parameters = inspect.signature(self.forward).parameters
        taken = set(parameters) - {"self"}
        if taken != set(inputs):
            raise ValueError(
                f"In tool '{self.name}', 'forward' method parameters were {taken}, but expected {set(inputs)}. "
                "It should take 'self' as its first argument, then its next arguments should match the keys of tool "
                "attribute 'inputs'."
            )
        hints = hints_of(self.forward)
        for name in taken:
            hinted = name in hints and fragment(hints[name]).get("nullable", False)
            optional = hinted or parameters[name].default is not inspect.Parameter.empty
            if optional and "nullable" not in inputs[name]:
                raise ValueError(
                    f"Nullable argument '{name}' in function signature should have key 'nullable' set to True in "
                    "inputs."
                )
            if "nullable" in inputs[name] and not optional:
                raise ValueError(
                    f"Nullable argument '{name}' in inputs should have key 'nullable' set to True in function "
                    "signature."
                )

    def to_code_prompt(self) -> str:
        inputs = self.inputs or {}
        taken = ", ".join(f"{name}: {body.get('type', 'any')}" for name, body in inputs.items())
        doc = self.description
        if inputs:
            lines = "\n".join(f"{name}: {body['description']}" for name, body in inputs.items())
            doc += f"\n\nArgs:\n{textwrap.indent(lines, '    ')}"
        kind = "dict" if self.output_schema is not None else self.output_type
        return f"def {self.name}({taken}) -> {kind}:\n" + textwrap.indent(f'"""{doc}\n"""', "    ")

    def to_tool_calling_prompt(self) -> str:
        return (
            f"{self.name}: {self.description}\n    Takes inputs: {self.inputs}\n"
            f"    Returns an output of type: {self.output_type}"
        )

    @staticmethod
    def from_langchain(langchain_tool: object) -> WherryTool:
        """A tool of LangChain's."""
        from wherry.tools import to_tool

        return to_tool(langchain_tool)

    def to_dict(self) -> dict[str, Any]:
        """The tool's name, its code as a module, and the packages that this needs.

        Raises:
            ValueError: the constructor wants arguments, or the code needs what stands outside of the tool.
        """
        from wherry.compat.smolagents.saving import as_dict

        return as_dict(self)

    @classmethod
    def from_dict(cls, tool_dict: Mapping[str, Any], **kwargs: Any) -> Tool:
        """A tool of what `to_dict` gave. Its code is run.

        Raises:
            ValueError: there is no code, or no tool in it.
        """
        if "code" not in tool_dict:
            raise ValueError("Tool dictionary must contain 'code' key with the tool source code")
        made = cls.from_code(tool_dict["code"], **kwargs)
        if "output_schema" in tool_dict:
            made.output_schema = tool_dict["output_schema"]
        return made

    @classmethod
    def from_code(cls, tool_code: str, **kwargs: Any) -> Tool:
        """The tool in a module's text, which is run with all rights of this program. `kwargs` go to its constructor.

        Raises:
            ValueError: no tool is in it.
        """
        from wherry.compat.smolagents.saving import tool_of

        return tool_of(tool_code, kwargs)

    def save(self, output_dir: str | Path, tool_file_name: str = "tool", make_gradio_app: bool = True) -> None:
        """The tool as a file of code.

        Args:
            output_dir: the folder; it is made.
            tool_file_name: without the `.py`.
            make_gradio_app: False leaves `requirements.txt` out; an app of Gradio's is not made.

        Raises:
            ValueError: as of `to_dict`.
        """
        from wherry.compat.smolagents.saving import write

        write(self, output_dir, tool_file_name, with_requirements=make_gradio_app)

    @staticmethod
    def from_gradio(*_: object, **__: object) -> Tool:
        raise _no_hub("make a tool of a Gradio tool")

    def push_to_hub(self, *_: object, **__: object) -> None:
        raise _no_hub("push a tool to a hub")

    @classmethod
    def from_hub(cls, *_: object, **__: object) -> Tool:
        raise _no_hub("load code from a hub")

    @classmethod
    def from_space(cls, *_: object, **__: object) -> Tool:
        raise _no_hub("make a tool of a Space")


def tool(tool_function: Callable[..., Any]) -> Tool:
    """Make a tool of a function with type hints, and a docstring that says what each argument is.

    Raises:
        TypeHintParsingException: a type hint is missing.
        DocstringParsingException: so is a description.
    """
    inputs = table(tool_function)
    result = returned(tool_function)
    if result is None:
        if inputs:
            raise TypeHintParsingException(
                "Tool return type not found: make sure your function has a return type hint!"
            )
        result = "null"
    return SimpleTool(tool_function, inputs, result)


class SimpleTool(Tool):
    """What `tool` makes."""

    skip_forward_signature_validation = True

    def __init__(self, function: Callable[..., Any], inputs: Mapping[str, Mapping[str, Any]], output_type: str) -> None:
        self.is_initialized = True
        self.name = getattr(function, "__name__", "function")
        self.description = documentation(function.__doc__).description
        self.inputs, self.output_type = inputs, output_type
        self.forward = self.function = function


def validate_tool_arguments(tool: Tool, arguments: Any) -> None:
    """Hold arguments against a tool's table of inputs.

    Raises:
        ValueError: one is unknown, or missing.
        TypeError: one is of another type.
    """
    inputs = tool.inputs or {}
    if not isinstance(arguments, dict):
        wanted = next(iter(inputs.values()))["type"]
        if wanted != "any" and type_of(arguments) != wanted:
            raise TypeError(f"Argument has type '{type(arguments).__name__}' but should be '{wanted}'")
        return
    given = cast("dict[str, Any]", arguments)
    for name, value in given.items():
        if name not in inputs:
            raise ValueError(f"Argument {name} is not in the tool's input schema")
        wanted, kind = inputs[name].get("type", "any"), type_of(value)
        fits = kind in ([wanted] if isinstance(wanted, str) else wanted) or wanted == "any"
        fits = (
            fits or (kind == "null" and inputs[name].get("nullable", False)) or (kind, wanted) == ("integer", "number")
        )
        if not fits:
            raise TypeError(f"Argument {name} has type '{kind}' but should be '{wanted}'")
    for name, body in inputs.items():
        if name not in given and not body.get("nullable", False):
            raise ValueError(f"Argument {name} is required")


class ToolCollection:
    """Several tools: `CodeAgent(tools=[*collection.tools])`."""

    def __init__(self, tools: Sequence[Any]) -> None:
        self.tools = list(tools)

    @classmethod
    def from_mcp(cls, server_parameters: Any, trust_remote_code: bool = False, **options: Any) -> Any:
        """The tools of an MCP server, as a context manager: `with ToolCollection.from_mcp(...) as collection:`.

        Args:
            server_parameters: as of `MCPClient`.
            trust_remote_code: must be True: the server's tools do what they like.
            options: those of `MCPClient`.

        Raises:
            ValueError: `trust_remote_code` is not True.
        """
        if not trust_remote_code:
            raise ValueError(
                "Loading tools from MCP requires you to acknowledge you trust the MCP server, as it will execute code "
                "on your local machine: pass `trust_remote_code=True`."
            )
        from wherry.compat.smolagents.mcp_client import collection

        return collection(cls, server_parameters, **options)

    @classmethod
    def from_hub(cls, *_: object, **__: object) -> ToolCollection:
        raise _no_hub("load code from a hub")


def load_tool(*_: object, **__: object) -> Tool:
    raise _no_hub("load code from a hub")


def _check_input(name: str, body: Any) -> None:  # Any: what a user wrote
    if not isinstance(body, dict):
        raise TypeError(f"Input '{name}' should be a dictionary.")
    keys = cast("dict[str, Any]", body)
    if not (("type" in keys or "anyOf" in keys) and "description" in keys):
        raise ValueError(f"Input '{name}' should have keys 'type' and 'description', has only {list(keys)}.")
    kinds: object = keys.get("type", [])
    listed = cast("list[object]", [kinds] if isinstance(kinds, str) else kinds)
    if not isinstance(cast("object", listed), list):
        raise TypeError(f"Input '{name}': type must be a string or list of strings, got {type(listed).__name__}")
    if not all(isinstance(kind, str) for kind in listed):
        raise TypeError(f"Input '{name}': when type is a list, all elements must be strings, got {listed}")
    wrong = [kind for kind in listed if kind not in AUTHORIZED_TYPES]
    if wrong:
        raise ValueError(f"Input '{name}': types {wrong} must be one of {AUTHORIZED_TYPES}")


def _no_hub(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"wherry does not {what}",
        hint="keep tools as code, in a repository (`save`, `from_code`): what runs is then what was reviewed",
    )
