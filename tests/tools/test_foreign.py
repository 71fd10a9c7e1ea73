"""Tools of other frameworks, by their shape."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from pydantic import BaseModel, Field

from wherry.errors import ToolArgumentError
from wherry.tools import to_tool

pytestmark = pytest.mark.anyio


class SmolTool:
    """As smolagents 1.24 shapes them."""

    name = "adder"
    description = "Add."
    inputs = {"a": {"type": "integer", "description": "first"}, "b": {"type": "integer", "nullable": True}}
    output_type = "integer"

    def __init__(self) -> None:
        self.is_initialized = False

    def setup(self) -> None:
        self.is_initialized = True

    def __call__(self, *args: Any, sanitize_inputs_outputs: bool = False, **kwargs: Any) -> Any:
        if not self.is_initialized:
            self.setup()
        return self.forward(*args, **kwargs)

    def forward(self, a: int, b: int = 10) -> int:
        assert self.is_initialized
        return a + b


class Arguments(BaseModel):
    query: str = Field(description="what to look for")
    top: int = 3


class LangChainTool:
    name = "lookup"
    description = "Look it up."
    args_schema = Arguments

    def invoke(self, input: dict[str, Any]) -> str:
        return repr(input)


class AsyncLangChainTool(LangChainTool):
    async def coroutine(self) -> None: ...

    async def ainvoke(self, input: dict[str, Any]) -> str:
        return f"async {input}"


async def test_smolagents() -> None:
    one = to_tool(SmolTool())
    assert one.schema.parameters["required"] == ["a"]
    assert await one.call({"a": 1}) == 11
    assert await one.call({"a": "1", "b": 2}) == 3
    with pytest.raises(ToolArgumentError, match="`a` is missing"):
        await one.call({})


async def test_langchain() -> None:
    one = to_tool(LangChainTool())
    assert one.schema.parameters["properties"]["query"] == {"type": "string", "description": "what to look for"}
    assert one.schema.parameters["required"] == ["query"]
    assert await one.call({"query": "x"}) == "{'query': 'x'}"
    assert await to_tool(AsyncLangChainTool()).call({"query": "x", "top": 1}) == "async {'query': 'x', 'top': 1}"
    with pytest.raises(ToolArgumentError, match="`query` is missing"):
        await one.call({"top": 1})


async def test_a_signature_that_begins_with_self() -> None:
    """`smolagents.tool` of version 1.26 makes such: a static `forward` with a signature of its own making."""

    def add(a: int, b: int = 2) -> int:
        return a + b

    shape = inspect.signature(add)
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)

    class Made:
        name = "add"
        description = "Add."
        inputs = {"a": {"type": "integer", "description": "one"}, "b": {"type": "integer", "nullable": True}}
        output_type = "integer"
        forward = staticmethod(add)

        def __call__(self, *args: Any, **kwargs: Any) -> int:
            return add(*args, **kwargs)

    add.__signature__ = shape.replace(parameters=[own, *shape.parameters.values()])  # pyright: ignore[reportFunctionMemberAccess]
    assert await to_tool(Made()).call({"a": 1}) == 3


async def test_real_tools_of_langchain() -> None:
    tools: Any = pytest.importorskip("langchain_core.tools")

    @tools.tool
    def add(a: int, b: int = 2) -> int:
        """Add."""
        return a + b

    async def subtract(a: int, b: int) -> int:
        return a - b

    assert await to_tool(add).call({"a": 1}) == 3
    made = tools.StructuredTool.from_function(coroutine=subtract, name="subtract", description="Subtract.")
    assert await to_tool(made).call({"a": 5, "b": 3}) == 2
