"""A tool that wants to know what each call is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from wherry.errors import ToolArgumentError
from wherry.messages import ToolSchema
from wherry.tools.options import ToolOptions
from wherry.tools.tool import Tool

NAME = "intent"
DESCRIPTION = "What this call is for, in a few words."
PARAMETER = {"type": "string", "description": DESCRIPTION}
MAX_INTENT = 500
"""Characters that are taken."""


class WithIntent(Tool):
    """A tool with one argument more, which is required, recorded with the call and not passed on."""

    def __init__(self, inner: Tool) -> None:
        self.inner = inner
        self.__dict__.update({name: getattr(inner, name) for name in ToolOptions.__optional_keys__})
        self.name = inner.name
        self.description = inner.description
        self.cache = None  # the tool inside keeps its results: what a call is for makes no other call of it
        self.forward = inner.forward
        self._made: tuple[ToolSchema, ToolSchema] | None = None

    @property
    def schema(self) -> ToolSchema:
        own = self.inner.schema
        if self._made is None or self._made[0] is not own:
            self._made = own, _with_intent(own)
        return self._made[1]

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        rest = dict(kwargs)
        said = {NAME: rest.pop(NAME)} if NAME in rest else {}
        given = list(args)
        # The last parameter of the function that a model is shown, and so the last of its positional arguments.
        names = [*cast("Mapping[str, Any]", self.inner.schema.parameters.get("properties", {}))]
        if not said and len(given) == len(names) + 1:
            said = {NAME: given.pop()}
        return {**self.inner.bind(given, rest), **said}

    def checked(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return self.inner.checked(self._without(arguments))

    def source(self) -> tuple[str | None, str | None]:
        return self.inner.source()

    async def call(self, arguments: Mapping[str, Any]) -> Any:
        return await self.inner.call(self._without(arguments))

    def _without(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        said = arguments.get(NAME)
        if not isinstance(said, str) or not said.strip():
            raise ToolArgumentError(
                f"`{self.name}` was not called: argument `{NAME}` is missing: say in a few words what the call is for"
            )
        if len(said) > MAX_INTENT:
            raise ToolArgumentError(f"`{self.name}` was not called: `{NAME}` is longer than {MAX_INTENT} characters")
        return {name: value for name, value in arguments.items() if name != NAME}


def with_intent(tool: Tool) -> Tool:
    """The tool with an argument `intent`; itself, if it has one of its own."""
    return tool if NAME in tool.schema.parameters.get("properties", {}) else WithIntent(tool)


def _with_intent(schema: ToolSchema) -> ToolSchema:
    parameters = schema.parameters
    return replace(
        schema,
        parameters={
            **parameters,
            "properties": {**parameters.get("properties", {}), NAME: {**PARAMETER}},
            "required": [*parameters.get("required", ()), NAME],
        },
    )
