"""Functions that models call: told to one agent's model, executed by another agent."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar, cast  # Any: users' functions

from wherry.compat.autogen import runtime_logging
from wherry.compat.autogen.calling import awaited, hop, twin
from wherry.compat.autogen.client import OpenAIWrapper
from wherry.compat.autogen.console import say
from wherry.compat.autogen.core import Core
from wherry.compat.autogen.messages import Dict
from wherry.compat.autogen.schemas import get_function_schema, load_basemodels_if_needed, serialize_to_str
from wherry.models.tool_arguments import PARSE_ERROR, parse_arguments

F = TypeVar("F", bound=Callable[..., Any])


class Functions(Core):
    """An agent with functions."""

    _function_map: dict[str, Callable[..., Any]]

    @property
    def function_map(self) -> dict[str, Callable[..., Any]]:
        """What it can execute, by name."""
        return self._function_map

    def can_execute_function(self, name: Sequence[str] | str) -> bool:
        """Whether it can execute a function, or all of several."""
        return all(one in self._function_map for one in ([name] if isinstance(name, str) else name))

    def register_function(self, function_map: Mapping[str, Any], silent_override: bool = False) -> None:
        """Execute these functions from now on; None as a function takes one away."""
        for name, function in function_map.items():
            if not name.isascii() or not name.replace("_", "").replace("-", "").isalnum() or len(name) > 64:
                raise ValueError(f"Invalid name: {name}. Only letters, numbers, '_' and '-' are allowed, at most 64.")
            if function is None:
                self._function_map.pop(name, None)
            else:
                self._function_map[name] = function

    # -- what the model is told ----------------------------------------------------------------------------------------

    def update_function_signature(
        self, func_sig: str | Dict, is_remove: bool = False, silent_override: bool = False
    ) -> None:
        """Tell its model of a function, in the older way, or no longer (`func_sig` is a name then).

        Raises:
            AssertionError: it has no model.
        """
        self._update("functions", func_sig, is_remove, lambda one: one["name"])

    def update_tool_signature(
        self, tool_sig: str | Dict, is_remove: bool = False, silent_override: bool = False
    ) -> None:
        """Tell its model of a tool, or no longer (`tool_sig` is a name then).

        Raises:
            AssertionError: it has no model.
        """
        self._update("tools", tool_sig, is_remove, lambda one: one["function"]["name"])

    def _update(self, key: str, signature: str | Dict, remove: bool, name_of: Callable[[Dict], str]) -> None:
        if not self.llm_config:
            raise AssertionError("To update a tool signature, agent must have an llm_config")
        told: list[Dict] = list(self.llm_config.get(key) or ())
        name = signature if isinstance(signature, str) else name_of(signature)
        kept = [one for one in told if name_of(one) != name]
        if remove and len(kept) == len(told):
            raise AssertionError(f"The function name {name} doesn't exist in config")
        if not remove:
            if isinstance(signature, str):
                raise ValueError(
                    f"The function signature must be of the type dict. Received function signature type {str}"
                )
            kept.append(signature)
        config: Dict = {k: v for k, v in self.llm_config.items() if k != key}
        if kept:
            config[key] = kept
        self.llm_config = config
        self.client = _with(self.client, config, self._owner)

    def register_for_llm(
        self, *, name: str | None = None, description: str | None = None, api_style: str = "tool",
        silent_override: bool = False,
    ) -> Callable[[F], F]:  # fmt: skip
        """Decorator: tell this agent's model of a function.

        Raises:
            ValueError: it is told neither here nor by a docstring what the function is for.
            RuntimeError: the agent has no model.
        """

        def decorate(function: F) -> F:
            said = description or getattr(function, "_wherry_description", None) or inspect.getdoc(function)
            called = name or getattr(function, "_wherry_name", None) or function.__name__
            if not said:
                raise ValueError("Function description is required, none found.")
            if not self.llm_config:
                raise RuntimeError("LLM config must be setup before registering a function for LLM.")
            schema = get_function_schema(function, name=called, description=said)
            if api_style == "function":
                self.update_function_signature(schema["function"])
            elif api_style == "tool":
                self.update_tool_signature(schema)
            else:
                raise ValueError(f"Unsupported API style: {api_style}")
            marked = cast("Any", function)
            with suppress(AttributeError):  # a bound method
                marked._wherry_name, marked._wherry_description = called, said
            return function

        return decorate

    def _wrap_function(self, func: Callable[..., Any], *, serialize: bool = True) -> Callable[..., Any]:
        return _wrapped(func, serialize)

    def register_for_execution(
        self, name: str | None = None, description: str | None = None, *, serialize: bool = True,
        silent_override: bool = False,
    ) -> Callable[[F], F]:  # fmt: skip
        """Decorator: have this agent execute a function."""

        def decorate(function: F) -> F:
            called = name or getattr(function, "_wherry_name", None) or function.__name__
            self.register_function({called: self._wrap_function(function, serialize=serialize)})
            return function

        return decorate

    # -- execution -----------------------------------------------------------------------------------------------------

    def execute_function(self, func_call: Dict, call_id: str | None = None, verbose: bool = False) -> tuple[bool, Dict]:
        """Call a function as a model wants it.

        Returns:
            Whether it went well, and a message of role `function` with what came of it.
        """
        name = func_call.get("name", "")
        function = self._function_map.get(name)
        if function is None:
            return False, {"name": name, "role": "function", "content": f"Error: Function {name} not found."}
        arguments = parse_arguments(func_call.get("arguments"))
        if wrong := arguments.get(PARSE_ERROR):
            said = f"Error: {wrong}\n The argument must be in JSON format."
            return False, {"name": name, "role": "function", "content": said}
        if not self._silent(False):
            say(f"\n>>>>>>>> EXECUTING FUNCTION {name}...")
        try:
            content = awaited(function(**arguments))
        except Exception as error:  # noqa: BLE001 - a user's function; the model is told
            return False, {"name": name, "role": "function", "content": f"Error: {error}"}
        if runtime_logging.logging_enabled():
            runtime_logging.log_function_use(self, function, dict(arguments), content)
        return True, {"name": name, "role": "function", "content": str(content)}

    def generate_function_call_reply(
        self, messages: list[Dict] | None = None, sender: Any = None, config: Any = None
    ) -> tuple[bool, Dict | None]:
        """What comes of the function that the last message calls, in the older way."""
        message = ((self._oai_messages[sender] if messages is None else messages) or [{}])[-1]
        call = message.get("function_call")
        if not call:
            return False, None
        return True, self._executed(call, message.get("id"))

    def generate_tool_calls_reply(
        self, messages: list[Dict] | None = None, sender: Any = None, config: Any = None
    ) -> tuple[bool, Dict | None]:
        """What comes of the tools that the last message calls."""
        message = ((self._oai_messages[sender] if messages is None else messages) or [{}])[-1]
        results: list[Dict] = []
        for call in message.get("tool_calls") or ():
            done = self._executed(self._hooked("safeguard_tool_inputs", call.get("function", {})), call.get("id"))
            done = self._hooked("safeguard_tool_outputs", done)
            content = done.get("content")
            result: Dict = {"role": "tool", "content": "" if content is None else content}
            results.append(result if call.get("id") is None else {"tool_call_id": call["id"], **result})
        if not results:
            return False, None
        whole = "\n\n".join(str(result["content"]) for result in results)
        return True, {"role": "tool", "tool_responses": results, "content": whole}

    def _executed(self, call: Dict, call_id: str | None) -> Dict:
        return hop(self, "execute_function", call, call_id=call_id)[1]

    a_execute_function = twin(execute_function)
    a_generate_function_call_reply = twin(generate_function_call_reply)
    a_generate_tool_calls_reply = twin(generate_tool_calls_reply)


def _with(client: OpenAIWrapper | None, config: Dict, owner: Dict) -> OpenAIWrapper:
    """The client with other tools; the models that it asks are the same."""
    made = OpenAIWrapper(owner=owner, **config)
    if client is not None:
        made.take_over(client)
    return made


def _wrapped(function: Callable[..., Any], serialize: bool) -> Callable[..., Any]:
    typed = load_basemodels_if_needed(function)

    @functools.wraps(function)
    def plain(*args: Any, **kwargs: Any) -> Any:
        value = awaited(typed(*args, **kwargs))
        return serialize_to_str(value) if serialize else value

    @functools.wraps(function)
    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        value = await typed(*args, **kwargs)
        return serialize_to_str(value) if serialize else value

    made: Any = coroutine if inspect.iscoroutinefunction(function) else plain
    made._origin = function
    return made


def register_function(
    f: Callable[..., Any], *, caller: Functions, executor: Functions, name: str | None = None, description: str
) -> None:
    """Tell one agent's model of a function that another agent executes."""
    caller.register_for_llm(name=name, description=description)(f)
    executor.register_for_execution(name=name)(f)
