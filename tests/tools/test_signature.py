"""The stub line of a code agent's prompt."""

from __future__ import annotations

import ast
import dataclasses
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.messages import ToolSchema
from wherry.tools import signature, tool


@dataclasses.dataclass
class Point:
    x: float
    label: str | None = None


def test_a_small_tool_is_a_short_line() -> None:
    @tool
    def celsius_to_fahrenheit(celsius: float) -> float:
        """Convert a temperature.

        This explains at length what need not be read each time.

        Args:
            celsius: Temperature in degrees Celsius
        """
        return celsius

    assert signature(celsius_to_fahrenheit.schema) == (
        "def celsius_to_fahrenheit(celsius: float) -> float: "
        '"""Convert a temperature. celsius: Temperature in degrees Celsius."""'
    )


def test_types_and_defaults() -> None:
    @tool
    def many(
        p: Point,
        rows: list[dict[str, int]],
        pair: tuple[int, str],
        way: Literal["up", "down"] = "up",
        limit: int | None = None,
        raw: Any = 3,
        either: int | list[bool] = 1,
    ) -> list[Point]:
        """Do."""
        return [p]

    assert signature(many.schema) == (
        "def many(p: {'x': float, 'label': str | None}, rows: list[dict[str, int]], pair: tuple[int, str],"
        " way: Literal['up', 'down'] = 'up', limit: int = None, raw: Any = 3, either: int | list[bool] = 1)"
        ' -> list[{\'x\': float, \'label\': str | None}]: """Do."""'
    )


def test_a_required_argument_after_an_optional_one() -> None:
    schema = ToolSchema(
        "f", 'Say "hi"', {"properties": {"a": {"type": "integer", "default": 1}, "b": {}}, "required": ["b"]}
    )
    line = signature(schema)
    assert line == 'def f(a: int = 1, *, b: Any): """Say "hi"."""'
    ast.parse(line)


def test_a_name_that_python_does_not_take() -> None:
    line = signature(ToolSchema("f", "F.", {"properties": {"from-date": {"type": "string", "description": "the day"}}}))
    assert line == 'def f(): """F. from-date (str; pass **{"from-date": ...}): the day."""'


texts = st.text(st.characters(), max_size=40)
leaves: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["string", "integer", "number", "boolean", "null", "array", "object", "odd"]),
        "enum": st.lists(texts | st.integers() | st.none(), min_size=1, max_size=3),
        "const": texts,
        "description": texts,
        "default": texts | st.integers() | st.lists(texts, max_size=3),
        "$ref": st.sampled_from(["#/$defs/Loop", "#/$defs/None"]),
    },
)


def containers(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {},
        optional={
            "anyOf": st.lists(inner, min_size=1, max_size=3),
            "items": inner,
            "type": st.sampled_from(["array", "object"]) | st.lists(st.sampled_from(["string", "null"]), min_size=1),
            "properties": st.dictionaries(texts, inner, max_size=3),
            "additionalProperties": inner,
            "prefixItems": st.lists(inner, max_size=3),
        },
    )


schemas = st.recursive(leaves, containers, max_leaves=4)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.dictionaries(texts | st.sampled_from("abc"), schemas, max_size=4), texts, schemas)
def test_every_schema_is_one_line_of_python(
    properties: dict[str, dict[str, Any]], description: str, returns: dict[str, Any]
) -> None:
    loop = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Loop"}}}
    parameters = {"properties": properties, "required": list(properties)[1:2], "$defs": {"Loop": loop}}
    line = signature(ToolSchema("f", description, parameters, returns))
    assert len(line.splitlines()) == 1
    line.encode()
    (function,) = ast.parse(line).body
    assert isinstance(function, ast.FunctionDef)
    assert ast.get_docstring(function) is not None
